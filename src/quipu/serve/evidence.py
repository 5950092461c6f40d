"""What is known of models, as pages and the API tell it: the log at one address and the cards, as they are now."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeVar

from quipu import capabilities
from quipu.capabilities.base import Answering
from quipu.errors import QuipuError
from quipu.evidence.cards import Card, cards
from quipu.evidence.judging import configs_of
from quipu.evidence.side import SHORT, Side, side
from quipu.evidence.snapshot import Snapshot
from quipu.evidence.store import MEMORY, Store

SEPARATOR = "-vs-"
KEPT = 64
"""Results that are kept until something changes."""

Kept = TypeVar("Kept")


class Evidence:
    """The log at ``url``, where there need not be one yet. Safe from several threads.

    Raises InvalidRequest for an address that is none, StorageFailed for a log that cannot be read.
    """

    def __init__(self, url: str | None = MEMORY) -> None:
        self._url = url
        self._lock = threading.Lock()
        self._stores = [Store.at(url, create=False)]
        self._moment: Moment | None = None

    @property
    def store(self) -> Store:
        """The log; where there was none when this began, there may be one now."""
        with self._lock:
            if not self._stores or (self._url != MEMORY and self._stores[-1].name == MEMORY):
                again = Store.at(self._url, create=False)
                if self._stores and again.name == MEMORY:
                    again.close()
                else:  # what others still read of the old one stays open until the end
                    self._stores.append(again)
            return self._stores[-1]

    def now(self) -> Moment:
        """What is known at this moment; the same object until the log or a card changes."""
        snapshot, every = self.store.snapshot(), cards()
        with self._lock:
            last = self._moment
            if last is None or last.snapshot.hash != snapshot.hash or last.cards != every:
                last = Moment(snapshot, every)
            self._moment = last
            return last

    def close(self) -> None:
        """Close the log; it is opened again if it is asked for. Idempotent."""
        with self._lock:
            while self._stores:
                self._stores.pop().close()


@dataclass(frozen=True)
class Moment:
    """A snapshot of the log beside the cards: what one answer is made of."""

    snapshot: Snapshot
    cards: Mapping[str, Card]
    _kept: dict[object, Any] = field(default_factory=dict)

    def keep(self, key: object, make: Callable[[], Kept]) -> Kept:
        """What ``make`` gives, which follows from this moment and ``key`` alone: made once."""
        found: Kept | None = self._kept.get(key)
        if found is None:
            if len(self._kept) >= KEPT:
                self._kept.clear()
            found = self._kept[key] = make()
        return found

    @cached_property
    def sides(self) -> tuple[Side, ...]:
        """Every model that has a card, once for each config it was measured as, and every other measured config."""
        return tuple(self._sides())

    def side(self, name: str) -> Side:
        """What ``name`` means. Raises InvalidRequest, ModelNotFound."""
        return side(name, self.cards, self.snapshot)

    def address(self, each: Side) -> str:
        """How a side is called in addresses: by its card, where that is enough, else by its config."""
        its = self.cards.get(each.card.name)
        if its is not None and (each.config is None or len(configs_of(its, self.snapshot)) == 1):
            return its.name
        return each.card.name if each.config is None else each.config.id[:SHORT]

    def pair(self, text: str) -> tuple[Side, Side]:
        """The two of ``A-vs-B``; where names have that in them, the first way to read it that means something.

        Raises ModelNotFound, InvalidRequest: what is wrong with the first reading.
        """
        parts = text.split(SEPARATOR)
        wrong: QuipuError | None = None
        for place in range(1, len(parts)):
            try:
                return self.side(SEPARATOR.join(parts[:place])), self.side(SEPARATOR.join(parts[place:]))
            except QuipuError as error:
                wrong = wrong or error
        if wrong is not None:
            raise wrong
        return self.side(text), self.side(text)

    def _sides(self) -> Iterator[Side]:
        of_a_card: set[str] = set()
        for card in self.cards.values():
            configs = configs_of(card, self.snapshot)
            of_a_card.update(config.id for config in configs)
            if not configs:
                yield Side(card.name, card)
            for config in configs:
                yield Side(card.name if len(configs) == 1 else config.id[:SHORT], card, config)
        for config in self.snapshot.configs.values():
            if config.id not in of_a_card:
                yield Side(config.id[:SHORT], Card(name=config.label, title=config.label), config)


def answering() -> tuple[Answering, ...]:
    """The capabilities that have probes, by name."""
    return tuple(each for each in capabilities.all_capabilities() if isinstance(each, Answering))
