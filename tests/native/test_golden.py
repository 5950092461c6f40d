"""The native runner in float32 against golden logits (transformers 5.23, fp32) and the torch runner."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from native.models import pack_tensors
from native.plans import SETS

from quipu.engine.native_runner import NativeRunner
from quipu.engine.runner import PoolSize, Span
from quipu.engine.torch_runner import TorchRunner
from quipu.model.checkpoint import open_checkpoint
from quipu.model.config_huggingface import from_huggingface
from quipu.model.llama import Llama
from quipu.model.lora import merged

GOLDEN = Path(__file__).parent.parent / "golden"
TINY = GOLDEN / "llama3-tiny"
LIMIT = 1e-4

vectors = np.load(TINY / "vectors.npz")
tiny = open_checkpoint(TINY)
weights = pack_tensors(tiny.tensors, "F32")


def native_runner(config=tiny.config, weights=weights, **options):
    return NativeRunner(config, weights, PoolSize(64), kv_dtype="f32", **options)


def run(runner, ids):
    return runner.step([Span([int(token) for token in ids], 0, range(-(-len(ids) // 16)), "all")])[0]


@pytest.mark.parametrize("isa", SETS)
@pytest.mark.parametrize("length", [1, 17, 200])
def test_logits_equal_the_reference(isa, length):
    logits = run(native_runner(instructions=isa), vectors[f"ids_{length}"])
    assert np.abs(logits - vectors[f"logits_{length}"]).max() <= LIMIT


@pytest.mark.parametrize("isa", SETS)
@pytest.mark.parametrize("length", [1, 17, 200])
def test_greedy_continuations_are_identical(isa, length):
    runner, ids = native_runner(instructions=isa), vectors[f"ids_{length}"].tolist()
    expected = vectors[f"greedy_{length}"].tolist()
    start, tokens, found = 0, ids, []
    for _ in expected:
        row = runner.step([Span(tokens, start, range(64))])[0]
        start, tokens = start + len(tokens), [int(row[0].argmax())]
        found += tokens
    assert found == expected


@pytest.mark.parametrize("name", ["rope_default", "rope_llama31_f8_8192", "rope_llama32_f32_8192"])
def test_other_rope_settings(name):
    fields = {**json.loads((TINY / "config.json").read_text()), "rope_scaling": None}
    fields["rope_parameters"] = json.loads((TINY / "meta.json").read_text())[f"{name}_config"]
    logits = run(native_runner(from_huggingface(fields)), vectors["ids_200"])
    assert np.abs(logits[-32:] - vectors[f"{name}_logits_200_last32"]).max() <= LIMIT


def test_a_merged_lora_adapter():
    folder = GOLDEN / "llama3-tiny-lora"
    adapted = pack_tensors(merged(tiny.tensors, folder), "F32")
    expected = np.load(folder / "vectors.npz")
    assert np.abs(run(native_runner(weights=adapted), expected["ids"]) - expected["logits"]).max() <= LIMIT


def test_it_equals_the_torch_runner_in_the_same_steps():
    """Prefill and decode of three sequences in scattered blocks; hidden states, too."""
    theirs = TorchRunner(Llama(tiny.config, tiny.tensors, torch.float32, torch.device("cpu")), PoolSize(64))
    ours = native_runner(threads=2)
    ids = vectors["ids_200"].tolist()
    steps = [
        [Span(ids[:50], 0, [9, 3, 60, 7, 8], "all"), Span(ids[:17], 0, [2, 1], "last")],
        [Span(ids[50:51], 50, [9, 3, 60, 7, 8], "all"), Span(ids[17:19], 17, [2, 1], "all"), Span([4], 0, [5], "last")],
        [Span(ids[51:80], 51, [9, 3, 60, 7, 8], "last"), Span([3, 4], 1, [5], "hidden")],
    ]
    for step in steps:
        for one, other in zip(ours.step(step), theirs.step(step), strict=True):
            assert one.shape == other.shape
            assert np.abs(one - other).max() <= LIMIT


def test_untied_embeddings():
    """The output layer is its own matrix where a checkpoint has one."""
    name = "model.embed_tokens.weight"
    turned = replace(weights.matrices[name], data=weights.matrices[name].data)
    config = replace(tiny.config, tied_embeddings=False)
    apart = replace(weights, matrices={**weights.matrices, "lm_head.weight": turned})
    np.testing.assert_array_equal(run(native_runner(config, apart), [1, 2, 3]), run(native_runner(), [1, 2, 3]))
