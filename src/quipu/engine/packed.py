"""Packed weights: made from a checkpoint once and kept in a file, or only in memory where none can be kept."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quipu.engine import packed_file
from quipu.engine.memory import available_memory
from quipu.engine.packed_file import VERSION, cache_folder
from quipu.engine.packing import Loss, Progress, pack_all, packed_sizes
from quipu.errors import NotEnoughMemory
from quipu.model.weights import Tensor

GIB = 1 << 30
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class PackedMatrix:
    """A matrix [rows, cols] as kernels read it: ``kind`` is one of theirs, ``data`` uint8, aligned to 64 bytes."""

    kind: str
    rows: int
    cols: int
    data: NDArray[np.uint8] = field(repr=False)


@dataclass(frozen=True, slots=True)
class PackedWeights:
    """All weights of a model by canonical name. ``vectors`` are float32; ``losses`` what packing lost of each.

    ``file`` is where they are kept, None if only in memory.
    """

    matrices: Mapping[str, PackedMatrix]
    vectors: Mapping[str, NDArray[np.float32]]
    losses: Mapping[str, Loss] = field(default_factory=dict)
    file: Path | None = None

    @property
    def nbytes(self) -> int:
        """Bytes of all of them."""
        return sum(each.data.nbytes for each in self.matrices.values()) + sum(
            each.nbytes for each in self.vectors.values()
        )

    @property
    def loss(self) -> float:
        """What packing lost of all weights that it changed; see Loss.relative."""
        total = Loss()
        for each in self.losses.values():
            total += each
        return total.relative


def packed_weights(
    tensors: Mapping[str, Tensor],
    kinds: Mapping[str, str],
    identity: Mapping[str, Any] | None,
    *,
    threads: int,
    progress: Progress | None = None,
) -> PackedWeights:
    """The weights of ``tensors`` packed as ``kinds`` says, from the file of an earlier start where there is a good one.

    ``identity`` (JSON) names exactly what is packed; its "files" are [path, inode, size, time of change] each. None
    keeps no file. Where none can be kept (no space, no right to write), they are packed into memory, and the log says
    why.
    """
    sizes = packed_sizes(tensors, kinds)
    pack = partial(pack_all, tensors, kinds, threads=threads, progress=progress)
    path = found = reason = None
    if identity is not None:
        shapes = {name: [kinds.get(name), list(tensor.shape)] for name, tensor in tensors.items()}
        identity = {"version": VERSION, **identity, "shapes": shapes}
        try:
            path = cache_folder() / f"{_hash(identity)}.packed"
            found = packed_file.read(path, identity, sizes, threads)
            if found is None:
                packed_file.write(path, identity, sizes, pack())
                found = packed_file.read(path, identity, sizes, threads)
        except OSError as error:
            reason = str(error)  # not the error: it holds the memory that was written to until then
            log.warning("packed weights are not kept: %s; the next start packs them again", reason)
    if found is None:
        _check_room(sum(sizes.values()), reason)
        path = None
        made = list(pack())
        found = {name: data for name, data, _ in made}, {name: loss for name, _, loss in made}
    memory, losses = found
    matrices = {}
    for name, kind in kinds.items():
        rows, cols = tensors[name].shape
        matrices[name] = PackedMatrix(kind, rows, cols, memory[name])
    vectors = {name: memory[name].view(np.float32) for name in tensors if name not in kinds}
    return PackedWeights(matrices, vectors, losses, path)


def _check_room(size: int, reason: str | None) -> None:
    """Raise NotEnoughMemory for weights that would only go onto a disk, which cannot hold them for ``reason``."""
    free = available_memory()
    if reason is not None and size > free:
        raise NotEnoughMemory(
            f"the weights take {size / GIB:.1f} GiB, {free / GIB:.1f} GiB of memory are free, and no file can hold "
            f"them instead ({reason}); choose a smaller model, or name a folder with more room in QUIPU_CACHE"
        )


def _hash(identity: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:40]
