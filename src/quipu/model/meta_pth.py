"""Meta's ``consolidated.*.pth`` as named arrays. The one file reader that needs torch: a .pth is torch's own format."""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from quipu.errors import DamagedCheckpoint, UnsupportedCheckpoint
from quipu.model.files import OpenedFile, Stretch, check_same, file_states
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
    """The weights of ``consolidated.*.pth`` under canonical names, shards joined when they are read.

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
    joined = {name: _join(name, [shard[name] for shard in shards], folder) for name in shards[0]}
    if {EMBEDDING, OUTPUT} <= joined.keys() and _start(shards[0][EMBEDDING]) == _start(shards[0][OUTPUT]):
        del joined[OUTPUT]
    return joined


def _load(path: Path) -> dict[str, Tensor]:
    file = OpenedFile(path)
    if not _is_zip(path):
        raise DamagedCheckpoint(f"{path} is truncated, or not a file of torch.save; download it again")
    if _is_big_endian(path):  # torch would turn around what it has mapped; here, the file itself is read
        raise UnsupportedCheckpoint(f"{path} is big-endian; save it again on a usual machine")
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
    regions = _regions(file)
    tensors: dict[str, Tensor] = {}
    for stored, value in loaded.items():
        if is_harmless(stored):
            continue
        name = canonical_name(stored)
        if name in tensors:
            raise DamagedCheckpoint(f"{path}: two tensors stand for {name}, one of them {stored}")
        value = _checked(stored, value, path)
        tensors[name] = Tensor(name, tuple(value.shape), _KIND_OF_DTYPE[value.dtype], _stretch(value, file, regions))
    return tensors


def _is_zip(path: Path) -> bool:
    try:
        return zipfile.is_zipfile(path)
    except zipfile.BadZipFile:  # a damaged directory, in Python 3.11 and 3.12
        return False


def _is_big_endian(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as file:
            orders = [file.open(name).read(8) for name in file.namelist() if name.endswith("/byteorder")]
    except Exception:  # torch says better what is wrong with the file
        return False
    return b"big" in orders


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


_Region: TypeAlias = tuple[int, int, int]
"""A mapped part of a file: first address, address after the last, and where in the file it begins."""


def _regions(file: OpenedFile) -> list[_Region]:
    """What of files is mapped, torch's map of ``file`` among it. Raises DamagedCheckpoint if that is another now."""
    check_same(file.path, file, file_states([file.path])[file.path])
    found = []
    with Path("/proc/self/maps").open() as maps:
        for line in maps:
            addresses, _, offset, _, _, *path = line.split()
            if path:
                first, last = addresses.split("-")
                found.append((int(first, 16), int(last, 16), int(offset, 16)))
    return found


def _stretch(value: torch.Tensor, file: OpenedFile, regions: Sequence[_Region]) -> Stretch:
    """Where in ``file`` the tensor lies that torch has mapped; the map itself is never touched (see ``OpenedFile``)."""
    address = value.data_ptr()
    starts = [address - first + offset for first, last, offset in regions if first <= address < last]
    if value.nbytes and (not starts or starts[0] + value.nbytes > file.size):
        raise DamagedCheckpoint(f"{file.path} holds a tensor without its bytes; download it again")
    return Stretch(file, starts[0] if starts else 0, value.nbytes)


def _start(tensor: Tensor) -> int:
    data = tensor.data.parts[0].data if isinstance(tensor.data, _Joined) else tensor.data
    assert isinstance(data, Stretch)
    return data.start


@dataclass(frozen=True, slots=True, eq=False)
class _Joined:
    """Shards of one tensor, put together along ``axis`` when they are read."""

    parts: tuple[Tensor, ...]
    axis: int

    @property
    def nbytes(self) -> int:
        return sum(part.nbytes for part in self.parts)

    def read(self) -> NDArray[np.uint8]:
        return np.concatenate([part.packed() for part in self.parts], axis=self.axis).reshape(-1)


def _join(name: str, parts: Sequence[Tensor], folder: Path) -> Tensor:
    first = parts[0]
    if len(parts) == 1 or name.endswith(_REPLICATED):
        return first
    axis = len(first.shape) - 1 if name.endswith(_CUT_ALONG_INPUTS) else 0
    if any(part.kind != first.kind or _without(part.shape, axis) != _without(first.shape, axis) for part in parts):
        shapes = ", ".join(f"{list(part.shape)} {part.kind}" for part in parts)
        raise DamagedCheckpoint(f"{folder}: shards of {name:.80} do not fit together ({shapes})")
    shape = (*first.shape[:axis], sum(part.shape[axis] for part in parts), *first.shape[axis + 1 :])
    return Tensor(name, shape, first.kind, _Joined(tuple(parts), axis))


def _without(shape: tuple[int, ...], axis: int) -> tuple[int, ...]:
    return shape[:axis] + shape[axis + 1 :]
