"""Meta's ``consolidated.*.pth`` as named arrays. The one file reader that needs torch: a .pth is torch's own format."""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from quipu.errors import DamagedCheckpoint, UnsupportedCheckpoint
from quipu.model.files import map_file
from quipu.model.weights import EMBEDDING, OUTPUT, Tensor, is_harmless

_KIND_OF_DTYPE = {torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16"}

_GLOBAL_NAMES = {
    "tok_embeddings.weight": EMBEDDING,
    "norm.weight": "model.norm.weight",
    "output.weight": OUTPUT,
}
_LAYER_NAMES = {
    "attention_norm": "input_layernorm",
    "attention.wq": "self_attn.q_proj",
    "attention.wk": "self_attn.k_proj",
    "attention.wv": "self_attn.v_proj",
    "attention.wo": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "feed_forward.w1": "mlp.gate_proj",
    "feed_forward.w2": "mlp.down_proj",
    "feed_forward.w3": "mlp.up_proj",
}
_LAYER = re.compile(r"layers\.(\d+)\.(.+)\.weight")

# How model-parallel shards are joined: w2 and wo are cut along their inputs, norms are the same in every shard, and
# everything else is cut along its outputs.
_CUT_ALONG_INPUTS = (".self_attn.o_proj.weight", ".mlp.down_proj.weight")
_REPLICATED = ("layernorm.weight", "norm.weight")


def read_meta_pth(folder: Path) -> dict[str, Tensor]:
    """The weights of ``consolidated.*.pth`` under canonical names, memory-mapped, shards joined.

    Rows of q and k are in the file's order (the caller, who knows the heads, sets ``row_order``). An
    ``output.weight`` that shares its storage with the embedding is left out: the model is tied. Unknown names are
    kept, for check_names to report. Raises DamagedCheckpoint or UnsupportedCheckpoint; never runs what a pickle says.
    """
    paths = sorted(folder.glob("consolidated.*.pth"))
    if not paths:
        raise DamagedCheckpoint(f"{folder} has no consolidated.*.pth; download the weights")
    expected = [f"consolidated.{i:02}.pth" for i in range(len(paths))]
    if [path.name for path in paths] != expected:
        lacking = next(name for name in expected if name not in {path.name for path in paths})
        raise DamagedCheckpoint(f"{folder} has {len(paths)} consolidated.*.pth, but not {lacking}; download it")
    shards = [_load(path) for path in paths]
    for path, shard in zip(paths, shards, strict=True):
        if shard.keys() != shards[0].keys():
            name = sorted(shard.keys() ^ shards[0].keys())[0]
            raise DamagedCheckpoint(f"{path} and {paths[0].name} do not hold the same tensors: {name} is in one only")
    joined = {name: _join(name, [shard[name] for shard in shards], paths[0]) for name in shards[0]}
    embedding, output = joined.get(EMBEDDING), joined.get(OUTPUT)
    if embedding is not None and output is not None and embedding.data_ptr() == output.data_ptr():
        del joined[OUTPUT]
    return {name: _tensor(name, tensor) for name, tensor in joined.items()}


def _load(path: Path) -> dict[str, torch.Tensor]:
    map_file(path)  # refuses what is not a regular file with bytes in it
    if not _is_zip(path):
        raise DamagedCheckpoint(f"{path} is truncated, or not a file of torch.save; download it again")
    try:
        # BytesIO is what Meta's exporter left under "_extra_state"; it is inert, and skipped below.
        with torch.serialization.safe_globals([io.BytesIO]):
            loaded = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # a damaged pickle fails in any way at all
        # torch words it in several ways: "Unsupported global: ...", "unsupported GLOBAL ... whose module is blocked".
        if any(word in str(error).lower() for word in ("unsupported global", "unsupported operand")):
            raise UnsupportedCheckpoint(
                f"{path} asks for more than tensors, and quipu runs no code from a checkpoint; use safetensors or GGUF"
            ) from error
        # What torch says of a damaged pickle ends in the advice to run it.
        reason = "its pickle is damaged" if "weights_only" in str(error) else f"{error!s:.200}"
        raise DamagedCheckpoint(f"{path} cannot be read ({reason}); download it again") from error
    if not isinstance(loaded, dict) or not all(isinstance(name, str) for name in loaded):
        raise DamagedCheckpoint(f"{path} does not hold named tensors; download it again")
    tensors: dict[str, torch.Tensor] = {}
    for stored, value in loaded.items():
        if is_harmless(stored):
            continue
        name = canonical_name(stored)
        if name in tensors:
            raise DamagedCheckpoint(f"{path}: two tensors stand for {name}, one of them {stored}")
        tensors[name] = _checked(stored, value, path)
    return tensors


def _is_zip(path: Path) -> bool:
    try:
        return zipfile.is_zipfile(path)
    except zipfile.BadZipFile:  # a damaged directory, in Python 3.11 and 3.12
        return False


def canonical_name(name: str) -> str:
    """The Hugging Face name of one of Meta's tensors; an unknown name comes back unchanged."""
    match = _LAYER.fullmatch(name)
    if match and match[2] in _LAYER_NAMES:
        return f"model.layers.{match[1]}.{_LAYER_NAMES[match[2]]}.weight"
    return _GLOBAL_NAMES.get(name, name)


def _checked(name: str, value: Any, path: Path) -> torch.Tensor:
    if not isinstance(value, torch.Tensor) or value.layout != torch.strided:
        raise UnsupportedCheckpoint(f"{path}: {name:.80} is a {type(value).__name__}, not a tensor; use safetensors")
    if value.dtype not in _KIND_OF_DTYPE:
        raise UnsupportedCheckpoint(
            f"{path}: {name:.80} is stored as {value.dtype}; supported are float32, float16, bfloat16. "
            "Use the unquantised checkpoint"
        )
    # A hostile stride of zero would make terabytes of a few bytes once copied.
    if not value.is_contiguous() or value.device.type != "cpu" or value.dim() == 0:
        raise DamagedCheckpoint(f"{path}: {name:.80} is not a plain array; download the file again")
    return value


def _join(name: str, parts: Sequence[torch.Tensor], path: Path) -> torch.Tensor:
    if len(parts) == 1 or name.endswith(_REPLICATED):
        return parts[0]
    try:
        return torch.cat(list(parts), dim=-1 if name.endswith(_CUT_ALONG_INPUTS) else 0)
    except (RuntimeError, TypeError) as error:
        raise DamagedCheckpoint(f"{path.parent}: shards of {name:.80} do not fit together ({error})") from None


def _tensor(name: str, value: torch.Tensor) -> Tensor:
    # numpy knows no bfloat16: the bytes are what both sides agree on.
    data = value.detach().reshape(-1).view(torch.uint8).numpy()
    return Tensor(name, tuple(value.shape), _KIND_OF_DTYPE[value.dtype], data)
