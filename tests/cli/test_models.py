"""``quipu models``. What is in the cache after a download is tested with ``quipu pull``."""

import json
from pathlib import Path

from quipu.cli import main


def test_known_models(command):
    said = json.loads(command("models", "--json").stdout)
    known = {each["name"]: each for each in said["known"]}
    here = known["smollm2-135m-instruct"]
    assert here["installed"] is True
    assert Path(here["path"]).stat().st_size == here["bytes"]
    assert here["license"] == "apache-2.0"
    missing = known["llama-3.2-1b-instruct"]
    assert (missing["installed"], missing["path"], missing["bytes"]) == (False, None, None)
    assert missing["get"] == "quipu pull llama-3.2-1b-instruct"
    assert said["cached"] == []


def test_the_table(command):
    shown = command("models").stdout.splitlines()
    assert shown[0] == "known by name"
    row = next(line for line in shown if "llama-3.2-1b-instruct" in line)
    assert row.endswith("get it: quipu pull llama-3.2-1b-instruct")
    assert next(line for line in shown if "smollm2" in line).endswith(".gguf")


def test_only_add_is_taken(capsys):
    assert main(["models", "x"]) == 2
    assert "invalid choice: 'x'" in capsys.readouterr().err
