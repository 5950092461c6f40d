"""Llama 4 on the native runner: the same bits in any chunks and any company, with blocks given back behind a chunk."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from native.models import CONFIG4, llama4_tensors, pack_values
from native.plans import SETS

from quipu.engine.kv_cache import blocks_for
from quipu.engine.native_runner import NativeRunner
from quipu.engine.runner import BLOCK_SIZE, PoolSize, Span

KINDS = ["F32", "BF16", "Q4_0", "Q8_0"]
POOL = PoolSize(128, 24)
TENSORS = llama4_tensors(CONFIG4)


@cache
def weights(kind):
    return pack_values(TENSORS, kind)


def make(kind="Q8_0", chunk=16, **options):
    return NativeRunner(replace(CONFIG4, chunk=chunk), weights(kind), POOL, **options)


def tokens_of(length, random):
    return random.integers(0, CONFIG4.vocabulary, length).tolist()


class Sequence:
    """One text, its blocks taken when they are needed; those of chunks that are over go back, and to another one."""

    def __init__(self, tokens, chunk, full, chunked):
        self.tokens, self.chunk, self.done, self.rows = tokens, chunk, 0, []
        self.blocks, self.chunk_blocks, self.gone = [], [], 0
        self._full, self._chunked = full, chunked

    def next(self, count):
        end = min(self.done + count, len(self.tokens))
        if end == self.done:
            return None
        first = self.done // self.chunk * self.chunk // BLOCK_SIZE
        for place in range(self.gone, min(first, len(self.chunk_blocks))):
            self._chunked.append(self.chunk_blocks[place])
            self.chunk_blocks[place] = 0
        self.gone = first
        while len(self.blocks) < blocks_for(end):
            self.blocks.append(self._full.pop())
            self.chunk_blocks.append(self._chunked.pop(0))
        span = Span(self.tokens[self.done : end], self.done, list(self.blocks), "all", list(self.chunk_blocks))
        self.done = end
        return span


def among_others(runner, texts, pieces, random, chunk=16):
    """Every text's logits, prefilled and decoded in pieces."""
    full, chunked = random.permutation(POOL.blocks).tolist(), random.permutation(POOL.chunk_blocks).tolist()
    sequences = [Sequence(text, chunk, full, chunked) for text in texts]
    while any(each.done < len(each.tokens) for each in sequences):
        spans = [(each, each.next(int(random.choice(pieces)))) for each in sequences]
        spans = [(each, span) for each, span in spans if span is not None]
        for (each, _), rows in zip(spans, runner.step([span for _, span in spans]) if spans else [], strict=True):
            each.rows.append(rows)
    return [np.concatenate(each.rows) for each in sequences]


def whole(runner, text):
    return among_others(runner, [text], [len(text)], np.random.default_rng(0))[0]


@pytest.mark.parametrize("isa", SETS)
@settings(max_examples=25)
@given(
    kind=st.sampled_from(KINDS),
    kv_dtype=st.sampled_from(["f16", "int8", "f32"]),
    chunk=st.sampled_from([4, 7, 8, 16, 40]),
    length=st.sampled_from([1, 2, 16, 17, 40, 120]),
    others=st.sampled_from([0, 1, 4]),
    pieces=st.sampled_from([[120], [1, 40], [0, 1, 2, 17], [5, 16, 33], [1]]),
    threads=st.sampled_from([1, 1, 2, 4]),
    seed=st.integers(0, 2**32),
)
def test_the_same_bits_in_any_pieces_alone_or_among_others(
    isa, kind, kv_dtype, chunk, length, others, pieces, threads, seed
):
    random = np.random.default_rng(seed)
    texts = [tokens_of(count, random) for count in (length, *random.integers(1, 40, others))]
    options = {"chunk": chunk, "kv_dtype": kv_dtype, "instructions": isa}
    results = among_others(make(kind, threads=threads, **options), texts, pieces, random, chunk)
    alone = make(kind, threads=1, **options)
    for text, result in zip(texts, results, strict=True):
        np.testing.assert_array_equal(result.view(np.uint32), whole(alone, text).view(np.uint32))


