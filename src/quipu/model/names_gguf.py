"""GGUF's names of a Llama's weights, both ways: reading takes fused experts apart, writing puts them together."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

from quipu.errors import DamagedCheckpoint
from quipu.model.config import MOST_HEAD_SIZE, ModelConfig
from quipu.model.gguf import GGUFFile
from quipu.model.views import matrix
from quipu.model.weights import EMBEDDING, OUTPUT, Tensor, feed_forward, in_half_rotation

_GLOBAL_NAMES = {
    "token_embd.weight": EMBEDDING,
    "output_norm.weight": "model.norm.weight",
    "output.weight": OUTPUT,
}
_LAYER_NAMES = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
}
_FEED_FORWARD_NAMES = {"ffn_gate": "gate_proj", "ffn_up": "up_proj", "ffn_down": "down_proj"}
_ROUTED_NAMES = {
    "ffn_gate_inp": "router",
    **{f"{theirs}_shexp": f"shared_expert.{ours}" for theirs, ours in _FEED_FORWARD_NAMES.items()},
}
_EXPERTS = {f"{theirs}_exps": ours for theirs, ours in _FEED_FORWARD_NAMES.items()}
_LAYER = re.compile(r"blk\.(\d+)\.(\w+)\.weight")
_CANONICAL_LAYER = re.compile(r"model\.layers\.(\d+)\.(.+)\.weight")
_EXPERT = re.compile(r"feed_forward\.experts\.(\d+)\.(\w+)")
_VISION = ("v.", "mm.")
ROPE_DIVISORS = "rope_freqs.weight"


def canonical_name(name: str, prefix: str = "mlp.") -> str:
    """The Hugging Face name of a GGUF tensor that is one weight; an unknown name comes back unchanged.

    ``prefix``: what ``weights.feed_forward`` says of the family.
    """
    match = _LAYER.fullmatch(name)
    if match is None:
        return _GLOBAL_NAMES.get(name, name)
    names = _LAYER_NAMES | {theirs: prefix + ours for theirs, ours in _FEED_FORWARD_NAMES.items()}
    if prefix != "mlp.":
        names |= {theirs: prefix + ours for theirs, ours in _ROUTED_NAMES.items()}
    return f"model.layers.{match[1]}.{names[match[2]]}.weight" if match[2] in names else name


def canonical_tensors(file: GGUFFile, config: ModelConfig) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The weights under canonical names, without the rope table, and those of a vision tower under their own.

    Rows of a Llama 3's q and k get their order. Raises DamagedCheckpoint where two tensors claim one canonical name, or
    fused experts are not those of ``config``.
    """
    text: dict[str, Tensor] = {}
    vision: dict[str, Tensor] = {}
    for stored, tensor in file.tensors.items():
        if stored.startswith(_VISION):
            vision[stored] = tensor
            continue
        for each in _weights(stored, tensor, config, str(file.paths[0])) if stored != ROPE_DIVISORS else ():
            if each.name in text:
                raise DamagedCheckpoint(f"{file.paths[0]}: two tensors stand for {each.name}, one of them {stored}")
            text[each.name] = each
    return in_half_rotation(text, config), vision


def _weights(stored: str, tensor: Tensor, config: ModelConfig, source: str) -> Iterator[Tensor]:
    match = _LAYER.fullmatch(stored)
    if match is None or match[2] not in _EXPERTS or config.experts is None:
        yield replace(tensor, name=canonical_name(stored, feed_forward(config)))
        return
    part, count, inner = _EXPERTS[match[2]], config.experts.count, config.experts.intermediate_size
    rows, columns = (config.hidden_size, inner) if part == "down_proj" else (inner, config.hidden_size)
    if tensor.shape != (count, rows, columns):
        raise DamagedCheckpoint(
            f"{source}: {stored} is {list(tensor.shape)}, expected {[count, rows, columns]}; the metadata belongs to "
            "other weights: download the file again"
        )
    for expert in range(count):
        name = f"model.layers.{match[1]}.feed_forward.experts.{expert}.{part}.weight"
        yield matrix(tensor).rows(expert * rows, (expert + 1) * rows, name)


def stored_name(name: str) -> tuple[str, int | None]:
    """The GGUF tensor that a canonical weight is in, and as which of its experts; None where it is all of it."""
    layer = _CANONICAL_LAYER.fullmatch(name)
    if layer is None:
        return {ours: theirs for theirs, ours in _GLOBAL_NAMES.items()}[name], None
    expert = _EXPERT.fullmatch(layer[2])
    if expert is not None:
        fused = {ours: theirs for theirs, ours in _EXPERTS.items()}
        return f"blk.{layer[1]}.{fused[expert[2]]}.weight", int(expert[1])
    part = layer[2].removeprefix("mlp.").removeprefix("feed_forward.")
    names = {ours: theirs for theirs, ours in (_LAYER_NAMES | _FEED_FORWARD_NAMES | _ROUTED_NAMES).items()}
    return f"blk.{layer[1]}.{names[part]}.weight", None


def rope_divisors(file: GGUFFile) -> tuple[float, ...] | None:
    """The values of ``rope_freqs.weight`` (plain over scaled inverse frequencies), or None."""
    table = file.tensors.get(ROPE_DIVISORS)
    if table is None:
        return None
    if len(table.shape) != 1 or table.shape[0] > MOST_HEAD_SIZE:
        raise DamagedCheckpoint(f"{file.paths[0]}: {ROPE_DIVISORS} is {list(table.shape)}, not one value per pair")
    return tuple(float(value) for value in table.float32())
