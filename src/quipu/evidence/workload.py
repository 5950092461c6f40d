"""What a model is wanted for: a weight for each capability."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from quipu.errors import InvalidRequest, did_you_mean


@dataclass(frozen=True)
class Workload:
    """Weights by capability uri, all of them, sum 1. ``source`` is said aloud wherever a score is shown."""

    weights: Mapping[str, float]
    source: Literal["equal", "stated"]
    """``equal``: nobody said otherwise, and there are no real searches yet. ``stated``: by whoever asks."""

    @property
    def text(self) -> str:
        """As ``--workload`` takes it: ``extract=1,summarize=3``; capabilities of weight 0 are left out."""
        least = min(weight for weight in self.weights.values() if weight)
        return ",".join(
            f"{identifier(capability)}={weight / least:.6g}"
            for capability, weight in sorted(self.weights.items())
            if weight
        )

    @property
    def told(self) -> str:
        """In words, for people: ``equal weights over 9 capabilities: there are no real searches yet``."""
        if self.source == "equal":
            count = len(self.weights)
            plural = "y" if count == 1 else "ies"
            return f"equal weights over {count} capabilit{plural}: there are no real searches yet"
        shares = sorted(self.weights.items(), key=lambda item: (-item[1], item[0]))
        return "as stated: " + ", ".join(
            f"{identifier(capability)} {100 * weight:.3g} %" for capability, weight in shares if weight
        )

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"weights": dict(self.weights), "source": self.source, "text": self.text, "told": self.told}


def identifier(capability: str) -> str:
    """``summarize`` of ``capability://summarize@2``."""
    return capability.removeprefix("capability://").rpartition("@")[0]


def measurable() -> tuple[str, ...]:
    """The uris of all capabilities that have probes, by name: what a workload is made of."""
    from quipu.capabilities import all_capabilities
    from quipu.capabilities.base import Answering

    return tuple(each.uri for each in all_capabilities() if isinstance(each, Answering))


def equal(capabilities: Sequence[str]) -> Workload:
    """The same weight for each of ``capabilities`` (uris). Raises InvalidRequest if there is none."""
    if not capabilities:
        raise InvalidRequest("there is no capability to give a weight", param="workload")
    return Workload({capability: 1 / len(capabilities) for capability in capabilities}, "equal")


def workload(text: str | None, capabilities: Sequence[str] | None = None) -> Workload:
    """What ``--workload`` says, or equal weights without it. ``capabilities``: uris, ``measurable()`` unless given.

    ``summarize=3,extract=1``: identifiers with weights, divided by their sum; what is not named weighs 0. Raises
    InvalidRequest that names what is wrong: an unknown capability (and the nearest), one named twice, a weight that is
    no number from 0 on, weights that are all 0.
    """
    uris = measurable() if capabilities is None else capabilities
    if text is None:
        return equal(uris)
    by_name = {identifier(uri): uri for uri in uris}
    stated: dict[str, float] = {}
    for part in text.split(","):
        name, equals, number = (piece.strip() for piece in part.partition("="))
        if name not in by_name:
            hint = did_you_mean(name, by_name, f"there are {', '.join(sorted(by_name))}")
            raise _refused(f"knows no capability {name[:100]!r}; {hint}")
        if by_name[name] in stated:
            raise _refused(f"names {name} twice")
        stated[by_name[name]] = _weight(name, equals, number)
    total = sum(stated.values())
    if not 0 < total < math.inf:
        raise _refused("gives no capability a weight; one has to be above 0" if total == 0 else "adds up to infinity")
    return Workload({uri: stated.get(uri, 0.0) / total for uri in uris}, "stated")


def _weight(name: str, equals: str, number: str) -> float:
    if not equals:
        raise _refused(f"gives {name} no weight; write {name}=1")
    try:
        weight = float(number)
    except ValueError:
        weight = math.nan
    if not 0 <= weight < math.inf:
        raise _refused(f"gives {name} the weight {number[:40]!r}, which is not a number from 0 on")
    return weight


def _refused(fault: str) -> InvalidRequest:
    return InvalidRequest(f"the workload {fault}", param="workload")
