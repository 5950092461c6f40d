"""``quipu bench`` over the tiny golden checkpoint: what it says, never how fast anything is."""

import importlib.machinery
import json
import os
import re
import sys
from importlib.util import find_spec
from pathlib import Path

import gguf
import pytest
from tiny import tiny_config, tiny_tensors, write_gguf

from quipu import cli
from quipu.bench import llama_cpp, plot, report, shapes
from quipu.bench.child import Child, seconds_to_first_byte
from quipu.bench.quality import TOKENS, text
from quipu.bench.serving import Served
from quipu.cli import bench, main
from quipu.errors import MeasurementFailed
from quipu.model.checkpoint import open_checkpoint

TINY = Path(__file__).parents[1] / "golden" / "llama3-tiny"
PEERS = {"pp512", "ttft", "tg128", "deep", "memory", "x16", "load"}
FIGURES = {*PEERS, "load_first", "engine16"}


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> dict:
    """One quick run, with its page and its plot beside the JSON."""
    folder = tmp_path_factory.mktemp("bench")
    files = ["--markdown", str(folder / "speed.md"), "--plot", str(folder / "speed.svg")]
    with pytest.MonkeyPatch.context() as patch:
        said: list[object] = []
        patch.setattr("quipu.cli.bench.print_json", said.append)
        assert main(["bench", str(TINY), "--quick", "--rounds", "1", "--threads", "1", "--json", *files]) == 0
    [found] = said
    again = json.loads(json.dumps(found))
    return {"found": again, "page": (folder / "speed.md").read_text(), "plot": (folder / "speed.svg").read_text()}


def test_json(measured: dict) -> None:
    found = measured["found"]
    assert found["options"] == {"rounds": 1, "quick": True, "shape": None}
    assert (found["machine"]["threads"], found["depth"], found["peer"]) == (1, 1000, None)
    assert found["model"]["name"] == "llama3-tiny"
    [ours] = found["engines"]
    assert (ours["name"], ours["format"]) == ("quipu", "F32")
    assert ours["figures"].keys() == FIGURES  # without a tokenizer nothing can be chatted or served
    values = [value for each in (*ours["figures"].values(), *found["limits"].values()) for value in each]
    assert len(values) == len(FIGURES) + 2
    assert min(values) > 0
    assert ours["work"].keys() == {"pp512", "tg128", "deep", "x16"}
    assert ours["work"]["deep"]["bytes"] > ours["work"]["tg128"]["bytes"] > ours["weights"]
    assert "path" not in ours
    assert str(TINY.parent) not in json.dumps(found)


def test_quality_of_float32_is_that_of_the_reference(measured: dict) -> None:
    assert measured["found"]["text"] == {"name": "random tokens", "tokens": 250}
    [ours] = measured["found"]["engines"]
    assert abs(ours["quality"]["kl"]) < 1e-6
    assert ours["quality"]["same_top"] == 1
    assert ours["quality"]["perplexity_ratio"] == pytest.approx(1, abs=1e-5)


def test_the_page_and_the_plot_are_made_of_the_json(measured: dict) -> None:
    found, page = measured["found"], measured["page"]
    assert page == report.markdown(found, "speed.svg")
    assert measured["plot"] == plot.plot(found)
    assert measured["plot"].startswith("<svg")
    assert "tg128 after 1,000" in measured["plot"]
    assert "quipu bench llama3-tiny --rounds 1 --quick" in page
    assert "| start, s | — |" in page


def row(found: dict, name: str) -> list[str]:
    [cells] = [cells for cells in report.table(found) if cells[0] == name]
    return cells[1:]


def with_peers(found: dict) -> dict:
    """The measurement as if there had been two peers and three rounds."""

    def engine(name: str, form: str, rates: list[float], times: list[float]) -> dict:
        figures = {**found["engines"][0]["figures"], "tg128": rates, "ttft": times}
        return {**found["engines"][0], "name": name, "format": form, "figures": figures}

    engines = [
        engine("quipu", "F32", [200.0, 300.0, 100.0], [1.0, 1.0, 1.0]),
        engine("llama.cpp", "q4_0", [100.0, 100.0, 50.0], [4.0, 2.0, 2.0]),
        engine("llama.cpp", "q8_0", [90.0, 500.0, 10.0], [3.0, 3.0, 3.0]),
    ]
    return {**found, "engines": engines, "peer": "llama-cpp-python 0"}


def test_the_ratio_is_to_the_best_peer_round_by_round(measured: dict) -> None:
    found = with_peers(measured["found"])
    assert report.table(found)[0] == ["", "quipu F32", "llama.cpp q4_0", "llama.cpp q8_0", "× best"]
    assert row(found, "tg128, tokens/s") == [
        "200 (100..300)", "100 (50.0..100)", "90.0 (10.0..500)", "2.00 (2.00..3.00)",
    ]  # fmt: skip
    assert row(found, "first token, s")[-1] == "2.00 (2.00..4.00)"
    assert row(found, "start, s") == ["—", "—", "—", "—"]
    assert "--peer llama.cpp --peer-format q4_0,q8_0" in report.markdown(found)


