"""Two models beside each other, and which two to choose."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from itertools import combinations

from markupsafe import Markup

from quipu.errors import InvalidRequest
from quipu.evidence.claims import Judgement
from quipu.evidence.compare import ALPHA, MARGIN
from quipu.evidence.comparison import Comparison, comparison
from quipu.evidence.comparison_markdown import markdown
from quipu.evidence.gaps import probe_counts
from quipu.evidence.side import Side, names
from quipu.evidence.workload import measurable, workload
from quipu.serve.evidence import SEPARATOR, Evidence, Moment
from quipu.serve.views.view import Asked, View, called, named, only

LISTED = 40
"""Probes of a kind that are listed with a capability."""
SUGGESTED = 6
"""Comparisons that the front page offers."""


def index(evidence: Evidence, asked: Asked) -> View:
    """Two to choose, and comparisons to begin with."""
    only(asked)
    moment = evidence.now()
    told = {"rows": named(moment), "suggested": suggested(moment), "empty": not moment.snapshot.configs}
    return View("compare_index", "Compare", told, snapshot=moment.snapshot)


def compared(evidence: Evidence, asked: Asked, pair: str) -> View:
    """Two models beside each other."""
    moment = evidence.now()
    a, b = moment.pair(pair)
    found = comparing(evidence, moment, a, b, asked)
    addresses = moment.address(a), moment.address(b)
    query = "".join(f"&{name}={value}" for name, value in asked.items())
    told = {
        "it": found,
        "names": names(a, b),
        "addresses": addresses,
        "margin": found.judgement.margin,
        "alpha": ALPHA,
        "listed": LISTED,
        "measured": any(each.a.n or each.b.n for each in found.judgement.capabilities),
        "rest": _rest(found),
        "untrue": [[each for each in said if each.status == "contradicted"] for said in found.claims],
        "text": Markup(markdown(found)),
    }
    title = f"{a.title} vs {b.title}"
    return View("compare", title, told, f"api/v1/compare?a={addresses[0]}&b={addresses[1]}{query}", moment.snapshot)


def comparing(evidence: Evidence, moment: Moment, a: Side, b: Side, asked: Asked) -> Comparison:
    """The comparison of two sides, for the workload and within the margin that were asked for."""
    only(asked, "workload", "margin")
    wanted, within = workload(asked.get("workload")), margin(asked)

    def make() -> Comparison:
        found = comparison(a, b, moment.cards, moment.snapshot, wanted, margin=within, probes=every_probe())
        return found.told(evidence.store.observation)

    return moment.keep(("compare", a.name, b.name, wanted.source, wanted.text, within), make)


def suggested(moment: Moment) -> list[tuple[str, str, str]]:
    """Comparisons to begin with, as (name, address, what it is): those of measured configs, and the seed page's."""
    measured = [each for each in moment.sides if each.config is not None]
    pairs = [*combinations(measured, 2)][: SUGGESTED - 1]
    found = [(*_pair(moment, a, b), "Both measured here.") for a, b in pairs]
    seed = [moment.cards.get(name) for name in ("llama-3.2-3b-instruct", "llama-4-scout")]
    if all(seed):
        a, b = (next(each for each in moment.sides if each.card is card) for card in seed)
        found.append((*_pair(moment, a, b), "The page that this one answers: its claims judged, its rank unproven."))
    return found


def margin(asked: Asked) -> float:
    """The margin asked for, which is in points, as a share of 1. Raises InvalidRequest."""
    if "margin" not in asked:
        return MARGIN
    try:
        points = float(asked["margin"])
    except ValueError:
        points = -1.0
    if not 0 < points < 100:
        raise InvalidRequest(
            f"margin is {asked['margin'][:40]!r}; it must be a number of points above 0, below 100", param="margin"
        )
    return points / 100


@cache
def every_probe() -> Mapping[str, int]:
    """How many probes each capability has; made once, which takes a second or two."""
    return probe_counts(measurable())


def _pair(moment: Moment, a: Side, b: Side) -> tuple[str, str]:
    return f"{called(moment, a)} vs {called(moment, b)}", f"{moment.address(a)}{SEPARATOR}{moment.address(b)}"


def _rest(found: Comparison) -> list[tuple[str, str, list[Judgement]]]:
    """What is said of neither's capabilities: facts, prices, the makers' words."""
    shown = {each.id for each in found.capabilities}
    return [
        (name, kind, [each for each in said if each.claim.capability not in shown])
        for name, kind, said in zip(names(found.a, found.b), "ab", found.claims, strict=True)
    ]
