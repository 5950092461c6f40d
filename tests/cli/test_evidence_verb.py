"""``quipu evidence``, as users meet it."""

import json
import sqlite3
from pathlib import Path

import pytest
from made_log import small

from quipu.cli import main
from quipu.evidence.store import Store


@pytest.fixture(autouse=True)
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of this user's own log."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path / "state" / "quipu" / "evidence.sqlite"


def said(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> str:
    assert main(["evidence", *arguments]) == code
    captured = capsys.readouterr()
    return captured.err if code else captured.out


def test_from_nothing(capsys: pytest.CaptureFixture[str], log: Path) -> None:
    assert "entries: 0" in said(capsys, "verify")
    assert json.loads(said(capsys, "rebuild", "--json"))["differed"] == []
    assert not log.exists()


def test_there_and_back(capsys: pytest.CaptureFixture[str], log: Path, tmp_path: Path) -> None:
    with Store.at() as store:
        small(store, "a")
        last = store.last()
    assert last is not None
    assert f"entries: 15\nat: {last.at}\nhash: {last.hash}\n" in said(capsys, "verify")
    here = json.loads(said(capsys, "rebuild", "--json"))
    assert set(here["tables"]) == {"config", "probe_set", "cell", "outcome"}
    file, copy = tmp_path / "log.jsonl", f"sqlite:///{tmp_path}/deep/copy.sqlite"
    assert "exported: 15" in said(capsys, "export", str(file))
    assert f"imported: 15\nentries: 15\nat: {last.at}" in said(capsys, "import", str(file), "--evidence-url", copy)
    there = json.loads(said(capsys, "rebuild", "--evidence-url", copy, "--json"))
    assert there.pop("log") != here.pop("log")
    assert there == here
    assert "differed: none\n" in said(capsys, "rebuild", "--evidence-url", copy)


def test_by_hand(capsys: pytest.CaptureFixture[str], log: Path) -> None:
    with Store.at() as store:
        small(store, "a")
    with sqlite3.connect(log) as connection:
        connection.execute("UPDATE outcome SET value = 0")
    connection.close()
    assert "quipu evidence rebuild derives it again" in said(capsys, "verify", code=1)
    assert "differed: outcome\n" in said(capsys, "rebuild")
    said(capsys, "verify")
    with sqlite3.connect(log) as connection:
        connection.execute("UPDATE entry SET body = '{}' WHERE number = 9")
    connection.close()
    assert "quipu: entry 9 (observation of " in said(capsys, "verify", code=1)


def test_wrong_usage(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "export needs a FILE" in said(capsys, "export", code=2)
    assert "verify takes no FILE" in said(capsys, "verify", "x", code=2)
    assert "invalid choice: 'delete'" in said(capsys, "delete", code=2)
    assert "the address of the evidence is none" in said(capsys, "verify", "--evidence-url", "x", code=1)
    monkeypatch.setenv("QUIPU_EVIDENCE_URL", "mysql://me:secret@host/x")
    assert "evidence cannot be kept in 'mysql'" in said(capsys, "verify", code=1)
    assert main(["config", "evidence"]) == 0
    assert "secret" not in capsys.readouterr().out
