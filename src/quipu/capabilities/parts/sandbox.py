"""Running Python code that nobody has looked at, so that all it can do is compute.

The code runs in a process of its own (``sandbox_child.py``), locked in by the Linux kernel before its first line is
read: a filter of system calls (``seccomp.py``) leaves it no file, socket, process, signal or thread, and limits end it
when it takes too much memory, processor time or output. The process is told which calls to evaluate, not what they
should give: values come back as JSON, and who asked compares. So a forged value is of no use to the code. Needs neither
privileges nor a container; where it does not work, nothing is run.
"""

from __future__ import annotations

import ast
import json
import marshal
import os
import platform
import select
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from quipu.capabilities.parts import seccomp
from quipu.errors import SandboxUnavailable

MEMORY_BYTES = 256 << 20
"""Address space, the interpreter's own included."""
PROCESSOR_SECONDS = 2
WALL_SECONDS = 15.0
OUTPUT_BYTES = 64 << 10
"""Most bytes of all values together."""
LONGEST_CODE = 100_000
"""Characters; more is no answer of a model."""

MODULES = frozenset(
    [
        "abc",
        "array",
        "base64",
        "bisect",
        "calendar",
        "cmath",
        "collections",
        "copy",
        "dataclasses",
        "datetime",
        "decimal",
        "enum",
        "fractions",
        "functools",
        "heapq",
        "itertools",
        "json",
        "math",
        "numbers",
        "operator",
        "random",
        "re",
        "statistics",
        "string",
        "struct",
        "textwrap",
        "time",
        "typing",
        "unicodedata",
        "zlib",
    ]
)
"""What the code can import: modules that compute. They are imported before files are out of reach."""
LATER_IMPORTS = {"datetime": "_strptime"}
"""What a module imports only when it is used."""

EXITED = "the code ended its process"
CHILD = Path(__file__).with_name("sandbox_child.py")
_AT_ONCE = threading.BoundedSemaphore(max(2, os.cpu_count() or 1))


