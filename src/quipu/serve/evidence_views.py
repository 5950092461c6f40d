"""What each page tells: from a moment's evidence to the names that its template, HTML or Markdown, has."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import combinations, groupby
from typing import Any

from markupsafe import Markup
from starlette.requests import Request

from quipu.errors import CapabilityNotFound, InvalidRequest, did_you_mean
from quipu.evidence.alignment import unprobed
from quipu.evidence.change import commands_for
from quipu.evidence.claims import Judgement, card_claims, claims_about, counts, seed_claims
from quipu.evidence.compare import ALPHA, MARGIN
from quipu.evidence.comparison import Comparison, comparison
from quipu.evidence.comparison_markdown import markdown
from quipu.evidence.explain import FORMULA, explain
from quipu.evidence.gaps import gaps, probe_counts
from quipu.evidence.headline import Span
from quipu.evidence.judging import judge
from quipu.evidence.needed import planned
from quipu.evidence.rank import COVERED, Ranked, Ranking, rank
from quipu.evidence.seed_rows import seed_rows
from quipu.evidence.side import Side, names
from quipu.evidence.snapshot import Snapshot
from quipu.evidence.standing import SOLID, THIN, standings
from quipu.evidence.workload import Workload, measurable, workload
from quipu.serve.evidence import SEPARATOR, Evidence, Moment, answering
from quipu.serve.evidence_templates import words

STATUSES = ("verified", "contradicted", "unmeasured")
STRONGEST = 5
"""The most that a slider goes to."""
PLANNED_FOR = (1, 4, 12)
"""Numbers of capabilities compared at once, for which the table of sample sizes is."""
LINES = 500
"""Observations that one page lists."""
SPANS = 1000
"""Runs of numbers that an address may name."""
LISTED = 40
"""Probes of a kind that are listed with a capability."""
SUGGESTED = 6
"""Comparisons that the front page offers."""

Asked = Mapping[str, str]
"""What follows the question mark of an address."""


@dataclass(frozen=True, slots=True)
class View:
    """A page's template and what it is told. ``json``: where the API has the same."""

    template: str
    title: str
    told: Mapping[str, Any]
    json: str | None = None
    snapshot: Snapshot | None = None


def index(evidence: Evidence, asked: Asked) -> View:
    """Two to choose, and comparisons to begin with."""
    only(asked)
    moment = evidence.now()
    told = {"rows": _named(moment), "suggested": suggested(moment), "empty": not moment.snapshot.configs}
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


def models(evidence: Evidence, asked: Asked) -> View:
    """Everything that has a card or was measured."""
    only(asked)
    moment = evidence.now()
    order = ranking(moment, workload(None))
    scored = {each.scored.config: each.scored for each in order.rows}
    rows = [_model_row(moment, each, scored) for each in moment.sides]
    told = {
        "rows": rows,
        "measured": sum(row["side"].config is not None for row in rows),
        "empty": not moment.snapshot.configs,
        "capabilities": answering(),
    }
    return View("models", "Models", told, "api/v1/models", moment.snapshot)


def model(evidence: Evidence, asked: Asked, name: str) -> View:
    """A model's passport."""
    only(asked, "workload")
    moment = evidence.now()
    side = moment.side(name)
    config = side.config.id if side.config else ""
    wanted = workload(asked.get("workload"))
    explained = explain(moment.snapshot, config, wanted)
    said = judge(claims_about(side.card), moment.cards, moment.snapshot, side.header)
    address = moment.address(side)
    told = {
        "side": side,
        "address": address,
        "told": _capital(explained.scored.told) if explained.scored.score is None else f"Score {explained.scored.told}",
        "explanation": explained,
        "rows": seed_rows(
            side.card, moment.snapshot, explained.scored.told if explained.scored.score else None, config or None
        ),
        "capabilities": _standings(moment.snapshot, side),
        "declared": sorted(side.card.capabilities.items()),
        "counts": _counted(said),
        "contradicted": [each for each in said if each.status == "contradicted"],
        "gaps": gaps(moment.snapshot, wanted, every_probe(), [config]) if config else (),
        "others": [(each.title, moment.address(each)) for each in moment.sides if moment.address(each) != address],
        "commands": commands_for([side]),
    }
    return View("model", side.title, told, f"api/v1/models/{address}", moment.snapshot)


