"""Llama 4 through the cache: however a prompt is cut, whatever is beside it, and what is used again of it, an answer is
that of one full forward; on both runners."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import quipu
from quipu.engine.backends import Arithmetic
from quipu.engine.footprint import Footprint
from quipu.engine.kv_cache import blocks_for
from quipu.engine.load import load
from quipu.engine.runner import BLOCK_SIZE, PoolSize, Runner, Span
from quipu.engine.torch_runner import TorchRunner
from quipu.model.checkpoint import Checkpoint, memory_plan, open_checkpoint
from quipu.model.llama import Llama, reference_logits
from quipu.model.outline import open_or_outline

GOLDEN = Path(__file__).parents[1] / "golden"
STEPS = ("llama4-tiny-step1", "llama4-tiny-step2")
LIMIT = 1e-4


def chunks_of(step: str, positions: int) -> Checkpoint:
    checkpoint = open_checkpoint(GOLDEN / step)
    return replace(checkpoint, config=replace(checkpoint.config, chunk=positions))


@pytest.fixture(params=[(step, chunk) for step in STEPS for chunk in (4, 8, 16)], ids=str, scope="module")
def checkpoint(request: pytest.FixtureRequest) -> Checkpoint:
    return chunks_of(*request.param)


@pytest.fixture(params=["torch", "native"], scope="module")
def runner(request: pytest.FixtureRequest, checkpoint: Checkpoint) -> Runner:
    if request.param == "torch":
        network = Llama(checkpoint.config, checkpoint.tensors, torch.float32, torch.device("cpu"))
        return TorchRunner(network, PoolSize(32, 32))
    pytest.importorskip("quipu.native")
    backend = Arithmetic(runner="native", kv_dtype="f32", threads=1).backend(checkpoint, checkpoint.tensors, None)
    return backend.runner(PoolSize(32, 32))


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lengths=st.lists(st.integers(1, 70), min_size=1, max_size=3), seed=st.integers(0, 2**32))
def test_any_split_beside_any_others_equals_one_forward(checkpoint, runner, lengths, seed):
    random = np.random.default_rng(seed)
    numbers = [random.permutation(32).tolist() for _ in range(2)]  # of full and of chunked layers
    tables = [[[pool.pop() for _ in range(blocks_for(length))] for length in lengths] for pool in numbers]
    tokens = [random.integers(0, checkpoint.config.vocabulary, length) for length in lengths]
    done = [0] * len(lengths)
    results: list[list[np.ndarray]] = [[] for _ in lengths]
    while any(start < length for start, length in zip(done, lengths, strict=True)):
        counts = [min(int(random.choice([0, 1, 1, 3, 7, 16, 33])), a - b) for a, b in zip(lengths, done, strict=True)]
        chosen = [place for place, count in enumerate(counts) if count]
        spans = [
            Span(
                tokens[place][done[place] : done[place] + counts[place]].tolist(),
                done[place],
                tables[0][place],
                "all",
                # What lies before the chunk is not held any more: any number may stand there.
                [0] * (first := done[place] // checkpoint.config.chunk * checkpoint.config.chunk // BLOCK_SIZE)
                + tables[1][place][first:],
            )
            for place in chosen
        ]
        for place, rows in zip(chosen, runner.step(spans) if spans else [], strict=True):
            results[place].append(rows)
            done[place] += counts[place]
    for ids, rows in zip(tokens, results, strict=True):
        whole = reference_logits(checkpoint.config, checkpoint.tensors, ids.tolist()).numpy()
        assert np.abs(np.concatenate(rows) - whole).max() <= LIMIT


@pytest.fixture(params=["torch", "native"], scope="module")
def model(request: pytest.FixtureRequest) -> Iterator[quipu.LocalModel]:
    options: dict[str, Any] = {
        "runner": request.param,
        "context": 512,
        "concurrency": 3,
        "speculate": "on",
        "threads": 1,
    }
    if request.param == "native":
        options["kv_dtype"] = "f32"
    with load(GOLDEN / STEPS[0], **options) as loaded:
        yield loaded


def continued(checkpoint: Checkpoint, prompt: Sequence[int], count: int) -> list[int]:
    tokens = list(prompt)
    for _ in range(count):
        tokens.append(int(reference_logits(checkpoint.config, checkpoint.tensors, tokens)[-1].argmax()))
    return tokens[len(prompt) :]


def test_the_engine_continues_as_one_forward_does_and_uses_prefixes_again(model):
    """Greedy, with guesses on; chunks of 16, so that answers and what is used again cross several."""
    vectors = np.load(GOLDEN / STEPS[0] / "vectors.npz")
    for name in ("17", "60"):
        prompt, expected = vectors[f"greedy_prompt_{name}"].tolist(), vectors[f"greedy_{name}"].tolist()
        first = model.generate(prompt, temperature=0, max_tokens=32, ignore_eos=True)
        again = model.generate(prompt, temperature=0, max_tokens=32, ignore_eos=True)
        assert list(first.choices[0].token_ids) == list(again.choices[0].token_ids) == expected
        assert again.usage.cached_tokens == (len(prompt) - 1) // 16 * 16
        longer = [*prompt, *expected[:20]]
        once_more = model.generate(longer, temperature=0, max_tokens=12, ignore_eos=True)
        assert once_more.usage.cached_tokens == (len(longer) - 1) // 16 * 16
        assert list(once_more.choices[0].token_ids) == expected[20:]


def test_answers_in_company_are_those_alone(model):
    """More than fit at once: some are preempted, and all are as if they were alone."""
    checkpoint = open_checkpoint(GOLDEN / STEPS[0])
    random = np.random.default_rng(3)
    shared = random.integers(0, 500, 40).tolist()
    prompts = [[*shared[:cut], *random.integers(0, 500, 9).tolist()] for cut in (0, 16, 33, 40)]
    streams = [model.stream(prompt, temperature=0, max_tokens=14, ignore_eos=True) for prompt in prompts]
    answers = [[token for chunk in stream for token in chunk.token_ids] for stream in streams]
    for prompt, answer in zip(prompts, answers, strict=True):
        assert answer == continued(checkpoint, prompt, 14)


def test_bytes_of_the_published_sizes():
    """48 KiB for each further token of Scout, not 192, and no more than a chunk of the rest."""
    scout = open_or_outline("llama-4-scout").config
    plan = memory_plan(scout, "bfloat16", 1_000_000, 1, block_size=BLOCK_SIZE)
    assert (plan.kv_bytes_per_token, plan.chunk_bytes_per_token) == (48 * 1024, 144 * 1024)
    assert plan.kv_bytes == 1_000_000 * 48 * 1024 + 8192 * 144 * 1024
    short = memory_plan(scout, "bfloat16", 4096, 2, block_size=BLOCK_SIZE)
    assert short.kv_bytes == 2 * 4096 * 192 * 1024
    outline = open_or_outline("llama-4-scout")
    footprint = Footprint.of(outline.config, outline.tensors, quantize="q4")
    assert (footprint.kv_bytes_per_token, footprint.chunk_bytes_per_token) == (48 * 1024, 144 * 1024)


def test_a_short_context_needs_no_whole_chunk():
    """Less than a chunk of 8,192: the same memory as if all layers saw everything."""
    tiny = chunks_of(STEPS[0], 8192)
    backend = Arithmetic(runner="torch").backend(tiny, tiny.tensors, None)
    from quipu.engine.load import _plan

    assert _plan(tiny, backend, 64, 2, None) == (64, PoolSize(8, 8))
