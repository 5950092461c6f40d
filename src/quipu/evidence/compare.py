"""Which of two configs is better, capability by capability and for a workload, or that it cannot be told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from quipu.errors import InvalidRequest
from quipu.evidence.needed import beyond_interval, for_difference, for_equality, planned
from quipu.evidence.overall import Overall, Verdict, overall
from quipu.evidence.paired import beyond_margin, holm
from quipu.evidence.pairing import Pairing, pair
from quipu.evidence.snapshot import Outcome, Snapshot
from quipu.evidence.standing import FORMULA, THIN, Standing, standing
from quipu.evidence.words import points, probability, probes, seen
from quipu.evidence.workload import Workload

MARGIN = 0.10
"""Within which two scores count as equal, unless asked otherwise: 10 points."""
ALPHA = 0.05
"""How often at most two that are the same are told apart, over all capabilities compared."""


@dataclass(frozen=True, slots=True)
class Differing:
    """A probe that only one of the two passed, with the log's numbers of both observations."""

    probe: str
    part: str
    a: int
    b: int
    a_value: float
    b_value: float


@dataclass(frozen=True, slots=True)
class Compared:
    """One capability. Differences are a's score minus b's on the probes both were asked, from -1 to 1."""

    capability: str
    weight: float
    """In the workload."""
    a: Standing
    b: Standing
    measured: Literal["both", "a", "b", "neither"]
    """Who has any observation of it."""
    shared: int
    """Probes that both were asked."""
    effective: float
    """Independent shared probes that tell as much."""
    difference: float | None
    """None below 20 shared probes."""
    low: float
    """Of the difference's 95 % interval; -1 and 1 where no probe is shared."""
    high: float
    p: float | None
    """That configs which are the same differ so much; None where it is not compared (fewer than 20 shared probes)."""
    holm_p: float | None
    """The same, allowing for the number of capabilities compared."""
    equal_p: float | None
    """That configs which differ by the margin look so alike, doubled; at most 0.05 where the interval is within it."""
    equal_holm_p: float | None
    verdict: Verdict
    within_margin: bool
    """Whether the difference is smaller than the margin for sure. A config may be better by less than that."""
    needed: int | None
    """About how many more shared probes would tell, under the correction in force; None where a verdict is there."""
    needed_for: Literal["difference", "equality"] | None
    reason: str
    """One sentence: what the verdict rests on, or why there is none."""
    only_a: tuple[Differing, ...]
    """Probes that only a passed, all of them, in the order in which it was asked."""
    only_b: tuple[Differing, ...]
    both_passed: int
    neither_passed: int

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Judgement:
    """All verdicts on two configs. A pure function of the snapshot, the workload, margin and alpha."""

    snapshot: int
    snapshot_hash: str
    at: str
    formula: str
    """The version of the formulas."""
    a: str
    b: str
    """Ids of configs; one that is not in the snapshot is unmeasured."""
    workload: Workload
    margin: float
    alpha: float
    compared: int
    """How many capabilities share Holm's correction."""
    capabilities: tuple[Compared, ...]
    """In the workload's order, then whatever else either was measured on."""
    overall: Overall

    @property
    def decided(self) -> bool:
        """Whether there is a verdict for the workload: exit status 0, otherwise 3."""
        return self.overall.verdict != "cannot tell"

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {**asdict(self), "workload": self.workload.as_dict(), "decided": self.decided}


def compare(
    snapshot: Snapshot, a: str, b: str, workload: Workload, *, margin: float = MARGIN, alpha: float = ALPHA
) -> Judgement:
    """Compare the configs with ids ``a`` and ``b``. Ids that the snapshot lacks are unmeasured, which is no error.

    Raises InvalidRequest for a margin or alpha outside of 0 to 1.
    """
    for name, value in (("margin", margin), ("alpha", alpha)):
        if not 0 < value < 1:
            raise InvalidRequest(f"{name} is a share between 0 and 1, not {value}", param=name)
    others = {each.capability for owner in (a, b) for each in snapshot.of(owner)} - workload.weights.keys()
    capabilities = [*workload.weights, *sorted(others)]
    pairings = {each: pair(snapshot.cells.get((a, each)), snapshot.cells.get((b, each))) for each in capabilities}
    tests = _tests(pairings, margin, alpha, sum(weight > 0 for weight in workload.weights.values()))
    return Judgement(
        snapshot=snapshot.number,
        snapshot_hash=snapshot.hash,
        at=snapshot.at,
        formula=FORMULA,
        a=a,
        b=b,
        workload=workload,
        margin=margin,
        alpha=alpha,
        compared=len(tests.p),
        capabilities=tuple(
            _compared(
                each,
                workload.weights.get(each, 0.0),
                standing(snapshot, a, each),
                standing(snapshot, b, each),
                pairings[each],
                tests,
            )
            for each in capabilities
        ),
        overall=overall(pairings, workload.weights, margin, alpha),
    )


