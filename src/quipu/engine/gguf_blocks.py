"""Weights quantised as GGUF stores them: by the kernels' packer, so that a file holds what ``--quantize`` runs with.

The kernels read sixteen rows side by side (native/formats.h); a file has one row after another. The bits are the same.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from quipu import native
from quipu.engine.packing import Loss, packed_bytes
from quipu.errors import UnsupportedCheckpoint
from quipu.model.weights import KINDS, Tensor, as_floats

_TILE = 16
_GROUP = 32
_HALVES = {"Q8_0": 1, "Q4_1": 2}
"""Scale, or scale and minimum, of a block."""


def quantised(tensor: Tensor, kind: str) -> tuple[NDArray[np.uint8], Loss]:
    """The bytes of a matrix in ``kind``, row after row, and what was lost. Reads ``tensor``.

    ``kind`` is Q8_0, Q4_1, the stored one, F32, or F16. Raises UnsupportedCheckpoint for what float16 cannot hold.
    """
    rows, columns = tensor.shape[-2:] if len(tensor.shape) > 1 else (1, tensor.shape[0])
    if kind == tensor.kind:
        return tensor.packed().reshape(-1), Loss()
    if kind == "F32":
        return tensor.float32().reshape(-1).view(np.uint8), Loss()
    if kind == "F16":
        return _halves(tensor)
    memory = np.empty(packed_bytes(kind, rows, columns), np.uint8)
    loss = Loss(*native.pack(tensor.kind, tensor.packed().reshape(-1), rows, columns, kind, memory))
    return unpacked(memory, kind, rows, columns).reshape(-1), loss


def _halves(tensor: Tensor) -> tuple[NDArray[np.uint8], Loss]:
    values = tensor.float32().reshape(-1)
    data = as_floats(values, "F16")
    rounded = data.view(np.float16).astype(np.float32)
    if (np.isinf(rounded) & np.isfinite(values)).any():
        raise UnsupportedCheckpoint(f"{tensor.name} has weights beyond 65504, which float16 cannot hold")
    off = (rounded - values).astype(np.float64)
    return data, Loss(float(off @ off), float(np.square(values, dtype=np.float64).sum()))


def unpacked(memory: NDArray[np.uint8], kind: str, rows: int, columns: int) -> NDArray[np.uint8]:
    """Packed Q8_0 or Q4_1 as rows of GGUF's blocks, uint8 [rows, bytes of a row]."""
    halves, (_, size) = _HALVES[kind], KINDS[kind]
    groups, quanta = columns // _GROUP, (size - 2 * _HALVES[kind]) // 4
    tiles = memory.reshape(-(-rows // _TILE), -1)[:, : groups * _TILE * size].reshape(-1, groups, _TILE * size)
    head = _TILE * 2 * halves
    blocks = np.empty((len(tiles), _TILE, groups, size), np.uint8)
    scales = tiles[:, :, :head].reshape(-1, groups, halves, _TILE, 2)
    blocks[..., : 2 * halves] = scales.transpose(0, 3, 1, 2, 4).reshape(-1, _TILE, groups, 2 * halves)
    fours = tiles[:, :, head:].reshape(-1, groups, quanta, _TILE, 4)
    blocks[..., 2 * halves :] = fours.transpose(0, 3, 1, 2, 4).reshape(-1, _TILE, groups, 4 * quanta)
    if kind == "Q8_0":
        blocks[..., 2:] ^= 0x80  # the kernels count from 0, the file from -128
    return blocks.reshape(-1, groups * size)[:rows]
