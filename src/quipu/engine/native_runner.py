"""The Runner that computes with quipu's own kernels on the CPU, without torch.

A model is a plan: a list of steps over named buffers that is built once from the config and then run by one native
call for each step of the engine, the GIL released. Another architecture is another list.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from quipu import native
from quipu.engine.kv_cache import blocks_for
from quipu.engine.packed import PackedMatrix, PackedWeights, packed_weights
from quipu.engine.runner import BLOCK_SIZE, Span
from quipu.model.config import ModelConfig
from quipu.model.weights import EMBEDDING, OUTPUT, Tensor


class NativeRunner:
    """Holds the plan and its KV cache of ``blocks`` blocks; see ``runner.Runner``.

    A row's logits are the same bits whatever else is in the step and however its prompt was cut. ``kv_dtype`` is f16,
    int8 or f32; ``instructions`` one of ``native.instruction_sets()`` (default: the best of this processor).
    """

    exact = True

    def __init__(
        self,
        config: ModelConfig,
        weights: PackedWeights,
        blocks: int,
        *,
        kv_dtype: str = "f16",
        threads: int | None = None,
        instructions: str | None = None,
    ) -> None:
        if native.BLOCK_SIZE != BLOCK_SIZE:
            raise RuntimeError("the kernels were built for another size of cache blocks; build them again")
        self.blocks = blocks
        self.vocabulary = config.vocabulary
        self.instructions = instructions or native.instruction_sets()[0]
        plan = native.Plan(threads or len(os.sched_getaffinity(0)), self.instructions)
        self._hidden, self._logits = _build(plan, config, weights, blocks, kv_dtype)
        self._plan: native.Plan | None = plan

    def step(self, spans: Sequence[Span]) -> list[NDArray[np.float32]]:
        """One native call over all tokens of ``spans``; the output layer only for the rows that are wanted."""
        if self._plan is None:
            raise RuntimeError("the runner is closed")
        scored, hidden = _wanted_rows(spans)
        needed = [-(-(span.start + len(span.tokens)) // BLOCK_SIZE) for span in spans]
        self._plan.run(
            _integers(token for span in spans for token in span.tokens),
            _integers(len(span.tokens) for span in spans),
            _integers(span.start for span in spans),
            np.concatenate(
                [np.array(span.blocks[:count], np.int32) for span, count in zip(spans, needed, strict=True)]
            ),
            _integers(needed),
            _integers([row for rows in (*scored, *hidden) for row in rows]),
            sum(map(len, scored)),
        )
        counts = [len(rows) for rows in scored]
        logits = self._plan.read(self._logits, sum(counts))
        states = (
            self._plan.read(self._hidden, sum(counts) + sum(map(len, hidden)))[sum(counts) :] if any(hidden) else None
        )
        results = []
        row = state = 0
        for span, count in zip(spans, counts, strict=True):
            if span.want == "hidden" and states is not None:
                results.append(states[state : state + len(span.tokens)])
                state += len(span.tokens)
            else:
                results.append(logits[row : row + count])
                row += count
        return results

    def close(self) -> None:
        """Drop the plan and the cache."""
        self._plan = None


def _integers(values: Iterable[int]) -> NDArray[np.int32]:
    return np.array(list(values), dtype=np.int32)


def _wanted_rows(spans: Sequence[Span]) -> tuple[list[Sequence[int]], list[Sequence[int]]]:
    """For each span the rows of the step whose logits are wanted, and those whose hidden states are."""
    scored: list[Sequence[int]] = []
    hidden: list[Sequence[int]] = []
    start = 0
    for span in spans:
        end = start + len(span.tokens)
        every = range(start, end)
        scored.append({"all": every, "last": every[-1:], "none": (), "hidden": ()}[span.want])
        hidden.append(every if span.want == "hidden" else ())
        start = end
    return scored, hidden


def _build(
    plan: native.Plan, config: ModelConfig, weights: PackedWeights, blocks: int, kv_dtype: str
) -> tuple[native.Buffer, native.Buffer]:
    """Add the steps of a dense Llama to ``plan``; returns the buffers of final, normed states and of logits."""
    state = plan.buffer(config.hidden_size)
    embedding = _weight(plan, weights.matrices[EMBEDDING])
    plan.embed(embedding, state)
    angles = plan.buffer(config.head_size)
    plan.angles(config.rope.inverse_frequencies().tolist(), angles)
    layer = _Layer(plan, config, state, angles)
    for index in range(config.layers):
        cache = plan.cache(kv_dtype, config.kv_heads, config.head_size, blocks)
        layer.add(weights, f"model.layers.{index}.", cache)
    gathered, final, logits = (
        plan.buffer(cols) for cols in (config.hidden_size, config.hidden_size, config.vocabulary)
    )
    plan.gather(state, gathered)
    plan.rms_norm(gathered, weights.vectors["model.norm.weight"], config.norm_epsilon, final, "gathered")
    head = _weight(plan, weights.matrices[OUTPUT]) if OUTPUT in weights.matrices else embedding
    plan.linear([head], final, logits, extent="scored")
    return final, logits


class _Layer:
    """The steps of one decoder layer over buffers that all layers share (Touvron et al. 2023)."""

    def __init__(self, plan: native.Plan, config: ModelConfig, state: native.Buffer, angles: native.Buffer) -> None:
        self.plan, self.config, self.state, self.angles = plan, config, state, angles
        heads, kv_heads, size = config.heads, config.kv_heads, config.head_size
        self.normed = plan.buffer(config.hidden_size)
        self.queries_keys_values = plan.buffer((heads + 2 * kv_heads) * size)
        self.attended = plan.buffer(heads * size)
        self.gate_up = plan.buffer(2 * config.intermediate_size)
        self.product = plan.buffer(config.intermediate_size)

    def add(self, weights: PackedWeights, prefix: str, cache: native.Cache) -> None:
        """Append the steps of the layer whose weights begin with ``prefix``."""
        plan, config = self.plan, self.config

        def matrices(*names: str) -> list[native.Weight]:
            return [_weight(plan, weights.matrices[f"{prefix}{name}.weight"]) for name in names]

        def norm(name: str) -> NDArray[np.float32]:
            return weights.vectors[f"{prefix}{name}.weight"]

        plan.rms_norm(self.state, norm("input_layernorm"), config.norm_epsilon, self.normed)
        inputs = matrices("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")
        plan.linear(inputs, self.normed, self.queries_keys_values)
        plan.rotate_append(self.queries_keys_values, self.angles, cache, config.heads)
        plan.attention(self.queries_keys_values, cache, config.heads, self.attended)
        plan.linear(matrices("self_attn.o_proj"), self.attended, self.state, add=True)
        plan.rms_norm(self.state, norm("post_attention_layernorm"), config.norm_epsilon, self.normed)
        plan.linear(matrices("mlp.gate_proj", "mlp.up_proj"), self.normed, self.gate_up)
        plan.swiglu(self.gate_up, self.product)
        plan.linear(matrices("mlp.down_proj"), self.product, self.state, add=True)


def _weight(plan: native.Plan, matrix: PackedMatrix) -> native.Weight:
    return plan.weight(matrix.kind, matrix.rows, matrix.cols, matrix.data)


def layer_states(
    config: ModelConfig, weights: PackedWeights, prefix: str, states: NDArray[np.float32], threads: int
) -> NDArray[np.float32]:
    """float32 [tokens, hidden] before and after the decoder layer called ``prefix``, its cache in float32, too."""
    plan, state = _plan_over(states, threads)
    angles = plan.buffer(config.head_size)
    plan.angles(config.rope.inverse_frequencies().tolist(), angles)
    cache = plan.cache("f32", config.kv_heads, config.head_size, blocks_for(len(states)))
    _Layer(plan, config, state, angles).add(weights, prefix, cache)
    _run_whole(plan, len(states))
    return plan.read(state, len(states))


def output_logits(
    config: ModelConfig, weights: PackedWeights, states: NDArray[np.float32], threads: int
) -> NDArray[np.float32]:
    """float32 [tokens, vocabulary] from the states after the last layer."""
    plan, state = _plan_over(states, threads)
    final, logits = plan.buffer(config.hidden_size), plan.buffer(config.vocabulary)
    plan.rms_norm(state, weights.vectors["model.norm.weight"], config.norm_epsilon, final)
    plan.linear([_weight(plan, weights.matrices.get(OUTPUT) or weights.matrices[EMBEDDING])], final, logits)
    _run_whole(plan, len(states))
    return plan.read(logits, len(states))


def _plan_over(states: NDArray[np.float32], threads: int) -> tuple[native.Plan, native.Buffer]:
    """A plan that begins with ``states`` [tokens, hidden]: an embedding of which token t is row t."""
    plan = native.Plan(threads, native.instruction_sets()[0])
    state = plan.buffer(states.shape[1])
    table = Tensor("states", states.shape, "F32", np.ascontiguousarray(states).view(np.uint8).reshape(-1))
    packed = packed_weights({"states": table}, {"states": "F32"}, None, threads=threads)
    plan.embed(_weight(plan, packed.matrices["states"]), state)
    return plan, state


def _run_whole(plan: native.Plan, tokens: int) -> None:
    """One sequence from its beginning, in the first blocks."""
    blocks = blocks_for(tokens)
    counts = (_integers([tokens]), _integers([0]), _integers(range(blocks)), _integers([blocks]))
    plan.run(_integers(range(tokens)), *counts, _integers([]), 0)
