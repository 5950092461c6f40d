"""All that the log says at one moment, in the form that everything shown is computed from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from quipu.evidence.config import Config


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one probe; of several times that it was asked, the last."""

    probe: str
    group: str
    """Probes of one group are alike: they count for less than as many independent ones."""
    part: str
    value: float
    """From 0 to 1; 0 where the answer could not be read."""
    passed: bool
    unparsed: bool
    observation: int
    """The number of its entry in the log."""
    prompt_tokens: int
    completion_tokens: int
    seconds: float
    """From the question to the end of the answer, among other questions at the same time."""
    first_token_seconds: float | None


@dataclass(frozen=True, slots=True)
class Cell:
    """What is known of one capability of one config: laboratory evidence only."""

    config: str
    """The config's id."""
    capability: str
    """``capability://{id}@{version}``."""
    probe_set: str
    binary: bool
    outcomes: Mapping[str, Outcome]
    """By probe. Those that do not fit the context were never asked, and are not here."""
    beyond_context: int
    seconds: float
    """On the clock, of the rounds in which ``timed_tokens`` were generated."""
    timed_tokens: int
    baseline: float | None = None
    """What the trivial answer ``baseline_name`` scores on the same probes."""
    baseline_name: str = ""
    peak_memory: int | None = None
    """Most bytes that its process held, of those observations that tell; None for a remote endpoint."""


@dataclass(frozen=True, slots=True)
class Service:
    """What a capability without probes saw of a config's service, the last time."""

    entry: int
    """The number of its entry in the log."""
    found: Mapping[str, Any]
    """The fields of the capability's output."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The log up to an entry. ``hash`` is that entry's, so the same hash means the same numbers everywhere."""

    number: int
    """Of the last entry; 0 for an empty log."""
    hash: str
    at: str
    """When the last entry was written, UTC in ISO 8601; empty for an empty log."""
    configs: Mapping[str, Config]
    """By id, in the order in which they were first measured."""
    cells: Mapping[tuple[str, str], Cell]
    """By (config id, capability uri)."""
    labels: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Every name that a config was measured under, by its id, in order."""
    services: Mapping[tuple[str, str], Service] = field(default_factory=dict)
    """By (config id, capability uri)."""

    def of(self, config: str) -> Iterator[Cell]:
        """The cells of a config."""
        return (cell for (owner, _), cell in self.cells.items() if owner == config)
