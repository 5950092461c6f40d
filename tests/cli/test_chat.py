"""``quipu chat`` in scripts: -p, pipes, JSON, exit codes."""

import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image as Pillow
from seeing import GOLDEN, tokenizer_metadata

from quipu.cli import main
from quipu.engine.quantize import quantize
from quipu.model.checkpoint import open_checkpoint

FAKE = Path(__file__).parent / "fake_command.py"


def test_only_the_answer_is_printed(fake_command):
    done = fake_command("chat", "-p", "hello", stdin=b"")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"You said: hello\n", b"")


@pytest.mark.parametrize(
    ("arguments", "piped", "asked"),
    [
        (["-p", "hello"], b"", "hello"),
        ([], "Grüße 🦙\n".encode(), "Grüße 🦙"),
        (["-p", "Summarize this:"], b"line one\n\nline two\n", "Summarize this:\n\nline one\n\nline two"),
        (["-p", "  spaces stay "], b"", "  spaces stay "),
    ],
)
def test_what_is_asked(arguments, piped, asked, loads, standard_input, capsys):
    standard_input(piped)
    assert main(["chat", *arguments]) == 0
    assert capsys.readouterr().out == f"You said: {asked}\n"


def test_an_answer_in_a_form(loads, standard_input, capsys, tmp_path):
    standard_input(b"")
    schema = tmp_path / "schema.json"
    schema.write_text('{"enum": ["yes", "no"]}')
    assert main(["chat", "-p", "hello", "--json-schema", str(schema)]) == 0
    assert capsys.readouterr().out in ('"yes"\n', '"no"\n')
    assert main(["chat", "-p", "hello", "--regex", "[0-9]{3}"]) == 0
    assert re.fullmatch(r"\d{3}\n", capsys.readouterr().out)
    schema.write_text("{")
    assert main(["chat", "-p", "hello", "--json-schema", str(schema)]) == 1
    assert f"{schema} is no JSON Schema" in capsys.readouterr().err


def test_json(loads, standard_input, capsys):
    standard_input(b"")
    assert main(["chat", "some-model", "-p", "hello", "--json", "--max-tokens", "3"]) == 0
    answer = json.loads(capsys.readouterr().out)
    timings = answer.pop("timings")
    assert answer == {
        "model": "some-model",
        "text": "You",
        "finish_reason": "length",
        "usage": {
            "prompt_tokens": 23,
            "completion_tokens": 3,
            "total_tokens": 26,
            "prompt_tokens_details": {"cached_tokens": 0},
        },
    }
    assert 0 < timings["first_token_seconds"] <= timings["seconds"]
    assert timings["tokens_per_second"] > 0


CALL = {"name": "get_weather", "arguments": '{"city": "Paris", "days": 3}'}


def test_a_call_that_nobody_asked_for_is_data_in_json_and_text_in_a_pipe(loads, standard_input, capsys):
    standard_input(b"")
    asked = '\n[get_weather(city="Paris", days=3)]'
    assert main(["chat", "-p", asked, "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["text"] == f"You said: {asked}"
    assert answer["tool_calls"] == [{"id": None, "type": "function", "function": CALL}]
    assert main(["chat", "-p", asked]) == 0
    assert capsys.readouterr().out == f"You said: {asked}\n"
    assert main(["chat", "-p", f"{asked} is a call", "--json"]) == 0
    assert "tool_calls" not in json.loads(capsys.readouterr().out)


def test_tools_are_called(fake_command, tools_file):
    done = fake_command("chat", "-p", "weather", "--tools", str(tools_file))
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout == b"I look it up.\ncalls get_weather(city: Paris, days: 3)\n"
    answer = json.loads(fake_command("chat", "-p", "weather", "--tools", str(tools_file), "--json").stdout)
    [call] = answer["tool_calls"]
    assert (answer["text"], answer["finish_reason"], call["function"]) == ("I look it up.", "tool_calls", CALL)
    assert call["id"]
    assert fake_command("chat", "-p", "hello", "--tools", str(tools_file)).stdout == b"You said: hello\n"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (b"{", "is no list of tools: Expecting"),
        (b"[" * 100_000, "is no list of tools"),
        (b"[]", "is no list of tools: [{"),
        (b'{"tools": 3}', "is no list of tools: [{"),
        (b'[{"type": "function"}]', "tools[0].function must be an object with a name"),
        (b'[{"name": "a b"}]', "tools[0].name is 'a b'; it must be"),
    ],
)
def test_files_that_hold_no_tools(given, said, loads, standard_input, capsys, tmp_path):
    standard_input(b"")
    (tmp_path / "tools.json").write_bytes(given)
    assert main(["chat", "-p", "x", "--tools", str(tmp_path / "tools.json")]) == 1
    shown = capsys.readouterr()
    assert (shown.out, loads) == ("", [])
    assert f"{tmp_path}/tools.json" in shown.err
    assert said in shown.err


