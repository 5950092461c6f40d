"""The words of a comparison: templated from numbers, each clause with the observations that it rests on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

from quipu.evidence import claims
from quipu.evidence.columns import Column
from quipu.evidence.compare import Compared, Judgement
from quipu.evidence.figure import factor, listed, plural, signed
from quipu.evidence.side import Side, names
from quipu.evidence.snapshot import Snapshot
from quipu.evidence.words import points
from quipu.evidence.workload import identifier

Span = tuple[int, int]
"""The first and the last of consecutive numbers of observations."""
NAMED = 3
"""Capabilities that a sentence names; of more it says how many."""


@dataclass(frozen=True, slots=True)
class Clause:
    """A part of the headline, and the observations that it rests on."""

    text: str
    observations: tuple[Span, ...] = ()

    @property
    def n(self) -> int:
        """How many observations."""
        return sum(last - first + 1 for first, last in self.observations)


@dataclass(frozen=True, slots=True)
class Headline:
    """The strongest true sentence."""

    clauses: tuple[Clause, ...]

    @property
    def sentence(self) -> str:
        """All of it, with a full stop."""
        return "; ".join(clause.text for clause in self.clauses) + "."

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"sentence": self.sentence, "clauses": [{**asdict(each), "n": each.n} for each in self.clauses]}


def headline(
    a: Side,
    b: Side,
    snapshot: Snapshot,
    judgement: Judgement,
    columns: Sequence[Column],
    said: Sequence[Sequence[claims.Judgement]],
) -> Headline:
    """The strongest sentence that is true of ``a`` and ``b``: quality first, with what is lost; then speed and price.

    Where nothing was measured it is about what is claimed.
    """
    if not any(each.shared for each in judgement.capabilities):
        return Headline((_unmeasured(a, b, judgement), *_judged(a, b, said)))
    evidence = _Evidence(snapshot, judgement)
    leader = _leader(judgement)
    found = (
        _overall(a, b, judgement, evidence),
        *_qualities(a, b, leader, judgement, evidence),
        _speed(a, b, leader, columns, evidence),
        _price(a, b, columns, evidence),
    )
    return Headline(tuple(clause for clause in found if clause is not None))


def verdict_sentence(a: Side, b: Side, judgement: Judgement) -> str:
    """The verdict for the workload and what it rests on, in one or two sentences."""
    first, second = names(a, b)
    overall = judgement.overall
    kinds = {
        "a better": f"{first} is better for this workload.",
        "b better": f"{second} is better for this workload.",
        "equal": "Equal for this workload.",
        "cannot tell": "Which is better for this workload cannot be told yet.",
    }
    more = "" if overall.needed is None else f" About {overall.needed:,} more shared probes would tell."
    return f"{kinds[overall.verdict]} {overall.reason[:1].upper()}{overall.reason[1:]}.{more}"


class _Evidence:
    """Which observations a set of capabilities rests on."""

    def __init__(self, snapshot: Snapshot, judgement: Judgement) -> None:
        self._snapshot = snapshot
        self._configs = judgement.a, judgement.b
        self._capabilities = judgement.capabilities

    def of(self, capabilities: Iterable[Compared]) -> tuple[Span, ...]:
        """Those of the probes that both were asked."""
        return spans(number for each in capabilities for number in self._shared(each.capability))

    def all(self) -> tuple[Span, ...]:
        """Those of every probe that both were asked."""
        return self.of(self._capabilities)

    def _shared(self, capability: str) -> list[int]:
        cells = [self._snapshot.cells.get((config, capability)) for config in self._configs]
        a, b = ({} if cell is None else cell.outcomes for cell in cells)
        return [outcome.observation for probe in a.keys() & b.keys() for outcome in (a[probe], b[probe])]


def spans(numbers: Iterable[int]) -> tuple[Span, ...]:
    """Numbers as runs of consecutive ones: 1, 2, 3, 7 are (1, 3) and (7, 7)."""
    every = sorted(set(numbers))
    if not every:
        return ()
    ends = [(before, after) for before, after in pairwise(every) if after != before + 1]
    starts = [every[0], *(after for _, after in ends)]
    return tuple(zip(starts, [*(before for before, _ in ends), every[-1]], strict=True))


def _unmeasured(a: Side, b: Side, judgement: Judgement) -> Clause:
    first, second = names(a, b)
    measured = [name for name, side in ((first, a), (second, b)) if side.config is not None]
    if not measured:
        return Clause("Neither was ever measured here, so nothing says which is better")
    if len(measured) == 1:
        return Clause(f"Only {measured[0]} was measured here, so nothing says which is better")
    return Clause("No probe was asked of both, so nothing says which is better")


def _judged(a: Side, b: Side, said: Sequence[Sequence[claims.Judgement]]) -> list[Clause]:
    clauses = []
    for name, judgements in zip(names(a, b), said, strict=True):
        if judgements:
            counts = claims.counts(tuple(judgements))
            numbers = spans(each for one in judgements for found in one.evidence for each in found.observations)
            clauses.append(
                Clause(
                    f"of {plural(len(judgements), 'claim')} about {name}, {counts['verified']} verified, "
                    f"{counts['contradicted']} contradicted and {counts['unmeasured']} unmeasured",
                    numbers,
                )
            )
    return clauses


def _leader(judgement: Judgement) -> str:
    """Who the sentence is about: the better one, else who is better at more."""
    if judgement.overall.verdict in ("a better", "b better"):
        return judgement.overall.verdict[0]
    verdicts = [each.verdict for each in judgement.capabilities]
    return "b" if verdicts.count("b better") > verdicts.count("a better") else "a"


def _overall(a: Side, b: Side, judgement: Judgement, evidence: _Evidence) -> Clause:
    first, second = names(a, b)
    found = judgement.overall
    rests_on = evidence.of(each for each in judgement.capabilities if each.p is not None)
    difference, low, high = found.difference or 0.0, found.low, found.high
    match found.verdict:
        case "a better":
            text = f"{first} is better than {second} for this workload, by {_sure(difference, low, high)}"
        case "b better":
            text = f"{second} is better than {first} for this workload, by {_sure(-difference, -high, -low)}"
        case "equal":
            text = f"{first} and {second} are equal for this workload within {points(judgement.margin)}"
        case "cannot tell":
            text = f"Which of {first} and {second} is better for this workload cannot be told yet"
    return Clause(text, rests_on)


def _sure(difference: float, low: float, high: float) -> str:
    return f"{points(difference)} ({signed(low)} to {signed(high)})"


def _qualities(a: Side, b: Side, leader: str, judgement: Judgement, evidence: _Evidence) -> list[Clause]:
    """Where the leader is better, where the other one is, where they are equal: what is lost is never left out."""
    compared = [each for each in judgement.capabilities if each.p is not None]
    if len(compared) == 1 and judgement.decided:
        return []  # it is the workload, of which that was said
    by_name = dict(zip("ab", names(a, b), strict=True))
    other = "b" if leader == "a" else "a"
    total = f"{len(compared)} compared" if len(compared) > 1 else "the one compared"
    clauses = []
    for who in (leader, other):
        won = [each for each in compared if each.verdict == f"{who} better"]
        if won:
            clauses.append(Clause(f"{by_name[who]} is better on {_named(won)}", evidence.of(won)))
    equal = [each for each in compared if each.verdict == "equal"]
    if equal:
        same = f"the same quality within {points(judgement.margin)} on {len(equal)} of {total}"
        clauses.append(Clause(same, evidence.of(equal)))
    return clauses


def _named(capabilities: Sequence[Compared]) -> str:
    if len(capabilities) > NAMED:
        return f"{len(capabilities)} capabilities"
    return listed([f"{identifier(each.capability)} (by {points(each.difference or 0)})" for each in capabilities])


def _speed(a: Side, b: Side, leader: str, columns: Sequence[Column], evidence: _Evidence) -> Clause | None:
    """How many times faster one answers, where the interval of that leaves 1 out."""
    found = next(each.ratio for each in columns if each.name == "Time per answer")
    if found is None or found.value is None or found.low is None or found.high is None or found.low <= 1 <= found.high:
        return None
    first, second = names(a, b)
    a_faster = found.high < 1
    turned: Callable[[float], float] = (lambda ratio: 1 / ratio if ratio else float("inf")) if a_faster else float
    low, high = sorted((turned(found.low), turned(found.high)))
    if turned(found.value) < 1.05 or high == float("inf"):
        return None  # true, and of no use
    sure = f"{factor(turned(found.value))} times faster ({factor(low)} to {factor(high)})"
    return Clause(f"{first if a_faster else second} answers {sure}", evidence.all())


def _price(a: Side, b: Side, columns: Sequence[Column], evidence: _Evidence) -> Clause | None:
    """How many times cheaper a successful answer of one is, where the two intervals lie apart."""
    column = next(each for each in columns if each.name == "Price per success")
    first, second = names(a, b)
    for name, cheap, dear in ((first, column.a, column.b), (second, column.b, column.a)):
        if cheap.value and dear.value and cheap.high is not None and dear.low is not None and cheap.high < dear.low:
            return Clause(f"a success of {name} costs {factor(dear.value / cheap.value)} times less", evidence.all())
    return None
