"""The evidence of this user: an append-only log, and what is looked up in it quickly."""

from __future__ import annotations

import datetime
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, select
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from quipu.errors import DamagedLog, InvalidRequest, StorageFailed
from quipu.evidence import bodies, tables
from quipu.evidence.config import Config
from quipu.evidence.database import Database
from quipu.evidence.log import Entry, canonical, checked
from quipu.evidence.lookup import Lookup, find_cell
from quipu.evidence.snapshot import Snapshot
from quipu.evidence.tables import AT_ONCE, ENTRY, OUTCOME

MEMORY = "sqlite://"
"""A log that is kept in memory and gone with its Store."""

LONGEST_LINE = 64 << 20
"""Bytes of one entry of an exported log."""


def default_url() -> URL:
    """This user's own log, where the XDG specification has it."""
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return URL.create("sqlite", database=str(Path(state) / "quipu" / "evidence.sqlite"))


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """What the derived tables are now. ``differed``: those that were not what the log says."""

    last: Entry | None
    tables: Mapping[str, str]
    """SHA-256, in hex, by table: the same for the same log, wherever it is kept."""
    differed: tuple[str, ...]


class Store:
    """The log at ``url``. Safe from several threads, and from several processes at once.

    ``url``: ``sqlite:///FILE``, ``postgresql://USER@HOST/DATABASE``, or ``sqlite://``, which is kept in memory and
    gone with it. ``name`` is the address for people, without its password. Raises InvalidRequest for an address that
    is none, and StorageFailed for a place that cannot be read or written, or that another version of quipu wrote.
    """

    def __init__(self, url: str | URL = MEMORY) -> None:
        self._database = Database(url)
        self.name = self._database.name
        self._lookup = Lookup()

    @classmethod
    def at(cls, url: str | None = None, *, create: bool = True) -> Store:
        """The log at ``url``, or this user's own. Without ``create``, a file that is not there yet is an empty log."""
        place = default_url() if url is None else url
        if not create and _missing_file(place):
            return cls(MEMORY)
        return cls(place)

    # ---- the log

    def append(self, kind: str, body: Mapping[str, Any]) -> Entry:
        """Add an entry; it is on the disk when this returns. Raises InvalidRequest for another form, StorageFailed."""
        text = _body_text(kind, body)
        with self._database.writing() as connection:
            return _append(connection, kind, text)

    def append_once(self, kind: str, body: Mapping[str, Any]) -> Entry:
        """The entry of that kind that says the same, appended if there is none. For kinds with few entries."""
        text = _body_text(kind, body)
        same = select(ENTRY).where(ENTRY.c.kind == kind, ENTRY.c.body == text).limit(1)
        with self._database.writing() as connection:
            found = connection.execute(same).first()
            return _append(connection, kind, text) if found is None else Entry(*found)

    def entries(self, after: int = 0) -> Iterator[Entry]:
        """All entries with a number above ``after``, in order; those that come meanwhile, too."""
        while True:
            with self._database.reading() as connection:
                batch = _batch(connection, after)
            yield from batch
            if len(batch) < AT_ONCE:
                return
            after = batch[-1].number

    def last(self) -> Entry | None:
        """The last entry."""
        with self._database.reading() as connection:
            return _last(connection)

    def entry(self, number: int) -> Entry:
        """The entry with that number. Raises InvalidRequest if there is none."""
        with self._database.reading() as connection:
            return _entry(connection, number)

    # ---- what it says

    def observation(self, number: int) -> dict[str, Any]:
        """The whole record of one observation: bodies.ObservationBody with ``number``, ``at`` and ``hash``.

        Raises InvalidRequest where entry ``number`` is no observation.
        """
        entry = self.entry(number)
        if entry.kind != "observation":
            raise InvalidRequest(f"entry {number} is no observation but a {entry.kind}", param="observation")
        return {"number": number, "at": entry.at, "hash": entry.hash, **entry.body}

    def config(self, identifier: str) -> Config:
        """The config with that id, as it was told of last. Raises InvalidRequest."""
        found = self.snapshot([identifier]).configs.get(identifier)
        if found is None:
            raise InvalidRequest(f"no config {identifier[:80]!r} was ever measured", param="config")
        return found

    def asked(self, config: str, capability: str, probe_set: str) -> set[str]:
        """Probes that need not be asked again: those asked since the last run that was to begin anew."""
        with self._database.reading() as connection:
            cell = find_cell(connection, config, capability, probe_set)
            if cell is None:
                return set()
            query = select(OUTCOME.c.probe).where(OUTCOME.c.cell == cell.cell, OUTCOME.c.observation > cell.fresh)
            return set(connection.execute(query).scalars())

    def records(self, config: str, capability: str, probe_set: str) -> list[dict[str, Any]]:
        """The body of the last observation of each probe."""
        with self._database.reading() as connection:
            cell = find_cell(connection, config, capability, probe_set)
            if cell is None:
                return []
            numbers = select(OUTCOME.c.observation).where(OUTCOME.c.cell == cell.cell)
            query = select(ENTRY).where(ENTRY.c.number.in_(numbers)).order_by(ENTRY.c.number)
            return [Entry(*row).body for row in connection.execute(query)]

    def timing(self, config: str, capability: str, probe_set: str) -> tuple[float, int]:
        """Seconds on the clock, and the tokens generated in them."""
        with self._database.reading() as connection:
            cell = find_cell(connection, config, capability, probe_set)
            return (0.0, 0) if cell is None else (cell.seconds, cell.timed_tokens)

    def snapshot(self, configs: Iterable[str] | None = None) -> Snapshot:
        """What the log says now of ``configs`` (ids; None is all): of each probe the last outcome.

        Of several sets of probes that a capability had, the one asked last.
        """
        with self._database.reading() as connection:
            return self._lookup.snapshot(connection, _last(connection), None if configs is None else set(configs))

    # ---- as a whole

    def verify(self) -> Entry | None:
        """Check the chain, and that the derived tables are what it says; its last entry, None for an empty log.

        Raises DamagedLog that names the entry, or the table.
        """
        last = None
        with Database(MEMORY) as scratch, scratch.writing() as fresh, self._database.reading() as connection:
            derivation = tables.Derivation(fresh)
            for place, entry in enumerate(checked(_all(connection)), 1):
                derivation.add(entry)
                last = entry
                if place % AT_ONCE == 0:
                    derivation.flush()
            derivation.flush()
            expected, found = tables.hashes(fresh), tables.hashes(connection)
        if differing := [name for name in expected if expected[name] != found[name]]:
            raise DamagedLog(
                f"the log is sound, but what was derived from it was altered: {', '.join(differing)}; "
                "quipu evidence rebuild derives it again"
            )
        return last

    def rebuild(self) -> Rebuilt:
        """Derive everything from the log again. Raises DamagedLog, and then nothing is changed."""
        with self._database.writing() as connection:
            before = tables.hashes(connection)
            tables.forget(connection)
            tables.derive(connection, checked(_all(connection)))
            after = tables.hashes(connection)
            self._lookup = Lookup()
            return Rebuilt(_last(connection), after, tuple(name for name in after if before[name] != after[name]))

    def export(self, path: Path) -> int:
        """Write all entries to ``path`` as JSON Lines, and return how many. Raises StorageFailed, DamagedLog.

        A file is there when it is whole; what is no plain file, such as /dev/stdout, is written to as it goes.
        """
        plain = not path.is_symlink() and (path.is_file() or not path.exists())
        beside = path.with_name(f"{path.name}.part") if plain else path
        count = 0
        try:
            with beside.open("w", encoding="utf-8", newline="\n") as file:
                for entry in checked(self.entries()):
                    file.write(f"{entry.line}\n")
                    count += 1
                if plain:
                    file.flush()
                    os.fsync(file.fileno())
            if plain:
                beside.replace(path)
        except OSError as error:
            raise StorageFailed(f"{path} cannot be written: {error.strerror}") from None
        finally:
            if plain:
                beside.unlink(missing_ok=True)
        return count

    def import_(self, path: Path) -> int:
        """Append the entries of the exported log at ``path`` that this one lacks, all or none; return how many.

        What this log has must be its beginning, or its whole. Raises InvalidRequest, DamagedLog, StorageFailed.
        """
        with self._database.writing() as connection:
            last = _last(connection)
            before = 0 if last is None else last.number
            batch: list[Entry] = []
            derivation = tables.Derivation(connection)
            number = 0
            for number, entry in enumerate(checked(_exported(path)), 1):
                if number <= before:
                    _same(connection, entry, path)
                    continue
                batch.append(entry)
                derivation.add(entry)
                if len(batch) == AT_ONCE:
                    tables.add_entries(connection, batch)
                    derivation.flush()
                    batch.clear()
            tables.add_entries(connection, batch)
            derivation.flush()
            return max(0, number - before)

    def close(self) -> None:
        """Close the connections. Idempotent."""
        self._database.close()

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _missing_file(place: str | URL) -> bool:
    try:
        url = make_url(place)
    except ArgumentError:
        return False  # Database says what is wrong with it
    return url.drivername == "sqlite" and bool(url.database) and not Path(str(url.database)).exists()


