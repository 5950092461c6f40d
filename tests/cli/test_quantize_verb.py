"""``quipu quantize`` as users meet it."""

import json
from pathlib import Path

import pytest

from quipu.cli import main
from quipu.model.checkpoint import open_checkpoint

GOLDEN = Path(__file__).parents[1] / "golden"


def test_what_it_says(tmp_path, capsys):
    out = tmp_path / "four.gguf"
    assert main(["quantize", str(GOLDEN / "llama4-tiny-step1"), "--to", "q4", "--out", str(out)]) == 0
    size, where, lost, *worst, seeing, beside = capsys.readouterr().out.splitlines()
    assert size == f"{out.stat().st_size / 1024:.1f} KiB, {8 * out.stat().st_size / 412672:.2f} bits a weight, in"
    assert where == str(out)
    assert lost.startswith("lost 5.")
    assert lost.endswith(" % of the weights (root mean square), most in")
    assert len(worst) == 5
    shares = [float(line.split()[-2]) for line in worst]
    assert shares == sorted(shares, reverse=True)
    assert all("Q4_1" in line for line in worst)
    assert beside == str(tmp_path / "mmproj-four.gguf")
    assert seeing == f"and {(tmp_path / 'mmproj-four.gguf').stat().st_size / 1024:.1f} KiB of what it sees with, in"
    assert {path.name for path in tmp_path.iterdir()} == {"four.gguf", "mmproj-four.gguf"}


def test_json(tmp_path, capsys):
    out = tmp_path / "eight.gguf"
    arguments = ["quantize", str(GOLDEN / "llama3-tiny"), "--to", "q8", "--out", str(out), "--threads", "1", "--json"]
    assert main(arguments) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["path"], said["bytes"]) == (str(out), out.stat().st_size)
    assert said["bits_per_weight"] == pytest.approx(8 * said["bytes"] / said["parameters"])
    assert said["projector"] is None
    again = open_checkpoint(out)
    assert said["parameters"] == again.parameters
    by_name = {each["name"]: each for each in said["tensors"]}
    assert by_name["blk.0.attn_q.weight"].keys() == {"name", "kind", "shape", "bytes", "error"}
    assert by_name["token_embd.weight"]["shape"] == [again.config.vocabulary, again.config.hidden_size]
    assert sum(each["bytes"] for each in said["tensors"]) < said["bytes"]


def test_what_it_refuses(tmp_path, capsys):
    (tmp_path / "there.gguf").touch()
    tiny = str(GOLDEN / "llama3-tiny")
    assert main(["quantize", tiny, "--to", "q4", "--out", str(tmp_path / "there.gguf")]) == 1
    assert "there.gguf exists; remove it, or give another --out" in capsys.readouterr().err
    assert main(["quantize", tiny, "--to", "q5", "--out", "x.gguf"]) == 2
    assert "invalid choice: 'q5'" in capsys.readouterr().err
    assert main(["quantize", tiny, "--to", "q4"]) == 2
    assert "the following arguments are required: --out" in capsys.readouterr().err
    assert main(["quantize", "smollm2-135m-instruct", "--to", "q4", "--out", str(tmp_path / "x.gguf")]) == 1
    assert "would lose twice" in capsys.readouterr().err


def test_progress_is_shown(terminal, tmp_path):
    out = str(tmp_path / "x.gguf")
    shown = terminal(str(GOLDEN / "llama3-tiny"), "--to", "q8", "--out", out, verb="quantize", TERM="xterm")
    assert "x.gguf: quantising" in shown.expect("bits a weight")
