"""Which of two configs is better, capability by capability and for a workload, or that it cannot be told."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from quipu.evidence.snapshot import Snapshot
from quipu.evidence.standing import Standing
from quipu.evidence.workload import Workload

Verdict = Literal["a better", "b better", "equal", "cannot tell"]
"""``equal`` is within the margin."""

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
    """Probes that only a passed, all of them, by the number of a's observation."""
    only_b: tuple[Differing, ...]
    both_passed: int
    neither_passed: int

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Overall:
    """The verdict for a workload: the weighted difference over the capabilities that are compared."""

    verdict: Verdict
    difference: float | None
    """None when coverage is below 0.8."""
    low: float
    high: float
    """Of the 95 % interval; capabilities that are not compared count -1 in low and 1 in high."""
    p: float | None
    coverage: float
    """Weight of the capabilities with at least 20 shared probes."""
    shared: int
    within_margin: bool
    needed: int | None
    """About how many more shared probes, of all capabilities together, would tell."""
    reason: str

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
    raise NotImplementedError