def _body_text(kind: str, body: Mapping[str, Any]) -> str:
    text = canonical(body)
    if bodies.read(kind, text, "what is to be kept") is None:
        raise InvalidRequest(f"the log has no entries of the kind {kind!r:.40}; it has {', '.join(bodies.KINDS)}")
    return text


def _append(connection: Connection, kind: str, text: str) -> Entry:
    at = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
    entry = Entry.following(_last(connection), at, kind, text)
    tables.add_entries(connection, [entry])
    tables.derive(connection, [entry])
    return entry


def _last(connection: Connection) -> Entry | None:
    found = connection.execute(select(ENTRY).order_by(ENTRY.c.number.desc()).limit(1)).first()
    return None if found is None else Entry(*found)


def _entry(connection: Connection, number: int) -> Entry:
    found = connection.execute(select(ENTRY).where(ENTRY.c.number == number)).first() if 0 < number < 2**63 else None
    if found is None:
        raise InvalidRequest(f"the log has no entry {number}", param="number")
    return Entry(*found)


def _batch(connection: Connection, after: int) -> list[Entry]:
    query = select(ENTRY).where(ENTRY.c.number > after).order_by(ENTRY.c.number).limit(AT_ONCE)
    return [Entry(*row) for row in connection.execute(query)]


def _all(connection: Connection) -> Iterator[Entry]:
    """Every entry, as one transaction sees them."""
    after = -(2**63)  # a number that is none is found, too
    while batch := _batch(connection, after):
        yield from batch
        after = batch[-1].number


def _exported(path: Path) -> Iterator[Entry]:
    """The entries of an exported log, as it has them. Raises InvalidRequest."""
    try:
        with path.open("rb") as file:
            number = 0
            while line := file.readline(LONGEST_LINE + 1):
                number += 1
                if len(line) > LONGEST_LINE:
                    raise InvalidRequest(f"{path}, line {number}: it is longer than any entry")
                try:
                    yield Entry.of_line(line.decode())
                except ValueError as error:
                    raise InvalidRequest(f"{path}, line {number}: this is no entry of a log: {error}") from None
    except OSError as error:
        raise InvalidRequest(f"{path} cannot be read: {error.strerror}") from None


def _same(connection: Connection, entry: Entry, path: Path) -> None:
    if _entry(connection, entry.number).hash != entry.hash:
        raise InvalidRequest(
            f"{path} is of another log: its entry {entry.number} is not the one here; import it into a log of its own "
            "with --evidence-url"
        )
