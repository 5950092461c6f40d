"""``quipu run`` and ``quipu capabilities``: options made from an input, files, pipes, JSON, exit codes."""

import argparse
import json
import re
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pdf_files
import pytest
from running_server import serving

from quipu import capabilities, cli
from quipu.cli import fields, main, run
from quipu.engine.fake import fake_model
from quipu.errors import InvalidConfiguration

SAMPLE = Path(__file__).parent / "sample_capability.py"


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch, environment):
    """A folder of capabilities with the sample in it, for this process and for commands."""
    folder = tmp_path / "capabilities"
    folder.mkdir()
    shutil.copy(SAMPLE, folder / "sample.py")
    monkeypatch.setenv("QUIPU_CAPABILITIES", str(folder))
    environment["QUIPU_CAPABILITIES"] = str(folder)
    return folder


def note(capsys) -> dict:
    """What the sample says it was given."""
    return eval(capsys.readouterr().err.partition("note: ")[2].splitlines()[0])


DEFAULTS = {
    "tone": "plain", "words": None, "share": 0.5, "careful": True, "keep": [], "pairs": [], "seed": 7, "steps": 1,
}  # fmt: skip


@pytest.mark.parametrize(
    ("words", "changed"),
    [
        ("", {}),
        ("--tone loud --words 20", {"tone": "loud", "words": 20}),
        ("--share 2", {"share": 2.0}),
        ("--share -0.25", {"share": -0.25}),
        ("--keep one --keep '' --keep 'two words'", {"keep": ["one", "", "two words"]}),
        ("""--pairs '[{"before": "a", "after": "b"}]'""", {"pairs": [{"before": "a", "after": "b"}]}),
        ("--input-seed 0 --seed 3", {"seed": 0}),
    ],
)
def test_fields_are_options(words, changed, loads, capsys):
    assert main(["run", "sample", "--text", "hello", "--careful", *shlex.split(words)]) == 0
    assert note(capsys) == DEFAULTS | changed


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ("--text x --words 0", 1, "words should be greater than or equal to 1, got 0"),
        ("--text x --words 1.5", 2, "'1.5' is not a whole number"),
        ("--text x --share nan", 2, "'nan' is not a number"),
        ("--text x --tone shy", 2, "'shy' is none of plain, loud"),
        ("--text x --pairs [", 2, "'[' is not JSON"),
        ("--text x --pairs {}", 2, "'{}' is not a JSON list"),
        ("""--text x --pairs '[{"before": 1}]'""", 1, "pairs[0].before should be a valid string"),
        ("--text x --wrods 3", 2, "unrecognized arguments: --wrods 3"),
        ("--text x --word 3", 2, "unrecognized arguments: --word 3"),
        ("--text x file.txt", 2, "sample has its text already, as an option; leave 'file.txt' out"),
        ("missing.txt", 1, "'missing.txt' cannot be read: No such file"),
        ("--text x --temperature -1", 1, "temperature must be between 0 and 100"),
        ("--text x --batch a.csv", 2, "--batch FILE and --output FILE go together"),
        ("x --batch a.csv --output b.csv", 2, "--batch reads its own file"),
    ],
)
def test_what_is_wrong_is_said_before_a_model_is_loaded(words, code, said, loads, capsys):
    assert main(["run", "sample", *shlex.split(words)]) == code
    assert said in capsys.readouterr().err
    assert not loads


def test_an_unknown_capability_is_named_with_the_nearest(loads, capsys):
    assert main(["run", "sampel", "x"]) == 1
    assert capsys.readouterr().err == "quipu: there is no capability 'sampel'; did you mean sample?\n"


