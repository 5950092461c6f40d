"""safetensors files, one or sharded, as named arrays that are read when they are asked for."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

from quipu.errors import CheckpointError, DamagedCheckpoint, UnsupportedCheckpoint
from quipu.model.files import OpenedFile, Stretch, read_json, reading
from quipu.model.weights import Tensor, is_harmless

_KIND_OF_DTYPE = {"F32": "F32", "F16": "F16", "BF16": "BF16"}
INDEX = "model.safetensors.index.json"
MOST_HEADER_BYTES = 8 + 100_000_000
"""The library refuses larger ones."""
_SHARD = re.compile(r"[^/\\\0]+\.safetensors")


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """The tensors of one file by name, known harmless extras left out.

    The safetensors library validates the header (sizes, offsets, overlaps); the bytes are read later.
    Raises DamagedCheckpoint, or UnsupportedCheckpoint for a dtype other than F32, F16, BF16.
    """
    file = OpenedFile(path)
    size = int.from_bytes(file.read(0, min(8, file.size)).tobytes(), "little")
    data = file.read(0, min(8 + size, MOST_HEADER_BYTES, file.size)).tobytes()
    _check_header(data, file)
    header: dict[str, Any] = json.loads(data[8:])
    header.pop("__metadata__", None)
    tensors = {}
    for name, entry in header.items():
        if is_harmless(name):
            continue
        if entry["dtype"] not in _KIND_OF_DTYPE:
            raise UnsupportedCheckpoint(
                f"{path}: {name} is stored as {entry['dtype']}; supported are {', '.join(_KIND_OF_DTYPE)}. "
                "Use the unquantised checkpoint, or a GGUF file"
            )
        first, last = entry["data_offsets"]
        stretch = Stretch(file, 8 + size + first, last - first)
        tensors[name] = Tensor(name, tuple(entry["shape"]), _KIND_OF_DTYPE[entry["dtype"]], stretch)
    return tensors


def _check_header(data: bytes, file: OpenedFile) -> None:
    """Let the library validate a header, in a file of holes as large as the real one.

    It maps what it opens, and the real one may be cut short meanwhile (see ``OpenedFile``). Raises DamagedCheckpoint.
    """
    from safetensors import SafetensorError, safe_open

    with reading(file.path), os.fdopen(os.memfd_create("safetensors"), "wb") as holes:
        holes.write(data)
        holes.truncate(file.size)
        try:
            with safe_open(f"/proc/self/fd/{holes.fileno()}", framework="numpy"):
                pass
        except SafetensorError as error:
            raise DamagedCheckpoint(
                f"{file.path} is not a sound safetensors file ({error}); download it again"
            ) from None
        except MemoryError as error:
            raise CheckpointError(f"{file.path} cannot be read: {error}") from None


def read_index(path: Path) -> list[Path]:
    """The shards that a ``model.safetensors.index.json`` names, sorted. Raises DamagedCheckpoint."""
    return sorted({path.parent / shard for shard in _weight_map(path).values()})


def read_sharded(path: Path) -> dict[str, Tensor]:
    """The tensors of all shards that the index at ``path`` names. Raises as read_safetensors does."""
    weight_map = _weight_map(path)
    tensors: dict[str, Tensor] = {}
    for shard in read_index(path):
        if not shard.exists():
            raise DamagedCheckpoint(f"{shard} is missing, though {path.name} names it; download the shard")
        for name, tensor in read_safetensors(shard).items():
            if name in tensors:
                raise DamagedCheckpoint(f"{path.parent}: {name} is in two shards, one of them {shard.name}")
            tensors[name] = tensor
        lacking = [
            n for n, file in weight_map.items() if file == shard.name and n not in tensors and not is_harmless(n)
        ]
        if lacking:
            raise DamagedCheckpoint(
                f"{shard} lacks {lacking[0]} ({len(lacking)} in all), though {path.name} lists it there"
            )
    return tensors


def _weight_map(path: Path) -> dict[str, str]:
    weight_map = read_json(path).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise DamagedCheckpoint(f"{path}: weight_map is missing or empty; download the file again")
    for name, file in weight_map.items():
        if not isinstance(file, str) or not _SHARD.fullmatch(file):
            raise DamagedCheckpoint(
                f"{path}: {name} is said to be in {file!r:.80}, which is not a .safetensors file of its folder"
            )
    return weight_map
