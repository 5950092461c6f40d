"""What a model is wanted for: a weight for each capability."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class Workload:
    """Weights by capability uri, all of them, sum 1. ``source`` is said aloud wherever a score is shown."""

    weights: Mapping[str, float]
    source: Literal["equal", "stated"]
    """``equal``: nobody said otherwise, and there are no real searches yet. ``stated``: by whoever asks."""

    @property
    def text(self) -> str:
        """As ``--workload`` takes it: ``extract=1,summarize=3``; capabilities of weight 0 are left out."""
        raise NotImplementedError

    @property
    def told(self) -> str:
        """In words, for people: ``equal weights over 9 capabilities: there are no real searches yet``."""
        raise NotImplementedError

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"weights": dict(self.weights), "source": self.source, "text": self.text, "told": self.told}


def measurable() -> tuple[str, ...]:
    """The uris of all capabilities that have probes, by name: what a workload is made of."""
    raise NotImplementedError


def equal(capabilities: Sequence[str]) -> Workload:
    """The same weight for each of ``capabilities`` (uris)."""
    raise NotImplementedError


def workload(text: str | None, capabilities: Sequence[str] | None = None) -> Workload:
    """What ``--workload`` says, or equal weights without it. ``capabilities``: uris, ``measurable()`` unless given.

    ``summarize=3,extract=1``: identifiers with weights, divided by their sum; what is not named weighs 0. Raises
    InvalidRequest that names what is wrong: an unknown capability (and the nearest), one named twice, a weight that is
    no number from 0 on, weights that are all 0.
    """
    raise NotImplementedError
