"""The ten rows of the seed page's table, same names and order, with the value that evidence supports."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from quipu.evidence.cards import Card
from quipu.evidence.snapshot import Snapshot

NAMES = (
    "Type", "UnfragileRank", "Adoption", "Quality", "Ecosystem",
    "Match Graph", "Pricing", "Starting Price", "Capabilities", "Times Matched",
)  # fmt: skip
UNKNOWN = "—"


@dataclass(frozen=True, slots=True)
class Row:
    """One cell of the table. ``value`` is text to show, "—" where unknown; ``state``: published, measured, unrated,
    counted, unknown; ``why``: where the value is from, or why there is none."""

    name: str
    value: str
    state: str
    why: str

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def seed_rows(card: Card, snapshot: Snapshot, score: str | None = None) -> tuple[Row, ...]:
    """The ten rows for one model. ``score``: the rank as text ("61 (55 to 67), 88 % measured"), None if unrated."""
    raise NotImplementedError
