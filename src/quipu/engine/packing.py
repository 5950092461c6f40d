"""From a checkpoint's tensors to the memory that the native kernels read: which kind each becomes, and the work."""

from __future__ import annotations

import math
import mmap
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from quipu import native
from quipu.errors import InvalidRequest
from quipu.model.lora import Adapted
from quipu.model.weights import EMBEDDING, OUTPUT, Tensor, as_floats, is_router

QUANTIZATIONS = ("q8", "q4")
_FLOATS = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}
_AS_STORED = {"Q4_K": "Q4_1", "Q5_K": "Q5_1", "Q6_K": "Q8_0"}
"""Kinds without kernels of their own: scales rounded to halves, or quantised anew to eight bits (docs/formats.md)."""
STATED_LOSS = {
    ("Q4_K", "Q4_1"): 2.1e-4,
    ("Q5_K", "Q5_1"): 2.1e-4,
    ("Q6_K", "Q8_0"): 4.5e-3,
    **{(stored, "Q8_0"): 5.3e-3 for stored in _FLOATS.values()},
    **{(stored, "Q4_1"): 7.0e-2 for stored in _FLOATS.values()},
}
"""Loss.relative to expect where (stored, packed) are not the same, as measured on models (docs/formats.md)."""
_TILE = 16
_GROUP = 32
_PIECE = 4 << 20
"""Bytes packed at once by one thread: progress is seen, and what is dequantised on the way stays small."""

Progress = Callable[[int, int, str], None]


def packed_kind(name: str, tensor: Tensor, dtype: str, quantize: str | None) -> str:
    """The kernel's kind that a matrix becomes.

    ``dtype`` "auto" keeps what is stored, else all are converted to it. ``quantize`` makes "q8" or "q4" of matrices
    stored as floats; embedding and output stay at eight bits, for what they lose is seen in every token. Routers stay
    as they are: they are small, and where two experts are nearly alike, what is rounded sends a token to the other.
    """
    stored = _stored_kind(tensor)
    if dtype != "auto":
        return _FLOATS[dtype]
    if stored in _FLOATS.values():
        if quantize is None or is_router(name):
            return stored
        return "Q8_0" if quantize == "q8" or name in (EMBEDDING, OUTPUT) else "Q4_1"
    # An adapter's change is smaller than the steps of a quantised matrix: it must not be rounded away.
    return "BF16" if isinstance(tensor, Adapted) else _AS_STORED.get(stored, stored)


def _stored_kind(tensor: Tensor) -> str:
    """As the checkpoint's file has it, adapted or not."""
    return tensor.base.kind if isinstance(tensor, Adapted) and tensor.base is not None else tensor.kind


def packed_kinds(tensors: Mapping[str, Tensor], dtype: str, quantize: str | None) -> dict[str, str]:
    """``packed_kind`` of every matrix. Raises InvalidRequest where nothing is left to quantise, or for both at once."""
    if quantize is not None and dtype != "auto":
        raise InvalidRequest(f"quantize {quantize} and dtype {dtype} exclude each other; give one", param="quantize")
    matrices = {name: tensor for name, tensor in tensors.items() if len(tensor.shape) == 2}
    kinds = {_stored_kind(tensor) for name, tensor in matrices.items() if not is_router(name)}
    if quantize is not None and not kinds & set(_FLOATS.values()):
        stored = ", ".join(sorted(kinds))
        raise InvalidRequest(
            f"quantize {quantize} is for checkpoints in float32, float16 or bfloat16; this one is quantised already "
            f"({stored}): load it without",
            param="quantize",
        )
    return {name: packed_kind(name, tensor, dtype, quantize) for name, tensor in matrices.items()}


