"""The command that asks more of what was measured: it has to measure the same config again."""

import argparse
import shlex

import pytest
from two_models import config

from quipu.cli import measure, options
from quipu.evidence.add_card import add_card
from quipu.evidence.measuring import measuring_more

FILE = "/home/someone/models/a model.gguf"


def parsed(command):
    parser = argparse.ArgumentParser()
    measure.add_arguments(parser)
    return parser.parse_args(shlex.split(command)[2:])


def test_options_come_back_as_they_were_given():
    asked = {"temperature": 0.7, "seed": 3, "stop": ["a b", "--c"], "ignore_eos": True, "logit_bias": {"42": -100}}
    of = config("one", decoding={**asked, "context_length": 512, "defaults": {"top_k": 3}}, facts={"name": "one"})
    given = parsed(measuring_more(of, "capability://reason@1", "capability://code@2"))
    assert (given.model, given.context, given.capability) == ("one", 512, ["reason", "code"])
    assert options.sampling(given) == {**asked, "logit_bias": {42: -100}}


@pytest.mark.parametrize(("label", "facts", "engine", "command"), [
    ("llama-3.2-1b-instruct", {"file": FILE}, "quipu 1", "quipu measure llama-3.2-1b-instruct"),
    ("a model", {"file": FILE}, "quipu 1", "quipu measure './a model.gguf'"),
    ("there", {"name": "there"}, "remote http://host/v1", "quipu measure there --base-url http://host/v1"),
    ("mine", {"name": "there"}, "remote http://host/v1", "quipu measure mine"),
    ("mine", {"name": "there"}, "remote http://other/v1", "quipu measure there --base-url http://other/v1"),
    ("x" * 1000, {"name": "there"}, "remote http://host/v1", "quipu measure there --base-url http://host/v1"),
])  # fmt: skip
def test_it_names_what_was_measured(label, facts, engine, command, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    add_card("mine", base_url="http://host/v1", model="there")
    of = config(label, decoding={"context_length": 2048}, facts={**facts, "context_length": 2048}, engine=engine)
    assert measuring_more(of) == command
