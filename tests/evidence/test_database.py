"""Places that cannot be used, in words."""

import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from made_log import config, observation, probe_set, small

from quipu.errors import InvalidRequest, MissingLibrary, StorageFailed
from quipu.evidence.store import Store


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("", "the address of the evidence is none; it looks like sqlite:///FILE or postgresql://USER@HOST/DATABASE"),
        ("evidence.sqlite", "the address of the evidence is none"),
        ("/tmp/evidence.sqlite", "the address of the evidence is none"),
        ("postgresql://me@host:port/quipu", "the address of the evidence is none"),
        ("http://example.org/x", "evidence cannot be kept in 'http'"),
        ("mysql://me:secret@host/x", "evidence cannot be kept in 'mysql'"),
        ("postgresql+asyncpg://me:secret@host/x", "evidence cannot be kept in 'postgresql+asyncpg'"),
        ("sqlite://evidence.sqlite", "the address of a file has three slashes and ends with its name"),
        ("sqlite:///x?mode=ro", "the address of a file has three slashes"),
        ("postgresql://me:secret@host", "the address names no database"),
        ("postgresql://me:secret@127.0.0.1:1/quipu", "postgresql://me:***@127.0.0.1:1/quipu cannot be used"),
        ("postgresql:///quipu?host=/nowhere&nonsense=secret", "cannot be used"),
    ],
)
def test_addresses_of_nonsense(url: str, said: str) -> None:
    with pytest.raises((InvalidRequest, StorageFailed)) as raised:
        Store(url)
    assert said in str(raised.value)
    assert "me:secret" not in str(raised.value)


def test_a_password_is_not_told(new_database: Callable[[], str]) -> None:
    with Store(new_database().replace("postgres@", "postgres:secret@")) as store:
        assert "secret" not in store.name
        assert store.name.startswith("postgresql://postgres:***@")


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    path = tmp_path / "poem"
    path.write_text("Two roads diverged in a yellow wood\n" * 100)
    with pytest.raises(StorageFailed, match=r"poem is no log of evidence, or damaged: file is not a database"):
        Store(f"sqlite:///{path}")
    assert path.read_text().startswith("Two roads")


def test_a_database_of_something_else(tmp_path: Path) -> None:
    path = tmp_path / "others"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE songs (name TEXT)")
    connection.close()
    with pytest.raises(StorageFailed, match="others holds other tables; give another place with --evidence-url"):
        Store(f"sqlite:///{path}")


def test_another_entry_table_in_postgresql_is_not_touched(new_database: Callable[[], str]) -> None:
    import psycopg

    url = new_database()
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE TABLE entry (name TEXT)")
    with pytest.raises(StorageFailed, match="holds other tables"):
        Store(url)


def test_a_log_of_a_newer_quipu(place: str) -> None:
    from sqlalchemy import text

    with Store(place) as store, store._database.writing() as connection:
        connection.execute(text("UPDATE quipu_format SET version = 2"))
    with pytest.raises(StorageFailed, match=r"was written by another quipu \(format 2, this one knows 1\)"):
        Store(place)


def test_a_damaged_file(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with Store(f"sqlite:///{path}") as store:
        small(store, "a")
    whole = bytearray(path.read_bytes())
    whole[8192:] = b"\xff" * (len(whole) - 8192)
    path.write_bytes(whole)
    with (
        pytest.raises(StorageFailed, match="log is no log of evidence, or damaged"),
        Store(f"sqlite:///{path}") as store,
    ):
        store.verify()


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageFailed, match="log cannot be written: "):
        Store(f"sqlite:///{tmp_path}/file/log")
    with pytest.raises(StorageFailed, match="cannot be used: unable to open database file"):
        Store(f"sqlite:///{tmp_path}")


def test_a_log_that_another_holds(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("quipu.evidence.database.WAIT_SECONDS", 1)
    with Store(place) as one, Store(place) as other:
        small(one, "a")
        held, over = threading.Event(), threading.Event()

        def hold() -> None:
            with one._database.writing():
                held.set()
                over.wait(30)

        holder = threading.Thread(target=hold)
        holder.start()
        held.wait(30)
        assert other.last() is not None  # reading waits for nobody
        assert len(other.snapshot().cells) == 2
        with pytest.raises(
            StorageFailed, match="is being written by another program for more than 1 seconds; wait for"
        ):
            other.append("observation", observation(config("a"), probe_set(), 0))
        over.set()
        holder.join()
        other.append("observation", observation(config("a"), probe_set(), 0))
        assert one.verify() == other.last()


def test_without_psycopg(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(MissingLibrary, match=r"PostgreSQL needs psycopg; pip install 'quipu-llama\[postgres\]'"):
        Store("postgresql://me@host/quipu")


FULL = """
import resource, signal, sys
from made_log import config, observation, probe_set, small
from quipu.errors import StorageFailed
from quipu.evidence.store import Store
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
store = Store(sys.argv[1])
small(store, "a")
resource.setrlimit(resource.RLIMIT_FSIZE, (1_500_000, 1_500_000))
try:
    while True:
        store.append("observation", observation(config("a"), probe_set(), 0, text="x" * 5000))
        print(store.last().number, flush=True)
except StorageFailed as error:
    print(error)
"""


def test_a_full_disk_keeps_what_there_is(tmp_path: Path) -> None:
    place = f"sqlite:///{tmp_path}/log"
    paths = [path for path in sys.path if path]
    done = subprocess.run(
        [sys.executable, "-c", FULL, place], capture_output=True, text=True, env={"PYTHONPATH": ":".join(paths)}
    )
    assert done.returncode == 0, done.stderr
    *acknowledged, said = done.stdout.splitlines()
    assert "log cannot be written: " in said
    assert "what was measured until now is kept, run it again to go on" in said
    assert acknowledged
    with Store(place) as store:
        assert store.verify().number == int(acknowledged[-1])
        store.append("observation", observation(config("a"), probe_set(), 0))
        store.verify()
