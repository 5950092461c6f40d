"""What of a file under way is finished, so that ``kill -9`` or a power cut costs no more than the last second."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from quipu.engine.packing import Loss
from quipu.errors import InvalidRequest

SECONDS = 1.0
"""Between two times at which what was written is made to last, and noted."""


class Journal:
    """Lines of JSON beside the half-written file ``part``: what is being made of what, then each piece with its loss.

    A piece is noted once its bytes are on the disk. ``finished``: the pieces of an earlier run that was ended. Raises
    InvalidRequest where that run made another file, or is still at it.
    """

    def __init__(self, path: Path, part: Path, identity: Mapping[str, Any]) -> None:
        self._path, self._part = path, part
        self._file = path.open("a+b")
        try:
            self.finished = self._begin(identity)
        except BaseException:
            self._file.close()
            raise
        self._waiting: list[bytes] = []
        self._last = time.monotonic()

    def _begin(self, identity: Mapping[str, Any]) -> dict[str, Loss]:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise InvalidRequest(
                f"another quipu quantize is writing {self._part}; wait for it, or give another --out", param="out"
            ) from None
        self._file.seek(0)
        lines = [line for line in self._file if line.endswith(b"\n")]  # the last one may have been cut off
        wanted = json.dumps(identity, sort_keys=True).encode() + b"\n"
        if lines and self._part.exists():
            self._check(lines[0], wanted, identity)
            if self._part.stat().st_size == identity["size"]:
                self._file.truncate(sum(map(len, lines)))
                return dict(map(self._noted, lines[1:]))
        self._part.unlink(missing_ok=True)
        self._file.truncate(0)
        self._file.write(wanted)
        self._file.flush()
        return {}

    def _noted(self, line: bytes) -> tuple[str, Loss]:
        try:
            piece, squared_error, squared = json.loads(line)
            return str(piece), Loss(float(squared_error), float(squared))
        except (ValueError, TypeError):
            raise InvalidRequest(
                f"{self._path} is damaged; remove it and {self._part} to begin anew", param="out"
            ) from None

    def _check(self, found: bytes, wanted: bytes, identity: Mapping[str, Any]) -> None:
        if found == wanted:
            return
        before: dict[str, Any] = {}
        with contextlib.suppress(ValueError):
            before = json.loads(found)
        changed = before.get("files") != identity["files"]
        reason = "the checkpoint was changed since" if changed else "it was begun from or to something else"
        raise InvalidRequest(
            f"{self._part} cannot be gone on with: {reason}. Remove {self._part} and {self._path} to begin anew, or "
            "give another --out",
            param="out",
        )

    def add(self, piece: str, loss: Loss, descriptor: int) -> None:
        """Note that ``piece`` was written to ``descriptor``; now and then it is made to last."""
        self._waiting.append(json.dumps([piece, loss.squared_error, loss.squared]).encode() + b"\n")
        if time.monotonic() - self._last >= SECONDS:
            self.settle(descriptor)

    def settle(self, descriptor: int) -> None:
        """Wait until what was written to ``descriptor`` is on the disk, then note it."""
        os.fdatasync(descriptor)
        self._file.write(b"".join(self._waiting))
        self._file.flush()
        os.fsync(self._file.fileno())
        self._waiting.clear()
        self._last = time.monotonic()

    def remove(self) -> None:
        """There is nothing to go on with any more."""
        self._path.unlink(missing_ok=True)

    def close(self) -> None:
        """Let others at it."""
        self._file.close()
