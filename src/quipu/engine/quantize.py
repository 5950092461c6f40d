"""A checkpoint as a quantised GGUF file, written piece by piece: neither it nor the file need fit into memory."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from quipu import native
from quipu.engine.packing import Loss, Progress
from quipu.engine.quantize_file import NewFile, Piece, check_room, sync_folder
from quipu.errors import InvalidRequest, StorageFailed
from quipu.model import projector
from quipu.model.checkpoint import Checkpoint
from quipu.model.gguf_layout import Layout, layout
from quipu.model.gguf_metadata import metadata, rope_divisors
from quipu.model.names_gguf import ROPE_DIVISORS, stored_name
from quipu.model.weights import EMBEDDING, OUTPUT, Tensor, byte_count, in_pairs_order, is_router, parameter_count

_FLOATS = {"F32", "F16", "BF16"}
_KINDS = {"q8": "Q8_0", "q4": "Q4_1"}
_FILE_TYPES = {"q8": 7, "q4": 3}
"""llama.cpp's numbers of files whose weights are mostly of that kind."""
_PIECE = 32 << 20
"""Stored bytes that one thread has in memory, and about as much again while they are turned over."""


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
    """What was made: bytes of the whole file, and what all weights that were quantised lost.

    ``projector``: the file beside it of what the model sees with.
    """

    path: Path
    size: int
    parameters: int
    error: float
    tensors: tuple[Written, ...]
    projector: Quantised | None = None

    @property
    def bits(self) -> float:
        """Bits per weight, everything counted."""
        return 8 * self.size / self.parameters


def quantize(
    checkpoint: Checkpoint, to: str, out: Path, *, threads: int, progress: Progress | None = None
) -> Quantised:
    """Write ``checkpoint`` to the new file ``out`` in GGUF, matrices in eight ("q8") or four bits ("q4").

    What embeds, what routes and what gives logits keeps eight bits or more. What a model sees with goes, in float16, to
    a file of its own, ``projector_beside(out)``. A run that was ended goes on where it was: half-written files lie
    beside ``out``. ``progress`` gets (bytes written, bytes in all, what is done). Raises InvalidRequest for options,
    StorageFailed, CheckpointError, and UnsupportedCheckpoint for a tokenizer.
    """
    if not native.available():
        raise InvalidRequest(native.MISSING)
    _check_out(out)
    # The text model comes last: where it is, all is.
    files = [*([_projector_file(checkpoint, out)] if checkpoint.config.vision else []), _text_file(checkpoint, to, out)]
    for file in files:
        file.check_new()
    check_room(files)
    try:
        losses = _write(files, checkpoint, to, threads, progress)
    except OSError as error:
        raise StorageFailed(f"{out} cannot be written: {error.strerror or error}") from error
    *seeing, text = map(_report, files, losses)
    return replace(text, parameters=parameter_count(checkpoint.config), projector=seeing[0] if seeing else None)


def _write(
    files: Sequence[NewFile], checkpoint: Checkpoint, to: str, threads: int, progress: Progress | None
) -> list[dict[str, Loss]]:
    """Write ``files``, which get their names when all are whole. What each piece of each lost, by its key."""
    total, before, losses = sum(file.layout.size for file in files), 0, []

    def show(done: int) -> None:
        if progress is not None:
            progress(before + done, total, "quantising")

    with ExitStack() as stack:
        journals = []
        for file in files:
            journals.append(file.journal(_identity(checkpoint, to)))
            stack.callback(journals[-1].close)
            losses.append(file.write(journals[-1], threads, show))
            before += file.layout.size
        checkpoint.check_unchanged()  # a file that was written to meanwhile is weights of two models
        for file in files:
            file.part.rename(file.path)
        sync_folder(files[0].path.parent)
        for journal in journals:
            journal.remove()
    return losses


