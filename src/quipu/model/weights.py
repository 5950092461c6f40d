"""Named arrays: how a weight is stored, what every weight of a Llama is called and which shape it has."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from quipu.errors import DamagedCheckpoint
from quipu.model.config import ModelConfig, VisionConfig

KINDS: dict[str, tuple[int, int]] = {
    "F32": (1, 4),
    "F16": (1, 2),
    "BF16": (1, 2),
    "Q4_0": (32, 18),
    "Q4_1": (32, 20),
    "Q5_0": (32, 22),
    "Q5_1": (32, 24),
    "Q8_0": (32, 34),
    "Q4_K": (256, 144),
    "Q5_K": (256, 176),
    "Q6_K": (256, 210),
}
"""Storage types by GGML name: weights in a block, bytes of a block. Blocks run along the last axis."""

EMBEDDING = "model.embed_tokens.weight"
OUTPUT = "lm_head.weight"

NAMES_SHOWN = 10

_FAMILIES = {"llama": "Llama", "llama4": "Llama 4"}


class Stored(Protocol):
    """Bytes that are read from a file when they are asked for, each time into memory of their own."""

    @property
    def nbytes(self) -> int:
        """How many there are."""

    def read(self) -> NDArray[np.uint8]:
        """uint8 [nbytes]. Raises DamagedCheckpoint where the file does not hold them any more."""

    def part(self, start: int, nbytes: int) -> Stored:
        """``nbytes`` of them from ``start`` on, whole rows of the matrix that they are, read when asked for."""


@dataclass(frozen=True, slots=True, eq=False)
class Tensor:
    """One weight as its file holds it.

    ``shape`` is in numpy order, ``kind`` a key of KINDS, ``data`` the raw bytes, uint8 [nbytes], or where they can be
    read. ``row_order``, if not None, is int64 [rows]: canonical row r is stored row ``row_order[r]`` (Meta's and GGUF's
    q and k are stored in pair order).
    """

    name: str
    shape: tuple[int, ...]
    kind: str
    data: NDArray[np.uint8] | Stored = field(repr=False)
    row_order: NDArray[np.int64] | None = field(default=None, repr=False)

    @property
    def nbytes(self) -> int:
        """Bytes in the file."""
        return self.data.nbytes

    def packed(self) -> NDArray[np.uint8]:
        """The stored bytes, a new uint8 [rows, bytes_per_row], rows in canonical order; lossless. A vector is one row.

        Raises DamagedCheckpoint where the file does not hold them any more.
        """
        data = self.data.copy() if isinstance(self.data, np.ndarray) else self.data.read()
        rows = data.reshape(-1, byte_count(self.shape[-1:], self.kind))
        return rows if self.row_order is None else rows[self.row_order]

    def rows(self, first: int, last: int, name: str | None = None) -> Tensor:
        """Rows ``first`` to ``last`` (not included), all axes but the last taken together, without reading them yet."""
        order = None
        if self.row_order is not None:
            wanted = self.row_order[first:last]
            first, last = int(wanted.min()), int(wanted.max()) + 1
            order = wanted - first
        size = byte_count(self.shape[-1:], self.kind)
        start, nbytes = first * size, (last - first) * size
        data = self.data[start : start + nbytes] if isinstance(self.data, np.ndarray) else self.data.part(start, nbytes)
        count = last - first if order is None else len(order)
        return Tensor(name or self.name, (count, self.shape[-1]), self.kind, data, order)

    def float32(self) -> NDArray[np.float32]:
        """The values, a new float32 array of ``shape``. Quantised blocks are decoded by the gguf library."""
        packed = self.packed()
        if self.kind == "F32":
            values = packed.view("<f4").astype(np.float32, copy=False)
        elif self.kind == "F16":
            values = packed.view("<f2").astype(np.float32)
        elif self.kind == "BF16":
            values = (packed.view("<u2").astype(np.uint32) << 16).view(np.float32)
        else:
            values = _dequantised(packed, self.kind)
        return values.reshape(self.shape)


def _dequantised(packed: NDArray[np.uint8], kind: str) -> NDArray[np.float32]:
    # Imported here because it costs a tenth of a second, and only quantised files need it.
    from gguf import GGMLQuantizationType
    from gguf.quants import dequantize

    with np.errstate(all="ignore"):  # a damaged scale may be infinite; that is the file's value, not our error
        values: NDArray[np.float32] = dequantize(packed, GGMLQuantizationType[kind])
    return values


def as_floats(values: NDArray[np.float32], kind: str) -> NDArray[np.uint8]:
    """float32 values in ``kind`` (F32, F16, BF16), rounded to nearest even, as bytes."""
    if kind == "F16":
        with np.errstate(over="ignore"):  # beyond float16's range is infinity, as for every converter
            return values.astype(np.float16).reshape(-1).view(np.uint8)
    if kind == "BF16":
        bits = values.reshape(-1).view(np.uint32)
        rounded = (bits + 0x7FFF + (bits >> 16 & 1)) >> 16
        return np.where(np.isnan(values.reshape(-1)), 0x7FC0, rounded).astype(np.uint16).view(np.uint8)
    return np.ascontiguousarray(values).reshape(-1).view(np.uint8)


def float_kind(kind: str) -> str:
    """``kind`` if it is one of floats; else float32, in which values of the others are exact."""
    return kind if kind in ("F32", "F16", "BF16") else "F32"


def float_tensor(name: str, values: NDArray[np.float32], kind: str) -> Tensor:
    """``values`` as a tensor of ``float_kind(kind)``."""
    kind = float_kind(kind)
    return Tensor(name, values.shape, kind, as_floats(values, kind))


def byte_count(shape: Iterable[int], kind: str) -> int:
    """Bytes of a tensor of ``shape`` stored as ``kind``; the last axis must be whole blocks."""
    block, size = KINDS[kind]
    return math.prod(shape) // block * size


def half_rotation_order(heads: int, head_size: int) -> NDArray[np.int64]:
    """Rows of q or k from Meta's adjacent pairs (2t, 2t+1) to Hugging Face's halves (t, t + head_size / 2).

    int64 [heads * head_size]; per head 0, 2, 4, ..., 1, 3, 5, ... It permutes rows, so quantised blocks, which run
    along columns, stay whole.
    """
    order: NDArray[np.int64] = np.arange(heads * head_size, dtype=np.int64)
    return order.reshape(heads, head_size // 2, 2).swapaxes(1, 2).reshape(-1)


def in_half_rotation(tensors: Mapping[str, Tensor], config: ModelConfig) -> dict[str, Tensor]:
    """``tensors`` with the q and k matrices, stored in Meta's pair order, given their ``row_order``.

    A Llama 4 rotates pairs, wherever its weights come from: nothing is reordered.
    """
    if config.pair_rotation:
        return dict(tensors)
    stored_in_pairs = {".q_proj.weight": config.heads, ".k_proj.weight": config.kv_heads}
    result = dict(tensors)
    for name, tensor in tensors.items():
        heads = next((count for end, count in stored_in_pairs.items() if name.endswith(end)), None)
        # Rows that do not fit the heads are left alone here; check_names reports them.
        if heads is not None and tensor.shape[0] == heads * config.head_size:
            result[name] = replace(tensor, row_order=half_rotation_order(heads, config.head_size))
    return result


def in_pairs_order(heads: int, head_size: int) -> NDArray[np.int64]:
    """The way back: rows of q or k from halves to adjacent pairs. int64 [heads * head_size]."""
    order: NDArray[np.int64] = np.arange(heads * head_size, dtype=np.int64)
    return order.reshape(heads, 2, head_size // 2).swapaxes(1, 2).reshape(-1)


def feed_forward(config: ModelConfig) -> str:
    """What the feed-forward part of a layer is called: Hugging Face renamed it with Llama 4."""
    return "feed_forward." if config.architecture == "llama4" else "mlp."


def is_router(name: str) -> bool:
    """Whether the weight of this canonical name chooses experts."""
    return name.endswith(".router.weight")


def tensor_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Canonical (Hugging Face) name and shape of every weight; matrices are [out, in]. No ``lm_head`` when tied.

    Each expert's matrices are matrices of their own, wherever files hold those of all experts as one array.
    """
    shapes: dict[str, tuple[int, ...]] = {EMBEDDING: (config.vocabulary, config.hidden_size)}
    for i in range(config.layers):
        shapes.update({f"model.layers.{i}.{name}.weight": shape for name, shape in _layer_shapes(config, i).items()})
    shapes["model.norm.weight"] = (config.hidden_size,)
    if not config.tied_embeddings:
        shapes[OUTPUT] = (config.vocabulary, config.hidden_size)
    return shapes


