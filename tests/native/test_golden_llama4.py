"""The native runner on Llama 4 in float32 against golden logits (transformers 5.23, fp32)."""

import json
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from native.models import pack_tensors
from native.plans import SETS

from quipu.engine import native_plan
from quipu.engine.kv_cache import blocks_for
from quipu.engine.native_backend import NativeBackend
from quipu.engine.native_plan import layer_states, output_logits
from quipu.engine.native_runner import NativeRunner
from quipu.engine.runner import BLOCK_SIZE, PoolSize, Span
from quipu.model.checkpoint import open_checkpoint
from quipu.model.config_huggingface import from_huggingface

GOLDEN = Path(__file__).parent.parent / "golden"
LIMIT = 1e-4
STEPS = (1, 2)
BLOCKS = 32
OVERRIDES = [
    (1, "rope_strong"),
    (1, "no_qk_norm"),
    (1, "no_temp_tuning"),
    (1, "chunk_7"),
    (1, "nope_all_rope"),
    (2, "maverick_like_no_qk_norm"),
]


def folder(step):
    return GOLDEN / f"llama4-tiny-step{step}"


@cache
def vectors(step):
    return dict(np.load(folder(step) / "vectors.npz"))


@cache
def checkpoint(step):
    return open_checkpoint(folder(step))


@cache
def weights(step):
    return pack_tensors(checkpoint(step).tensors, "F32")


def config(step, **changes):
    fields = json.loads((folder(step) / "config.json").read_text())
    fields["text_config"] |= changes
    return from_huggingface(fields)


def runner(step, model=None, **options):
    return NativeRunner(model or config(step), weights(step), PoolSize(BLOCKS, BLOCKS), kv_dtype="f32", **options)


def span(tokens, start=0, want="all"):
    """Full and chunked blocks are others, so that one taken for the other is seen."""
    count = blocks_for(start + len(tokens))
    return Span([int(token) for token in tokens], start, range(count), want, range(BLOCKS - 1, BLOCKS - 1 - count, -1))


@pytest.mark.parametrize("isa", SETS)
@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("length", [1, 17, 200])
def test_logits_equal_the_reference(step, length, isa):
    [logits] = runner(step, instructions=isa, threads=2).step([span(vectors(step)[f"ids_{length}"])])
    assert np.abs(logits - vectors(step)[f"logits_{length}"]).max() <= LIMIT


@pytest.mark.parametrize(("step", "name"), OVERRIDES)
def test_other_settings(step, name):
    meta = json.loads((folder(step) / "meta.json").read_text())
    override = dict(meta[f"{name}_override"])
    rope = override.pop("rope", None)
    if rope is not None:
        override["rope_scaling"], override["rope_theta"] = rope, rope["rope_theta"]
    [logits] = runner(step, config(step, **override)).step([span(vectors(step)["ids_200"])])
    assert np.abs(logits[-24:] - vectors(step)[f"{name}_logits_200_last24"]).max() <= LIMIT


@pytest.mark.parametrize("isa", SETS)
@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("length", [17, 60])
def test_greedy_continuations_are_identical(step, length, isa):
    computes, tokens = runner(step, instructions=isa), vectors(step)[f"greedy_prompt_{length}"].tolist()
    expected = vectors(step)[f"greedy_{length}"].tolist()
    start, found = 0, []
    for _ in expected:
        [row] = computes.step([span(tokens, start, "last")])
        start, tokens = start + len(tokens), [int(row[0].argmax())]
        found += tokens
    assert found == expected


@pytest.mark.parametrize("step", STEPS)
def test_states_after_each_layer_and_the_experts_chosen(step):
    """The reference path, one plan for each layer."""
    model, trace, routers = config(step), vectors(step)["trace_17"], iter(vectors(step)["router_logits_17"])
    state = checkpoint(step).tensors["model.embed_tokens.weight"].float32()[vectors(step)["ids_17"]]
    for index in range(model.layers):
        if model.has_experts(index):
            logits, expected = router_logits(model, weights(step), index, state), next(routers)
            assert np.abs(logits - expected).max() <= LIMIT
            assert logits.argmax(-1).tolist() == expected.argmax(-1).tolist()
        state = layer_states(model, weights(step), index, state, 2)
        assert np.abs(state - trace[index]).max() <= LIMIT
    assert next(routers, None) is None
    logits = output_logits(model, weights(step), state, 2)
    assert np.abs(logits - vectors(step)["logits_17"]).max() <= LIMIT


@pytest.mark.parametrize("step", STEPS)
def test_the_whole_way_from_files(step):
    """The backend packs what it reads; its reference reads one layer after another."""
    opened = checkpoint(step)
    backend = NativeBackend(opened.config, opened.tensors, threads=2)
    ids, expected = vectors(step)["ids_17"], vectors(step)["logits_17"]
    assert np.abs(backend.reference(ids.tolist()) - expected).max() <= LIMIT
    [logits] = backend.runner(PoolSize(BLOCKS, BLOCKS)).step([span(ids)])
    assert np.abs(logits - expected).max() <= LIMIT
    assert backend.packing_loss == 0
    full, token = len(opened.config.nope_layers), BLOCK_SIZE * 2 * opened.config.kv_heads * opened.config.head_size * 4
    assert (backend.block_bytes, backend.chunk_block_bytes) == (full * token, (opened.config.layers - full) * token)
    assert backend.chunk == opened.config.chunk == 16


def router_logits(model, packed, index, state):
    """Out of the middle of the layer: a router's logits are the last columns of what the shared expert begins with."""
    plan, buffer = native_plan._plan_over(state, 2)
    decoder = native_plan._Decoder(plan, model, packed, buffer)
    decoder.add(index, plan.cache("f32", model.kv_heads, model.head_size, blocks_for(len(state))))
    native_plan._run_whole(plan, len(state))
    return plan.read(decoder._mixture._shared, len(state))[:, -model.experts.count :]
