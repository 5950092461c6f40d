"""What would turn a verdict: the smallest change of workload, or of evidence."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from quipu.evidence.compare import Judgement
from quipu.evidence.gaps import command, seconds_per_probe
from quipu.evidence.pairing import Pairing, pair
from quipu.evidence.reversal import Reversal, reversals
from quipu.evidence.shift import Shift, shift
from quipu.evidence.snapshot import Snapshot
from quipu.evidence.workload import identifier


@dataclass(frozen=True, slots=True)
class Purchase:
    """Evidence that would bring a verdict where there is none."""

    capability: str
    probes: int
    """About how many more shared probes."""
    available: int
    """Of the capability's set, not yet asked of both."""
    minutes: float | None
    commands: tuple[str, ...]
    told: str


@dataclass(frozen=True, slots=True)
class Flip:
    """What would turn the verdict on two configs."""

    judgement: Judgement
    shift: Shift | None
    """None where no weights would: one leads nowhere, nothing is compared, or none of it can be told apart."""
    reversals: tuple[Reversal, ...]
    purchases: tuple[Purchase, ...]
    """Cheapest first."""
    told: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {**asdict(self), "judgement": self.judgement.as_dict()}


def flip(snapshot: Snapshot, judgement: Judgement, probes: Mapping[str, int]) -> Flip:
    """What would turn ``judgement``, which was made from ``snapshot``. ``probes``: see ``gaps.probe_counts``."""
    pairings = {
        each.capability: pair(
            snapshot.cells.get((judgement.a, each.capability)), snapshot.cells.get((judgement.b, each.capability))
        )
        for each in judgement.capabilities
    }
    moved = shift(judgement, pairings)
    turned = reversals(judgement, pairings)
    bought = _purchases(snapshot, judgement, pairings, probes)
    told = [each.told for each in (moved, *turned, *bought) if each is not None]
    return Flip(judgement, moved, turned, bought, tuple(told or ["no change of workload turns it, and no more probes"]))


def _purchases(
    snapshot: Snapshot, judgement: Judgement, pairings: Mapping[str, Pairing], probes: Mapping[str, int]
) -> tuple[Purchase, ...]:
    found = []
    for each in judgement.capabilities:
        if each.verdict != "cannot tell" or each.needed is None or not each.weight:
            continue
        beyond = max(each.a.beyond_context, each.b.beyond_context)
        available = max(0, probes.get(each.capability, 0) - each.shared - beyond)
        asked = min(each.needed, available)
        minutes, commands = 0.0, []
        for owner, own in ((judgement.a, each.a), (judgement.b, each.b)):
            questions = max(0, each.shared + asked - own.n)
            seconds, _ = seconds_per_probe(snapshot, owner, each.capability)
            minutes += questions * (math.nan if seconds is None else seconds) / 60 if questions else 0.0
            if questions:
                commands.append(command(snapshot, owner, each.capability))
        cost = None if math.isnan(minutes) else minutes
        told = _told(each.capability, each.needed, available, cost)
        found.append(Purchase(each.capability, each.needed, available, cost, tuple(commands), told))
    return tuple(sorted(found, key=_price))


def _price(purchase: Purchase) -> tuple[bool, float, int, str]:
    cost = math.inf if purchase.minutes is None else purchase.minutes
    return purchase.available < purchase.probes, cost, purchase.probes, purchase.capability


def _told(capability: str, needed: int, available: int, minutes: float | None) -> str:
    start = f"{identifier(capability)}: about {needed:,} more shared probes would tell"
    if available < needed:
        return f"{start}, but its set has only {available:,} more"
    return start if minutes is None else f"{start}, about {minutes:.1f} minutes"