def _layer_shapes(config: ModelConfig, index: int) -> dict[str, tuple[int, ...]]:
    width = config.hidden_size
    queries, keys = config.heads * config.head_size, config.kv_heads * config.head_size
    shapes: dict[str, tuple[int, ...]] = {
        "input_layernorm": (width,),
        "self_attn.q_proj": (queries, width),
        "self_attn.k_proj": (keys, width),
        "self_attn.v_proj": (keys, width),
        "self_attn.o_proj": (width, queries),
        "post_attention_layernorm": (width,),
    }
    prefix, experts = feed_forward(config), config.experts
    if experts is None or not config.has_experts(index):
        return shapes | _swiglu_shapes(prefix, width, config.intermediate_size)
    shapes[f"{prefix}router"] = (experts.count, width)
    for name in ("shared_expert", *(f"experts.{expert}" for expert in range(experts.count))):
        shapes |= _swiglu_shapes(f"{prefix}{name}.", width, experts.intermediate_size)
    return shapes


def _swiglu_shapes(prefix: str, width: int, inner: int) -> dict[str, tuple[int, ...]]:
    return {
        f"{prefix}gate_proj": (inner, width),
        f"{prefix}up_proj": (inner, width),
        f"{prefix}down_proj": (width, inner),
    }


def vision_shapes(config: VisionConfig, width: int) -> dict[str, tuple[int, ...]]:
    """Hugging Face's name and shape of every tensor of the encoder of pictures, its adapter, and the projector.

    ``width``: of the text model.
    """
    own, inner, side = config.hidden_size, config.intermediate_size, config.patches_a_side
    vector, adapter = (own,), config.adapter_size
    layer = {
        **{f"{norm}.{part}": vector for norm in ("input_layernorm", "post_attention_layernorm")
           for part in ("weight", "bias")},
        **{f"self_attn.{name}_proj.weight": (own, own) for name in "qkvo"},
        **{f"self_attn.{name}_proj.bias": vector for name in "qkvo"},
        "mlp.fc1.weight": (inner, own), "mlp.fc1.bias": (inner,),
        "mlp.fc2.weight": (own, inner), "mlp.fc2.bias": vector,
    }  # fmt: skip
    shapes: dict[str, tuple[int, ...]] = {
        "class_embedding": vector,
        "positional_embedding_vlm": (side**2 + 1, own),
        "patch_embedding.linear.weight": (own, 3 * config.patch_size**2),
        **{f"{norm}.{part}": vector for norm in ("layernorm_pre", "layernorm_post") for part in ("weight", "bias")},
        "vision_adapter.mlp.fc1.weight": (adapter, own * config.shuffle**2),
        "vision_adapter.mlp.fc2.weight": (adapter, adapter),
    }
    for index in range(config.layers):
        shapes |= {f"model.layers.{index}.{name}": shape for name, shape in layer.items()}
    named = {f"vision_model.{name}": shape for name, shape in shapes.items()}
    return named | {"multi_modal_projector.linear_1.weight": (width, adapter)}