def capability(evidence: Evidence, asked: Asked, name: str) -> View:
    """Who is good at one capability."""
    only(asked)
    moment = evidence.now()
    declared = [
        (each.title, moment.address(each), each.card.capabilities[name])
        for each in _one_per_card(moment.sides)
        if name in each.card.capabilities
    ]
    found = next((each for each in answering() if each.id == name), None)
    if found is None and not declared:
        declaring = {one for each in moment.cards.values() for one in each.capabilities}
        known = sorted({*(each.id for each in answering()), *declaring})
        hint = did_you_mean(name, known, f"there are {', '.join(known)}")
        raise CapabilityNotFound(f"there is no capability {name[:80]!r}; {hint}", param="capability")
    told: dict[str, Any] = {"heading": name.replace("_", " ").capitalize(), "uri": name, "capability": found}
    told |= {"declared": declared, "rows": [], "measured": 0, "baseline": None}
    told["lead"] = f"No model is ranked: {unprobed(name)}."
    if found is not None:
        order = ranking(moment, workload(f"{found.id}=1"))
        rows = list(_capability_rows(moment, order, found.uri))
        told |= {"heading": found.title, "uri": found.uri, "baseline": found.baseline, "rows": rows}
        told |= {"measured": sum(row["standing"].n > 0 for row in rows), "lead": leading(moment, order)}
    return View("capability", told["heading"], told, f"api/v1/capabilities/{name}", moment.snapshot)


def ranked(evidence: Evidence, asked: Asked) -> View:
    """Everyone in order, for a workload."""
    only(asked, "workload")
    moment = evidence.now()
    wanted = workload(asked.get("workload"))
    order = ranking(moment, wanted)
    sides = _by_config(moment)
    rows: list[dict[str, Any]] = [
        {"ranked": each, "side": sides[each.scored.config], "address": moment.address(sides[each.scored.config])}
        for each in order.rows
    ]
    names = [(row["side"].title, row["address"]) for row in rows]
    query = f"?workload={wanted.text}" if wanted.source == "stated" else ""
    told = {
        "ranking": order,
        "rows": rows,
        "lead": leading(moment, order),
        "covered": COVERED,
        "sliders": _sliders(wanted.weights),
        "query": query,
        "pairs": [(f"{a[0]} vs {b[0]}", f"{a[1]}{SEPARATOR}{b[1]}") for a, b in combinations(names[:3], 2)],
        "unmeasured": [(each.title, moment.address(each)) for each in moment.sides if each.config is None],
    }
    return View("rank", "Rank", told, f"api/v1/rank{query}", moment.snapshot)


def claims(evidence: Evidence, asked: Asked) -> View:
    """All that is said, with what is so."""
    only(asked, "model", "status")
    moment = evidence.now()
    status = asked.get("status", "")
    if status not in ("", *STATUSES):
        raise InvalidRequest(f"status is {status[:40]!r}; it must be one of {', '.join(STATUSES)}", param="status")
    side = moment.side(asked["model"]) if "model" in asked else None
    judged = judged_claims(moment, side)
    shown = [each for each in judged if status in ("", each.status)]
    told = {
        "model": side and side.card,
        "status": status,
        "counts": _counted(judged),
        "judged": shown,
        "sources": [*_sources(shown, moment)],
    }
    query = "&".join(f"{name}={value}" for name, value in asked.items())
    title = f"Claims about {side.title}" if side else "Claims"
    return View("claims", title, told, f"api/v1/claims{'?' + query if query else ''}", moment.snapshot)


def judged_claims(moment: Moment, side: Side | None) -> tuple[Judgement, ...]:
    """Every claim of the seed page and of all cards; of ``side`` only, if given."""
    if side is not None:
        said = claims_about(side.card)
    else:
        said = (*seed_claims(), *(each for card in moment.cards.values() for each in card_claims(card)))
    return judge(said, moment.cards, moment.snapshot, side.header if side else None)


def observation(evidence: Evidence, asked: Asked, number: int) -> View:
    """One probe asked once: question, what was expected, answer."""
    only(asked)
    moment = evidence.now()
    seen = evidence.store.observation(number)
    found = next((each for each in answering() if each.uri == seen["capability"]), None)
    probes = found.probes if found is not None and found.probe_set == seen["probe_set"] else ()
    probe = next((each for each in probes if each.id == seen["probe"]), None)
    config = moment.snapshot.configs.get(seen["config"])
    side = config and _by_config(moment)[config.id]
    told = {
        "seen": seen,
        "title": found.title if found else seen["capability"],
        "facts": [
            ("capability", seen["capability"]),
            ("model", f"{side.title} ({moment.address(side)})" if side else seen["config"]),
            ("score", f"{100 * seen['value']:.1f} %"),
            ("state", seen["state"]),
            ("tokens", f"{seen['prompt_tokens']:,} in, {seen['completion_tokens']:,} out"),
            ("time", f"{seen['seconds']:.2f} s, among other questions at the same time"),
            ("ended", seen["finish_reason"]),
        ],
        "given": _shown(probe.given) if probe else [],
        "expected": _shown(probe.expected) if probe else [],
    }
    return View("observation", f"Observation {number}", told, f"api/v1/observations/{number}", moment.snapshot)


