"""Opening the files of a checkpoint so that whatever goes wrong is an error with the file's name in it."""

from __future__ import annotations

import errno
import json
import mmap
import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

import numpy as np
from numpy.typing import NDArray

from quipu.errors import CheckpointError, DamagedCheckpoint, ModelNotFound

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


def check_same(path: Path, opened: BinaryIO, state: FileState) -> None:
    """Raise DamagedCheckpoint unless the file ``opened`` at ``path`` is the one that ``state`` was taken of."""
    if _state(os.fstat(opened.fileno())) != state:
        raise DamagedCheckpoint(f"{path} is not the file any more that was opened; load the model again")


def check_unchanged(states: Mapping[Path, FileState]) -> None:
    """Raise DamagedCheckpoint where a mapped file was written to in place: beyond its new end, reading it is SIGBUS,
    which ends the process.

    A file that was removed, or replaced by another one, is no danger: the map keeps what it was. A file cut short
    between this check and the read is not noticed; no check could.
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


def map_file(path: Path) -> NDArray[np.uint8]:
    """The bytes of a regular file as a read-only memory map, uint8 [size]. Raises DamagedCheckpoint when empty."""
    with reading(path):
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise CheckpointError(f"{path} is a directory where a file was expected; give the file inside it")
        # Opening a named pipe would block for ever.
        if not stat.S_ISREG(status.st_mode):
            raise CheckpointError(f"{path} is not a regular file; copy the checkpoint to a file first")
        if status.st_size == 0:
            raise DamagedCheckpoint(f"{path} is empty; download it again")
        with path.open("rb") as file:
            return np.frombuffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), dtype=np.uint8)


def read_text(path: Path, *, errors: str = "strict") -> str:
    """The text of a small UTF-8 file. Raises DamagedCheckpoint when it is absurdly large, or not UTF-8.

    ``errors`` as in bytes.decode: "replace" for a file that is not part of the model.
    """
    data = map_file(path)
    if data.nbytes > MOST_JSON_BYTES:
        raise DamagedCheckpoint(f"{path} has {data.nbytes} bytes; a file of its kind has at most {MOST_JSON_BYTES}")
    try:
        return data.tobytes().decode(errors=errors)
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
