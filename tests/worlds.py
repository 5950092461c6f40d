"""Worlds of known truth: snapshots whose models have the abilities that a test gives them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from quipu.evidence.config import Config
from quipu.evidence.snapshot import Cell, Outcome, Snapshot


def uri(name: str) -> str:
    return f"capability://{name}@1"


def config(label: str) -> Config:
    return Config(label, f"hash of {label}", "Q4_1", "quipu 1", "template", {"temperature": 0}, "cpu", {})


def cell(
    owner: str,
    capability: str,
    values: Sequence[float],
    groups: Sequence[str] | None = None,
    *,
    probes: Sequence[str] | None = None,
    binary: bool = True,
    seconds: float = 0.0,
    first: int = 1,
) -> Cell:
    """One cell. Probes are named by their places, groups are of one, unless given; ``first``: its first entry."""
    names = probes or [f"{place:04}" for place in range(len(values))]
    outcomes = {}
    for place, (name, value) in enumerate(zip(names, values, strict=True)):
        group, score = groups[place] if groups else name, float(value)
        outcomes[name] = Outcome(name, group, "", score, score >= 0.5, False, first + place, 9, 3, 1.0, 0.1)
    return Cell(owner, capability, "set", binary, outcomes, 0, seconds, 3 * len(values) if seconds else 0)


def snapshot(*cells: Cell, labels: Sequence[str] = ()) -> Snapshot:
    """Of cells whose owners are labels; configs without a cell by ``labels``."""
    ids = {label: config(label) for label in dict.fromkeys([*(each.config for each in cells), *labels])}
    moved = {}
    for each in cells:
        owner = ids[each.config].id
        moved[owner, each.capability] = Cell(
            owner,
            each.capability,
            each.probe_set,
            each.binary,
            each.outcomes,
            each.beyond_context,
            each.seconds,
            each.timed_tokens,
        )
    return Snapshot(len(cells), "f" * 64, "2026-01-01T00:00:00Z", {each.id: each for each in ids.values()}, moved)


def id_of(label: str) -> str:
    return config(label).id


def world(
    random: np.random.Generator,
    rates: Mapping[str, Mapping[str, float]],
    *,
    n: int = 160,
    groups: int = 20,
    alike: float = 0.1,
    common: float = 0.5,
) -> Snapshot:
    """Models (label -> capability name -> true rate) that are asked the same probes.

    ``alike``: the intraclass correlation of a group's probes; each model has its own strong groups. ``common``: the
    share of probes whose luck is the same for all models.
    """
    places = np.arange(n) % groups
    names = [f"group {place}" for place in places]
    luck = {name: (random.random(n), random.random(n) < common) for name in next(iter(rates.values()))}
    cells = []
    for label, by_name in rates.items():
        for name, rate in by_name.items():
            own = np.where(luck[name][1], luck[name][0], random.random(n))
            cells.append(cell(label, uri(name), (own < of_groups(random, rate, alike, groups)[places]), names))
    return snapshot(*cells)


def of_groups(random: np.random.Generator, rate: float, alike: float, groups: int) -> np.ndarray:
    """The true rate in each group: Beta with mean ``rate`` and intraclass correlation ``alike``."""
    if alike == 0 or rate in (0, 1):
        return np.full(groups, rate)
    strength = (1 - alike) / alike
    return random.beta(rate * strength, (1 - rate) * strength, groups)