def parameter_count(config: ModelConfig) -> int:
    """Number of weights; a tied embedding counts once."""
    return sum(math.prod(shape) for shape in tensor_shapes(config).values())


def vision_parameter_count(config: ModelConfig) -> int:
    """Number of weights of what a model sees with, 0 where it does not."""
    if config.vision is None:
        return 0
    return sum(math.prod(shape) for shape in vision_shapes(config.vision, config.hidden_size).values())


def active_share(config: ModelConfig, name: str) -> float:
    """How much of a weight one token reads: of an expert's its chance, if the router treats all alike, of others 1.

    Of an embedding that is not the output layer, too, it reads one row: 0.
    """
    if name == EMBEDDING:
        return float(config.tied_embeddings)
    if config.experts is not None and ".experts." in name:
        return config.experts.active / config.experts.count
    return 1.0


def active_parameters(config: ModelConfig) -> int:
    """Number of weights that one token meets: its experts and no others, all of the embedding counted."""
    shapes = tensor_shapes(config)
    read = {name: 1.0 if name == EMBEDDING else active_share(config, name) for name in shapes}
    return round(sum(math.prod(shape) * read[name] for name, shape in shapes.items()))


_HARMLESS = re.compile(
    r"(model\.layers\.\d+\.self_attn\.rotary_emb\.inv_freq|model\.rotary_emb\.inv_freq|rope\.freqs|.*\._extra_state"
    r"|.*\.(global_gate_stats_3E|running_gate_stats_3E|expert_activation_DE))"
)


