"""What a batch has done so far, beside its output: a line for each finished row, on disk before the next is begun.

The first line says what the batch is. A last line that was being written when the process ended is cut off. Once every
row is finished, a line says that those which failed are not: they are asked again when the journal is taken up.
"""

from __future__ import annotations

import fcntl
import json
import os
from array import array
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from quipu.errors import InvalidRequest, StorageFailed


class Journal:
    """The journal at ``path`` for ``rows`` rows, created or taken up again.

    Raises InvalidRequest when it is another batch's, damaged, or being written by another process, and StorageFailed.
    """

    def __init__(self, path: Path, header: Mapping[str, Any], rows: int) -> None:
        self.path = path
        self.finished = 0
        self._places = array("q", [-1]) * rows
        self._failed: set[int] = set()
        try:
            self._file = path.open("a+b", buffering=0)
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._file.close()
            raise InvalidRequest(f"{path} is being written by another process; wait for it", param="output") from None
        except OSError as error:
            raise StorageFailed(f"{path} cannot be written: {error.strerror}") from None
        try:
            self._take_up(json.loads(json.dumps(header)))
        except BaseException:
            self._file.close()
            raise

    def _take_up(self, header: dict[str, Any]) -> None:
        """Read what there is, and cut off what was not written to its end."""
        self._file.seek(0)
        beginning = self._file.read(1 << 20) or b""
        if b"\n" not in beginning and not _line_of(header).startswith(beginning):
            raise self._damaged(1)  # not even a torn journal: somebody's file
        self._file.seek(0)
        place = 0
        with os.fdopen(os.dup(self._file.fileno()), "rb") as lines:
            for number, line in enumerate(lines, 1):
                if not line.endswith(b"\n"):
                    break
                self._line(line, number, place, header)
                place += len(line)
        self._file.truncate(place)
        if not place:
            self._write(header)

    def _line(self, line: bytes, number: int, place: int, header: dict[str, Any]) -> None:
        try:
            value = json.loads(line)
            if number == 1:
                self._compare(value, header)
            elif "again" in value:
                self._forget_failed()
            elif self._places[value["row"]] < 0:
                self._note(value["row"], place, value)
        except (ValueError, TypeError, LookupError, AttributeError):
            raise self._damaged(number) from None

    def _damaged(self, number: int) -> InvalidRequest:
        return InvalidRequest(
            f"{self.path}, line {number}: the journal is damaged; delete it to begin again", param="output"
        )

    def _compare(self, found: dict[str, Any], header: dict[str, Any]) -> None:
        different = [name for name in {**header, **found} if found.get(name) != header.get(name)]
        if different:
            raise InvalidRequest(
                f"{self.path} was begun with another {' and another '.join(different)}; "
                "call it as then to go on, or delete it to begin again",
                param="output",
            )

    def has(self, row: int) -> bool:
        """Whether ``row``, counted from 0, is finished."""
        return self._places[row] >= 0

    def add(self, row: int, result: Mapping[str, Any]) -> None:
        """Write that ``row`` is finished; on disk when this returns. Raises StorageFailed."""
        place = self._file.seek(0, os.SEEK_END)
        self._write({"row": row, **result})
        self._note(row, place, result)

    def _note(self, row: int, place: int, result: Mapping[str, Any]) -> None:
        self._places[row] = place
        self.finished += 1
        if "error" in result:
            self._failed.add(row)

    def ask_again(self) -> None:
        """Write that the rows which failed are not finished after all."""
        self._write({"again": True})
        self._forget_failed()

    def _forget_failed(self) -> None:
        for row in self._failed:
            self._places[row] = -1
        self.finished -= len(self._failed)
        self._failed.clear()

    def result(self, row: int) -> dict[str, Any]:
        """What was added for ``row``."""
        self._file.seek(self._places[row])
        found: dict[str, Any] = json.loads(self._file.readline())
        return found

    def _write(self, value: Mapping[str, Any]) -> None:
        line = _line_of(value)
        try:
            while line:
                line = line[self._file.write(line) or 0 :]
            os.fsync(self._file.fileno())
        except OSError as error:
            raise StorageFailed(
                f"{self.path} cannot be written: {error.strerror}; make room and call it again: "
                f"{self.finished} finished rows are kept"
            ) from None

    def delete(self) -> None:
        """It is of no use any more."""
        self.path.unlink()

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()


def _line_of(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value).encode() + b"\n"
