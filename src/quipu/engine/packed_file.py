"""A file of packed weights: written once, mapped by later starts, and checked before it is believed.

Every tensor begins at a multiple of 4096 bytes. After them come a JSON header with the identity of what was packed and
a CRC-32C for each tensor, then where that header begins, and its own CRC-32C. It is written last: a file that is not
whole is not one.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import mmap
import os
import secrets
import struct
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from quipu import native
from quipu.engine.packing import Loss

log = logging.getLogger(__name__)

VERSION = 2
"""Of the layout in native/formats.h and of this file: a file of another version is made anew."""
MAGIC = b"QUIPUPK1"
PAGE = 4096
_END = struct.Struct("<8sQQI")
"""The last bytes: magic, where the header begins, its length, its CRC-32C."""

Memory = Mapping[str, NDArray[np.uint8]]


def cache_folder() -> Path:
    """Where packed weights are kept: QUIPU_CACHE, else quipu in XDG_CACHE_HOME or ~/.cache. Raises OSError for none."""
    named = os.environ.get("QUIPU_CACHE")
    if named:
        return Path(named)
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "quipu"
    except RuntimeError as error:  # a user without a home
        raise OSError(f"{error}; name a folder in QUIPU_CACHE") from None


def write(
    path: Path,
    identity: Mapping[str, Any],
    sizes: Mapping[str, int],
    packed: Iterable[tuple[str, NDArray[np.uint8], Loss]],
) -> None:
    """Write ``packed``, ``sizes`` bytes of each tensor, into a new file, which gets its name when it is whole.

    In large writes, not through a map: what is written page by page is kept in small pages, and read from there at
    half the speed (docs/log.md). Raises OSError, and what ``packed`` does.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    drop_outdated(path.parent)
    partial = path.with_suffix(f".{secrets.token_hex(4)}.partial")
    places, room = _places(sizes)
    checksums, losses = {}, {}
    try:
        with partial.open("xb") as file:
            fcntl.flock(file, fcntl.LOCK_SH)  # so that drop_outdated sees that somebody is still at it
            os.posix_fallocate(file.fileno(), 0, room)  # a full disk is known before the work, not after it
            for name, data, loss in packed:
                file.seek(places[name])
                file.write(data.data)
                checksums[name], losses[name] = native.checksum(data), [loss.squared_error, loss.squared]
            header = json.dumps({"identity": identity, "checksums": checksums, "losses": losses}).encode()
            file.seek(room)
            file.write(header)
            file.write(_END.pack(MAGIC, room, len(header), native.checksum(np.frombuffer(header, np.uint8))))
        partial.replace(path)  # not waiting for the disk: what it lost when the power failed, the checksums tell
    finally:
        partial.unlink(missing_ok=True)


def read(
    path: Path, identity: Mapping[str, Any], sizes: Mapping[str, int], threads: int
) -> tuple[Memory, dict[str, Loss]] | None:
    """The tensors, mapped, and what packing lost; None unless the file is whole, unaltered, and of ``identity``."""
    try:
        with path.open("rb") as file:
            header = _header(file)
            if header is not None and header["identity"] == identity:
                whole = np.frombuffer(_in_large_pages(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)), np.uint8)
                memory = {name: whole[at : at + sizes[name]] for name, at in _places(sizes)[0].items()}
                if _checksums(memory, threads) == header["checksums"]:
                    return memory, {name: Loss(*each) for name, each in header["losses"].items()}
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        log.warning("%s cannot be read (%s); the weights are packed again", path, error)
        return None
    log.warning("%s is damaged or was altered; the weights are packed again", path)
    return None


def _in_large_pages(mapping: mmap.mmap) -> mmap.mmap:
    """Ask for the file to be kept in large pages, where the system can: read in small ones, memory is half as fast."""
    with contextlib.suppress(OSError, AttributeError):  # no such pages, or no such call
        mapping.madvise(mmap.MADV_HUGEPAGE)
    return mapping


def _places(sizes: Mapping[str, int]) -> tuple[dict[str, int], int]:
    """Where each tensor begins, and where the last one ends."""
    places = {}
    at = 0
    for name, size in sizes.items():
        places[name] = at
        at += -(-size // PAGE) * PAGE
    return places, at


def _header(file: BinaryIO) -> dict[str, Any] | None:
    """What the end of a file says; None if it is not as it was written, or not where the weights end."""
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
    try:
        header = json.loads(text)
    except ValueError:
        return None
    fields = ("identity", "checksums", "losses")
    whole = isinstance(header, dict) and all(isinstance(header.get(each), dict) for each in fields)
    return header if whole else None


def _checksums(memory: Memory, threads: int) -> dict[str, int]:
    with ThreadPoolExecutor(threads) as pool:
        return dict(zip(memory, pool.map(native.checksum, memory.values()), strict=True))


def drop_outdated(folder: Path) -> None:
    """Remove what no start will map: of model files that are gone or changed, of other versions, or left half done."""
    for path in folder.glob("*.packed"):
        try:
            with path.open("rb") as file:
                header = _header(file)
        except OSError:
            continue
        if header is None or not _is_current(header["identity"]):
            path.unlink(missing_ok=True)
    for path in folder.glob("*.partial"):
        try:
            with path.open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # a process that ended holds no lock any more
        except OSError:
            continue
        path.unlink(missing_ok=True)


def _is_current(identity: Mapping[str, Any]) -> bool:
    return identity.get("version") == VERSION and all(_state(name) == state for name, *state in identity["files"])


def _state(path: str) -> list[int] | None:
    """As model.files.file_states has it, in JSON's terms."""
    try:
        status = Path(path).stat()
    except OSError:
        return None
    return [status.st_ino, status.st_size, status.st_mtime_ns]
