"""The process in which code of unknown intent runs: it locks itself in, then evaluates calls and tells their values.

``sandbox.py`` starts this file with ``-I -S``: nothing of quipu, nor of what is installed, can be imported here. It
reads one job from standard input. On standard output it writes lines of JSON: first whether it is locked in, then what
became of running the code, then of each call. Nothing here is to be relied on once the code runs, which may change all
of it: the kernel holds the lock, and what a right value is, this process does not know.
"""

from __future__ import annotations

import ctypes
import errno
import marshal
import os
import resource
import sys
from _json import encode_basestring_ascii

TYPE_CHECKING = False  # without importing typing, as every import costs each run
if TYPE_CHECKING:
    from collections.abc import Iterable

# include/uapi/linux/prctl.h
PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS = 1, 4, 22, 38
SECCOMP_MODE_FILTER = 2
SIGKILL = 9
INSTRUCTION_BYTES = 8
STACK_BYTES = 8 << 20


class Program(ctypes.Structure):
    """``struct sock_fprog``."""

    _fields_ = (("length", ctypes.c_ushort), ("steps", ctypes.c_char_p))


class Nowhere:
    """A standard output that drops what is printed."""

    def write(self, text: str) -> int:
        """Tell how much would have been written."""
        return len(text)

    def flush(self) -> None:
        """There is nothing to flush."""


def lock(program: bytes, memory: int, seconds: int) -> None:
    """Give up everything but computing. Raises OSError if the kernel does not take it."""
    for limit, value in (
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_STACK, STACK_BYTES),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NPROC, 0),
        (resource.RLIMIT_NOFILE, 0),
    ):
        lower(limit, value, value)
    lower(resource.RLIMIT_CPU, seconds, seconds + 1)  # SIGXCPU, which tells why it ended; then SIGKILL
    control(PR_SET_PDEATHSIG, SIGKILL)
    control(PR_SET_DUMPABLE, 0)
    control(PR_SET_NO_NEW_PRIVS, 1)
    rules = Program(len(program) // INSTRUCTION_BYTES, program)
    control(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.addressof(rules))
    try:
        os.close(os.open("/", os.O_RDONLY))
    except OSError as error:
        if error.errno != errno.EPERM:  # the limit of descriptors alone would say EMFILE
            raise
    else:
        raise PermissionError("the filter of system calls has no effect")


def lower(limit: int, soft: int, hard: int) -> None:
    """Set a limit; one that is lower already stays."""
    most = resource.getrlimit(limit)[1]
    if most != resource.RLIM_INFINITY:
        soft, hard = min(soft, most), min(hard, most)
    resource.setrlimit(limit, (soft, hard))


def control(option: int, *values: int) -> None:
    """prctl(2)."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, *(ctypes.c_ulong(value) for value in (*values, 0, 0, 0, 0)[:4])) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"prctl {option}: {os.strerror(number)}")


def main() -> None:
    """Read the job, lock the door, run the code, evaluate the calls."""
    try:
        with os.fdopen(0, "rb") as given:
            program, memory, seconds, modules, code, calls = marshal.loads(given.read())
        for name in modules:
            import_if_there(name)
        sys.stdout = sys.stderr = Nowhere()  # as much of a file as print needs
        lock(program, memory, seconds)
    except Exception as error:
        tell(told("unprotected", f"{type(error).__name__}: {error}"))
        return
    tell('"protected"')
    run(code, calls)


def import_if_there(name: str) -> None:
    """A name that no module has is the code's mistake, told when the code is run."""
    try:
        __import__(name)
    except ImportError:
        return


def run(code: str, calls: Iterable[str]) -> None:
    """What becomes of ``code``, and of each call in its namespace."""
    module = type(sys)("solution")
    sys.modules["solution"] = module
    namespace = module.__dict__
    try:
        exec(compile(code, "solution", "exec"), namespace)
    except BaseException as error:  # also SystemExit
        tell(told("error", text_of(error)))
        return
    tell("null")
    for call in calls:
        try:
            line = told("value", None, encoded(eval(call, namespace)))
        except BaseException as error:
            line = told("error", text_of(error))
        tell(line)


def tell(line: str) -> None:
    """One line to standard output, past whatever the code made of ``sys.stdout``."""
    os.write(1, line.encode() + b"\n")


def told(key: str, text: str | None, value: str = "") -> str:
    """A JSON object of one key."""
    return '{"' + key + '":' + (value if text is None else encode_basestring_ascii(text)) + "}"


def text_of(error: BaseException) -> str:
    """The error in one line of at most 200 characters."""
    try:
        return " ".join(f"{type(error).__name__}: {error}".split()).rstrip(":")[:200]
    except BaseException:
        return "an error that cannot be shown"


def encoded(value: object) -> str:
    """``value`` as JSON; what JSON does not have as an object of one key, which names its type."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, int):
        return int.__repr__(value)
    if isinstance(value, float):
        if value - value != 0:  # infinite, or not a number
            return told("float", float.__repr__(value))
        return float.__repr__(value)
    if isinstance(value, str):
        return encode_basestring_ascii(value)
    if isinstance(value, list):
        return sequence(value)
    if isinstance(value, tuple):
        return told("tuple", None, sequence(value))
    if isinstance(value, (set, frozenset)):
        return told("set", None, sequence(value))
    if isinstance(value, dict):
        return told("dict", None, sequence(dict.items(value), "list"))
    return told("other", type(value).__name__)


def sequence(values: Iterable[object], each: str = "") -> str:
    """A JSON array; with ``each``, of pairs as lists."""
    return "[" + ",".join(encoded(list(value) if each else value) for value in values) + "]"  # type: ignore[call-overload]


if __name__ == "__main__":
    main()
    # Without the interpreter's own end, which would run what the code left to be run.
    os._exit(0)
