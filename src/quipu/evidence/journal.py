"""What was measured, line by line, so that a measurement that was cut off goes on where it stopped."""

from __future__ import annotations

import errno
import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from quipu.errors import InvalidRequest, StorageFailed


class Journal:
    """A JSON Lines file that is only appended to. Its first line says what was measured; another such is refused.

    A line counts once it is whole and on the disk. What a crash left of the last line is cut off when it is opened.
    Raises InvalidRequest when the file is of another measurement or no journal, StorageFailed when it cannot be
    written.
    """

    def __init__(self, path: Path, about: Mapping[str, Any]) -> None:
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("ab+", buffering=0)
        except OSError as error:
            raise StorageFailed(f"{path} cannot be written: {error.strerror}") from None
        try:
            self._lock()
            self.lines = list(self._read())
            self._check(about)
        except BaseException:
            self._file.close()
            raise

    def append(self, line: Mapping[str, Any]) -> None:
        """Add a line; it is on the disk when this returns."""
        written = json.dumps(line, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode() + b"\n"
        end = self._file.seek(0, os.SEEK_END)
        try:
            if self._file.write(written) != len(written):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(self._file.fileno())
        except OSError as error:
            os.truncate(self.path, end)  # half a line would hide the next one
            raise StorageFailed(
                f"{self.path} cannot be written: {error.strerror}; what was measured until now is kept, run it again "
                "to go on"
            ) from None
        self.lines.append(dict(line))

    def close(self) -> None:
        """Close the file. Idempotent."""
        self._file.close()

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _lock(self) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InvalidRequest(f"{self.path} is being written by another measurement; wait for it") from None

    def _read(self) -> Iterator[dict[str, Any]]:
        whole = 0
        for line in self.path.read_bytes().splitlines(keepends=True):
            if not line.endswith(b"\n"):
                break
            try:
                value = json.loads(line)
            except ValueError:
                value = None
            if not isinstance(value, dict):
                raise InvalidRequest(f"{self.path} is no journal of a measurement: a line of it is not an object")
            whole += len(line)
            yield value
        self._file.truncate(whole)

    def _check(self, about: Mapping[str, Any]) -> None:
        expected = json.loads(json.dumps(about))
        if not self.lines:
            self.append(expected)
        elif self.lines[0] != expected:
            differs = [name for name in expected if self.lines[0].get(name) != expected[name]]
            raise InvalidRequest(
                f"{self.path} is of another measurement: {', '.join(differs) or 'its first line'} differs; "
                "remove it, or measure into another file"
            )
