"""How far weights have to move before a verdict turns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from quipu.evidence.compare import Judgement
from quipu.evidence.overall import Verdict, overall
from quipu.evidence.pairing import Pairing
from quipu.evidence.workload import Workload, identifier

TURNED = 0.001
"""The lead that the other one has then: a tenth of a point."""
STEPS = 6
"""Halvings in the search for the smallest share."""


@dataclass(frozen=True, slots=True)
class Shift:
    """The smallest change of weights that turns the verdict.

    Where one is better: at which the other one leads. Where it cannot be told: at which it can.
    """

    moved: float
    """The share of the workload that moves."""
    weights: Mapping[str, float]
    """By capability uri, as they are then."""
    text: str
    """The same as ``--workload`` takes it."""
    verdict: Verdict
    """For the workload, with these weights."""
    told: str


def shift(judgement: Judgement, pairings: Mapping[str, Pairing]) -> Shift | None:
    """The smallest change of weights among the capabilities that are compared, or None where none turns anything."""
    weights = {each.capability: each.weight for each in judgement.capabilities}
    if judgement.overall.verdict == "cannot tell":
        found = min(_decisive(judgement, pairings, weights), default=None, key=lambda each: _moved(weights, each[0]))
    else:
        turned = _turned(judgement, weights)
        found = None if turned is None else (turned, _verdict(judgement, pairings, turned))
    if found is None:
        return None
    then, verdict = found
    grown = max(then, key=lambda each: (then[each] - weights[each], each))
    share = _moved(weights, then)
    text = Workload({each: weight for each, weight in then.items() if weight}, "stated").text
    leads = verdict.capitalize() if judgement.overall.verdict == "cannot tell" else "the other one leads"
    told = f"with {100 * share:.3g} % of the workload moved to {identifier(grown)}: {leads}"
    return Shift(share, then, text, verdict, told)


def _turned(judgement: Judgement, weights: Mapping[str, float]) -> dict[str, float] | None:
    """Weights at which the other one leads: moved from where the leader is furthest ahead to where it is least.

    A linear programme in one constraint, which this greedy order solves (the fractional knapsack, Dantzig, 1957).
    """
    lead = {each.capability: each.difference for each in judgement.capabilities if each.difference is not None}
    total = sum(weights[each] * difference for each, difference in lead.items())
    sign = 1 if total > 0 else -1
    target = min(lead, key=lambda each: (sign * lead[each], each))
    then = dict(weights)
    excess = sign * total + TURNED
    for each in sorted(lead, key=lambda each: (-sign * lead[each], each)):
        gain = sign * (lead[each] - lead[target])
        if gain <= 0:
            break
        share = min(then[each], excess / gain)
        then[each] -= share
        then[target] += share
        excess -= share * gain
        if excess <= 1e-12:
            return then
    return None


def _decisive(
    judgement: Judgement, pairings: Mapping[str, Pairing], weights: Mapping[str, float]
) -> Iterator[tuple[dict[str, float], Verdict]]:
    """For each capability that differs by itself: the workload with just enough more of it that there is a verdict."""
    for each in judgement.capabilities:
        if each.p is None or each.p > judgement.alpha:
            continue
        low, high = 0.0, 1.0
        found = _mixed(weights, each.capability, high)
        for _ in range(STEPS):
            middle = (low + high) / 2
            mixed = _mixed(weights, each.capability, middle)
            if _verdict(judgement, pairings, mixed) == "cannot tell":
                low = middle
            else:
                high, found = middle, mixed
        yield found, _verdict(judgement, pairings, found)


def _mixed(weights: Mapping[str, float], capability: str, share: float) -> dict[str, float]:
    return {each: (1 - share) * weight + share * (each == capability) for each, weight in weights.items()}


def _verdict(judgement: Judgement, pairings: Mapping[str, Pairing], weights: Mapping[str, float]) -> Verdict:
    return overall(pairings, weights, judgement.margin, judgement.alpha).verdict


def _moved(weights: Mapping[str, float], then: Mapping[str, float]) -> float:
    return sum(max(0.0, then[each] - weights[each]) for each in weights)