def test_tools_exclude_what_has_no_calls(loads, standard_input, capsys, tools_file):
    standard_input(b"")
    assert main(["chat", "-p", "x", "--raw", "--tools", str(tools_file)]) == 2
    assert "--tools are part of a chat" in capsys.readouterr().err
    assert main(["chat", "-p", "x", "--regex", "a+", "--tools", str(tools_file)]) == 1
    assert "kept to constraint or be given tools, not both" in capsys.readouterr().err


def test_pictures_are_shown_with_the_question(tmp_path, standard_input, capsys):
    """To a whole model that sees, in files that quipu quantize wrote."""
    standard_input(b"")
    source = replace(open_checkpoint(GOLDEN), tokenizer_source=("gguf", tokenizer_metadata()))
    model = str(quantize(source, "q8", tmp_path / "seeing.gguf", threads=1).path)
    for colour in ("red", "blue"):
        Pillow.new("RGB", (56, 56), colour).save(tmp_path / f"{colour}.png")
    red, blue = (["--image", str(tmp_path / f"{colour}.png")] for colour in ("red", "blue"))
    asked = ["chat", model, "-p", "What?", "--json", "--max-tokens", "8", "--temperature", "0", "--threads", "1"]
    answers = []
    for images in ([], red, blue, [*red, *blue]):
        assert main([*asked, *images]) == 0
        answers.append(json.loads(capsys.readouterr().out))
    plain, *shown = (each["usage"]["prompt_tokens"] for each in answers)
    assert [each - plain for each in shown] == [4 + 3, 4 + 3, 2 * (4 + 3)]  # parts of a tile, and three marks
    assert len({each["text"] for each in answers}) == 4


def test_pictures_that_cannot_be_shown(loads, standard_input, capsys, tmp_path):
    standard_input(b"")
    Pillow.new("RGB", (9, 9)).save(tmp_path / "a.png")
    assert main(["chat", "-p", "What?", "--image", str(tmp_path / "a.png")]) == 1
    assert "reads text only; --image is for models that see pictures" in capsys.readouterr().err
    assert main(["chat", "-p", "What?", "--image", str(tmp_path / "none.png")]) == 1
    assert "none.png" in capsys.readouterr().err
    assert main(["chat", "--raw", "-p", "What?", "--image", str(tmp_path / "a.png")]) == 2
    assert "--image is part of a chat; --raw has none" in capsys.readouterr().err


def test_raw_continues_the_text_as_it_is(loads, standard_input, capsys):
    standard_input(b"")
    # Without a template there is no turn to answer; the fake then takes all of it for its own words.
    assert main(["chat", "--raw", "-p", "Once ", "--json", "--max-tokens", "4"]) == 0
    assert json.loads(capsys.readouterr().out)["usage"]["prompt_tokens"] == len("Once ")


def test_options_reach_the_model(loads, standard_input, capsys):
    standard_input(b"")
    words = ["chat", "m", "-p", "a|b", "--stop", "|", "--context", "64", "--dtype", "float32", "--device", "cpu"]
    words += ["--threads", "2", "--adapter", "folder", "--kv-memory", "0.5"]
    words += ["--kv-dtype", "int8", "--quantize", "q8", "--runner", "native"]
    assert main(words) == 0
    assert capsys.readouterr().out == "You said: a\n"
    [(model, options)] = loads
    assert callable(options.pop("progress"))
    assert model == "m"
    assert options == {
        "concurrency": 1,
        "context": 64,
        "dtype": "float32",
        "device": "cpu",
        "threads": 2,
        "adapter": "folder",
        "kv_memory": 0.5,
        "kv_dtype": "int8",
        "quantize": "q8",
        "runner": "native",
    }


