"""Packed weights: made from a checkpoint once, kept in a file that later starts map, checked before it is believed.

The file: every tensor at a multiple of 4096 bytes, then a JSON header with the identity of what was packed (files with
size and time, options, shapes) and a CRC-32C for each tensor, then where that header begins, and its own CRC-32C. It is
written last: a file that is not whole is not one.
"""

from __future__ import annotations

import hashlib
import json
import logging
import mmap
import os
import struct
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from quipu import native
from quipu.engine.packing import Loss, Progress, pack_all, packed_bytes
from quipu.model.weights import Tensor

log = logging.getLogger(__name__)

VERSION = 1
"""Of the layout in native/formats.h and of this file: a file of another version is made anew."""
MAGIC = b"QUIPUPK1"
_PAGE = 4096
_END = struct.Struct("<8sQQI")
"""The last bytes: magic, where the header begins, its length, its CRC-32C."""


@dataclass(frozen=True, slots=True)
class PackedMatrix:
    """A matrix [rows, cols] as kernels read it: ``kind`` is one of theirs, ``data`` uint8, aligned to 64 bytes."""

    kind: str
    rows: int
    cols: int
    data: NDArray[np.uint8] = field(repr=False)


@dataclass(frozen=True, slots=True)
class PackedWeights:
    """All weights of a model by canonical name. ``vectors`` are float32; ``losses`` what packing lost of each matrix.

    ``file`` is where they are kept, None if only in memory.
    """

    matrices: Mapping[str, PackedMatrix]
    vectors: Mapping[str, NDArray[np.float32]]
    losses: Mapping[str, Loss]
    file: Path | None = None

    @property
    def nbytes(self) -> int:
        """Bytes of all of them."""
        return sum(each.data.nbytes for each in self.matrices.values()) + sum(
            each.nbytes for each in self.vectors.values()
        )

    @property
    def loss(self) -> float:
        """What packing lost of all weights together; see Loss.relative."""
        total = Loss()
        for each in self.losses.values():
            total += each
        return total.relative


def cache_folder() -> Path:
    """Where packed weights are kept: QUIPU_CACHE, else quipu in XDG_CACHE_HOME or ~/.cache."""
    named = os.environ.get("QUIPU_CACHE")
    if named:
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "quipu"


def packed_weights(
    tensors: Mapping[str, Tensor],
    kinds: Mapping[str, str],
    identity: Mapping[str, Any] | None,
    *,
    threads: int,
    progress: Progress | None = None,
) -> PackedWeights:
    """The weights of ``tensors`` packed as ``kinds`` says, from the file of an earlier start where there is a good one.

    ``identity`` (JSON) names exactly what is packed; None keeps no file. Where none can be kept (no space, no right to
    write), they are packed into memory, and the log says why.
    """
    if identity is None:
        return _pack_in_memory(tensors, kinds, threads, progress)
    places = _places(tensors, kinds)
    shapes = {name: [kinds.get(name), list(tensor.shape)] for name, tensor in tensors.items()}
    identity = {"version": VERSION, **identity, "shapes": shapes}
    name = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:40]
    path = cache_folder() / f"{name}.packed"
    found = _open(path, identity, places, threads)
    if found is not None:
        return found
    try:
        _write(path, identity, places, tensors, kinds, threads, progress)
    except OSError as error:
        log.warning("packed weights are not kept in %s: %s; the next start packs them again", path.parent, error)
        return _pack_in_memory(tensors, kinds, threads, progress)
    written = _open(path, identity, places, threads)
    return written or _pack_in_memory(tensors, kinds, threads, progress)


_Places = dict[str, tuple[int, int]]
"""Where each tensor begins in the part of the file after the header, and its bytes."""