def test_a_table_for_people(measured: dict, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    monkeypatch.setattr("quipu.bench.benchmark.measure", lambda *_: measured["found"])
    assert main(["bench"]) == 0
    said = capsys.readouterr()
    assert re.search(r"^ +tg128, tokens/s +\d", said.out, re.MULTILINE)
    assert "memory is read at" in said.err


@pytest.mark.skipif(find_spec("llama_cpp") is None, reason="the extra bench is not installed")
def test_a_peer_in_two_formats(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """The file as it is, and one that llama.cpp makes of it."""
    path = tmp_path / "shape.gguf"
    shapes.write(shapes.Shape(2, 256, 512, 4, 2, 64, 320), path)
    assert main(["bench", str(path), "--quick", "--peer", "llama.cpp", "--peer-format", "q4_0,q8_0", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [each["format"] for each in found["engines"]] == ["Q4_0", "q4_0", "q8_0"]
    assert found["engines"][1]["figures"].keys() == PEERS
    assert found["engines"][1]["weights"] < found["engines"][2]["weights"]
    assert all(each["quality"]["kl"] < 0.05 for each in found["engines"])
    assert found["engines"][1]["variants"].keys() == {"pp512", "ttft", "tg128", "deep", "x16"}


def test_a_shape_is_a_model_of_random_weights(tmp_path: Path) -> None:
    assert tuple(shapes.SHAPES) == bench.SHAPES
    path = tmp_path / "shape.gguf"
    shapes.write(shapes.Shape(2, 64, 128, 4, 2, 16, 96), path)
    opened = open_checkpoint(path)
    assert (opened.config.layers, opened.config.kv_heads, opened.config.tied_embeddings) == (2, 2, True)
    values = opened.tensors["model.layers.1.mlp.down_proj.weight"].float32()
    assert values.std() == pytest.approx(128**-0.5, rel=0.05)
    assert len(gguf.GGUFReader(path).tensors) == len(opened.tensors)


@pytest.mark.slow
def test_sixteen_streams_over_http(smollm2_file: Path) -> None:
    with Served(str(smollm2_file), 49152, {"threads": "2"}, os.environ) as server:
        assert server.rate() > 0
    with pytest.raises(MeasurementFailed, match=r"quipu serve did not start: .*nowhere"):
        Served(str(smollm2_file.with_name("nowhere.gguf")), 49152, {}, os.environ)


def test_what_http_leaves_of_the_engine(measured: dict) -> None:
    found = measured["found"]
    assert "x16 over HTTP / through the engine" not in [cells[0] for cells in report.table(found)]
    [ours] = found["engines"]
    figures = {**ours["figures"], "engine16": [1000.0, 900.0, 800.0], "http16": [900.0, 900.0, 400.0]}
    served = {**found, "engines": [{**ours, "figures": figures}]}
    assert row(served, "x16 over HTTP / through the engine") == ["0.90 (0.50..1.00)"]


def test_the_story_has_two_thousand_tokens(smollm2) -> None:
    assert len(smollm2.encode(text())) >= TOKENS


# ---- what is refused, before anything is measured


def refused(capsys: pytest.CaptureFixture, *arguments: str, code: int = 1) -> str:
    assert main(["bench", *arguments]) == code
    return capsys.readouterr().err


def test_a_peer_that_is_not_installed(capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(llama_cpp, "find_spec", lambda name: None)
    said = refused(capsys, str(TINY), "--peer", "llama.cpp")
    assert "--peer llama.cpp needs llama-cpp-python, which is not installed" in said
    assert "pip install 'quipu-llama[bench]'" in said


def test_a_peer_of_a_model_that_it_does_not_read(
    capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(llama_cpp, "find_spec", lambda name: importlib.machinery.ModuleSpec(name, None))
    assert "llama.cpp reads GGUF files, and llama3-tiny is a folder of safetensors" in refused(
        capsys, str(TINY), "--peer", "llama.cpp"
    )


def test_wrong_options(capsys: pytest.CaptureFixture) -> None:
    assert "unknown peer format 'q4_00'; did you mean q4_0?" in refused(
        capsys, "--peer", "llama.cpp", "--peer-format", "q4_00"
    )
    assert "--peer-format goes with --peer" in refused(capsys, "--peer-format", "q4_0", code=2)
    assert "it goes without MODEL" in refused(capsys, str(TINY), "--shape", "llama-3.2-1b", code=2)
    assert "invalid choice: 'ollama'" in refused(capsys, "--peer", "ollama", code=2)
    assert "'0' is not a whole number above 0" in refused(capsys, "--rounds", "0", code=2)


def test_a_model_that_is_none(capsys: pytest.CaptureFixture, tmp_path: Path) -> None:
    assert "nowhere.gguf" in refused(capsys, str(tmp_path / "nowhere.gguf"))
    path = write_gguf(tmp_path / "short.gguf", tiny_config(context_length=512), tiny_tensors(tiny_config()))
    assert "quipu bench needs a context of 2048 tokens; short has 512" in refused(capsys, str(path))


def test_files_that_could_not_be_written(
    capsys: pytest.CaptureFixture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "no" / "speed.md"
    assert f"{file} cannot be written: there is no folder {file.parent}" in refused(capsys, "--markdown", str(file))
    monkeypatch.setitem(sys.modules, "vl_convert", None)
    said = refused(capsys, "--plot", str(tmp_path / "speed.svg"))
    assert "plots need vl_convert; pip install 'quipu-llama[charts]'" in said


def test_an_engine_that_refuses_or_dies(tmp_path: Path) -> None:
    job = {"kind": "quipu", "depth": 8, "room": 16, "threads": 1, "options": {}}
    with pytest.raises(MeasurementFailed, match="nowhere"):
        Child({**job, "path": str(tmp_path / "nowhere.gguf")}, {})
    with pytest.raises(MeasurementFailed, match=r"the process of quipu ended with 1: KeyError: 'path'"):
        Child(job, {})
    with pytest.raises(MeasurementFailed, match="answered nothing: quipu: "):
        seconds_to_first_byte([sys.executable, "-m", "quipu", "chat", str(tmp_path / "nowhere"), "-p", "hi"], {})


def test_defaults_are_those_of_the_help() -> None:
    assert all(each in llama_cpp.FORMATS for each in bench.PEER_FORMATS.split(","))
    assert cli.parse(["bench"], {}).model is None