def is_harmless(name: str) -> bool:
    """Whether a tensor of this name is known to add nothing.

    Rotary tables that old exporters saved, empty state, statistics of a router's training.
    """
    return _HARMLESS.fullmatch(name) is not None


def check_names(config: ModelConfig, tensors: Mapping[str, Tensor], *, source: str = "the checkpoint") -> None:
    """Raise one DamagedCheckpoint unless ``tensors`` are exactly the weights of ``config``, each of its shape."""
    _check(tensor_shapes(config), tensors, f"{config.layers}-layer {_FAMILIES[config.architecture]}", source)


def check_vision(config: ModelConfig, tensors: Mapping[str, Tensor], *, source: str) -> ModelConfig:
    """``config`` with what it sees with, if ``tensors`` are exactly that encoder; without, if there are none.

    Raises DamagedCheckpoint as check_names does.
    """
    if not tensors or config.vision is None:
        return replace(config, vision=None)
    _check(vision_shapes(config.vision, config.hidden_size), tensors, "vision encoder", source)
    return config


def _check(expected: Mapping[str, tuple[int, ...]], tensors: Mapping[str, Tensor], what: str, source: str) -> None:
    missing = [name for name in expected if name not in tensors]
    left_over = [name for name in tensors if name not in expected]
    if missing or left_over:
        found = (("missing", missing), ("left over", left_over))
        parts = [f"{len(names)} {word}: {_listed(names)}" for word, names in found if names]
        raise DamagedCheckpoint(
            f"{source} does not hold the tensors of a {what} ({'; '.join(parts)}). The "
            "configuration belongs to other weights, or a file is incomplete: download both again"
        )
    wrong = [
        f"{name} is {list(tensors[name].shape)}, expected {list(shape)}"
        for name, shape in expected.items()
        if tensors[name].shape != shape
    ]
    if wrong:
        raise DamagedCheckpoint(
            f"{source} has {len(wrong)} tensors of a shape that contradicts its configuration: {_listed(wrong)}"
        )


def _listed(names: list[str]) -> str:
    more = len(names) - NAMES_SHOWN
    return ", ".join(names[:NAMES_SHOWN]) + (f" and {more} more" if more > 0 else "")
