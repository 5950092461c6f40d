import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from quipu.errors import InvalidRequest, StorageFailed
from quipu.evidence.journal import Journal

ABOUT = {"journal": 1, "model": {"name": "a"}, "context_length": 10}

WRITER = """
import sys
from pathlib import Path
from quipu.evidence.journal import Journal
with Journal(Path(sys.argv[1]), {"journal": 1}) as journal:
    for number in range(10**6):
        journal.append({"number": number, "text": "x" * (number * 37 % 5000)})
        print(number, flush=True)
"""


def test_what_was_appended_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "journal.jsonl"
    with Journal(path, ABOUT) as journal:
        journal.append({"text": "Ünicode\n\u2028"})
    with Journal(path, ABOUT) as journal:
        assert journal.lines == [ABOUT, {"text": "Ünicode\n\u2028"}]


@pytest.mark.parametrize("torn", [b"{", b'{"a": 1}', b'{"a": "\xc3'])
def test_what_a_crash_left_of_a_line_is_cut_off(tmp_path: Path, torn: bytes) -> None:
    path = tmp_path / "journal"
    with Journal(path, ABOUT) as journal:
        journal.append({"number": 1})
    whole = path.read_bytes()
    path.write_bytes(whole + torn)
    with Journal(path, ABOUT) as journal:
        assert journal.lines == [ABOUT, {"number": 1}]
        assert path.read_bytes() == whole
        journal.append({"number": 2})
    assert [json.loads(line) for line in path.read_bytes().splitlines()] == [ABOUT, {"number": 1}, {"number": 2}]


def test_killed_at_any_moment_it_has_what_was_acknowledged(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    for run, lines in enumerate((1, 7, 40), start=1):
        writer = subprocess.Popen([sys.executable, "-c", WRITER, path], stdout=subprocess.PIPE, text=True)
        assert writer.stdout is not None
        acknowledged = [int(writer.stdout.readline()) for _ in range(lines)]
        os.kill(writer.pid, signal.SIGKILL)
        writer.communicate()
        with Journal(path, {"journal": 1}) as journal:
            numbers = [line["number"] for line in journal.lines[1:]]
        last_run = numbers[len(numbers) - numbers[::-1].index(0) - 1 :]
        assert numbers.count(0) == run
        assert last_run[: len(acknowledged)] == acknowledged


def test_another_measurement_is_refused(tmp_path: Path) -> None:
    Journal(tmp_path / "journal", ABOUT).close()
    with pytest.raises(InvalidRequest, match="of another measurement: context_length differs; remove it, or measure"):
        Journal(tmp_path / "journal", {**ABOUT, "context_length": 11})


def test_a_file_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "poem").write_text("[1]\n")
    with pytest.raises(InvalidRequest, match="is no journal of a measurement: a line of it is not an object"):
        Journal(tmp_path / "poem", ABOUT)
    assert (tmp_path / "poem").read_text() == "[1]\n"


def test_two_cannot_write_at_once(tmp_path: Path) -> None:
    with (
        Journal(tmp_path / "journal", ABOUT),
        pytest.raises(InvalidRequest, match="is being written by another measurement; wait for it"),
    ):
        Journal(tmp_path / "journal", ABOUT)
    Journal(tmp_path / "journal", ABOUT).close()


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageFailed, match="file/journal cannot be written"):
        Journal(tmp_path / "file" / "journal", ABOUT)


def test_a_full_disk_keeps_what_there_is(tmp_path: Path) -> None:
    script = f"""
import resource, signal, sys
from pathlib import Path
from quipu.errors import StorageFailed
from quipu.evidence.journal import Journal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
journal = Journal(Path({str(tmp_path / "journal")!r}), {ABOUT!r})
journal.append({{"number": 1}})
resource.setrlimit(resource.RLIMIT_FSIZE, (200, 200))
try:
    journal.append({{"text": "x" * 1000}})
except StorageFailed as error:
    print(error)
"""
    said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert "cannot be written" in said
    assert "what was measured until now is kept, run it again to go on" in said
    with Journal(tmp_path / "journal", ABOUT) as journal:
        assert journal.lines == [ABOUT, {"number": 1}]