def _text_file(checkpoint: Checkpoint, to: str, out: Path) -> NewFile:
    kinds = file_kinds(checkpoint.tensors, to)
    shapes = _shapes(checkpoint, kinds)
    divisors = rope_divisors(checkpoint.config)
    if divisors is not None:
        shapes[ROPE_DIVISORS] = divisors.shape, "F32"
    file = layout(metadata(checkpoint, _FILE_TYPES[to]), shapes)
    pieces = list(_pieces(checkpoint, kinds, file))
    if divisors is not None:
        table = Tensor(ROPE_DIVISORS, divisors.shape, "F32", divisors.view(np.uint8))
        pieces.append(Piece(ROPE_DIVISORS, ROPE_DIVISORS, table, "F32", file.places[ROPE_DIVISORS]))
    return NewFile(out, file, shapes, pieces)


def _projector_file(checkpoint: Checkpoint, out: Path) -> NewFile:
    """Matrices in float16: they are a hundredth of the model, and what eight bits lose shows (docs/log.md)."""
    names = {name: projector.stored_name(name) for name in checkpoint.vision}
    shapes = {names[name]: (each.shape, _projector_kind(names[name], each)) for name, each in checkpoint.vision.items()}
    file = layout(projector.metadata(checkpoint.config, checkpoint.name), shapes)
    pieces: list[Piece] = []
    for name, tensor in checkpoint.vision.items():
        stored = names[name]
        pieces += _rows(name, stored, tensor, shapes[stored][1], file.places[stored])
    return NewFile(projector.projector_beside(out), file, shapes, pieces)


def _projector_kind(stored: str, tensor: Tensor) -> str:
    # llama.cpp adds vectors and positions in float32 only.
    if len(tensor.shape) == 1 or stored == projector.POSITIONS:
        return "F32"
    return "F16" if tensor.kind in _FLOATS else tensor.kind


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


def _pieces(checkpoint: Checkpoint, kinds: Mapping[str, str], file: Layout) -> Iterator[Piece]:
    config = checkpoint.config
    for name, tensor in checkpoint.tensors.items():
        stored, expert = stored_name(name)
        size = byte_count(tensor.shape, kinds[name])
        place = file.places[stored] + (expert or 0) * size
        heads = {"q_proj": config.heads, "k_proj": config.kv_heads}.get(name.split(".")[-2])
        if heads is not None and not config.pair_rotation:
            tensor = _in_pairs(tensor, heads, config.head_size)
        yield from _rows(name, stored, tensor, kinds[name], place)


def _rows(name: str, stored: str, tensor: Tensor, kind: str, place: int) -> Iterator[Piece]:
    """A tensor of which each piece fits into memory, from ``place`` on."""
    if len(tensor.shape) == 1:
        yield Piece(name, stored, tensor, kind, place)
        return
    count = tensor.shape[0]
    size = byte_count(tensor.shape[1:], kind)
    step = max(_PIECE // (tensor.nbytes // count) // 16, 1) * 16
    for first in range(0, count, step):
        rows = tensor.rows(first, min(first + step, count))
        yield Piece(f"{name}:{first}", stored, rows, kind, place + first * size)


def _in_pairs(tensor: Tensor, heads: int, head_size: int) -> Tensor:
    """q or k with its rows as llama.cpp has them, adjacent pairs."""
    order = in_pairs_order(heads, head_size)
    return replace(tensor, row_order=order if tensor.row_order is None else tensor.row_order[order])


def _identity(checkpoint: Checkpoint, to: str) -> dict[str, Any]:
    files = [[str(path.resolve()), *state] for path, state in sorted(checkpoint.states.items())]
    return {"to": to, "files": files, "piece": _PIECE}


def _report(file: NewFile, losses: Mapping[str, Loss]) -> Quantised:
    lost = dict.fromkeys(file.shapes, Loss())
    for piece in file.pieces:
        lost[piece.name] += losses[piece.key]
    tensors = tuple(
        Written(name, kind, shape, byte_count(shape, kind), lost[name].relative)
        for name, (shape, kind) in file.shapes.items()
    )
    parameters = sum(math.prod(each.shape) for each in tensors)
    return Quantised(file.path, file.layout.size, parameters, sum(lost.values(), Loss()).relative, tensors)
