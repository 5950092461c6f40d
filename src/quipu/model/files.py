"""Opening the files of a checkpoint so that whatever goes wrong is an error with the file's name in it."""

from __future__ import annotations

import errno
import json
import mmap
import os
import stat
import weakref
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from quipu.errors import CheckpointError, DamagedCheckpoint, ModelNotFound

LARGE = 1 << 17
"""From so many bytes on, a piece of a file gets pages of its own."""
MOST_JSON_BYTES = 64 << 20
"""The largest JSON beside the weights of a published Llama (tokenizer.json) has 27 MB."""


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn the operating system's refusal to open or read ``path`` into a sentence.

    Raises ModelNotFound where nothing is there, else CheckpointError.
    """
    try:
        yield
    except FileNotFoundError:
        raise ModelNotFound(f"{path} does not exist; check the path") from None
    except PermissionError:
        raise CheckpointError(f"{path} may not be read by this user; change its permissions") from None
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise CheckpointError(f"{path} is a symbolic link that leads back to itself; replace it") from None
        raise CheckpointError(f"{path} cannot be read: {error.strerror or error}") from None


FileState: TypeAlias = tuple[int, int, int]
"""Inode, size, and time of the last change in nanoseconds."""


def file_states(paths: Iterable[Path]) -> dict[Path, FileState]:
    """What ``check_unchanged`` compares with later."""
    states = {}
    for path in paths:
        with reading(path):
            states[path] = _state(path.stat())
    return states


def _state(status: os.stat_result) -> FileState:
    return status.st_ino, status.st_size, status.st_mtime_ns


class HasFileno(Protocol):
    """An opened file of any kind."""

    def fileno(self) -> int:
        """Its descriptor."""


def check_same(path: Path, opened: HasFileno, state: FileState) -> None:
    """Raise DamagedCheckpoint unless the file ``opened`` at ``path`` is the one that ``state`` was taken of."""
    if _state(os.fstat(opened.fileno())) != state:
        raise DamagedCheckpoint(f"{path} is not the file any more that was opened; load the model again")


def check_unchanged(states: Mapping[Path, FileState]) -> None:
    """Raise DamagedCheckpoint where a file was written to in place: what is read of it now belongs to other weights.

    A file that was removed, or replaced by another one, is no danger: what was opened is read as it was.
    """
    for path, (inode, size, changed) in states.items():
        try:
            status = path.stat()
        except OSError:
            continue
        if status.st_ino == inode and (status.st_size, status.st_mtime_ns) != (size, changed):
            raise DamagedCheckpoint(
                f"{path} was changed while the model was in use ({size} bytes then, {status.st_size} now); "
                "load it again"
            )


class OpenedFile:
    """A regular file that stays open, for reading pieces of it into memory of their own.

    It is not mapped: reading a map beyond the end of a file that was cut short meanwhile is SIGBUS, which ends the
    process. Raises DamagedCheckpoint when it is empty, and as ``reading`` does.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with reading(path):
            # Without O_NONBLOCK, opening a named pipe would wait for who writes to it.
            self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
            weakref.finalize(self, os.close, self._descriptor)
            status = os.fstat(self._descriptor)
        if stat.S_ISDIR(status.st_mode):
            raise CheckpointError(f"{path} is a directory where a file was expected; give the file inside it")
        if not stat.S_ISREG(status.st_mode):
            raise CheckpointError(f"{path} is not a regular file; copy the checkpoint to a file first")
        if status.st_size == 0:
            raise DamagedCheckpoint(f"{path} is empty; download it again")
        self.size = status.st_size

    def fileno(self) -> int:
        """Its descriptor."""
        return self._descriptor

    def read(self, start: int, size: int) -> NDArray[np.uint8]:
        """``size`` bytes from ``start`` on, a new uint8 [size]. Raises DamagedCheckpoint where the file ends before."""
        # Large pieces come and go while a model is loaded; in its heap, glibc would keep what they took.
        data = np.frombuffer(mmap.mmap(-1, size) if size >= LARGE else bytearray(size), np.uint8)
        done = 0
        while done < size:  # one call reads 2 GiB at most
            with reading(self.path):
                count = os.preadv(self._descriptor, [data.data[done:]], start + done)
            if count == 0:
                now = os.fstat(self._descriptor).st_size
                raise DamagedCheckpoint(
                    f"{self.path} was cut short while the model was in use ({self.size} bytes then, {now} now); "
                    "load it again"
                )
            done += count
        return data


@dataclass(frozen=True, slots=True, eq=False)
class Stretch:
    """A part of an opened file that is read when it is asked for, each time anew."""

    file: OpenedFile
    start: int
    nbytes: int

    def read(self) -> NDArray[np.uint8]:
        """uint8 [nbytes]. Raises as OpenedFile.read does."""
        return self.file.read(self.start, self.nbytes)

    def part(self, start: int, nbytes: int) -> Stretch:
        """``nbytes`` of them from ``start`` on."""
        return Stretch(self.file, self.start + start, nbytes)


def read_text(path: Path, *, errors: str = "strict") -> str:
    """The text of a small UTF-8 file. Raises DamagedCheckpoint when it is absurdly large, or not UTF-8.

    ``errors`` as in bytes.decode: "replace" for a file that is not part of the model.
    """
    file = OpenedFile(path)
    if file.size > MOST_JSON_BYTES:
        raise DamagedCheckpoint(f"{path} has {file.size} bytes; a file of its kind has at most {MOST_JSON_BYTES}")
    try:
        return file.read(0, file.size).tobytes().decode(errors=errors)
    except UnicodeDecodeError as error:
        raise DamagedCheckpoint(f"{path} is not UTF-8 text ({error}); download it again") from None


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file. Raises DamagedCheckpoint when it is not JSON, or not an object."""
    try:
        value = json.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        raise DamagedCheckpoint(f"{path} is not JSON ({error}); download it again") from None
    if not isinstance(value, dict):
        raise DamagedCheckpoint(f"{path} must hold a JSON object, not {type(value).__name__}; download it again")
    return value
