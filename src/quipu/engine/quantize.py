"""A checkpoint as a quantised GGUF file, written piece by piece: neither it nor the file need fit into memory."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from quipu import native
from quipu.engine.gguf_blocks import quantised
from quipu.engine.packing import Loss, Progress
from quipu.engine.quantize_journal import Journal
from quipu.errors import InvalidRequest, StorageFailed
from quipu.model.checkpoint import Checkpoint
from quipu.model.gguf_layout import Layout, layout
from quipu.model.gguf_metadata import metadata, rope_divisors
from quipu.model.names_gguf import ROPE_DIVISORS, stored_name
from quipu.model.weights import EMBEDDING, OUTPUT, Tensor, byte_count, in_pairs_order, is_router

_FLOATS = {"F32", "F16", "BF16"}
_KINDS = {"q8": "Q8_0", "q4": "Q4_1"}
_FILE_TYPES = {"q8": 7, "q4": 3}
"""llama.cpp's numbers of files whose weights are mostly of that kind."""
_PIECE = 32 << 20
"""Stored bytes that one thread has in memory, and about as much again while they are turned over."""
_GIB = 1 << 30

Shapes = Mapping[str, tuple[tuple[int, ...], str]]
"""Shape (numpy order) and kind of every tensor of a file."""


@dataclass(frozen=True, slots=True)
class Written:
    """One tensor of the file. ``shape`` in numpy order; ``error``: root mean square over that of the weights."""

    name: str
    kind: str
    shape: tuple[int, ...]
    nbytes: int
    error: float


@dataclass(frozen=True, slots=True)
class Quantised:
    """What was made: bytes of the whole file, and what all weights that were quantised lost."""

    path: Path
    size: int
    parameters: int
    error: float
    tensors: tuple[Written, ...]

    @property
    def bits(self) -> float:
        """Bits per weight, everything counted."""
        return 8 * self.size / self.parameters


@dataclass(frozen=True, slots=True)
class _Piece:
    """Some rows of a weight, what they become, and the place of that in the file. ``name`` is the GGUF tensor's."""

    key: str
    name: str
    rows: Tensor
    kind: str
    place: int

    @property
    def nbytes(self) -> int:
        return byte_count(self.rows.shape, self.kind)


def quantize(
    checkpoint: Checkpoint, to: str, out: Path, *, threads: int, progress: Progress | None = None
) -> Quantised:
    """Write ``checkpoint`` to the new file ``out`` in GGUF, matrices in eight ("q8") or four bits ("q4").

    What embeds, what routes and what gives logits keeps eight bits or more. A run that was ended goes on where it was:
    the half-written file lies beside ``out``. ``progress`` gets (bytes written, bytes in all, what is done). Raises
    InvalidRequest for options, StorageFailed, CheckpointError, and UnsupportedCheckpoint for a tokenizer.
    """
    if not native.available():
        raise InvalidRequest(native.MISSING)
    _check_out(out)
    kinds = file_kinds(checkpoint.tensors, to)
    shapes = _shapes(checkpoint, kinds)
    divisors = rope_divisors(checkpoint.config)
    if divisors is not None:
        shapes[ROPE_DIVISORS] = divisors.shape, "F32"
    file = layout(metadata(checkpoint, _FILE_TYPES[to]), shapes)
    part, notes = out.with_name(f"{out.name}.part"), out.with_name(f"{out.name}.journal")
    _check_room(part, file.size)
    pieces = list(_pieces(checkpoint, kinds, file))
    if divisors is not None:
        table = Tensor(ROPE_DIVISORS, divisors.shape, "F32", divisors.view(np.uint8))
        pieces.append(_Piece(ROPE_DIVISORS, ROPE_DIVISORS, table, "F32", file.places[ROPE_DIVISORS]))
    try:
        journal = Journal(notes, part, _identity(checkpoint, to, file))
        try:
            losses = _write(part, file, pieces, journal, threads, progress)
            checkpoint.check_unchanged()  # a file that was written to meanwhile is weights of two models
            part.rename(out)
            _sync_folder(out.parent)
            journal.remove()
        finally:
            journal.close()
    except OSError as error:
        raise StorageFailed(f"{out} cannot be written: {error.strerror or error}") from error
    return _report(out, file, checkpoint.parameters, shapes, pieces, losses)


def file_kinds(tensors: Mapping[str, Tensor], to: str) -> dict[str, str]:
    """The kind in which the file holds each weight. Raises InvalidRequest for an unknown ``to``, or nothing to do."""
    if to not in _KINDS:
        raise InvalidRequest(f"to is {to!r:.40}; it must be one of {', '.join(_KINDS)}", param="to")
    stored = {tensor.kind for name, tensor in tensors.items() if len(tensor.shape) > 1 and not is_router(name)}
    if not stored & _FLOATS:
        raise InvalidRequest(
            f"this checkpoint is quantised already ({', '.join(sorted(stored))}), and would lose twice; quantise the "
            "one in float32, float16 or bfloat16 that it was made of"
        )
    return {name: _file_kind(name, tensor, to) for name, tensor in tensors.items()}


def _file_kind(name: str, tensor: Tensor, to: str) -> str:
    # A wrong route or a wrong scale costs more than the few bytes of routers and norms.
    if len(tensor.shape) == 1 or is_router(name):
        return "F32"
    if tensor.kind not in _FLOATS or tensor.shape[-1] % 32:
        return tensor.kind
    return "Q8_0" if name in (EMBEDDING, OUTPUT) else _KINDS[to]


