"""Where a score comes from: every term of it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from quipu.evidence.score import Scored, ends, scored
from quipu.evidence.snapshot import Snapshot
from quipu.evidence.standing import COVERED, FORMULA
from quipu.evidence.workload import Workload, identifier

__all__ = ["FORMULA", "Explanation", "explain"]


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
    """Every term of a config's score. One that the snapshot lacks is unrated, with its id as label."""
    found = scored(snapshot, config, workload)
    return Explanation(
        snapshot=snapshot.number,
        snapshot_hash=snapshot.hash,
        at=snapshot.at,
        formula=FORMULA,
        workload=workload,
        label=snapshot.configs[config].label if config in snapshot.configs else config,
        scored=found,
        sums=(*_terms(found), *_total(found), _bounds(found)),
    )


def _terms(found: Scored) -> list[str]:
    lines = []
    for term in found.terms:
        each = term.standing
        start = f"{identifier(term.capability)}: weight {term.weight:.4f}"
        if each.n == 0:
            lines.append(f"{start}, unmeasured: 0 to 1 in the bounds")
        elif each.mean is None:
            lines.append(f"{start}, thin (n = {each.n}): {each.low:.4f} to {each.high:.4f} in the bounds")
        else:
            product = 100 * term.weight * each.mean
            lines.append(
                f"{start} x {each.mean:.4f} x 100 = {product:.4f} points "
                f"(n = {each.n}, 95 % interval {each.low:.4f} to {each.high:.4f}, {each.state})"
            )
    return lines


def _total(found: Scored) -> list[str]:
    lines = [f"coverage: {found.coverage:.4f}, the weight of what has a point"]
    if found.score is None:
        return [*lines, f"no score: a score takes a coverage of {COVERED}"]
    total = found.score * found.coverage
    return [*lines, f"score: {total:.4f} / {found.coverage:.4f} = {found.told}"]


def _bounds(found: Scored) -> str:
    low, high = (
        " + ".join(f"{term.weight:.4f} x {ends(term.standing)[side]:.4f}" for term in found.terms) for side in (0, 1)
    )
    return f"bounds: 100 x ({low}) = {found.lower_bound:.4f}; 100 x ({high}) = {found.upper_bound:.4f}"
