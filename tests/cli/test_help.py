"""What every verb answers at once: its help, its examples, and what is wrong with the way it was called."""

import argparse
import json
import re
import shlex
import subprocess
import sys

import pytest

import quipu
from quipu import cli
from quipu.cli import main, options
from quipu.cli.options import SAMPLING
from quipu.engine import backends, load
from quipu.engine.packing import QUANTIZATIONS
from quipu.types import Sampling

VERBS = [
    "serve", "chat", "run", "capabilities", "measure", "bench", "compare", "rank", "explain", "gaps", "flip", "claims",
    "evidence", "replay", "models", "inspect", "pull", "quantize",
]  # fmt: skip
SLOW = {
    "torch",
    "numpy",
    "fastapi",
    "pydantic",
    "rich",
    "huggingface_hub",
    "jinja2",
    "tokenizers",
    "gguf",
    "uvicorn",
    "sqlalchemy",
}


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], *([verb, "--help"] for verb in VERBS)])
def test_nothing_slow_is_imported_to_answer(arguments, environment):
    code = (
        "import json, sys\nfrom quipu.cli import main\ncode = main(sys.argv[1:])\n"
        "print(json.dumps([code, sorted({name.partition('.')[0] for name in sys.modules})]), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, env=environment)
    code, modules = json.loads(done.stderr)
    assert code == 0
    assert done.stdout
    assert not SLOW & set(modules)


def examples(verb: str) -> list[str]:
    module = next(each for each in cli.VERBS if each.__name__.endswith("." + verb))
    lines = [line.strip() for line in module.EXAMPLES.splitlines()]
    return [line for line in lines if line.startswith("quipu ")]


@pytest.mark.parametrize("verb", VERBS)
def test_help_shows_examples_that_parse(verb, capsys, monkeypatch):
    assert main([verb, "--help"]) == 0
    shown = capsys.readouterr().out
    assert examples(verb)
    for line in examples(verb):
        assert line in shown
        words = shlex.split(re.split(" [<>] ", line)[0])
        assert words[:2] == ["quipu", verb]
        if "CAPABILITY" not in words:
            assert isinstance(cli.parse(words[1:], {}), argparse.Namespace)


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"quipu {quipu.__version__}\n"


def test_module_is_the_command(command):
    done = command("--version")
    assert (done.returncode, done.stdout) == (0, f"quipu {quipu.__version__}\n")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "VERB"),
        (["nonsense"], "invalid choice: 'nonsense'"),
        (["models", "--nonsense"], "unrecognized arguments: --nonsense"),
        (["chat", "--temp", "1"], "unrecognized arguments: --temp"),
        (["chat", "--temperature", "hot"], "invalid float value: 'hot'"),
        (["chat", "--context", "0"], "'0' is not a whole number above 0"),
        (["chat", "--dtype", "int3"], "invalid choice: 'int3'"),
        (["chat", "--kv-memory", "-1"], "'-1' is not a number of GiB above 0"),
        (["chat", "--kv-memory", "nan"], "'nan' is not a number of GiB above 0"),
        (["chat", "--raw", "--system", "x", "-p", "y"], "--system is part of a chat; --raw has none"),
        (["serve", "--port", "65536"], "'65536' is not a port from 0 to 65535"),
        (["serve", "--name", "x", "one", "two"], "--name goes with one MODEL"),
        (["inspect"], "the following arguments are required: MODEL"),
        (["run"], "the following arguments are required: CAPABILITY"),
        (["run", "--model", "x", "chat"], "the capability comes first"),
        (["pull"], "the following arguments are required: REPOSITORY"),
    ],
)
def test_wrong_usage_is_named_and_exits_with_2(arguments, said, capsys):
    assert main(arguments) == 2
    assert said in capsys.readouterr().err


def test_names_shared_with_slow_modules_are_theirs():
    for name in ("DTYPES", "KV_DTYPES", "RUNNERS"):
        assert getattr(options, name) == getattr(backends, name)
    assert (options.QUANTIZATIONS, options.SPECULATE) == (QUANTIZATIONS, load.SPECULATE)
    assert set(SAMPLING) < set(Sampling.__slots__)
