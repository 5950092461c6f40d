"""The evidence of this user: an append-only log, and what is looked up in it quickly."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from quipu.evidence.config import Config
from quipu.evidence.log import Entry
from quipu.evidence.snapshot import Snapshot


class Store:
    """The log at ``url``. Safe from several threads, and from several processes at once.

    ``url``: ``sqlite:///FILE``, ``postgresql://USER@HOST/DATABASE``, or ``sqlite://``, which is kept in memory and
    gone with it. Raises InvalidRequest for an address that is none, StorageFailed for a place that cannot be read or
    written, and for a log that a newer quipu wrote.
    """

    def __init__(self, url: str = "sqlite://") -> None:
        self.name = url
        """The address without its password."""

    @classmethod
    def at(cls, url: str | None = None, *, create: bool = True) -> Store:
        """The log at ``url`` (None: ``default_url()``). Without ``create``, one that is not there yet is empty."""
        raise NotImplementedError

    def append(self, kind: str, body: Mapping[str, Any]) -> Entry:
        """Add an entry; it is on the disk when this returns. Raises StorageFailed."""
        raise NotImplementedError

    def entries(self, after: int = 0) -> Iterator[Entry]:
        """All entries with a number above ``after``, in order."""
        raise NotImplementedError

    def observation(self, number: int) -> dict[str, Any]:
        """The whole record of one observation: its body with ``number``, ``at`` and ``hash``.

        Fields of the body: run, config (its id), capability, probe_set, probe, state, value, passed, why, measured,
        text, prompt_tokens, completion_tokens, first_token_seconds, seconds, finish_reason, sampling, token_hash,
        peak_memory. Raises InvalidRequest where entry ``number`` is no observation.
        """
        raise NotImplementedError

    def snapshot(self, configs: Iterable[str] | None = None) -> Snapshot:
        """What the log says now of ``configs`` (ids; None is all): of each probe the last outcome."""
        raise NotImplementedError

    def config(self, identifier: str) -> Config:
        """The config with that id. Raises InvalidRequest."""
        raise NotImplementedError

    def verify(self) -> Entry | None:
        """Check the chain and what was derived from it; the last entry, None for an empty log. Raises DamagedLog."""
        raise NotImplementedError

    def rebuild(self) -> dict[str, str]:
        """Derive everything from the log again: SHA-256, in hex, of each derived table."""
        raise NotImplementedError

    def export(self, path: Path) -> int:
        """Write all entries as JSON Lines, and return how many."""
        raise NotImplementedError

    def import_(self, path: Path) -> int:
        """Append the entries of an exported log that continues this one, and return how many."""
        raise NotImplementedError

    def close(self) -> None:
        """Close the connections. Idempotent."""

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
