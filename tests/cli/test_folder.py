"""``quipu run --batch FOLDER``: every file once, into one table, in which a file may have several rows."""

import csv
import io
import json
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

import pdf_files
import pytest
from oracle import Oracle
from PIL import Image as Pillow

import quipu
from quipu.cli import main
from quipu.engine.fake import fake_model
from quipu.types import Message

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


@pytest.fixture
def looking(monkeypatch, tmp_path):
    """A model that sees; what colour the first picture of each conversation is, in order. Pictures to show it."""
    shown: list[tuple[int, ...]] = []

    def look(messages: Sequence[Message]) -> str:
        colors = [Pillow.open(io.BytesIO(image.data)).convert("RGB").getpixel((0, 0)) for image in messages[-1].images]
        shown.append(tuple(colors))
        return f"It is {colors}."

    monkeypatch.setattr(quipu, "load", lambda *_, **__: nullcontext(Oracle(look)), raising=False)
    for name in ("red", "lime", "blue"):
        (tmp_path / "photos").mkdir(exist_ok=True)
        Pillow.new("RGB", (4, 4), name).save(tmp_path / "photos" / f"{name}.png")
    return shown


def test_a_folder_of_pictures_is_looked_at_one_by_one(looking, capsys):
    assert main(["run", "vision", "--batch", "photos", "--output", "seen.csv", "--task", "ask", "--question", "?"]) == 0
    with Path("seen.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["file"], row["text"]) for row in rows] == [
        ("blue.png", "It is [(0, 0, 255)]."),
        ("lime.png", "It is [(0, 255, 0)]."),
        ("red.png", "It is [(255, 0, 0)]."),
    ]


def test_tables_name_pictures_by_their_paths(looking, capsys):
    Path("in.jsonl").write_text(
        json.dumps({"images": "photos/red.png"}) + "\n" + json.dumps({"images": ["photos/blue.png"]}) + "\n"
    )
    Path("in.csv").write_text('images\nphotos/red.png\n"[""photos/lime.png"", ""photos/blue.png""]"\nnowhere.png\n')
    assert main(["run", "vision", "--batch", "in.jsonl", "--output", "out.jsonl"]) == 0
    assert sorted(looking) == [((0, 0, 255),), ((255, 0, 0),)]
    looking.clear()
    assert main(["run", "vision", "--batch", "in.csv", "--output", "out.csv"]) == 1
    assert sorted(looking) == [((0, 255, 0), (0, 0, 255)), ((255, 0, 0),)]
    with Path("out.csv").open(newline="") as file:
        assert "'nowhere.png' cannot be read: No such file" in list(csv.DictReader(file))[-1]["error"]


def test_pictures_are_files_on_the_command_line(looking, capsys, standard_input):
    assert main(["run", "vision", "photos/red.png", "--images", "photos/blue.png", "--task", "compare"]) == 4  # no JSON
    assert looking == [((255, 0, 0), (0, 0, 255))]
    standard_input(Path("photos/lime.png").read_bytes())
    assert main(["run", "vision", "-"]) == 0
    assert looking[1] == ((0, 255, 0),)
    assert capsys.readouterr().out.strip() == "It is [(0, 255, 0)]."


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "images is missing; name a FILE, or several with --images"),
        (["nowhere.png"], "'nowhere.png' cannot be read: No such file"),
        (["photos"], "'photos' cannot be read: Is a directory"),
        (["photos/red.png", "--task", "compare"], "compare needs at least two images"),
        (["photos/red.png", "--task", "count"], "question is needed by count"),
        (["https://example.com/a.png"], "cannot be read: No such file"),
    ],
)
def test_what_is_wrong_with_pictures_is_said_before_a_model_is_loaded(words, said, looking, capsys):
    assert main(["run", "vision", *words]) == 1
    assert said in capsys.readouterr().err
    assert not looking


def test_a_picture_from_standard_input_has_a_limit(looking, capsys, standard_input, monkeypatch):
    monkeypatch.setattr("quipu.cli.run.MOST_PICTURE", 1 << 20)
    standard_input(b"x" * ((1 << 20) + 1))
    assert main(["run", "vision", "-"]) == 1
    assert "standard input has more than 1 MiB; make the picture smaller" in capsys.readouterr().err
