"""Capabilities side by side: what is said of each, what was measured, and the verdict. One identifier, one row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from quipu import capabilities
from quipu.errors import CapabilityNotFound
from quipu.evidence.cards import Declared
from quipu.evidence.claims import Judgement as Judged
from quipu.evidence.compare import Compared, Judgement
from quipu.evidence.figure import Figure, percent
from quipu.evidence.side import Side, names
from quipu.evidence.standing import THIN, Standing
from quipu.evidence.workload import identifier

Has = Literal["both", "a", "b", "neither"]
ORDER: Sequence[Has] = ("both", "a", "b", "neither")


@dataclass(frozen=True, slots=True)
class Told:
    """What is said and known of one capability of one of the two."""

    declared: Declared | None
    """What its card says; None: nothing."""
    standing: Standing | None
    """What was measured; None where nobody can be scored: quipu has no probes for it."""
    score: Figure
    claims: tuple[Judged, ...]

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        said = self.declared
        return {
            "declared": said is not None,
            "description": said.description if said else None,
            "unique": said.unique if said else None,
            "alternatives": said.alternatives if said else None,
            "state": self.standing.state if self.standing else "unmeasured",
            "score": self.score.as_dict(),
            "standing": self.standing.as_dict() if self.standing else None,
            "claims": [each.as_dict() for each in self.claims],
        }


@dataclass(frozen=True, slots=True)
class Aligned:
    """One capability, of both. ``has``: whose card declares it, or who was measured on it."""

    id: str
    uri: str | None
    """None where quipu has no probes for it."""
    title: str
    description: str
    has: Has
    a: Told
    b: Told
    compared: Compared | None
    verdict: str
    """One sentence."""

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        told: dict[str, Any] = {"a": self.a.as_dict(), "b": self.b.as_dict()}
        result = {name: getattr(self, name) for name in ("id", "uri", "title", "description", "has", "verdict")}
        result |= told
        if self.compared is not None:
            verdict = self.compared.as_dict()
            for name in ("a", "b", "capability"):  # they are above
                del verdict[name]
            result["compared"] = verdict
        return result


def aligned(a: Side, b: Side, judgement: Judgement, said: Sequence[Sequence[Judged]]) -> tuple[Aligned, ...]:
    """Every capability that is compared, measured or declared: those of both first, then A's, B's, nobody's.

    Within these, what both were asked comes first, in the order of ``judgement``, and what has no probes last, by name.
    ``said``: all claims of A and of B.
    """
    compared = [(identifier(each.capability), each) for each in judgement.capabilities]
    known = {name for name, _ in compared}
    others = sorted({*a.card.capabilities, *b.card.capabilities} - known)
    rows = [_row(name, each, a, b, said) for name, each in [*compared, *((name, None) for name in others)]]
    return tuple(sorted(rows, key=_place))


def _place(row: Aligned) -> tuple[int, bool]:
    return ORDER.index(row.has), row.compared is None or not row.compared.shared


def _row(name: str, compared: Compared | None, a: Side, b: Side, said: Sequence[Sequence[Judged]]) -> Aligned:
    ours = _told(name, a, compared.a if compared else None, said[0])
    theirs = _told(name, b, compared.b if compared else None, said[1])
    title, description = _described(name)
    return Aligned(
        id=name,
        uri=compared.capability if compared else None,
        title=title,
        description=description,
        has=_has(ours, theirs),
        a=ours,
        b=theirs,
        compared=compared,
        verdict=verdict(name, compared, names(a, b)),
    )


def verdict(name: str, compared: Compared | None, called: tuple[str, str]) -> str:
    """The verdict on the capability ``name`` with what it rests on. A and B are ``called`` so."""
    if compared is None:
        return f"Cannot tell: {unprobed(name)}."
    more = "" if compared.needed is None else f". About {compared.needed:,} more shared probes would tell"
    return f"{kind(compared, called)}: {compared.reason}{more}."


def kind(compared: Compared | None, called: tuple[str, str]) -> str:
    """Which of the four verdicts it is, in words."""
    if compared is None or compared.verdict == "cannot tell":
        return "Cannot tell"
    if compared.verdict == "equal":
        return "Equal"
    return f"{called[0] if compared.verdict == 'a better' else called[1]} is better"


def _told(name: str, side: Side, standing: Standing | None, said: Sequence[Judged]) -> Told:
    claims = tuple(each for each in said if each.claim.capability == name)
    return Told(side.card.capabilities.get(name), standing, score(name, side, standing), claims)


def score(name: str, side: Side, standing: Standing | None) -> Figure:
    """A score as a figure: a point and its interval, from THIN probes on; below, the interval alone."""
    if standing is None:
        return Figure.unknown(unprobed(name))
    if side.config is None:
        return Figure.unknown("unrated: never measured here")
    if standing.n == 0:
        beyond = f"; {standing.beyond_context} probes are longer than its context" if standing.beyond_context else ""
        return Figure.unknown(f"unrated: not measured on it yet{beyond}")
    few = f"no point from fewer than {THIN} probes"
    why = few if standing.mean is None else f"{standing.state}; {standing.method}"
    return Figure.of(standing.mean, percent, low=standing.low, high=standing.high, n=standing.n, why=why)


def unprobed(name: str) -> str:
    """Why a capability that nobody can be scored on has no score."""
    if name in capabilities.names():
        return "it has no right answers: it is the service that is measured, in its claims"
    return "quipu has no probes for it yet"


def _has(a: Told, b: Told) -> Has:
    ours, theirs = (told.declared is not None or (told.standing is not None and told.standing.n > 0) for told in (a, b))
    return ("both" if theirs else "a") if ours else ("b" if theirs else "neither")


def _described(name: str) -> tuple[str, str]:
    """A capability's title and what it is, in quipu's words; its name where it has no file here."""
    try:
        found = capabilities.find(name)
    except CapabilityNotFound:
        return name.replace("_", " ").capitalize(), ""
    return found.title, " ".join(found.description.split())