def test_text_comes_from_a_file_or_a_pipe(tmp_path, loads, standard_input, capsys):
    page = tmp_path / "page.html"
    page.write_text("<html><nav>no</nav><p>From a page</p></html>")
    pdf = tmp_path / "report.pdf"
    pdf.write_bytes(pdf_files.printed("From paper", ""))
    for words, piped, said in [
        (["--text", "given"], b"not read", "given"),
        ([str(page)], b"not read", "From a page"),
        (["--words", "20", str(page), "--steps", "2"], b"not read", "From a page"),
        ([str(pdf)], b"", "From paper"),
        ([], "Grüße".encode("utf-16"), "Grüße"),
        (["-"], pdf.read_bytes(), "From paper"),
    ]:
        standard_input(piped)
        assert main(["run", "sample", *words]) == 0
        shown = capsys.readouterr()
        assert shown.out.strip() == f"You said: {said}"
        assert ("1 of 2 pages have no text" in shown.err) == ("paper" in said)


def test_no_text_at_all(loads, standard_input, capsys):
    standard_input(b"\n")
    assert main(["run", "sample"]) == 1
    assert "text is missing; name a FILE, pipe it in, or give --text TEXT" in capsys.readouterr().err
    standard_input(b"\x89PNG")
    assert main(["run", "sample"]) == 1
    assert "standard input is a PNG image" in capsys.readouterr().err
    standard_input(b"")
    assert main(["run", "sample", "-"]) == 1
    assert "standard input is empty" in capsys.readouterr().err


