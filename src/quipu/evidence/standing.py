"""What is known of one capability of one config: how far it can be relied on, and the number with its interval."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from quipu.evidence.snapshot import Cell, Snapshot

State = Literal["unmeasured", "thin", "measured", "solid"]
"""``unmeasured``: n = 0. ``thin``: n < 20, an interval and no point. ``solid``: the interval's half-width is at most
0.08. Field evidence will add ``disputed`` and ``stale``."""

THIN = 20
"""Probes from which on a point is shown."""
SOLID = 0.08
"""Half-width of the interval down to which a number is solid."""


@dataclass(frozen=True, slots=True)
class Standing:
    """One cell of the table of configs and capabilities. Values are from 0 to 1; what is unknown is None, never 0."""

    config: str
    capability: str
    state: State
    n: int
    """Probes answered and scored."""
    effective: float
    """Independent right-or-wrong probes that tell as much."""
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
    raise NotImplementedError


def standings(snapshot: Snapshot, config: str, capabilities: Sequence[str]) -> tuple[Standing, ...]:
    """The same for several capabilities, in their order."""
    return tuple(standing(snapshot, config, capability) for capability in capabilities)


def of_cell(cell: Cell) -> Standing:
    """What a cell says."""
    raise NotImplementedError
