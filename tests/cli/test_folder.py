"""``quipu run --batch FOLDER``: every file once, into one table, in which a file may have several rows."""

import csv
import json
from pathlib import Path

import pdf_files
import pytest

import quipu
from quipu.cli import main
from quipu.engine.fake import fake_model

FIELDS = {
    "fields": [
        {"name": "item", "type": "string", "description": ""},
        {"name": "price", "type": "number", "description": ""},
    ]
}
WANTED = ("--wanted", "item:str, price:float", "--many", "--max-tokens", "900")


def reply(asked: str) -> str:
    if asked.startswith("List the fields"):
        return json.dumps(FIELDS)
    text = asked.partition("\n\n---\n")[0]
    lines = [line.split() for line in text.splitlines() if " costs " in line]
    found = [{"item": line[0], "price": float(line[2])} for line in lines]
    return json.dumps({"records": found} if "every record" in asked else found[0])


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    """A working folder, with a folder of documents in it."""
    monkeypatch.chdir(tmp_path)
    Path("papers/more").mkdir(parents=True)
    Path("papers/a.txt").write_text("Tea costs 3.5\n=Rye costs 4\n")
    Path("papers/b.md").write_text("# Nothing\n")
    Path("papers/more/c.pdf").write_bytes(pdf_files.printed("Milk costs 2"))
    Path("papers/z.txt").write_bytes(b"\x00\x01\x02")
    Path("papers/.hidden").write_text("Salt costs 1\n")
    return tmp_path


@pytest.fixture
def models(monkeypatch):
    """What was asked of the models that were loaded."""
    asked: list[str] = []

    def load(name, **options):
        return fake_model(lambda said: asked.append(said) or reply(said), name=name, context_length=8192)

    monkeypatch.setattr(quipu, "load", load, raising=False)
    return asked


def batch(*words: str, output: str = "table.csv") -> int:
    return main(["run", "extract", "--batch", "papers", "--output", output, *words])


def test_a_folder_becomes_one_table(models, capsys):
    assert batch(*WANTED) == 1
    said = capsys.readouterr().err
    assert "1 of 4 rows failed; the column error of table.csv says why" in said
    assert "1 cells begin with '" in said
    rows = list(csv.reader(Path("table.csv").read_text().splitlines()))
    assert rows[0] == ["file", "item", "price", "not_in_text", "error"]
    assert rows[1:5] == [
        ["a.txt", "Tea", "3.5", "", ""],
        ["a.txt", "'=Rye", "4.0", "", ""],
        ["b.md", "", "", "", ""],
        ["more/c.pdf", "Milk", "2.0", "", ""],
    ]
    assert rows[5][0] == "z.txt"
    assert rows[5][4]
    assert len(rows) == 6


def test_the_same_call_asks_only_what_failed(models, capsys):
    batch(*WANTED)
    models.clear()
    Path("papers/z.txt").write_bytes(b"\x00\x01\x02")
    assert batch(*WANTED) == 1
    assert models == []
    Path("papers/a.txt").write_text("Salt costs 1\n")
    assert batch(*WANTED) == 1
    assert "was begun with another input" in capsys.readouterr().err


def test_a_sentence_is_read_once_for_all_files(models, capsys):
    Path("papers/z.txt").unlink()
    assert batch("--wanted", "each item and what it costs", "--many", "--max-tokens", "900", output="table.jsonl") == 0
    assert sum(len(asked.split("List the fields")) > 1 and "---" not in asked for asked in set(models)) == 1
    assert "note: wanted is {" in capsys.readouterr().err
    rows = [json.loads(line) for line in Path("table.jsonl").read_text().splitlines()]
    assert rows[0] == {"file": "a.txt", "item": "Tea", "price": 3.5, "not_in_text": ""}
    assert rows[2] == {"file": "b.md"}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--output", "papers/table.csv"], "papers/table.csv is in the folder that is read"),
        (["--output", "table.txt"], "table.txt must end in .csv or .jsonl or .ndjson"),
        (["--output", "table.csv", "--column", "text=body"], "no column of papers is called 'body'"),
    ],
)
def test_a_wrong_call_is_refused(words, said, models, capsys):
    assert main(["run", "extract", "--batch", "papers", *words, "--wanted", "a"]) != 0
    assert said in capsys.readouterr().err
    assert models == []


def test_an_empty_folder_and_a_capability_without_a_text_are_refused(models, capsys):
    Path("empty").mkdir()
    assert main(["run", "extract", "--batch", "empty", "--output", "t.csv", "--wanted", "a"]) != 0
    assert "empty has no files" in capsys.readouterr().err
    assert main(["run", "streaming", "--batch", "papers", "--output", "t.csv"]) != 0
    assert "streaming reads no files" in capsys.readouterr().err
