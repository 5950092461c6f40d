"""A process that is measured, from outside: start it, ask it, end it."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any

from quipu.errors import MeasurementFailed


class Child:
    """Runs ``worker`` with a job until closed. Raises MeasurementFailed with what it said last."""

    def __init__(self, job: Mapping[str, Any], environment: Mapping[str, str]) -> None:
        self._name = job["kind"]
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the child
        self._process = subprocess.Popen(
            [sys.executable, "-m", "quipu.bench.worker", json.dumps(job)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            text=True,
            env={**os.environ, **environment},
        )
        try:
            self._answer()
        except BaseException:
            self.close()
            raise

    def ask(self, question: str, **more: Any) -> Any:
        """The answer to one question."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it is gone: there is no answer then
            self._process.stdin.write(json.dumps({"ask": question, **more}) + "\n")
            self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            code = self._process.wait()
            self._said.seek(0)
            last = last_line(self._said.read())
            raise MeasurementFailed(f"the process of {self._name} ended with {code}: {last or 'no message'}")
        found = json.loads(line)
        if "error" in found:
            raise MeasurementFailed(found["error"])
        return found["value"]

    def close(self) -> None:
        """End it."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
        self._said.close()

    def __enter__(self) -> Child:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self._process.kill()
        self.close()


def seconds_to_first_byte(command: Sequence[str], environment: Mapping[str, str]) -> float:
    """From starting ``command`` to the first byte on its standard output. Raises MeasurementFailed."""
    start = time.perf_counter()
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        bufsize=0,
        env={**os.environ, **environment},
    ) as process:
        assert process.stdout is not None
        first = process.stdout.read(1)
        elapsed = time.perf_counter() - start
        process.kill()
        if not first:
            assert process.stderr is not None
            said = last_line(process.stderr.read())
            raise MeasurementFailed(f"{' '.join(command[:4])} answered nothing: {said}")
    return elapsed


def last_line(said: bytes) -> str:
    """Of what a process wrote, which is where it says why it ended; "" if it wrote nothing."""
    return "".join(said.decode(errors="replace").strip().splitlines()[-1:])
