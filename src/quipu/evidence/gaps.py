"""What has not been measured, and what it would cost."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from quipu.evidence.measuring import measuring_more
from quipu.evidence.snapshot import Snapshot
from quipu.evidence.standing import Standing, standing
from quipu.evidence.workload import Workload, identifier

Basis = Literal["this capability", "other capabilities of this config", "unknown"]


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
    basis: Basis
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
    owners = snapshot.configs if configs is None else dict.fromkeys(configs)
    wanted = [each for each, weight in workload.weights.items() if weight]
    found = [_gap(snapshot, workload, owner, each, probes.get(each, 0)) for owner in owners for each in wanted]
    return tuple(sorted((each for each in found if each.missing and each.standing.state != "solid"), key=_urgency))


def probe_counts(capabilities: Sequence[str]) -> dict[str, int]:
    """How many probes each capability (uri) has. Makes them all, which takes a second or two."""
    from quipu.capabilities import all_capabilities
    from quipu.capabilities.base import Answering

    found = {each.uri: each for each in all_capabilities() if isinstance(each, Answering)}
    return {uri: len(found[uri].probes) for uri in capabilities if uri in found}


def seconds_per_probe(snapshot: Snapshot, config: str, capability: str) -> tuple[float | None, Basis]:
    """What a probe takes on the clock, asked among others, and what says so."""
    own = standing(snapshot, config, capability).seconds_per_probe
    if own is not None:
        return own, "this capability"
    timed = [cell for cell in snapshot.of(config) if cell.seconds and cell.outcomes]
    if timed:
        asked = sum(len(cell.outcomes) for cell in timed)
        return sum(cell.seconds for cell in timed) / asked, "other capabilities of this config"
    return None, "unknown"


def command(snapshot: Snapshot, config: str, *capabilities: str) -> str:
    """What measures the rest of ``capabilities`` (uris). A config that the snapshot lacks is named by its id."""
    known = snapshot.configs.get(config)
    if known is not None:
        return measuring_more(known, *capabilities)
    only = [word for each in capabilities for word in ("--capability", identifier(each))]
    return shlex.join(["quipu", "measure", config, *only])


def _gap(snapshot: Snapshot, workload: Workload, config: str, capability: str, total: int) -> Gap:
    found = standing(snapshot, config, capability)
    missing = max(0, total - found.n - found.beyond_context)
    seconds, basis = seconds_per_probe(snapshot, config, capability)
    return Gap(
        config=config,
        label=snapshot.configs[config].label if config in snapshot.configs else config,
        capability=capability,
        weight=workload.weights[capability],
        standing=found,
        missing=missing,
        minutes=None if seconds is None else missing * seconds / 60,
        basis=basis,
        command=command(snapshot, config, capability),
    )


def _urgency(gap: Gap) -> tuple[int, float, str, str]:
    depth = {"unmeasured": 0, "thin": 1}.get(gap.standing.state, 2)
    cost = math.inf if gap.minutes is None else gap.minutes / gap.weight
    return depth, cost, gap.capability, gap.config
