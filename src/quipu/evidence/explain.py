"""Where a score comes from: every term of it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from quipu.evidence.rank import Scored
from quipu.evidence.snapshot import Snapshot
from quipu.evidence.workload import Workload

@dataclass(frozen=True, slots=True)
class Explanation:
    """A score with its terms (``scored.terms``), and what to compute it again from."""

    snapshot: int
    snapshot_hash: str
    at: str
    formula: str
    workload: Workload
    label: str
    scored: Scored
    sums: tuple[str, ...]
    """The same as lines of arithmetic with numbers filled in, for people."""

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {**asdict(self), "workload": self.workload.as_dict()}


def explain(snapshot: Snapshot, config: str, workload: Workload) -> Explanation:
    """Every term of a config's score."""
    raise NotImplementedError
