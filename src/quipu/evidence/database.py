"""Where the log is kept: SQLite or PostgreSQL, its transactions, and its faults in words."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, StaticPool, create_engine, event, inspect, select, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError

from quipu.errors import InvalidRequest, MissingLibrary, StorageFailed
from quipu.evidence import tables

LOOKS_LIKE = "it looks like sqlite:///FILE or postgresql://USER@HOST/DATABASE"
WAIT_SECONDS = 60
"""For others that write, before it is an error."""
LOCK = 0x71756970
"""Of PostgreSQL's advisory locks, the one that whoever writes holds."""


class Database:
    """The database at ``url`` with the tables of the log. Raises InvalidRequest, StorageFailed, MissingLibrary.

    ``name`` is its address without the password.
    """

    def __init__(self, url: str | URL) -> None:
        self._url = _checked(url)
        self.name = str(self._url.database) if self._is_file else self._url.render_as_string(hide_password=True)
        self._lock = threading.RLock()
        self._engine = self._connected()
        try:
            self._set_up()
        except BaseException:
            self.close()
            raise

    @property
    def _is_sqlite(self) -> bool:
        return self._url.get_backend_name() == "sqlite"

    @property
    def _is_file(self) -> bool:
        return self._is_sqlite and self._url.database not in (None, "", ":memory:")

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A transaction that sees the database as it is at one moment."""
        level = {} if self._is_sqlite else {"isolation_level": "REPEATABLE READ"}
        # What is in memory has one connection for all threads.
        alone = self._lock if self._is_sqlite and not self._is_file else nullcontext()
        engine = self._engine.execution_options(**level)
        with self._translated(), alone, engine.begin() as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A transaction of the only one that writes; what it did is on the disk when the block is left."""
        engine = self._engine.execution_options(immediate=True)
        with self._translated(), self._lock, engine.begin() as connection:
            if not self._is_sqlite:
                connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": LOCK})
            yield connection

    def close(self) -> None:
        """Close all connections. Idempotent."""
        self._engine.dispose()

    def __enter__(self) -> Database:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _connected(self) -> Engine:
        if not self._is_sqlite:
            try:
                import psycopg  # noqa: F401  (asked for here, so that what is missing is said)
            except ImportError:
                raise MissingLibrary("PostgreSQL needs psycopg; pip install 'quipu-llama[postgres]'") from None
            arguments = {"options": f"-c lock_timeout={WAIT_SECONDS}s", "connect_timeout": 10}
            return create_engine(self._url.set(drivername="postgresql+psycopg"), connect_args=arguments)
        if self._is_file:
            try:
                Path(str(self._url.database)).parent.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise StorageFailed(f"{self.name} cannot be written: {error.strerror}") from None
        more: dict[str, Any] = {} if self._is_file else {"poolclass": StaticPool}
        options = {"timeout": WAIT_SECONDS, "check_same_thread": False}
        engine = create_engine(self._url.set(drivername="sqlite"), connect_args=options, **more)
        event.listen(engine, "connect", _prepared)
        event.listen(engine, "begin", _begun)
        return engine

    def _set_up(self) -> None:
        """Make the tables, or find out whether they are ours."""
        with self.reading() as connection:
            if self._is_ours(connection):
                return
        with self.writing() as connection:
            if not self._is_ours(connection):
                tables.METADATA.create_all(connection)
                connection.execute(tables.FORMAT.insert().values(version=tables.VERSION))

    def _is_ours(self, connection: Connection) -> bool:
        """Whether the tables are there. Raises StorageFailed if they are another's, or of a newer version."""
        names = set(inspect(connection).get_table_names())
        if "entry" not in names and not (self._is_sqlite and names):
            return False
        if not {"entry", tables.FORMAT.name} <= names:
            raise StorageFailed(f"{self.name} holds other tables; give another place with --evidence-url")
        version = connection.execute(select(tables.FORMAT.c.version)).scalar()
        if version != tables.VERSION:
            raise StorageFailed(
                f"{self.name} was written by another quipu (format {version}, this one knows {tables.VERSION}); "
                "use that one, or a newer one"
            )
        return True

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """The database's errors as ours."""
        try:
            yield
        except DBAPIError as error:
            raise StorageFailed(_sentence(self.name, str(error.orig).strip().partition("\n")[0])) from None


def _sentence(name: str, said: str) -> str:
    """What went wrong, in words, with what to do about it."""
    if "is locked" in said or "lock timeout" in said:
        return f"{name} is being written by another program for more than {WAIT_SECONDS} seconds; wait for it"
    if any(words in said for words in ("is full", "disk I/O", "No space", "readonly")):
        return f"{name} cannot be written: {said}; what was measured until now is kept, run it again to go on"
    if "not a database" in said or "malformed" in said:
        return f"{name} is no log of evidence, or damaged: {said}"
    return f"{name} cannot be used: {said}"


def _checked(given: str | URL) -> URL:
    """``given`` as an address of one of the two kinds. Raises InvalidRequest."""
    # What is said of it never has its password: there may be one in what is no address.
    try:
        url = make_url(given)
        backend = url.get_backend_name()
        url.port  # noqa: B018  (an address whose port is no number is refused when it is read)
    except (ArgumentError, NoSuchModuleError, ValueError):
        raise InvalidRequest(f"the address of the evidence is none; {LOOKS_LIKE}", param="evidence_url") from None
    if url.drivername not in ("sqlite", "postgresql"):
        raise InvalidRequest(f"evidence cannot be kept in {url.drivername!r:.40}; {LOOKS_LIKE}", param="evidence_url")
    if backend == "sqlite" and (url.query or url.host):
        raise InvalidRequest(
            f"the address of a file has three slashes and ends with its name; {LOOKS_LIKE}", param="evidence_url"
        )
    if backend == "postgresql" and not url.database:
        raise InvalidRequest(f"the address names no database; {LOOKS_LIKE}", param="evidence_url")
    return url


def _prepared(connection: Any, _: Any) -> None:
    """A new connection to SQLite: what is acknowledged is on the disk, readers do not wait for who writes."""
    connection.isolation_level = None  # transactions begin where ``_begun`` says
    for place in range(20):
        try:
            if connection.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
                connection.execute("PRAGMA journal_mode = WAL")
            break
        except Exception as error:
            # Making a file's journal a WAL does not wait for another that is just doing it.
            if "locked" not in str(error) or place == 19:
                raise
            time.sleep(0.05 * place)
    connection.execute("PRAGMA synchronous = FULL")


def _begun(connection: Connection) -> None:
    immediate = connection.get_execution_options().get("immediate", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")
