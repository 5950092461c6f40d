"""What tells one config from another."""

import dataclasses
import json

import pytest
from oracle import saying

import quipu
from quipu.engine.fake import fake_model
from quipu.engine.local import LocalModel
from quipu.evidence.config import Config
from quipu.evidence.store import Store


@pytest.fixture
def model():
    with fake_model() as opened:
        opened.__dict__["file_hash"] = "f" * 64
        opened.hardware, opened.runner = "a processor, 2 cores", "kernels 1"
        yield opened


def test_what_a_local_model_is(model: LocalModel) -> None:
    model.facts = dataclasses.replace(model.facts, quantization={"F32": 3, "Q4_1": 9, "Q8_0": 3}, dtype="bfloat16")
    model.sampling_defaults = {"temperature": 0.5}
    found = Config.of(model, {"top_k": 3})
    assert found.label == "fake"
    assert (found.model_hash, found.engine) == ("f" * 64, f"quipu {quipu.__version__}, kernels 1")
    assert (found.quantization, found.hardware) == ("Q4_1, F32, Q8_0", "a processor, 2 cores, bfloat16")
    assert found.decoding == {"top_k": 3, "context_length": 1024, "defaults": {"temperature": 0.5}}
    assert len(found.chat_template) == 64
    assert found.facts["name"] == "fake"


def test_another_name_is_the_same_config(model: LocalModel) -> None:
    before = Config.of(model, {})
    model.facts = dataclasses.replace(model.facts, name="other", file="/elsewhere.gguf")
    after = Config.of(model, {})
    assert after.id == before.id
    assert after.label == "other"


def test_what_changes_the_answers_makes_another_config(model: LocalModel) -> None:
    ids = [Config.of(model, {}).id, Config.of(model, {"temperature": 1}).id]
    model.sampling_defaults = {"temperature": 1}
    ids.append(Config.of(model, {}).id)
    model.hardware = "a processor, 4 cores"
    ids.append(Config.of(model, {}).id)
    model.runner = "kernels 2"
    ids.append(Config.of(model, {}).id)
    model.__dict__["file_hash"] = "e" * 64
    ids.append(Config.of(model, {}).id)
    with fake_model(context_length=512) as shorter:
        shorter.__dict__["file_hash"] = "e" * 64
        ids.append(Config.of(shorter, {}).id)
    assert len(set(ids)) == len(ids)


def test_it_comes_back_from_the_log_as_it_was(model: LocalModel) -> None:
    config = Config.of(model, {"logit_bias": {42: -100}, "stop": ("a", "b")})
    assert config.decoding["logit_bias"] == {"42": -100}
    with Store() as store:
        store.append_once("config", {"id": config.id, **dataclasses.asdict(config)})
        assert store.config(config.id) == config
        store.append_once("config", json.loads(json.dumps({"id": config.id, **dataclasses.asdict(config)})))
        assert store.last().number == 1


def test_of_any_other_model_only_its_facts_are_known() -> None:
    found = Config.of(saying("x"), {})
    assert (found.chat_template, found.hardware, found.quantization) == ("unknown", "unknown", "unknown")
    assert found.id == Config.of(saying("y"), {}).id