def _places(tensors: Mapping[str, Tensor], kinds: Mapping[str, str]) -> _Places:
    places = {}
    at = 0
    for name, tensor in tensors.items():
        size = packed_bytes(kinds[name], *tensor.shape) if name in kinds else tensor.shape[0] * 4
        places[name] = (at, size)
        at += -(-size // _PAGE) * _PAGE
    return places


def _weights(
    shapes: Mapping[str, Sequence[Any]],
    memory: Mapping[str, NDArray[np.uint8]],
    losses: Mapping[str, Loss],
    file: Path | None,
) -> PackedWeights:
    matrices = {}
    vectors = {}
    for name, (kind, shape) in shapes.items():
        if kind is None:
            vectors[name] = memory[name].view(np.float32)
        else:
            matrices[name] = PackedMatrix(kind, shape[0], shape[1], memory[name])
    return PackedWeights(matrices, vectors, losses, file)


def _fill(
    tensors: Mapping[str, Tensor],
    kinds: Mapping[str, str],
    memory: Mapping[str, NDArray[np.uint8]],
    threads: int,
    progress: Progress | None,
) -> dict[str, Loss]:
    for name, tensor in tensors.items():
        if name not in kinds:
            memory[name][:] = tensor.float32().view(np.uint8)
    return pack_all(tensors, kinds, memory, threads=threads, progress=progress)


def _room(places: _Places) -> int:
    return sum(-(-size // _PAGE) * _PAGE for _, size in places.values())


def _pack_in_memory(
    tensors: Mapping[str, Tensor], kinds: Mapping[str, str], threads: int, progress: Progress | None
) -> PackedWeights:
    places = _places(tensors, kinds)
    # Anonymous maps begin at a page, as kernels want it, and go back to the system when they are dropped.
    whole = np.frombuffer(mmap.mmap(-1, max(_room(places), 1)), np.uint8)
    memory = {name: whole[at : at + size] for name, (at, size) in places.items()}
    losses = _fill(tensors, kinds, memory, threads, progress)
    shapes = {name: (kinds.get(name), tensor.shape) for name, tensor in tensors.items()}
    return _weights(shapes, memory, losses, None)


def _write(
    path: Path,
    identity: Mapping[str, Any],
    places: _Places,
    tensors: Mapping[str, Tensor],
    kinds: Mapping[str, str],
    threads: int,
    progress: Progress | None,
) -> None:
    """Pack into a new file and give it its name when it is whole. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    _drop_outdated(path.parent)
    partial = path.with_suffix(f".{os.getpid()}.partial")
    room = _room(places)
    try:
        with partial.open("w+b") as file:
            os.posix_fallocate(file.fileno(), 0, room)  # now, not as a bus error in the middle of it
            mapped = mmap.mmap(file.fileno(), room)
            whole = np.frombuffer(mapped, np.uint8)
            memory = {name: whole[at : at + size] for name, (at, size) in places.items()}
            losses = _fill(tensors, kinds, memory, threads, progress)
            checksums = _checksums(memory, threads)
            header = json.dumps(
                {
                    "identity": identity,
                    "checksums": checksums,
                    "losses": {name: [loss.squared_error, loss.squared] for name, loss in losses.items()},
                }
            ).encode()
            mapped.flush()
            file.seek(room)
            file.write(header)
            file.write(_END.pack(MAGIC, room, len(header), native.checksum(np.frombuffer(header, np.uint8))))
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _open(path: Path, identity: Mapping[str, Any], places: _Places, threads: int) -> PackedWeights | None:
    """The weights in ``path``, or None unless it is whole, unaltered, and of this very model."""
    try:
        with path.open("rb") as file:
            found = _header(file)
            if found is not None and found["identity"] == identity:
                whole = np.frombuffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), np.uint8)
                memory = {name: whole[at : at + size] for name, (at, size) in places.items()}
                if _checksums(memory, threads) == found["checksums"]:
                    losses = {name: Loss(*each) for name, each in found["losses"].items()}
                    return _weights(identity["shapes"], memory, losses, path)
    except FileNotFoundError:
        return None
    except OSError as error:
        log.warning("%s cannot be read (%s); the weights are packed again", path, error)
        return None
    log.warning("%s is damaged or was altered; the weights are packed again", path)
    return None


def _header(file: BinaryIO) -> dict[str, Any] | None:
    """The JSON header at the end of a file; None if it is not as it was written, or not where the weights end."""
    size = os.fstat(file.fileno()).st_size
    if size < _END.size:
        return None
    file.seek(size - _END.size)
    magic, room, length, crc = _END.unpack(file.read(_END.size))
    if magic != MAGIC or room + length + _END.size != size:
        return None
    file.seek(room)
    text = file.read(length)
    if len(text) != length or native.checksum(np.frombuffer(text, np.uint8)) != crc:
        return None
    header = json.loads(text)
    return header if isinstance(header, dict) else None


def _checksums(memory: Mapping[str, NDArray[np.uint8]], threads: int) -> dict[str, int]:
    with ThreadPoolExecutor(threads) as pool:
        return dict(zip(memory, pool.map(native.checksum, memory.values()), strict=True))


def _drop_outdated(folder: Path) -> None:
    """Remove packed weights of files that are gone or were changed, and what a killed process left half done."""
    for path in folder.glob("*.packed"):
        try:
            with path.open("rb") as file:
                header = _header(file)
        except OSError:
            continue
        files = [] if header is None else header["identity"]["files"]
        if header is None or any(_state(name) != state for name, *state in files):
            path.unlink(missing_ok=True)
    for path in folder.glob("*.partial"):
        process = path.suffixes[-2][1:] if len(path.suffixes) > 1 else ""
        if not process.isdigit() or not Path("/proc", process).exists():
            path.unlink(missing_ok=True)


def _state(path: str) -> list[int] | None:
    try:
        status = Path(path).stat()
    except OSError:
        return None
    return [status.st_ino, status.st_size, status.st_mtime_ns]
