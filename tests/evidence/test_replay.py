"""Receipts, on the demonstration model: an observation again, and why it cannot be."""

import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from adding import Adding
from own_folder import own_folder
from running_server import serving

import quipu
from quipu.cli import main
from quipu.engine.fake import fake_model
from quipu.evidence.config import Config
from quipu.evidence.replay import arithmetic
from quipu.evidence.store import Store

MODEL = "smollm2-135m-instruct"
PROBES = 3


@pytest.fixture(scope="module")
def adding(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Adding]:
    from quipu import capabilities

    with own_folder(tmp_path_factory.mktemp("own"), "adding"):
        yield capabilities.find("adding")  # type: ignore[misc]


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory, adding: Adding) -> tuple[str, list[int], Config]:
    """A log with some observations, one of them changed: its place, their numbers, and whose they are."""
    from quipu.evidence.observe import observe

    place = f"sqlite:///{tmp_path_factory.mktemp('log')}/evidence.sqlite"
    with quipu.load(MODEL, context=512, concurrency=1) as model, Store(place) as store:
        config = Config.of(model, {"max_tokens": 12})
        store.append("config", {"id": config.id, **asdict(config)})
        of = {"run": 1, "config": config.id, "probe_set": adding.probe_set}
        numbers = []
        for probe in adding.probes[:PROBES]:
            seen = asdict(observe(model, adding, probe, {"max_tokens": 12}))
            numbers.append(store.append("observation", {**of, **seen}).number)
        other = {**of, **seen, "token_hash": "0" * 64, "text": seen["text"][:3] + "~"}
        numbers.append(store.append("observation", other).number)
    return place, numbers, config


def test_the_same_tokens_again(measured, capsys: pytest.CaptureFixture[str]) -> None:
    place, numbers, _ = measured
    assert main(["replay", str(numbers[1]), "--evidence-url", place, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["same"]
    assert found["then"] == found["now"]
    assert found["text_then"] == found["text_now"]
    assert (found["differences"], found["apart"]) == ([], None)


def test_it_is_computed_as_it_was_then(measured) -> None:
    _, _, config = measured
    assert arithmetic(config) == {"runner": "native", "dtype": "auto", "kv_dtype": "f16", "quantize": None}
    for engine, dtype, expected in (
        ("quipu 0.1.0, torch 2.13.0+cpu", "bfloat16", {"runner": "torch", "dtype": "bfloat16"}),
        (
            "quipu 0.1.0, native 1 avx2, KV int8, quantised to q4",
            "int8",
            {"runner": "native", "dtype": "auto", "kv_dtype": "int8", "quantize": "q4"},
        ),
        (
            "quipu 0.1.0, native 1 avx2, KV f32",
            "float32",
            {"runner": "native", "dtype": "float32", "kv_dtype": "f32", "quantize": None},
        ),
    ):
        assert arithmetic(replace(config, engine=engine, facts={"dtype": dtype})) == expected


def test_other_tokens_and_where_they_go_apart(measured, capsys: pytest.CaptureFixture[str]) -> None:
    place, numbers, _ = measured
    others = "2" if len(os.sched_getaffinity(0)) == 1 else "1"
    assert main(["replay", str(numbers[-1]), "--evidence-url", place, "--threads", others]) == 1
    said = capsys.readouterr()
    assert said.out.startswith("other tokens\n  then 000000")
    assert "the answers go apart after " in said.out
    assert " nats apart" in said.out
    assert "hardware: " in said.out  # all cores then, another number now
    assert said.err == ""


def refusal(capsys: pytest.CaptureFixture[str], number: int, place: str, *more: str) -> str:
    assert main(["replay", str(number), "--evidence-url", place, *more]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    return said.err


def test_another_file_is_refused(measured, smollm2_file: Path, tmp_path: Path, capsys) -> None:
    place, numbers, config = measured
    copy = tmp_path / "other.gguf"
    shutil.copy(smollm2_file, copy)
    with copy.open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"\x7f")
    said = refusal(capsys, numbers[0], place, "--model", str(copy))
    assert "other.gguf is not what was measured: its SHA-256 is " in said
    assert f"that of {config.label} was {config.model_hash}; give the same file with --model" in said
    assert "nowhere.gguf" in refusal(capsys, numbers[0], place, "--model", str(tmp_path / "nowhere.gguf"))


def test_what_cannot_be_replayed_says_why(measured, adding: Adding, tmp_path: Path, capsys) -> None:
    place, numbers, config = measured
    with Store(place) as store:
        record = {
            name: value for name, value in store.observation(numbers[0]).items() if name not in ("number", "at", "hash")
        }
        cases = {
            "its model did not tell its tokens, as remote endpoints do not": {"token_hash": None},
            "its probe did not fit the context, and was not asked": {"state": "beyond context", "token_hash": None},
            "it is of capability://adding@7, and here it is capability://adding@1": {
                "capability": "capability://adding@7"
            },
            "it is of capability://gone@1, and there is none of that name": {"capability": "capability://gone@1"},
            "it is of capability://streaming@1, and here it is": {"capability": "capability://streaming@1"},
            "has no probe 0123456789abcdef any more": {"probe": "0123456789abcdef"},
        }
        written = {said: store.append("observation", {**record, **changes}).number for said, changes in cases.items()}
        nobody = store.append("observation", {**record, "config": "0" * 64}).number
        bare = replace(config, facts={}, hardware="another")
        store.append("config", {"id": bare.id, **asdict(bare)})
        fileless = store.append("observation", {**record, "config": bare.id}).number
    for said, number in written.items():
        complaint = refusal(capsys, number, place)
        assert f"observation {number} cannot be replayed: " in complaint
        assert said in complaint
    assert "no config '0000" in refusal(capsys, nobody, place)
    assert "was measured without a file of its own; there is nothing to load" in refusal(capsys, fileless, place)
    assert "entry 1 is no observation but a config" in refusal(capsys, 1, place)
    assert "the log has no entry 99999" in refusal(capsys, 99999, place)
    assert "the log has no entry 1" in refusal(capsys, 1, f"sqlite:///{tmp_path}/nothing")
    assert not (tmp_path / "nothing").exists()


def test_a_remote_observation(adding: Adding, tmp_path: Path, capsys) -> None:
    from quipu.engine.remote import RemoteModel
    from quipu.evidence.measure import measure

    place = f"sqlite:///{tmp_path}/evidence.sqlite"
    with serving({"there": fake_model(name="there")}) as server:
        address = server.url.replace("http://", "http://me:secret@")
        with RemoteModel(f"{address}/v1") as model, Store(place) as store:
            config = Config.of(model, {})
            measure(model, [adding], store, seconds=0.05)
            numbers = [entry.number for entry in store.entries() if entry.kind == "observation"]
            assert all("secret" not in entry.text for entry in store.entries())
    assert config.engine == f"remote {server.url}/v1"
    assert (config.hardware, config.quantization, config.chat_template) == ("unknown",) * 3
    assert "did not tell its tokens" in refusal(capsys, numbers[0], place)
