"""A GGUF file that is filled piece by piece, as FILE.part with FILE.journal, and gone on with whatever ended it."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from quipu.engine.gguf_blocks import quantised
from quipu.engine.packing import Loss
from quipu.engine.quantize_journal import Journal
from quipu.errors import InvalidRequest, StorageFailed
from quipu.model.gguf_layout import Layout
from quipu.model.weights import Tensor, byte_count

_GIB = 1 << 30

Shapes = Mapping[str, tuple[tuple[int, ...], str]]
"""Shape (numpy order) and kind of every tensor of a file."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Some rows of a weight, what they become, and the place of that in the file. ``name`` is the GGUF tensor's."""

    key: str
    name: str
    rows: Tensor
    kind: str
    place: int

    @property
    def nbytes(self) -> int:
        """What it takes of the file."""
        return byte_count(self.rows.shape, self.kind)


@dataclass(frozen=True, slots=True)
class NewFile:
    """``path``, what will be in it, and the pieces of which that is made."""

    path: Path
    layout: Layout
    shapes: Shapes
    pieces: Sequence[Piece]

    @property
    def part(self) -> Path:
        """The half-written file."""
        return self.path.with_name(f"{self.path.name}.part")

    @property
    def notes(self) -> Path:
        """The journal's file."""
        return self.path.with_name(f"{self.path.name}.journal")

    def check_new(self) -> None:
        """Raise InvalidRequest where there is a file already, unless a run left it that ended before the last file."""
        if not self.path.exists():
            return
        left = self.notes.exists() and not self.part.exists() and self.path.stat().st_size == self.layout.size
        if not left:
            raise InvalidRequest(f"{self.path} exists; remove it, or give another --out", param="out")
        self.path.rename(self.part)

    def journal(self, identity: Mapping[str, Any]) -> Journal:
        """Opened. ``identity``: what the file is made of. Raises InvalidRequest, see ``Journal``."""
        header = hashlib.sha256(self.layout.header).hexdigest()
        return Journal(self.notes, self.part, {**identity, "header": header, "size": self.layout.size})

    def write(self, journal: Journal, threads: int, progress: Callable[[int], None]) -> dict[str, Loss]:
        """Fill ``part`` with what is not finished yet. What each piece lost, by its key.

        ``progress`` gets the bytes written.
        """
        losses = dict(journal.finished)
        todo = [piece for piece in self.pieces if piece.key not in losses]
        done = self.layout.size - sum(piece.nbytes for piece in todo)
        descriptor = self._opened(journal)
        try:
            os.pwrite(descriptor, self.layout.header, 0)
            with ThreadPoolExecutor(threads) as pool:
                try:
                    for piece, loss in zip(todo, pool.map(partial(_write_piece, descriptor), todo), strict=True):
                        losses[piece.key] = loss
                        journal.add(piece.key, loss, descriptor)
                        done += piece.nbytes
                        progress(done)
                except BaseException:
                    pool.shutdown(cancel_futures=True)
                    raise
            journal.settle(descriptor)
        finally:
            os.close(descriptor)
        return losses

    def _opened(self, journal: Journal) -> int:
        """The half-written file, which has its room on the disk from the start."""
        descriptor = os.open(self.part, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            os.posix_fallocate(descriptor, 0, self.layout.size)
        except OSError:
            os.close(descriptor)
            if not journal.finished:  # nothing is lost with it
                self.part.unlink()
                journal.remove()
            raise
        return descriptor


def check_room(files: Sequence[NewFile]) -> None:
    """Raise StorageFailed where the disk cannot hold ``files``, of one folder: before work of hours, not after it."""
    folder = files[0].path.parent
    there = [file.part.stat().st_blocks * 512 for file in files if file.part.exists()]
    free, size = shutil.disk_usage(folder).free + sum(there), sum(file.layout.size for file in files)
    if free < size:
        what = "the file takes" if len(files) == 1 else "the files take"
        raise StorageFailed(
            f"{folder} has {free / _GIB:.1f} GiB free and {what} {size / _GIB:.1f} GiB; make room, or give an --out on "
            "another disk"
        )


def _write_piece(descriptor: int, piece: Piece) -> Loss:
    data, loss = quantised(piece.rows, piece.kind)
    done = 0
    while done < data.nbytes:
        done += os.pwrite(descriptor, data.data[done:], piece.place + done)
    return loss


def sync_folder(folder: Path) -> None:
    """Make renames in ``folder`` last."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
