"""What is known of one capability of one config: how far it can be relied on, and the number with its interval."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from quipu.evidence.intervals import Sample, interval, sample
from quipu.evidence.snapshot import Cell, Snapshot

State = Literal["unmeasured", "thin", "measured", "solid"]
"""``unmeasured``: n = 0. ``thin``: n < 20, an interval and no point. ``solid``: the interval's half-width is at most
0.08. Field evidence will add ``disputed`` and ``stale``."""

FORMULA = "2"
"""Raised when a formula of judging changes: what was computed by different versions does not compare."""
THIN = 20
"""Probes from which on a point is shown."""
SOLID = 0.08
"""Half-width of the interval down to which a number is solid."""
COVERED = 0.8
"""Weight of measured capabilities from which on anything is said of a whole workload."""


@dataclass(frozen=True, slots=True)
class Standing:
    """One cell of the table of configs and capabilities. Values are from 0 to 1; what is unknown is None, never 0."""

    config: str
    capability: str
    state: State
    n: int
    """Probes answered and scored."""
    effective: float
    """Independent probes that tell as much."""
    mean: float | None
    """The point; None where there is no right to one (fewer than 20 probes)."""
    low: float
    """Of the 95 % interval; 0 and 1 where nothing was measured."""
    high: float
    method: str
    """How the interval was made; empty where nothing was measured."""
    passed: int
    unparsed: int
    beyond_context: int
    seconds_per_probe: float | None
    tokens_per_second: float | None
    """Generated, of all answers at the same time."""

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def standing(snapshot: Snapshot, config: str, capability: str) -> Standing:
    """What the snapshot says of one capability (its uri) of one config (its id)."""
    cell = snapshot.cells.get((config, capability))
    return _unmeasured(config, capability, cell) if cell is None or not cell.outcomes else of_cell(cell)


def standings(snapshot: Snapshot, config: str, capabilities: Sequence[str]) -> tuple[Standing, ...]:
    """The same for several capabilities, in their order."""
    return tuple(standing(snapshot, config, capability) for capability in capabilities)


def of_cell(cell: Cell) -> Standing:
    """What a cell with at least one outcome says."""
    outcomes = list(cell.outcomes.values())
    found = interval([each.value for each in outcomes], [each.group for each in outcomes], binary=cell.binary)
    return Standing(
        config=cell.config,
        capability=cell.capability,
        state=_state(found.n, found.low, found.high),
        n=found.n,
        effective=found.effective,
        mean=found.mean if found.n >= THIN else None,
        low=found.low,
        high=found.high,
        method=found.method,
        passed=sum(each.passed for each in outcomes),
        unparsed=sum(each.unparsed for each in outcomes),
        beyond_context=cell.beyond_context,
        seconds_per_probe=cell.seconds / found.n if cell.seconds else None,
        tokens_per_second=cell.timed_tokens / cell.seconds if cell.seconds else None,
    )


def sample_of(cell: Cell) -> Sample:
    """The scores of a cell with at least one outcome."""
    outcomes = cell.outcomes.values()
    return sample([each.value for each in outcomes], [each.group for each in outcomes], binary=cell.binary)


def _state(n: int, low: float, high: float) -> State:
    if n < THIN:
        return "thin"
    return "solid" if (high - low) / 2 <= SOLID else "measured"


def _unmeasured(config: str, capability: str, cell: Cell | None) -> Standing:
    return Standing(
        config=config,
        capability=capability,
        state="unmeasured",
        n=0,
        effective=0.0,
        mean=None,
        low=0.0,
        high=1.0,
        method="",
        passed=0,
        unparsed=0,
        beyond_context=0 if cell is None else cell.beyond_context,
        seconds_per_probe=None,
        tokens_per_second=None,
    )