@pytest.mark.parametrize("chunk", [4, 8, 16])
@pytest.mark.parametrize("isa", SETS)
def test_decoding_equals_one_full_forward_of_numpy(chunk, isa):
    """An oracle that shares nothing with the kernels: no cache, no batch, every expert by itself."""
    text = tokens_of(45, np.random.default_rng(chunk))
    expected = forward(chunk, tuple(text))
    options = {"chunk": chunk, "kv_dtype": "f32", "instructions": isa, "threads": 1}
    for pieces in ([45], [1], [20, 1]):
        [logits] = among_others(make("F32", **options), [text], pieces, np.random.default_rng(1), chunk)
        np.testing.assert_allclose(logits, expected, rtol=0, atol=2e-5)


@cache
def forward(chunk, text):
    """float64 [tokens, vocabulary]."""
    config, places, count = replace(CONFIG4, chunk=chunk), np.arange(len(text)), len(text)
    get = {name.removesuffix(".weight"): value.astype(np.float64) for name, value in TENSORS.items()}
    x = get["model.embed_tokens"][list(text)]
    for index in range(config.layers):
        layer = {name.removeprefix(f"model.layers.{index}."): each for name, each in get.items()}
        normed = rms(x, config) * layer["input_layernorm"]
        query, key, value = (
            (normed @ layer[f"self_attn.{name}_proj"].T).reshape(count, -1, config.head_size) for name in "qkv"
        )
        sees = places[:, None] >= places
        if index in config.nope_layers:
            steps = (places + 1) // int(config.temperature.floor)
            query = query * (1 + config.temperature.scale * np.log(1 + steps))[:, None, None]
        else:
            query, key = (rms(turned(each, places, config), config) for each in (query, key))
            sees &= places[:, None] // config.chunk == places // config.chunk
        key, value = (np.repeat(each, config.heads // config.kv_heads, axis=1) for each in (key, value))
        scores = np.einsum("ihd,jhd->hij", query, key) / np.sqrt(config.head_size)
        scores = np.exp(np.where(sees, scores, -np.inf))
        seen = np.einsum("hij,jhd->ihd", scores / scores.sum(-1, keepdims=True), value)
        x = x + seen.reshape(count, -1) @ layer["self_attn.o_proj"].T
        normed = rms(x, config) * layer["post_attention_layernorm"]
        if not config.has_experts(index):
            x = x + swiglu(normed, layer, "feed_forward.")
            continue
        logits = normed @ layer["feed_forward.router"].T
        routed = [
            swiglu(row / (1 + np.exp(-each.max())), layer, f"feed_forward.experts.{each.argmax()}.")
            for row, each in zip(normed, logits, strict=True)
        ]
        x = x + swiglu(normed, layer, "feed_forward.shared_expert.") + routed
    return rms(x, config) * get["model.norm"] @ get["lm_head"].T


def rms(x, config):
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + config.norm_epsilon)


def turned(heads, places, config):
    angles = places[:, None, None] * config.rope.inverse_frequencies().astype(np.float64)
    pairs = (heads[..., ::2] + 1j * heads[..., 1::2]) * np.exp(1j * angles)
    return np.stack((pairs.real, pairs.imag), axis=-1).reshape(heads.shape)


def swiglu(x, layer, prefix):
    gate, up, down = (layer[f"{prefix}{name}_proj"] for name in ("gate", "up", "down"))
    gated = x @ gate.T
    return (gated / (1 + np.exp(-gated)) * (x @ up.T)) @ down.T


@pytest.mark.skipif(not {"avx512", "avx2"} <= set(SETS), reason="this processor has not both")
@pytest.mark.parametrize("kind", ["F32", "Q4_0"])
def test_instruction_sets_agree(kind):
    text = tokens_of(60, np.random.default_rng(0))
    best, second, portable = (whole(make(kind, kv_dtype="f32", instructions=isa), text) for isa in SETS)
    np.testing.assert_array_equal(best.view(np.uint32), second.view(np.uint32))
    if kind == "F32":
        np.testing.assert_allclose(portable, best, rtol=0, atol=1e-5)


def test_far_into_a_text_rotation_is_as_exact_as_at_its_start():
    """A chunk at position ten million against the same one at 0, in a model without layers that see further."""
    config = replace(CONFIG4, nope_layers=frozenset(), chunk=16)
    text, far = tokens_of(16, np.random.default_rng(0)), 10_000_000 // 16 * 16
    runner = NativeRunner(config, weights("F32"), PoolSize(1, 2), kv_dtype="f32")
    [near] = runner.step([Span(text, 0, [0], "all", [0])])
    table = np.zeros(blocks_for(far + 16), np.int32)
    table[-1] = 1
    [there] = runner.step([Span(text, far, np.zeros_like(table), "all", table)])
    np.testing.assert_array_equal(near, there)