@dataclass(frozen=True, slots=True)
class _Tests:
    """Both families of tests over the capabilities compared, and the levels that the next verdict has to reach."""

    margin: float
    alpha: float
    p: Mapping[str, float]
    holm_p: Mapping[str, float]
    equal_p: Mapping[str, float]
    equal_holm_p: Mapping[str, float]
    level: float
    equal_level: float
    planned_level: float


def _tests(pairings: Mapping[str, Pairing], margin: float, alpha: float, wanted: int) -> _Tests:
    """``wanted``: capabilities that would be compared if they were measured."""
    compared = {each: pairing for each, pairing in pairings.items() if pairing.enough}
    p = {each: pairing.p for each, pairing in compared.items()}
    equal_p = {each: beyond_margin(pairing.sample, margin) for each, pairing in compared.items()}
    holm_p = dict(zip(p, holm(list(p.values())), strict=True))
    equal_holm_p = dict(zip(equal_p, holm(list(equal_p.values())), strict=True))
    open_, equal_open = (sum(each > alpha for each in family.values()) for family in (holm_p, equal_holm_p))
    return _Tests(
        margin=margin,
        alpha=alpha,
        p=p,
        holm_p=holm_p,
        equal_p=equal_p,
        equal_holm_p=equal_holm_p,
        level=alpha / max(1, open_),
        equal_level=alpha / max(1, equal_open),
        planned_level=alpha / max(1, wanted, len(p)),
    )


def _compared(capability: str, weight: float, a: Standing, b: Standing, pairing: Pairing, tests: _Tests) -> Compared:
    low, high = pairing.interval
    verdict = _verdict(capability, pairing, tests)
    needed, needed_for = _needed(pairing, tests) if verdict == "cannot tell" else (None, None)
    passes = [(first.passed, second.passed) for first, second in pairing.pairs]
    return Compared(
        capability=capability,
        weight=weight,
        a=a,
        b=b,
        measured=("both" if b.n else "a") if a.n else ("b" if b.n else "neither"),
        shared=pairing.shared,
        effective=pairing.sample.effective if pairing.shared else 0.0,
        difference=pairing.sample.mean if pairing.enough else None,
        low=low,
        high=high,
        p=tests.p.get(capability),
        holm_p=tests.holm_p.get(capability),
        equal_p=tests.equal_p.get(capability),
        equal_holm_p=tests.equal_holm_p.get(capability),
        verdict=verdict,
        within_margin=tests.equal_holm_p.get(capability, 1.0) <= tests.alpha,
        needed=needed,
        needed_for=needed_for,
        reason=_reason(capability, verdict, a.n, b.n, pairing, tests),
        only_a=_differing(pairing, first=True),
        only_b=_differing(pairing, first=False),
        both_passed=passes.count((True, True)),
        neither_passed=passes.count((False, False)),
    )


def _verdict(capability: str, pairing: Pairing, tests: _Tests) -> Verdict:
    if not pairing.enough:
        return "cannot tell"
    if tests.holm_p[capability] <= tests.alpha:
        return "a better" if pairing.sample.mean > 0 else "b better"
    return "equal" if tests.equal_holm_p[capability] <= tests.alpha else "cannot tell"


def _needed(pairing: Pairing, tests: _Tests) -> tuple[int | None, Literal["difference", "equality"] | None]:
    """How many more probes, and for which of the two verdicts, whichever takes fewer."""
    if not pairing.enough:
        return max(1, planned(tests.margin, tests.planned_level) - pairing.shared), "difference"
    found = pairing.sample
    different = for_difference(found.mean, pairing.square, tests.level, found.n / found.effective)
    if different is not None:
        different = beyond_interval(different, found.n, found.mean, *pairing.interval)
    equal = for_equality(found, tests.margin, tests.equal_level)
    if different is None and equal is None:
        return None, None
    if equal is None or (different is not None and different <= equal):
        assert different is not None
        return max(1, different - found.n), "difference"
    return max(1, equal - found.n), "equality"


def _reason(capability: str, verdict: Verdict, n_a: int, n_b: int, pairing: Pairing, tests: _Tests) -> str:
    if not n_a or not n_b:
        return "neither was measured" if not n_a and not n_b else f"only {'A' if n_a else 'B'} was measured"
    if not pairing.enough:
        return f"{probes(pairing.shared)}; a verdict takes {THIN}"
    told = seen(pairing.sample.mean, *pairing.interval, pairing.shared)
    family = f" after Holm over {len(tests.p)}" if len(tests.p) > 1 else ""
    if verdict == "equal":
        return f"{told}: within {points(tests.margin)}"
    chance = probability(tests.holm_p[capability]) + family
    if verdict == "cannot tell":
        return f"{told}; it may be chance ({chance}), or more than {points(tests.margin)}"
    return f"{told}; {chance}"


def _differing(pairing: Pairing, *, first: bool) -> tuple[Differing, ...]:
    """The probes that only one passed, by the number of its observation."""
    found = [(a, b) for a, b in pairing.pairs if a.passed != b.passed and a.passed == first]

    def number(both: tuple[Outcome, Outcome]) -> int:
        return both[0 if first else 1].observation

    return tuple(
        Differing(a.probe, a.part, a.observation, b.observation, a.value, b.value) for a, b in sorted(found, key=number)
    )