@dataclass(frozen=True, slots=True)
class Unknown:
    """A value of a type that is not told, say a generator; it equals no other."""

    type: str

    def __repr__(self) -> str:
        return f"a value of the type {self.type}"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a call gave: ``value``, or, where ``error`` is not empty, none."""

    value: Any = None
    error: str = ""


def evaluate(code: str, calls: Sequence[str]) -> list[Outcome]:
    """What each of ``calls``, Python expressions, gives after ``code`` has run, in order, in one locked process.

    Raises SandboxUnavailable where the kernel cannot lock it; then nothing has run.
    """
    program = _program()
    job = marshal.dumps((program, MEMORY_BYTES, PROCESSOR_SECONDS, _modules(code), code, tuple(calls)))
    with _AT_ONCE:
        received, end = _run(job)
    *lines, _ = received.split(b"\n")  # what stands after the last line feed is half a line
    locked = _decoded(lines[0]) if lines else None
    if locked != "protected":
        why = locked.get("unprotected") if isinstance(locked, dict) else None
        raise _unavailable(why or f"{sys.executable} did not start ({end or 'it said nothing'})")
    started, *told = [_outcome(line) for line in lines[1 : len(calls) + 2]] or [Outcome(error=end or EXITED)]
    if started.error:
        return [started] * len(calls)
    return told + [Outcome(error=end or EXITED)] * (len(calls) - len(told))


def check_available() -> None:
    """Raises SandboxUnavailable on a machine that is known not to lock code in; ``evaluate`` finds out the rest."""
    _program()


def parsed(code: str) -> ast.Module:
    """The syntax tree of ``code``. Raises SyntaxError, also for what is too long or too deep to be read."""
    if len(code) > LONGEST_CODE:
        raise SyntaxError(f"the code has {len(code):,} characters; {LONGEST_CODE:,} are the most")
    # Escapes that Python warns of are the model's doing, not ours. This adds a filter once, and unlike
    # catch_warnings changes nothing for other threads.
    warnings.filterwarnings("ignore", module="<answer>")
    try:
        return ast.parse(code, "<answer>")
    except (ValueError, RecursionError, MemoryError) as error:
        raise SyntaxError(f"the code cannot be read: {error or 'it is too deep'}") from None


def _program() -> bytes:
    """The filter for this machine."""
    machine = platform.machine()
    if sys.platform != "linux":
        raise _unavailable(f"it needs Linux, and this is {platform.system()}")
    if machine not in seccomp.MACHINES or sys.maxsize < 2**32:
        raise _unavailable(f"it needs Linux on {' or '.join(seccomp.MACHINES)}, and this is {machine}")
    if not sys.executable:
        raise _unavailable("Python does not know its own program (sys.executable is empty)")
    return seccomp.program(machine)


def _unavailable(why: str) -> SandboxUnavailable:
    return SandboxUnavailable(
        f"code of a model is run only locked in by the kernel, which is not possible here: {why}; "
        "leave out tests, or use a Linux machine or container that permits seccomp"
    )


def _modules(code: str) -> tuple[str, ...]:
    """What ``code`` imports of MODULES."""
    try:
        nodes = list(ast.walk(parsed(code)))
    except SyntaxError:
        return ()  # which is told again, when the code is run
    named = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    named += [node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module and not node.level]
    known = [name for name in named if name.partition(".")[0] in MODULES]
    return tuple(dict.fromkeys(known + [LATER_IMPORTS[name] for name in known if name in LATER_IMPORTS]))


def _run(job: bytes) -> tuple[bytes, str]:
    """What the process wrote, and why it ended if not by itself."""
    given = os.memfd_create("job")
    try:
        os.write(given, job)
        os.lseek(given, 0, os.SEEK_SET)
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-B", "-X", "utf8", str(CHILD)],
            stdin=given,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={},
            cwd="/",
            start_new_session=True,
        )
    finally:
        os.close(given)
    with process:
        try:
            return _read(process)
        finally:
            # Not yet waited for if it lives, so that the number is still its own.
            if process.returncode is None:
                os.killpg(process.pid, signal.SIGKILL)


def _read(process: subprocess.Popen[bytes]) -> tuple[bytes, str]:
    assert process.stdout is not None
    deadline = time.monotonic() + WALL_SECONDS
    source = process.stdout.fileno()
    ready = select.poll()
    ready.register(source, select.POLLIN)
    received = bytearray()
    while ready.poll(max(0.0, deadline - time.monotonic()) * 1000):
        piece = os.read(source, OUTPUT_BYTES)
        received += piece
        if len(received) > OUTPUT_BYTES:
            return bytes(received[:OUTPUT_BYTES]), f"the values have more than {OUTPUT_BYTES >> 10} KB"
        if not piece:
            return bytes(received), _end(process.wait(WALL_SECONDS))
    return bytes(received), f"the code took longer than {WALL_SECONDS:.0f} s"


def _end(status: int) -> str:
    if status == -signal.SIGXCPU:
        return f"the code took more than {PROCESSOR_SECONDS} s of processor time"
    if status < 0:
        return f"the code crashed its process ({signal.Signals(-status).name})"
    return ""


def _decoded(line: bytes) -> Any:
    """The JSON of a line; None if it is none."""
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


def _outcome(line: bytes) -> Outcome:
    """What a line says, whoever wrote it."""
    said = _decoded(line)
    if said is None and line == b"null":
        return Outcome()
    if isinstance(said, dict) and len(said) == 1:
        if isinstance(error := said.get("error"), str):
            return Outcome(error=error[:200] or "an error without a name")
        try:
            return Outcome(_value(said["value"]))
        except (KeyError, TypeError, ValueError, RecursionError):
            pass  # no line of ours
    return Outcome(error="what the code gave cannot be read")


def _value(told: Any) -> Any:
    """A Python value from what ``sandbox_child.encoded`` makes of one. Raises TypeError and the like if none is."""
    if isinstance(told, list):
        return [_value(each) for each in told]
    if not isinstance(told, dict):
        return told
    [(kind, inner)] = told.items()
    if kind in ("float", "other"):
        return float(inner) if kind == "float" else Unknown(str(inner)[:80])
    values = [_value(each) for each in inner]
    return {"tuple": tuple, "set": set, "dict": dict}[kind](values)