def observations(evidence: Evidence, asked: Asked) -> View:
    """What a sentence rests on: the observations with the numbers asked for, as far as they are the last of a probe."""
    only(asked, "numbers")
    moment = evidence.now()
    spans = _spans(asked.get("numbers", ""))
    sides = _by_config(moment)
    found: list[dict[str, Any]] = [
        {"outcome": outcome, "capability": cell.capability, "side": sides[cell.config]}
        for cell in moment.snapshot.cells.values()
        for outcome in cell.outcomes.values()
        if any(first <= outcome.observation <= last for first, last in spans)
    ]
    found.sort(key=lambda row: row["outcome"].observation)
    told = {
        "rows": found[:LINES],
        "total": len(found),
        "passed": sum(row["outcome"].passed for row in found),
    }
    return View("observations", "Observations", told, snapshot=moment.snapshot)


def methodology(evidence: Evidence, asked: Asked) -> View:
    """The formulas, computed on what there is."""
    only(asked)
    moment = evidence.now()
    wanted = workload(None)
    sides = [each for each in moment.sides if each.config is not None]
    told = {
        "thin": THIN, "solid": SOLID, "covered": COVERED, "margin": MARGIN, "alpha": ALPHA, "formula": FORMULA,
        "capabilities": answering(),
        "workload": wanted,
        "example": explain(moment.snapshot, sides[0].config.id, wanted) if sides and sides[0].config else None,
        "example_side": sides[0] if sides else None,
        "pair": None,
        "planned_for": PLANNED_FOR,
        "planned": [
            (points, [planned(points / 100, ALPHA / count) for count in PLANNED_FOR]) for points in (5, 10, 20, 30)
        ],
    }  # fmt: skip
    if len(sides) > 1:
        found = comparing(evidence, moment, sides[0], sides[1], {})
        told["pair"] = found
        told["pair_address"] = SEPARATOR.join(moment.address(each) for each in sides[:2])
    return View("methodology", "Methodology", told, snapshot=moment.snapshot)


def llms(evidence: Evidence, asked: Asked) -> View:
    """What there is, for programs that read."""
    moment = evidence.now()
    told = {"rows": _named(moment), "suggested": suggested(moment), "capabilities": answering()}
    return View("llms", "quipu", told, snapshot=moment.snapshot)


# ---- what several of them need


def only(asked: Asked, *known: str) -> None:
    """Raise InvalidRequest for what a page does not know, with the nearest that it does."""
    for name in asked:
        if name not in known:
            hint = did_you_mean(name, known, f"known: {', '.join(known)}" if known else "it takes none")
            raise InvalidRequest(f"unknown parameter {name[:80]!r}; {hint}", param=name[:80])


def asked(request: Request) -> dict[str, str]:
    """What follows the question mark. Raises InvalidRequest for a name that is there twice."""
    given = request.query_params
    for name in given:
        if len(given.getlist(name)) > 1:
            raise InvalidRequest(f"{name[:80]} is given more than once", param=name[:80])
    return dict(given)


def _spans(text: str) -> list[Span]:
    """``12-331,400`` as runs of numbers. Raises InvalidRequest."""
    parts = text.split(",")
    if len(parts) > SPANS or not all(re.fullmatch(r"\d{1,18}(-\d{1,18})?", part, re.ASCII) for part in parts):
        raise InvalidRequest(
            "numbers must be those of observations, as in 12-331,400; /compare links to those of a comparison",
            param="numbers",
        )
    ends = [part.partition("-") for part in parts]
    return [(int(first), int(last or first)) for first, _, last in ends]


def placed(ranked: Ranked) -> dict[str, Any]:
    """A place among others, for JSON."""
    return {name: getattr(ranked, name) for name in ("tier", "rank_low", "rank_high", "best")}


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


def ranking(moment: Moment, wanted: Workload) -> Ranking:
    """Everyone who was measured, in order."""
    return moment.keep(("rank", wanted.source, wanted.text), lambda: rank(moment.snapshot, wanted))


def leading(moment: Moment, order: Ranking) -> str:
    """One sentence: who is ahead, as far as that can be told."""
    first = [each for each in order.rows if each.tier == 1]
    rated = [each for each in order.rows if each.tier is not None]
    if not order.rows:
        return "Nothing has been measured yet, so nobody is ahead."
    if not rated:
        return "Nobody has been measured on enough of it for a place: there are bounds only."
    names = [_by_config(moment)[each.scored.config].title for each in first]
    if len(rated) == 1:
        return f"Only {names[0]} has been measured on enough of it: there is no other to be better than."
    if len(first) == 1:
        others = [_by_config(moment)[each.scored.config].title for each in rated if each.tier != 1]
        return f"{names[0]} is ahead of {others[0] if len(others) == 1 else f'all {len(others)} others'}."
    return f"{', '.join(names[:-1])} and {names[-1]} cannot be told apart at the top."


