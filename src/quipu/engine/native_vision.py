"""The encoder of pictures on the native kernels: a plan of its own, run a layer at a time, so that answers go on.

What it computes is in ``model/vision.py``, with torch.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quipu import native
from quipu.engine.kv_cache import blocks_for
from quipu.engine.native_plan import integers, weight
from quipu.engine.packed import PackedWeights, packed_weights
from quipu.engine.packing import packed_bytes, packed_kind
from quipu.model.config import VisionConfig
from quipu.model.frequencies import vision_angles
from quipu.model.weights import Tensor, float_kind, float_tensor

NORM_EPSILON = 1e-5
_LANES = 16
"""Columns that kernels take at once: heads are filled up to whole ones, or attention takes the rest one by one."""
_PREFIX = "vision_model."


class NativeEncoder:
    """See ``runner.Encoder``. ``width``: of the text model, whose embeddings the vectors stand in for."""

    def __init__(
        self, config: VisionConfig, tensors: Mapping[str, Tensor], kind: str, *, threads: int, instructions: str
    ) -> None:
        """``kind`` is what matrices are packed as: one of the kernel's, or "auto" for as they are stored."""
        self._config = config
        tensors = {name: _padded(config, each) for name, each in tensors.items()}
        kinds = _kinds(tensors, kind)
        packed = packed_weights({name: tensors[name] for name in kinds}, kinds, None, threads=threads)
        self._vectors = {name: each.float32() for name, each in tensors.items() if name not in kinds}
        self._plan = native.Plan(threads, instructions)
        self._ends, self._state = self._add_layers(packed)
        self._adapter = native.Plan(threads, instructions)
        self._vectors_out = self._add_adapter(packed)

    def encode(self, pixels: NDArray[np.float32]) -> Iterator[NDArray[np.float32] | None]:
        """See ``runner.Encoder``."""
        found = []
        for tile in pixels:
            patches = _unfolded(tile, self._config.patch_size)
            for part in self._parts(len(patches)):
                _run(self._plan, patches, part)
                yield None
            state = self._plan.read(self._state, len(patches))[:-1]
            blocks = _shuffled(state, self._config)
            _run(self._adapter, blocks, (0, self._adapter.steps))
            found.append(self._adapter.read(self._vectors_out, len(blocks)))
            yield None
        yield np.concatenate(found)

    def _parts(self, _: int) -> list[tuple[int, int]]:
        return list(zip([0, *self._ends], [*self._ends, self._plan.steps], strict=True))

    def _add_layers(self, packed: PackedWeights) -> tuple[list[int], native.Buffer]:
        """Add patch embedding and layers to the plan; returns where each layer ends, and the last states."""
        plan, config, vectors = self._plan, self._config, self._vectors
        width, size = config.hidden_size, _head_size(config)
        patches = plan.buffer(3 * config.patch_size**2)
        state, normed = plan.buffer(width), plan.buffer(width)
        mixed, attended = plan.buffer(3 * config.heads * size), plan.buffer(config.heads * size)
        up, product = plan.buffer(config.intermediate_size), plan.buffer(config.intermediate_size)
        angles = plan.buffer(size)
        plan.given(patches)
        self._linear(packed, patches, state, "patch_embedding.linear")
        # The class token is no patch: its row, of zeros until here, is given with the positions.
        plan.table(self._places(), state, add=True)
        self._norm(state, state, "layernorm_pre")
        plan.table(_turns(config, size), angles)
        cache = plan.cache("f32", config.heads, size, blocks_for(config.patches_a_side**2 + 1))
        ends = []
        for index in range(config.layers):
            layer = f"model.layers.{index}."
            self._norm(state, normed, f"{layer}input_layernorm")
            self._linear(packed, normed, mixed, *(f"{layer}self_attn.{name}_proj" for name in "qkv"))
            biases = [vectors[f"{_PREFIX}{layer}self_attn.{name}_proj.bias"] for name in "qkv"]
            plan.table(np.concatenate(biases)[None], mixed, add=True)
            scale = (width // config.heads) ** -0.5
            plan.rotate_append(mixed, angles, cache, config.heads, pairs=True, query_scale=scale)
            plan.attention(mixed, cache, config.heads, attended, whole=True)
            self._linear(packed, attended, state, f"{layer}self_attn.o_proj", add=True)
            plan.table(vectors[f"{_PREFIX}{layer}self_attn.o_proj.bias"][None], state, add=True)
            self._norm(state, normed, f"{layer}post_attention_layernorm")
            self._linear(packed, normed, up, f"{layer}mlp.fc1")
            plan.gelu(up, product, vectors[f"{_PREFIX}{layer}mlp.fc1.bias"])
            self._linear(packed, product, state, f"{layer}mlp.fc2", add=True)
            plan.table(vectors[f"{_PREFIX}{layer}mlp.fc2.bias"][None], state, add=True)
            ends.append(plan.steps)
        final = plan.buffer(width)
        self._norm(state, final, "layernorm_post")
        return ends, final

    def _add_adapter(self, packed: PackedWeights) -> native.Buffer:
        plan, config = self._adapter, self._config
        x = plan.buffer(config.hidden_size * config.shuffle**2)
        plan.given(x)
        for name in ("fc1", "fc2"):
            matrix = packed.matrices[f"{_PREFIX}vision_adapter.mlp.{name}.weight"]
            made, active = plan.buffer(matrix.rows), plan.buffer(matrix.rows)
            plan.linear([weight(plan, matrix)], x, made)
            plan.gelu(made, active)
            x = active
        projector = packed.matrices["multi_modal_projector.linear_1.weight"]
        vectors = plan.buffer(projector.rows)
        plan.linear([weight(plan, projector)], x, vectors)
        return vectors

    def _linear(
        self, packed: PackedWeights, source: native.Buffer, out: native.Buffer, *names: str, add: bool = False
    ) -> None:
        plan = self._plan
        plan.linear([weight(plan, packed.matrices[f"{_PREFIX}{name}.weight"]) for name in names], source, out, add=add)

    def _norm(self, source: native.Buffer, out: native.Buffer, name: str) -> None:
        weights, bias = (self._vectors[f"{_PREFIX}{name}.{part}"] for part in ("weight", "bias"))
        self._plan.layer_norm(source, weights, bias, NORM_EPSILON, out)

    def _places(self) -> NDArray[np.float32]:
        """What is added to each patch, and to the class token: its embedding, too."""
        places = self._vectors[f"{_PREFIX}positional_embedding_vlm"].copy()
        places[-1] += self._vectors[f"{_PREFIX}class_embedding"]
        return places


def _run(plan: native.Plan, rows: NDArray[np.float32], part: tuple[int, int]) -> None:
    """Steps of ``plan`` over one sequence of given rows."""
    count = len(rows)
    blocks = blocks_for(count)
    plan.run(
        integers(range(count)), integers([count]), integers([0]), integers(range(blocks)), integers([blocks]),
        integers([]), 0, given_rows=integers(range(count)), given=np.ascontiguousarray(rows), part=part,
    )  # fmt: skip


def _unfolded(tile: NDArray[np.float32], size: int) -> NDArray[np.float32]:
    """[3, side, side] -> [patches + 1, 3 * size * size], row by row; zeros for the class token."""
    side = tile.shape[1] // size
    patches = tile.reshape(3, side, size, side, size).transpose(1, 3, 0, 2, 4).reshape(side * side, -1)
    return np.concatenate([patches, np.zeros((1, patches.shape[1]), np.float32)])


def _shuffled(state: NDArray[np.float32], config: VisionConfig) -> NDArray[np.float32]:
    """[patches, C] -> [patches / 4, 4 C]: each 2 x 2 patches side by side."""
    side, ratio = config.patches_a_side, config.shuffle
    blocks = state.reshape(side // ratio, ratio, side // ratio, ratio, -1).transpose(0, 2, 1, 3, 4)
    return np.ascontiguousarray(blocks).reshape((side // ratio) ** 2, -1)


def _head_size(config: VisionConfig) -> int:
    return -(-config.hidden_size // config.heads // _LANES) * _LANES


def _turns(config: VisionConfig, size: int) -> NDArray[np.float32]:
    """Cosines and sines of each patch's angles, [patches + 1, size]; what fills a head up is not turned."""
    angles = vision_angles(config)
    angles = np.pad(angles, ((0, 0), (0, size // 2 - angles.shape[1])))
    return np.concatenate([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)


def vision_bytes(config: VisionConfig, tensors: Mapping[str, Tensor], kind: str) -> int:
    """What NativeEncoder keeps of ``tensors``, which are not read."""
    padded = {name: replace(each, **_padded_form(config, each)) for name, each in tensors.items()}
    kinds = _kinds(padded, kind)
    sizes = (
        packed_bytes(kinds[name], *each.shape) if name in kinds else 4 * math.prod(each.shape)
        for name, each in padded.items()
    )
    return sum(sizes)


def _kinds(tensors: Mapping[str, Tensor], kind: str) -> dict[str, str]:
    """What each matrix is packed as; see NativeEncoder."""
    matrices = {name: each for name, each in tensors.items() if len(each.shape) == 2 and name.endswith(".weight")}
    return {name: packed_kind(name, each, "auto", None) if kind == "auto" else kind for name, each in matrices.items()}


def _padded_form(config: VisionConfig, tensor: Tensor) -> dict[str, Any]:
    """Shape and kind of ``tensor`` with heads filled up: rows of queries, keys and values, columns of what mixes."""
    width, wide = config.hidden_size, config.heads * _head_size(config)
    part = tensor.name.split("self_attn.")[-1] if "self_attn." in tensor.name else ""
    shape = tensor.shape
    if part.startswith(("q_proj", "k_proj", "v_proj")):
        shape = (wide, *tensor.shape[1:])
    elif part == "o_proj.weight":
        shape = (width, wide)
    return {"shape": shape, "kind": tensor.kind if shape == tensor.shape else float_kind(tensor.kind)}


def _padded(config: VisionConfig, tensor: Tensor) -> Tensor:
    """``tensor`` with heads filled up with zeros."""
    shape = _padded_form(config, tensor)["shape"]
    if shape == tensor.shape:
        return tensor
    heads, own, size = config.heads, config.hidden_size // config.heads, _head_size(config)
    if shape[0] != tensor.shape[0]:
        values = tensor.float32().reshape(heads, own, -1)
        values = np.pad(values, ((0, 0), (0, size - own), (0, 0)))
    else:
        values = np.pad(tensor.float32().reshape(-1, heads, own), ((0, 0), (0, 0), (0, size - own)))
    return float_tensor(tensor.name, values.reshape(shape), tensor.kind)