def packed_bytes(kind: str, rows: int, cols: int) -> int:
    """Bytes of a packed matrix; native/formats.h has the layout. Here as well, so that a plan needs no kernels."""
    halves = _TILE * 2
    quanta = _TILE * _GROUP // 2
    group = {
        "Q4_0": halves + quanta,
        "Q4_1": 2 * halves + quanta,
        "Q5_0": halves + 64 + quanta,
        "Q5_1": 2 * halves + 64 + quanta,
        "Q8_0": halves + 2 * quanta,
    }
    tile = -(-cols // _GROUP) * group[kind] if kind in group else cols * _TILE * (4 if kind == "F32" else 2)
    tile = -(-tile // 64) * 64
    return -(-rows // _TILE) * tile


def packed_sizes(tensors: Mapping[str, Tensor], kinds: Mapping[str, str]) -> dict[str, int]:
    """Bytes of each weight: matrices as ``kinds`` says, vectors in float32."""
    return {
        name: packed_bytes(kinds[name], *tensor.shape) if name in kinds else 4 * tensor.shape[0]
        for name, tensor in tensors.items()
    }


@dataclass(frozen=True, slots=True)
class Loss:
    """What packing lost: root of mean squares of the errors over that of the weights; 0 where it is exact."""

    squared_error: float = 0.0
    squared: float = 0.0

    @property
    def relative(self) -> float:
        """0 means that every weight is what the file says."""
        return math.sqrt(self.squared_error / self.squared) if self.squared else 0.0

    def __add__(self, other: Loss) -> Loss:
        return Loss(self.squared_error + other.squared_error, self.squared + other.squared)


def pack_all(
    tensors: Mapping[str, Tensor],
    kinds: Mapping[str, str],
    *,
    threads: int,
    progress: Progress | None = None,
) -> Iterator[tuple[str, NDArray[np.uint8], Loss]]:
    """Every weight with the memory that kernels read, aligned to a page, and what packing it lost.

    Matrices become what ``kinds`` says, vectors float32. One tensor after another is read and packed by all threads: a
    caller who keeps none has no more than one in memory, as stored and as packed.
    """
    sizes = packed_sizes(tensors, kinds)
    total = sum(sizes[name] for name in kinds)
    done = 0
    with ThreadPoolExecutor(threads) as pool:
        try:
            for name, tensor in tensors.items():
                memory, loss = _pages(sizes[name]), Loss()
                if name not in kinds:
                    memory[:] = tensor.float32().view(np.uint8)
                    yield name, memory, loss
                    continue
                pieces = list(_pieces(tensor, kinds[name], memory))
                for packed, lost in zip(pieces, pool.map(_pack_piece, pieces), strict=True):
                    loss += lost
                    done += packed[3].nbytes
                    if progress is not None:
                        progress(done, total, "packing weights")
                yield name, memory, loss
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _pages(size: int) -> NDArray[np.uint8]:
    """An anonymous map begins at a page, as kernels want it, and goes back to the system when it is dropped."""
    return np.frombuffer(mmap.mmap(-1, max(size, 1)), np.uint8)[:size]


_Piece = tuple[Tensor, NDArray[np.uint8], str, NDArray[np.uint8]]


def _pieces(tensor: Tensor, kind: str, memory: NDArray[np.uint8]) -> Iterator[_Piece]:
    """Some rows of ``tensor`` each, whole tiles, their stored bytes, and the memory that they go to."""
    rows, cols = tensor.shape
    tile = packed_bytes(kind, _TILE, cols)
    step = max(1, _PIECE // tile) * _TILE
    stored = tensor.packed().reshape(rows, -1)
    for first in range(0, rows, step):
        last = min(first + step, rows)
        data = stored[first:last].reshape(-1)
        part = Tensor(tensor.name, (last - first, cols), tensor.kind, data)
        yield part, data, kind, memory[first // _TILE * tile : -(-last // _TILE) * tile]


def _pack_piece(piece: _Piece) -> Loss:
    tensor, data, kind, memory = piece
    stored = tensor.kind
    loss = Loss()
    if kind in _FLOATS.values() and stored != kind:
        values = tensor.float32()
        stored, data = kind, as_floats(values, kind)
        if kind != "F32":
            loss = _loss(values, replace(tensor, kind=kind, data=data).float32())
    return loss + Loss(*native.pack(stored, data, tensor.shape[0], tensor.shape[1], kind, memory))


def _loss(values: NDArray[np.float32], packed: NDArray[np.float32]) -> Loss:
    exact = values.astype(np.float64)
    with np.errstate(invalid="ignore"):  # an infinite weight is the file's own
        return Loss(float(np.square(packed - exact).sum()), float(np.square(exact).sum()))