def _pair(moment: Moment, a: Side, b: Side) -> tuple[str, str]:
    return f"{_name(moment, a)} vs {_name(moment, b)}", f"{moment.address(a)}{SEPARATOR}{moment.address(b)}"


def _name(moment: Moment, side: Side) -> str:
    """A title that tells a side from others of the same model."""
    same = sum(each.title == side.title for each in moment.sides)
    return (
        side.title if same == 1 or side.config is None else f"{side.title} ({side.quantization}, {side.config.id[:6]})"
    )


def _named(moment: Moment) -> list[dict[str, str]]:
    return [{"name": _name(moment, each), "address": moment.address(each)} for each in moment.sides]


def _by_config(moment: Moment) -> dict[str, Side]:
    return {each.config.id: each for each in moment.sides if each.config is not None}


def _one_per_card(sides: Iterable[Side]) -> list[Side]:
    return list({each.card.name: each for each in sides}.values())


def _model_row(moment: Moment, side: Side, scored: Mapping[str, Any]) -> dict[str, Any]:
    cells = [] if side.config is None else [*moment.snapshot.of(side.config.id)]
    return {
        "side": side,
        "address": moment.address(side),
        "told": _capital(scored[side.config.id].told) if side.config else "Unrated: never measured here",
        "measured": sum(bool(cell.outcomes) for cell in cells),
        "n": sum(len(cell.outcomes) for cell in cells),
    }


def _standings(snapshot: Snapshot, side: Side) -> list[dict[str, Any]]:
    measured = answering()
    found = standings(snapshot, side.config.id if side.config else "", [each.uri for each in measured])
    rows: list[dict[str, Any]] = [
        {"id": each.id, "title": each.title, "baseline": each.baseline, "standing": standing}
        for each, standing in zip(measured, found, strict=True)
    ]
    others = sorted(set(side.card.capabilities) - {each.id for each in measured})
    return rows + [
        {"id": each, "title": words(each).capitalize(), "baseline": None, "standing": None, "why": unprobed(each)}
        for each in others
    ]


def _capability_rows(moment: Moment, order: Ranking, uri: str) -> Iterable[dict[str, Any]]:
    sides = _by_config(moment)
    for each in order.rows:
        side = sides[each.scored.config]
        [standing] = standings(moment.snapshot, each.scored.config, [uri])
        yield {"side": side, "address": moment.address(side), "standing": standing, "ranked": each}
    for side in moment.sides:
        if side.config is None:
            [standing] = standings(moment.snapshot, "", [uri])
            yield {"side": side, "address": moment.address(side), "standing": standing, "ranked": None}


def _sliders(weights: Mapping[str, float]) -> list[dict[str, Any]]:
    """Where the sliders stand for these weights: the smallest is 1, as far as whole steps go."""
    smallest = min((weight for weight in weights.values() if weight > 0), default=1.0)
    scale = min(1 / smallest, STRONGEST / max([*weights.values(), smallest]))
    return [
        {
            "id": each.id,
            "title": each.title,
            "share": weights.get(each.uri, 0.0),
            "value": _step(weights.get(each.uri, 0.0) * scale),
        }
        for each in answering()
    ]


def _step(weight: float) -> int:
    return 0 if weight == 0 else max(1, round(weight))


def _counted(judged: Sequence[Judgement]) -> dict[str, int]:
    return {str(status): number for status, number in counts(tuple(judged)).items()} | {"total": len(judged)}


def _sources(judged: Sequence[Judgement], moment: Moment) -> Iterable[dict[str, Any]]:
    """Claims by their source and place, in their order."""
    for source, found in groupby(judged, lambda each: each.claim.source):
        rows = tuple(found)
        name = source.removeprefix("card ")
        card = moment.cards.get(name)
        yield {
            "title": "The seed page: “Llama 3.2 3B Instruct vs Llama 4”"
            if card is None
            else f"The card of {card.title}",
            "about": "The comparison that these pages answer, sentence by sentence; no sentence of it is left out."
            if card is None
            else "Written in quipu’s own words from what is published.",
            "judged": rows,
            "places": [
                (place[:1].upper() + place[1:], [*each]) for place, each in groupby(rows, lambda each: each.claim.place)
            ],
        }


def _rest(found: Comparison) -> list[tuple[str, str, list[Judgement]]]:
    """What is said of neither's capabilities: facts, prices, the makers' words."""
    shown = {each.id for each in found.capabilities}
    return [
        (name, kind, [each for each in said if each.claim.capability not in shown])
        for name, kind, said in zip(names(found.a, found.b), "ab", found.claims, strict=True)
    ]


def _shown(fields: Mapping[str, Any]) -> list[tuple[str, Any]]:
    return [(name, value) for name, value in fields.items() if value not in (None, "", [], {})]


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