def test_a_logit_bias_takes_effect(loads, standard_input, capsys):
    standard_input(b"")
    # The fake predicts a token by 10; without "Y" the answer begins otherwise.
    assert main(["chat", "-p", "x", "--max-tokens", "1", "--temperature", "0", "--logit-bias", '{"89": -100}']) == 0
    assert not capsys.readouterr().out.startswith("Y")


@pytest.mark.parametrize(
    ("arguments", "piped", "said"),
    [
        ([], b"", "there is nothing to answer: the prompt is empty"),
        (["-p", ""], b"", "there is nothing to answer"),
        (["-p", " "], b" \n", "there is nothing to answer"),
        ([], b"\xff\xfe", "standard input is not UTF-8 text"),
        (["-p", "\udcff"], b"", "the prompt is not UTF-8 text"),
        (["-p", "x", "--temperature", "-1"], b"", "temperature must be between 0 and 100, got -1.0"),
        (["-p", "x", "--top-p", "nan"], b"", "top_p must be a number"),
        (["-p", "x", "--max-tokens", "-1"], b"", "max_tokens must be at least 0"),
        (["-p", "x", "--stop", ""], b"", "stop must be a non-empty string"),
        (["-p", "x", "--logit-bias", "{"], b"", "logit_bias is not JSON"),
        (["-p", "x", "--logit-bias", "[" * 9999], b"", "logit_bias is not JSON"),
        (["-p", "x", "--logit-bias", '{"a": 1}'], b"", "logit_bias must map token ids to numbers"),
        (["-p", "x", "--max-tokens", "5000"], b"", "the context of this model, as loaded, is 1024 tokens"),
    ],
)
def test_errors_are_one_line_and_exit_with_1(arguments, piped, said, loads, standard_input, capsys):
    standard_input(piped)
    assert main(["chat", *arguments]) == 1
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("quipu: ")
    assert said in shown.err
    assert shown.err.count("\n") == 1


def test_an_unknown_model(command):
    done = command("chat", "smollm2", "-p", "x")
    assert done.returncode == 1
    assert "no model 'smollm2'" in done.stderr
    assert "Traceback" not in done.stderr


def test_raw_needs_text_where_a_person_sits(environment):
    keys, screen = pty.openpty()
    done = subprocess.run(
        [sys.executable, str(FAKE), "chat", "--raw"], stdin=screen, capture_output=True, text=True, env=environment
    )
    os.close(keys)
    os.close(screen)
    assert done.returncode == 2
    assert "--raw and --json need -p TEXT or piped text" in done.stderr


def test_statistics_go_to_a_terminal_only(environment):
    keys, screen = pty.openpty()
    done = subprocess.run(
        [sys.executable, str(FAKE), "chat", "-p", "hello"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=screen,
        env=environment,
    )
    os.close(screen)
    shown = b""
    while piece := _read(keys):
        shown += piece
    os.close(keys)
    assert done.stdout == b"You said: hello\n"
    assert b"tokens/s" in shown


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 4096)
    except OSError:  # the other side is closed
        return b""


def test_a_reader_that_has_enough_is_no_error(environment):
    process = subprocess.Popen(
        [sys.executable, str(FAKE), "chat", "-p", "long"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment | {"FAKE_SECONDS": "0.001"},
    )
    assert process.stdout is not None
    assert process.stderr is not None
    assert process.stdout.read(9) == b"word word"
    process.stdout.close()
    assert process.wait(30) == 0
    assert process.stderr.read() == b""
    process.stderr.close()


def test_interrupted_exits_with_130(environment):
    process = subprocess.Popen(
        [sys.executable, str(FAKE), "chat", "-p", "long"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment | {"FAKE_SECONDS": "0.002"},
    )
    assert process.stdout is not None
    assert process.stdout.read(9) == b"word word"
    started = time.monotonic()
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    assert errors == b""
    assert time.monotonic() - started < 10  # the whole answer would take 20 seconds


def test_an_encoding_without_the_character_shows_an_escape(fake_command):
    done = fake_command("chat", "-p", "é", PYTHONIOENCODING="ascii")
    assert (done.returncode, done.stdout) == (0, b"You said: \\xe9\n")


def test_closed_standard_input_is_empty(environment):
    line = f'"{sys.executable}" "{FAKE}" chat -p hello <&-'
    done = subprocess.run(["sh", "-c", line], capture_output=True, env=environment, timeout=60)
    assert (done.returncode, done.stdout) == (0, b"You said: hello\n")
