"""A model as a plan of the native kernels: a list of steps over named buffers, built once from the config.

Another architecture is another list.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from quipu import native
from quipu.engine.kv_cache import blocks_for
from quipu.engine.packed import PackedMatrix, PackedWeights, packed_weights
from quipu.engine.runner import PoolSize
from quipu.model.config import Experts, ModelConfig
from quipu.model.weights import EMBEDDING, OUTPUT, Tensor, feed_forward


def add_model(
    plan: native.Plan, config: ModelConfig, weights: PackedWeights, pool: PoolSize, kv_dtype: str
) -> tuple[native.Buffer, native.Buffer]:
    """Add the steps of a Llama to ``plan``; returns the buffers of final, normed states and of logits."""
    state = plan.buffer(config.hidden_size)
    embedding = weight(plan, weights.matrices[EMBEDDING])
    plan.embed(embedding, state)
    decoder = _Decoder(plan, config, weights, state)
    for index in range(config.layers):
        chunked = config.layer_chunk(index) is not None
        blocks = pool.chunk_blocks if chunked else pool.blocks
        decoder.add(index, plan.cache(kv_dtype, config.kv_heads, config.head_size, blocks, chunked))
    gathered, final, logits = (
        plan.buffer(cols) for cols in (config.hidden_size, config.hidden_size, config.vocabulary)
    )
    plan.gather(state, gathered)
    plan.rms_norm(gathered, weights.vectors["model.norm.weight"], config.norm_epsilon, final, "gathered")
    head = weight(plan, weights.matrices[OUTPUT]) if OUTPUT in weights.matrices else embedding
    plan.linear([head], final, logits, extent="scored")
    return final, logits


class _Decoder:
    """Adds decoder layers over buffers that all of them share (Touvron et al. 2023; Meta 2025)."""

    def __init__(self, plan: native.Plan, config: ModelConfig, weights: PackedWeights, state: native.Buffer) -> None:
        self._plan, self._config, self._weights, self._state = plan, config, weights, state
        size = config.head_size
        self._angles = plan.buffer(size)
        plan.angles(config.rope.inverse_frequencies().tolist(), self._angles, config.chunk or 0)
        self._normed = plan.buffer(config.hidden_size)
        self._queries_keys_values = plan.buffer((config.heads + 2 * config.kv_heads) * size)
        self._attended = plan.buffer(config.heads * size)

    @cached_property
    def _dense(self) -> _Dense:
        return _Dense(self._plan, self._config.intermediate_size)

    @cached_property
    def _mixture(self) -> _Mixture:
        assert self._config.experts is not None
        return _Mixture(self._plan, self._config.experts, self._config.hidden_size)

    def add(self, index: int, cache: native.Cache) -> None:
        """Append the steps of layer ``index``, whose keys and values are kept in ``cache``."""
        plan, config, mixed = self._plan, self._config, self._queries_keys_values
        prefix = f"model.layers.{index}."
        self._norm(f"{prefix}input_layernorm")
        plan.linear(self._matrices(*(f"{prefix}self_attn.{name}_proj" for name in "qkv")), self._normed, mixed)
        self._place(index, cache)
        plan.attention(mixed, cache, config.heads, self._attended, config.layer_chunk(index) or 0)
        plan.linear(self._matrices(f"{prefix}self_attn.o_proj"), self._attended, self._state, add=True)
        self._norm(f"{prefix}post_attention_layernorm")
        part = self._mixture if config.has_experts(index) else self._dense
        part.add(self._matrices, f"{prefix}{feed_forward(config)}", self._normed, self._state)

    def _place(self, index: int, cache: native.Cache) -> None:
        """Rotation and norm of queries and keys, or a temperature of queries; then keys and values are kept."""
        plan, config, mixed = self._plan, self._config, self._queries_keys_values
        if index not in config.nope_layers:
            epsilon = config.norm_epsilon if config.query_key_norm else None
            plan.rotate_append(mixed, self._angles, cache, config.heads, config.pair_rotation, epsilon)
        elif config.temperature is not None:
            plan.append(mixed, cache, config.heads, config.temperature.floor, config.temperature.scale)
        else:
            plan.append(mixed, cache, config.heads)

    def _norm(self, name: str) -> None:
        weight = self._weights.vectors[f"{name}.weight"]
        self._plan.rms_norm(self._state, weight, self._config.norm_epsilon, self._normed)

    def _matrices(self, *names: str) -> list[native.Weight]:
        return [weight(self._plan, self._weights.matrices[f"{name}.weight"]) for name in names]


_Matrices = Callable[..., "list[native.Weight]"]
"""Weights by their names without ".weight"."""


class _Dense:
    """One SwiGLU for all tokens (Shazeer 2020), ``width`` wide."""

    def __init__(self, plan: native.Plan, width: int) -> None:
        self._plan = plan
        self._gate_up, self._product = plan.buffer(2 * width), plan.buffer(width)

    def add(self, matrices: _Matrices, prefix: str, source: native.Buffer, state: native.Buffer) -> None:
        """Append state += swiglu(source), of the weights whose names begin with ``prefix``."""
        plan = self._plan
        plan.linear(matrices(f"{prefix}gate_proj", f"{prefix}up_proj"), source, self._gate_up)
        plan.swiglu(self._gate_up, self._product)
        plan.linear(matrices(f"{prefix}down_proj"), self._product, state, add=True)


class _Mixture:
    """A shared SwiGLU for all tokens, and one of ``experts`` for each: Llama 4's, which scales an expert's input.

    The router's logits are columns of the shared part's first product, for which all threads are at work anyway.
    """

    def __init__(self, plan: native.Plan, experts: Experts, hidden_size: int) -> None:
        self._plan, self._count = plan, experts.count
        width = experts.intermediate_size
        self._shared, self._shared_product = plan.buffer(2 * width + experts.count), plan.buffer(width)
        self._routing = plan.routing(experts.count)
        self._routed, self._outputs = plan.buffer(hidden_size), plan.buffer(hidden_size)
        self._gate_up, self._product = plan.buffer(2 * width), plan.buffer(width)

    def add(self, matrices: _Matrices, prefix: str, source: native.Buffer, state: native.Buffer) -> None:
        """Append state += shared(source) + expert(score * source)."""
        plan, routing = self._plan, self._routing
        names = ("shared_expert.gate_proj", "shared_expert.up_proj", "router")
        plan.linear(matrices(*(f"{prefix}{name}" for name in names)), source, self._shared)
        plan.swiglu(self._shared, self._shared_product)
        plan.route(self._shared, source, routing, self._routed)
        experts = [f"{prefix}experts.{expert}." for expert in range(self._count)]
        gates_ups = [matrices(f"{expert}gate_proj", f"{expert}up_proj") for expert in experts]
        plan.expert_linear(gates_ups, routing, self._routed, self._gate_up)
        plan.swiglu(self._gate_up, self._product)
        downs = [matrices(f"{expert}down_proj") for expert in experts]
        plan.expert_linear(downs, routing, self._product, self._outputs)
        plan.linear(matrices(f"{prefix}shared_expert.down_proj"), self._shared_product, state, add=True)
        plan.add_routed(routing, self._outputs, state)


def weight(plan: native.Plan, matrix: PackedMatrix) -> native.Weight:
    """``matrix`` as one of the weights of ``plan``."""
    return plan.weight(matrix.kind, matrix.rows, matrix.cols, matrix.data)


def integers(values: Iterable[int]) -> NDArray[np.int32]:
    """As plans take them."""
    return np.array(list(values), dtype=np.int32)


def layer_states(
    config: ModelConfig, weights: PackedWeights, index: int, states: NDArray[np.float32], threads: int
) -> NDArray[np.float32]:
    """float32 [tokens, hidden] before and after decoder layer ``index``, its cache in float32, too."""
    plan, state = _plan_over(states, threads)
    cache = plan.cache("f32", config.kv_heads, config.head_size, blocks_for(len(states)))
    _Decoder(plan, config, weights, state).add(index, cache)
    _run_whole(plan, len(states))
    return plan.read(state, len(states))


def output_logits(
    config: ModelConfig, weights: PackedWeights, states: NDArray[np.float32], threads: int
) -> NDArray[np.float32]:
    """float32 [tokens, vocabulary] from the states after the last layer."""
    plan, state = _plan_over(states, threads)
    final, logits = plan.buffer(config.hidden_size), plan.buffer(config.vocabulary)
    plan.rms_norm(state, weights.vectors["model.norm.weight"], config.norm_epsilon, final)
    plan.linear([weight(plan, weights.matrices.get(OUTPUT) or weights.matrices[EMBEDDING])], final, logits)
    _run_whole(plan, len(states))
    return plan.read(logits, len(states))


def _plan_over(states: NDArray[np.float32], threads: int) -> tuple[native.Plan, native.Buffer]:
    """A plan that begins with ``states`` [tokens, hidden]: an embedding of which token t is row t."""
    plan = native.Plan(threads, native.instruction_sets()[0])
    state = plan.buffer(states.shape[1])
    table = Tensor("states", states.shape, "F32", np.ascontiguousarray(states).view(np.uint8).reshape(-1))
    packed = packed_weights({"states": table}, {"states": "F32"}, None, threads=threads)
    plan.embed(weight(plan, packed.matrices["states"]), state)
    return plan, state


def _run_whole(plan: native.Plan, tokens: int) -> None:
    """One sequence from its beginning, in the first blocks."""
    blocks = blocks_for(tokens)
    counts = (integers([tokens]), integers([0]), integers(range(blocks)), integers([blocks]))
    plan.run(integers(range(tokens)), *counts, integers([]), 0)
