"""Meta's ``consolidated.*.pth`` as named arrays. The one file reader that needs torch: a .pth is torch's own format."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

import torch

from quipu.errors import DamagedCheckpoint, UnsupportedCheckpoint
from quipu.model.files import OpenedFile, Stretch, check_same, file_states
from quipu.model.weights import Tensor, is_harmless

_KIND_OF_DTYPE = {torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16"}


def read_meta_pth(folder: Path) -> list[dict[str, Tensor]]:
    """The weights of each ``consolidated.*.pth``, one shard of model parallelism after another, under Meta's names.

    All shards hold the same names; what is known to add nothing is left out. Raises DamagedCheckpoint or
    UnsupportedCheckpoint; never runs what a pickle says.
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
    return shards


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
    for name, value in loaded.items():
        if is_harmless(name):
            continue
        value = _checked(name, value, path)
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