def _check_out(out: Path) -> None:
    if out.suffix != ".gguf":
        raise InvalidRequest(f"{out} does not end in .gguf, by which its kind is known; call it so", param="out")
    if not out.parent.is_dir():
        raise InvalidRequest(f"{out.parent} is no folder; make it first", param="out")
    if out.exists():
        raise InvalidRequest(f"{out} exists; remove it, or give another --out", param="out")


def _shapes(checkpoint: Checkpoint, kinds: Mapping[str, str]) -> dict[str, tuple[tuple[int, ...], str]]:
    """Shape and kind of every GGUF tensor, all experts' matrices of a layer being one."""
    shapes: dict[str, tuple[tuple[int, ...], str]] = {}
    for name, tensor in checkpoint.tensors.items():
        stored, expert = stored_name(name)
        experts = checkpoint.config.experts
        shape = tensor.shape if expert is None or experts is None else (experts.count, *tensor.shape)
        if shapes.setdefault(stored, (shape, kinds[name])) != (shape, kinds[name]):
            raise InvalidRequest(
                f"the experts of {stored} are stored in several kinds, and GGUF has one for all; quantise a checkpoint "
                "of floats"
            )
    return shapes


def _pieces(checkpoint: Checkpoint, kinds: Mapping[str, str], file: Layout) -> Iterator[_Piece]:
    config = checkpoint.config
    for name, tensor in checkpoint.tensors.items():
        stored, expert = stored_name(name)
        size = byte_count(tensor.shape, kinds[name])
        place = file.places[stored] + (expert or 0) * size
        if len(tensor.shape) == 1:
            yield _Piece(name, stored, tensor, kinds[name], place)
            continue
        heads = {"q_proj": config.heads, "k_proj": config.kv_heads}.get(name.split(".")[-2])
        if heads is not None and not config.pair_rotation:
            tensor = _in_pairs(tensor, heads, config.head_size)
        count = tensor.shape[0]
        step = max(_PIECE // (tensor.nbytes // count) // 16, 1) * 16
        for first in range(0, count, step):
            rows = tensor.rows(first, min(first + step, count))
            yield _Piece(f"{name}:{first}", stored, rows, kinds[name], place + first * (size // count))


def _in_pairs(tensor: Tensor, heads: int, head_size: int) -> Tensor:
    """q or k with its rows as llama.cpp has them, adjacent pairs."""
    order = in_pairs_order(heads, head_size)
    return replace(tensor, row_order=order if tensor.row_order is None else tensor.row_order[order])


def _identity(checkpoint: Checkpoint, to: str, file: Layout) -> dict[str, Any]:
    files = [[str(path.resolve()), *state] for path, state in sorted(checkpoint.states.items())]
    header = hashlib.sha256(file.header).hexdigest()
    return {"to": to, "files": files, "header": header, "size": file.size, "piece": _PIECE}


def _write(
    part: Path, file: Layout, pieces: Sequence[_Piece], journal: Journal, threads: int, progress: Progress | None
) -> dict[str, Loss]:
    """Fill ``part`` with what is not finished yet. What each piece lost, by its key."""
    losses = dict(journal.finished)
    todo = [piece for piece in pieces if piece.key not in losses]
    done, total = file.size - sum(piece.nbytes for piece in todo), file.size
    descriptor = _opened(part, file, journal)
    try:
        os.pwrite(descriptor, file.header, 0)
        with ThreadPoolExecutor(threads) as pool:
            try:
                for piece, loss in zip(todo, pool.map(partial(_write_piece, descriptor), todo), strict=True):
                    losses[piece.key] = loss
                    journal.add(piece.key, loss, descriptor)
                    done += piece.nbytes
                    if progress is not None:
                        progress(done, total, "quantising")
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
        journal.settle(descriptor)
    finally:
        os.close(descriptor)
    return losses


def _check_room(part: Path, size: int) -> None:
    """Raise StorageFailed where the disk cannot hold the file: before the work, not after hours of it."""
    free = shutil.disk_usage(part.parent).free + (part.stat().st_blocks * 512 if part.exists() else 0)
    if free < size:
        raise StorageFailed(
            f"{part.parent} has {free / _GIB:.1f} GiB free and the file takes {size / _GIB:.1f} GiB; make room, or "
            "give an --out on another disk"
        )


def _opened(part: Path, file: Layout, journal: Journal) -> int:
    """The half-written file, which has its room on the disk from the start."""
    descriptor = os.open(part, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        os.posix_fallocate(descriptor, 0, file.size)
    except OSError:
        os.close(descriptor)
        if not journal.finished:  # nothing is lost with it
            part.unlink()
            journal.remove()
        raise
    return descriptor


def _write_piece(descriptor: int, piece: _Piece) -> Loss:
    data, loss = quantised(piece.rows, piece.kind)
    done = 0
    while done < data.nbytes:
        done += os.pwrite(descriptor, data.data[done:], piece.place + done)
    return loss


def _sync_folder(folder: Path) -> None:
    """Make a rename in ``folder`` last."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _report(
    out: Path, file: Layout, parameters: int, shapes: Shapes, pieces: Sequence[_Piece], losses: Mapping[str, Loss]
) -> Quantised:
    lost = dict.fromkeys(shapes, Loss())
    for piece in pieces:
        lost[piece.name] += losses[piece.key]
    tensors = tuple(
        Written(name, kind, shape, byte_count(shape, kind), lost[name].relative)
        for name, (shape, kind) in shapes.items()
    )
    return Quantised(out, file.size, parameters, sum(lost.values(), Loss()).relative, tensors)
