"""How many probes a verdict hangs on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from quipu.evidence.compare import Judgement
from quipu.evidence.intervals import sample
from quipu.evidence.paired import beside_interval, difference_interval, group_sums, holm, sign_flip
from quipu.evidence.pairing import Pairing
from quipu.evidence.workload import identifier


@dataclass(frozen=True, slots=True)
class Reversal:
    """Probes that would have to come out otherwise for a capability's verdict to fall."""

    capability: str
    probes: int
    told: str


def reversals(judgement: Judgement, pairings: Mapping[str, Pairing]) -> tuple[Reversal, ...]:
    """Of each capability with a better one: about how many of its wins, had they been draws, would undo it.

    The fragility index (Walsh et al., Journal of Clinical Epidemiology 67, 2014) for pairs. The most fragile first.
    """
    found = []
    chances = {each.capability: each.p for each in judgement.capabilities if each.p is not None}
    for each in judgement.capabilities:
        if each.verdict not in ("a better", "b better"):
            continue
        pairing = pairings[each.capability]
        level = _level(chances, each.capability, judgement.alpha)
        count = _undone(pairing, 1 if each.verdict == "a better" else -1, level)
        side = each.verdict[0].upper()
        told = (
            f"{identifier(each.capability)}: no longer {side} better if {count} of the {pairing.shared} shared "
            f"probes, which {side} won, had been draws"
        )
        found.append(Reversal(each.capability, count, told))
    return tuple(sorted(found, key=lambda each: (each.probes, each.capability)))


def _level(chances: Mapping[str, float], capability: str, alpha: float) -> float:
    """The largest probability of its own with which a capability passes Holm's correction, others as they are."""
    others = [p for each, p in chances.items() if each != capability]
    return max(alpha / left for left in range(1, len(chances) + 1) if holm([*others, alpha / left])[-1] <= alpha)


def _undone(pairing: Pairing, sign: int, level: float) -> int:
    """The fewest wins, largest first and from the groups with the fewest, without which ``level`` is missed."""
    groups = [a.group for a, _ in pairing.pairs]
    differences = sign * pairing.differences
    names, places = np.unique(groups, return_inverse=True)
    sums = np.bincount(places, weights=differences, minlength=len(names))
    order = np.lexsort((sums[places], -differences))
    wins = order[differences[order] > 0]
    low, high = 0, len(wins)
    while high - low > 1:
        middle = (low + high) // 2
        p = _p_without(differences, wins[:middle], groups, pairing.binary)
        low, high = (middle, high) if p <= level else (low, middle)
    return high


def _p_without(differences: NDArray[np.float64], wins: NDArray[np.intp], groups: list[str], binary: bool) -> float:
    left = differences.copy()
    left[wins] = 0.0
    if left.sum() <= 0:
        return 1.0
    found = sample(left.tolist(), groups, binary=binary)
    return beside_interval(sign_flip(group_sums(left, groups)), found.mean, *difference_interval(found))
