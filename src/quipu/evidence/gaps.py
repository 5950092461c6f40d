"""What has not been measured, and what it would cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from quipu.evidence.snapshot import Snapshot
from quipu.evidence.standing import Standing
from quipu.evidence.workload import Workload


@dataclass(frozen=True, slots=True)
class Gap:
    """A capability of a config of which more should be known."""

    config: str
    label: str
    capability: str
    weight: float
    standing: Standing
    missing: int
    """Probes of its set that have not been asked, without those that do not fit the context."""
    minutes: float | None
    """What asking them takes; None where nothing says how long."""
    basis: Literal["this capability", "other capabilities of this config", "unknown"]
    """Which measured seconds per probe the minutes are made of."""
    command: str
    """That asks them."""

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def gaps(
    snapshot: Snapshot, workload: Workload, probes: Mapping[str, int], configs: Sequence[str] | None = None
) -> tuple[Gap, ...]:
    """What is unmeasured, thin, or measured in part, most needed first: holes before depth, then by weight per minute.

    ``probes``: how many each capability (uri) has, as ``probe_counts()`` tells. ``configs``: ids, all unless given.
    """
    raise NotImplementedError


def probe_counts(capabilities: Sequence[str]) -> dict[str, int]:
    """How many probes each capability (uri) has. Makes them all, which takes a second or two."""
    raise NotImplementedError