def test_json(loads, capsys):
    assert main(["run", "sample", "--text", "hello", "--model", "m", "--json", "--tone", "loud", "--careful"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert len(told.pop("notes")) == 1
    assert told == {
        "capability": "capability://sample@1",
        "model": "m",
        "output": {"said": "YOU SAID: HELLO", "count": 3},
        "text": "You said: hello",
        "usage": {
            "prompt_tokens": 23, "completion_tokens": 16, "total_tokens": 39,
            "prompt_tokens_details": {"cached_tokens": 0},
        },
        "finish_reason": "stop",
    }  # fmt: skip


def test_a_cut_answer_is_told(loads, capsys):
    assert main(["run", "sample", "--text", "hello", "--max-tokens", "3"]) == 0
    shown = capsys.readouterr()
    assert shown.out == "You\n"
    assert "note: cut off: the answer reached its longest" in shown.err


def test_an_answer_that_cannot_be_read_exits_with_4(loads, capsys):
    assert main(["run", "sample", "--text", "unreadable"]) == 4
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err == "quipu: the answer is no answer; the model said:\nYou said: unreadable\n"


def test_piped_only_the_output_is_printed(fake_command):
    done = fake_command("run", "sample", "--tone", "loud", "--steps", "3", stdin=b"hello")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"YOU SAID: HELLO\n", b"")


def test_at_a_terminal_it_streams(terminal):
    shown = terminal("sample", "--text", "escape", "--steps", "3", verb="run")
    assert "␛[2Jgone␇" in shown.expect("gone␇")
    assert shown.process.wait(20) == 0
    loud = terminal("sample", "--text", "hello", "--tone", "loud", verb="run")
    assert loud.expect("You said: hello")
    assert loud.expect("YOU SAID: HELLO")  # what was made of it follows


def test_settings_do_not_reach_fields(tmp_path, loads, monkeypatch, capsys):
    monkeypatch.setenv("QUIPU_WORDS", "3")
    monkeypatch.setenv("QUIPU_MODEL", "of-the-environment")
    monkeypatch.setenv("QUIPU_CONTEXT", "64")
    assert main(["run", "sample", "--text", "hello", "--careful"]) == 0
    assert note(capsys)["words"] is None
    [(model, options)] = loads
    assert (model, options["context"]) == ("of-the-environment", 64)


def test_help_shows_the_fields_and_an_example(capsys):
    assert main(["run", "sample", "--help"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "Says again what it is given" in shown
    assert "--text TEXT what to say again; FILE or standard input" in shown
    assert "--tone {plain,loud} how; 100% sure (plain)" in shown
    assert "--careful, --no-careful whether to take care (false)" in shown
    assert "--keep TEXT texts to keep; may be repeated" in shown
    assert "--input-seed N" in shown
    assert shown.endswith("example: quipu run sample FILE --tone loud --words 20")


@pytest.mark.parametrize("words", [["run", "--help"], ["run", "sample", "--help"], ["capabilities"]])
def test_answers_at_once_without_torch(words, environment):
    code = (
        "import sys\nfrom quipu.cli import main\nassert main(sys.argv[1:]) == 0\n"
        "print({'torch', 'rich', 'transformers'} & set(sys.modules), file=sys.stderr)"
    )
    started = time.monotonic()
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, env=environment)
    assert done.stderr == "set()\n"
    assert time.monotonic() - started < 5  # 0.3 s where nothing else runs
    assert "sample" in done.stdout or words[1:] == ["--help"]


def test_capabilities_are_listed(capsys):
    assert main(["capabilities"]) == 0
    [line] = [line for line in capsys.readouterr().out.splitlines() if line.split()[0] == "sample"]
    assert re.search(r"Say again +Says again what it is given", line)
    assert main(["capabilities", "--json"]) == 0
    [told] = [each for each in json.loads(capsys.readouterr().out) if each["id"] == "sample"]
    assert (told["uri"], told["text_field"]) == ("capability://sample@1", "text")
    assert told["input"]["properties"]["words"]["description"] == "at most so many"


# ---- all capabilities


def parser_for(name):
    parser = cli.configurable()["run"]
    general = set(parser._option_string_actions)
    run.add_fields(parser, [name])
    return parser, general


@pytest.mark.parametrize("name", [*capabilities.names(), "sample"])
def test_every_field_is_an_option_and_the_example_parses(name):
    capability = capabilities.find(name)
    parser, general = parser_for(name)
    own = [option for option in parser._option_string_actions if option not in general]
    assert len(own) >= len(capability.input.model_fields)
    words = shlex.split(fields.example(capability, general).replace("JSON", "[]").replace(" N", " 1"))
    arguments = parser.parse_args(words[2:])
    assert isinstance(arguments, argparse.Namespace)
    assert set(fields.given(arguments, capability)) <= set(capability.input.model_fields)


def test_a_clash_of_options_is_resolved(folder):
    names = ["input", "model", "input_model", "input_input_model", "no_stop", "config"]
    kinds = dict.fromkeys(names, "int") | {"stop": "bool"}
    body = "\n".join(f"    {name}: {kind} | None = Field(None, description='x')" for name, kind in kinds.items())
    source = SAMPLE.read_text().replace("    steps: int", f"{body}\n    steps: int")
    (folder / "clashing.py").write_text(source)
    capabilities._files.cache_clear()
    capability = capabilities.find("clashing")
    parser, general = parser_for("clashing")
    options = {each.name: each for each in fields.fields(capability)}
    words = []
    for number, name in enumerate(names):
        [action] = [each for each in parser._actions if each.dest == f"input {name}"]
        assert not set(action.option_strings) & general
        words += [action.option_strings[0], str(number)]
    arguments = parser.parse_args(["clashing", "--model", "m", *words, "--input-stop", "--stop", "END"])
    assert fields.given(arguments, capability) == {name: number for number, name in enumerate(names)} | {"stop": True}
    assert (arguments.model, arguments.stop, len(options)) == ("m", ["END"], 16)


def test_a_type_that_is_no_option_is_refused(folder):
    source = SAMPLE.read_text().replace("    steps: int = Field(1", "    steps: dict[str, int] = Field({}")
    (folder / "odd.py").write_text(source)
    capabilities._files.cache_clear()
    with pytest.raises(InvalidConfiguration, match="the field steps of the capability odd is dict"):
        fields.fields(capabilities.find("odd"))


def test_a_model_elsewhere(capsys):
    with serving({"there": fake_model(name="there")}) as server:
        assert main(["run", "sample", "--text", "hello", "--base-url", f"{server.url}/v1", "--json"]) == 0
        assert server.stats().finished > 0
    assert json.loads(capsys.readouterr().out)["model"] == "there"
