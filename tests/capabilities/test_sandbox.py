"""Code that tries to get out: each test asserts that what it tried did not happen."""

import math
import os
import platform
import re
import signal
import socket
import struct
import sys
import time
from pathlib import Path

import psutil
import pytest

from quipu.capabilities.parts import sandbox, sandbox_child, seccomp
from quipu.capabilities.parts.sandbox import Outcome, Unknown, check_available, evaluate, parsed
from quipu.errors import SandboxUnavailable

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() not in seccomp.MACHINES, reason="the sandbox needs Linux"
)

LIBC = """
import sys
ctypes = sys.modules['ctypes']
libc = ctypes.CDLL(None, use_errno=True)
def c(name, *arguments):
    result = getattr(libc, name)(*arguments)
    return result, ctypes.get_errno()
"""
REFUSED = (-1, 1)
"""What a C function gives when the filter refuses its system call: -1 and EPERM."""


@pytest.fixture(autouse=True)
def _nothing_is_left() -> None:
    mine = psutil.Process()
    before = {child.pid for child in mine.children(recursive=True)}
    yield
    after = {child.pid for child in mine.children(recursive=True)}
    assert after <= before, "a process is left"


def one(code: str, call: str = "f()") -> Outcome:
    [outcome] = evaluate(code, [call])
    return outcome


# ---- what it is for


def test_values_come_back_as_they_are() -> None:
    values = [
        None, True, -3, 2.5, float("inf"), 10**300, "tëxt\n\x00", [1, [2]], (1, (2,)), {1, 2}, {1: {"a": (None,)}},
        [], {},
    ]  # fmt: skip
    told = [each.value for each in evaluate("from math import inf", [repr(value) for value in values])]
    assert told == values
    assert [type(each) for each in told] == [type(each) for each in values]
    assert math.isnan(one("", "float('nan')").value)


def test_other_values_are_told_by_their_type() -> None:
    assert one("def f(): yield 1").value == Unknown("generator")
    assert one("class Thing: pass", "Thing()").value == Unknown("Thing")
    assert one("from collections import Counter", "Counter('aab')").value == {"a": 2, "b": 1}
    assert repr(Unknown("generator")) == "a value of the type generator"


def test_modules_that_compute_can_be_imported() -> None:
    imports = "\n".join(f"import {name}" for name in sorted(sandbox.MODULES))
    assert one(imports, "True") == Outcome(True)
    later = (
        "import datetime\nfrom collections.abc import Sequence\nf = lambda: str(datetime.datetime.strptime('2', '%d'))"
    )
    assert one(later) == Outcome("1900-01-02 00:00:00")


@pytest.mark.parametrize(
    "name", ["socket", "subprocess", "numpy", "quipu", "json.nothing", "multiprocessing", "asyncio"]
)
def test_other_modules_cannot(name: str) -> None:
    assert one(f"import {name}", "1").error.startswith("ModuleNotFoundError")


def test_each_call_has_its_outcome() -> None:
    outcomes = evaluate("def f(x): print(x); return 1 / x", ["f(1)", "f(0)", "f(", "f(2)"])
    assert [each.value for each in outcomes] == [1.0, None, None, 0.5]
    assert outcomes[1].error == "ZeroDivisionError: division by zero"
    assert outcomes[2].error.startswith("SyntaxError")


@pytest.mark.parametrize("code", ["def f(:", "raise ValueError('no')", "import sys; sys.exit(0)", "x = '\0'", "1 / 0"])
def test_code_that_does_not_begin_fails_every_call(code: str) -> None:
    outcomes = evaluate(code, ["1", "2"])
    assert all(each.error for each in outcomes)
    assert len(outcomes) == 2


def test_it_is_quick() -> None:
    evaluate("", ["1"])
    times = []
    for _ in range(5):
        start = time.process_time(), os.times().children_user + os.times().children_system
        evaluate("def f(x): return x", ["f(1)"])
        end = time.process_time(), os.times().children_user + os.times().children_system
        times.append(end[0] - start[0] + end[1] - start[1])
    assert min(times) < 0.2  # processor time: some 20 ms


# ---- files, secrets


def test_files_are_not_written(tmp_path: Path) -> None:
    target = tmp_path / "written"
    for how in (f"open({str(target)!r}, 'w').write('x')", f"__import__('posix').mkdir({str(target)!r})"):
        assert "PermissionError" in one(f"def f(): return {how}").error
    for function, flags in (("creat", 0o600), ("open", 0o102), ("mkdir", 0o700), ("mknod", 0o600)):
        assert one(LIBC, f"c('{function}', {str(target).encode()!r}, {flags}, 0o600)").value == REFUSED
    assert not target.exists()


def test_files_are_not_changed_or_removed(tmp_path: Path) -> None:
    target = tmp_path / "kept"
    target.write_text("kept")
    path = str(target)
    for how in (
        f"os.remove({path!r})",
        f"os.truncate({path!r}, 0)",
        f"os.rename({path!r}, {path + '2'!r})",
        f"os.chmod({path!r}, 0)",
    ):
        assert "PermissionError" in one(f"import os\ndef f(): return {how}").error
    assert target.read_text() == "kept"


@pytest.mark.parametrize(
    "path", ["/etc/passwd", "/proc/self/environ", "/proc/self/mem", "/proc/1/environ", __file__, "/"]
)
def test_files_are_not_read(path: str) -> None:
    assert "PermissionError" in one(f"def f(): return open({path!r}, 'rb').read()").error
    assert "PermissionError" in one(f"import os\ndef f(): return os.listdir({path!r})").error
    assert one(LIBC, f"c('open', {path.encode()!r}, 0)").value == REFUSED


def test_secrets_of_the_environment_are_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_TOKEN", "hunter2")
    seen = one("import os, sys\ndef f(): return [dict(os.environ), sys.argv, str(sys.flags)]").value
    assert "hunter2" not in str(seen)
    assert "SECRET_TOKEN" not in str(seen)


def test_no_descriptor_of_ours_is_open(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("hunter2")
    with secret.open() as opened:
        os.set_inheritable(opened.fileno(), True)
        read = "import os\ndef f(n):\n  try: return os.read(n, 100)\n  except OSError as error: return error.errno"
        assert {each.value for each in evaluate(read, [f"f({n})" for n in range(64)])} == {1}
        write = "import os\ndef f(n):\n  try: return os.write(n, b'x')\n  except OSError as error: return error.errno"
        assert {each.value for each in evaluate(write, [f"f({n})" for n in range(64) if n != 1])} == {1}


# ---- network, processes, kernel


def test_no_connection_is_made() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.2)
        port = server.getsockname()[1]
        assert one(f"import socket\nsocket.create_connection(('127.0.0.1', {port}))", "1").error
        for family in (1, 2, 10, 16):  # unix, inet, inet6, netlink
            assert one(LIBC, f"c('socket', {family}, 1, 0)").value == REFUSED
        with pytest.raises(TimeoutError):
            server.accept()


@pytest.mark.parametrize(
    "how",
    [
        "os.fork()", "os.system('touch {}')", "os.execv('/bin/touch', ['touch', '{}'])", "os.popen('touch {}')",
        "os.posix_spawn('/bin/touch', ['touch', '{}'], {{}})", "__import__('_thread').start_new_thread(print, ())",
        "__import__('_posixsubprocess')",
    ],
)  # fmt: skip
def test_no_process_or_thread_begins(how: str, tmp_path: Path) -> None:
    target = tmp_path / "touched"
    outcome = one(f"import os\ndef f(): return {how.format(target)}")
    assert outcome.error or outcome.value in (-1, 32512, 256)  # os.system says -1 or a status
    assert not target.exists()


def test_a_fork_bomb_is_none() -> None:
    bomb = """
import os
def f():
    made = 0
    for _ in range(1000):
        try:
            os.fork()
            made += 1
        except OSError:
            pass
    return made
"""
    assert one(bomb) == Outcome(0)


def test_other_processes_get_no_signal() -> None:
    got: list[int] = []
    before = signal.signal(signal.SIGUSR1, lambda number, frame: got.append(number))
    try:
        outcome = one(f"import os\ndef f(): return os.kill({os.getpid()}, {int(signal.SIGUSR1)})")
        assert "PermissionError" in outcome.error
        for name in ("kill", "tgkill", "killpg"):
            assert one(LIBC, f"c('{name}', {os.getpid()}, {int(signal.SIGUSR1)}, 0)").value == REFUSED
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert got == []


@pytest.mark.parametrize(
    "call",
    [
        "c('ptrace', 16, 1, 0, 0)",
        "c('memfd_create', b'x', 0)",
        "c('shmget', 1, 4096, 0o1600)",
        "c('unshare', 0x10000000)",
        "c('mount', b'a', b'/', b'b', 0, 0)",
        "c('prctl', 38, 0, 0, 0, 0)",
        "c('prctl', 22, 0, 0, 0, 0)",
        "c('setrlimit', 0, ctypes.create_string_buffer(16))",
        "c('syscall', 425, 1, 0)",
        "c('pipe', ctypes.create_string_buffer(8))",
        "c('dup2', 1, 5)",
        "c('eventfd', 0, 0)",
        "c('chdir', b'/tmp')",
        "c('setuid', 0)",
        "c('personality', 0)",
        "c('process_vm_readv', 1, 0, 0, 0, 0, 0)",
        "c('sethostname', b'x', 1)",
        "c('fcntl', 1, 4, 2048)",
        "c('close', 1)",
        "c('inotify_init')",
        "c('mq_open', b'/x', 0)",
        "c('sched_setaffinity', 0, 8, ctypes.create_string_buffer(8))",
    ],
)
def test_the_kernel_refuses(call: str) -> None:
    assert one(LIBC, call).value == REFUSED


def test_every_other_system_call_is_refused() -> None:
    its = seccomp.MACHINES[platform.machine()]
    allowed = {its.write, its.mmap, its.mprotect, *its.free.values()}
    numbers = [number for number in range(600) if number not in allowed]
    if platform.machine() == "x86_64":
        # uretprobe and uprobe: newer kernels answer them with SIGILL before any filter.
        numbers = [number for number in numbers if number not in (335, 336)]
        numbers += [0x40000000 + number for number in range(600)]  # the x32 ones
    tried = f"[n for n in {numbers} if c('syscall', n, 0, 0, 0, 0, 0, 0) != (-1, 1)]"
    assert one(LIBC, tried) == Outcome([])


def test_no_memory_is_made_executable() -> None:
    mapped = "c('mmap', None, 4096, {}, 0x22, -1, 0)"
    assert one(LIBC, mapped.format(7)).value == REFUSED
    assert one(LIBC, mapped.format(5)).value == REFUSED
    assert one(LIBC, mapped.format(3)).value[0] != -1
    assert one(LIBC, "c('mprotect', ctypes.c_void_p(libc.sbrk(0) & -4096), 4096, 7)").value == REFUSED


# ---- too much


def test_an_endless_loop_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "PROCESSOR_SECONDS", 1)
    outcomes = evaluate("def f(x):\n  while x: pass\n  return x", ["f(0)", "f(1)", "f(0)"])
    assert outcomes[0] == Outcome(0)
    assert [each.error for each in outcomes[1:]] == ["the code took more than 1 s of processor time"] * 2


def test_signals_cannot_be_put_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "PROCESSOR_SECONDS", 1)
    deaf = """
import _signal
for number in range(1, 65):
    try:
        _signal.signal(number, _signal.SIG_IGN)
    except (OSError, ValueError):
        pass
while True:
    pass
"""
    assert one(deaf).error == "the code took more than 1 s of processor time"


def test_sleep_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "WALL_SECONDS", 1.0)
    start = time.monotonic()
    assert one("import time", "time.sleep(1000)").error == "the code took longer than 1 s"
    assert time.monotonic() - start < 20


@pytest.mark.parametrize(
    "bomb", ["bytearray(10**9)", "[0] * 10**9", "'x' * 10**10", "list(range(10**8))", "[[]]*2**28"]
)
def test_memory_bombs_are_errors(bomb: str) -> None:
    assert one("", bomb).error == "MemoryError"


def test_big_numbers_and_deep_recursion_are_errors() -> None:
    assert "ValueError" in one("", "10 ** 5000").error
    assert "RecursionError" in one("def f(): return f()").error
    deep = "x = []\nfor _ in range(10**5): x = [x]"
    assert one(deep, "x").error
    crash = "import sys\nsys.setrecursionlimit(10**9)\ndef f(n): return [*map(f, [n + 1])]"
    assert one(crash, "f(0)").error
    assert one("x = []; x.append(x)", "x").error.startswith("RecursionError")


def test_endless_values_are_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "PROCESSOR_SECONDS", 1)
    assert one("import itertools", "itertools.count()").value == Unknown("count")
    assert one("import itertools", "list(itertools.count())").error
    assert one("class L(list):\n  def __iter__(self):\n    while True: yield 1", "L()").error


def test_output_is_capped() -> None:
    assert one("", "'x' * 10**6").error == "the values have more than 64 KB"
    flood = "import os\ndef f():\n  while True: os.write(1, b'x' * 10**6)"
    assert one(flood).error == "the values have more than 64 KB"
    assert one("def f():\n  for _ in range(10**4): print('x' * 1000)\n  return 1") == Outcome(1)


# ---- fakes


def test_leaving_early_is_no_success() -> None:
    for leave in ("os._exit(0)", "sys.exit(0)", "exit()", "c('abort')", "c('_exit', 0)", "c('raise', 9)"):
        assert one(LIBC + f"import os\ndef f(): return {leave}").value != 0
    assert one("import os\ndef f(): os._exit(0)").error == "the code ended its process"
    assert one("import os\nos._exit(0)").error == "the code ended its process"


def test_a_crash_is_told() -> None:
    assert one(LIBC, "ctypes.string_at(0)").error == "the code crashed its process (SIGSEGV)"


def test_values_that_equal_everything_are_told_by_their_type() -> None:
    everything = """
class Everything(int):
    __eq__ = lambda self, other: True
    __hash__ = int.__hash__
    __repr__ = __str__ = lambda self: 'Everything'
class Anything:
    __eq__ = lambda self, other: True
"""
    assert one(everything, "Everything(7)").value == 7
    assert one(everything, "Anything()").value == Unknown("Anything")


def test_lines_of_the_code_s_own_are_read_as_values_at_most() -> None:
    """They may say anything; as what is right is not known there, that is a guess."""
    lines = [
        b"{",
        b"[" * 30000,
        b'{"value":{"set":[[1]]}}',
        b'{"value":{"x":1}}',
        b'{"value":{"dict":[1]}}',
        b"7",
        b'"protected"',
        b'{"value":{"float":"x"}}',
        b'{"value":{}}',
        b'{"error":5}',
        b"\xff",
        b"1" * 9999,
        b'{"value":{"tuple":5}}',
    ]
    for line in lines:
        told = one(f"import os\ndef f(): os.write(1, {line!r} + b'\\n'); os._exit(0)")
        assert told.error == "what the code gave cannot be read"
    forged = evaluate('import os\nos.write(1, b\'null\\n{"value":1}\\n{"value":2}\\n{"value":3}\\n\')', ["1", "1"])
    assert [each.value for each in forged] == [1, 2]


def test_what_the_child_is_made_of_can_be_broken_only_for_itself() -> None:
    broken = (
        "import sys, builtins\nmain = sys.modules['__main__']\nmain.encoded = lambda value: '42'\nbuiltins.len = None"
    )
    assert one(broken, "1") == Outcome(42)
    assert one("import sys\nfor name in list(sys.modules): del sys.modules[name]", "1").error == ""
    assert one("", "1") == Outcome(1)


def test_errors_that_cannot_be_shown() -> None:
    assert (
        one("class E(Exception):\n  def __str__(self): raise self\ndef f(): raise E").error
        == "an error that cannot be shown"
    )
    assert len(one("def f(): raise ValueError('x' * 10**6)").error) == 200
    assert one("def f(): raise SystemExit").error == "SystemExit"


# ---- where it cannot be locked, nothing runs


def test_refused_on_other_systems(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "riscv64")
    with pytest.raises(SandboxUnavailable, match="needs Linux on x86_64 or aarch64, and this is riscv64"):
        check_available()
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(SandboxUnavailable, match="needs Linux, and this is"):
        evaluate("", ["1"])


@pytest.mark.parametrize(
    ("program", "why"),
    [
        (b"", "Invalid argument"),
        (b"\xff" * 80, "Invalid argument"),
        (struct.pack("=HBBI", 6, 0, 0, seccomp.ALLOW), "has no effect|Too many open files"),
    ],
)
def test_refused_where_the_kernel_does_not_filter(program: bytes, why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seccomp, "program", lambda machine: program)
    with pytest.raises(SandboxUnavailable, match=why):
        evaluate("import os\nos.write(1, b'ran')", ["1"])


def test_refused_where_python_does_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(SandboxUnavailable, match="/bin/false did not start"):
        evaluate("", ["1"])
    monkeypatch.setattr(sys, "executable", "")
    with pytest.raises(SandboxUnavailable, match=r"sys\.executable is empty"):
        evaluate("", ["1"])


# ---- the parts by themselves


def run_filter(program: bytes, number: int, arguments: list[int], architecture: int) -> int:
    """What the kernel would answer: the four instructions of classic BPF that filters of ours have."""
    data = struct.pack("=iIQ6Q", number, architecture, 0, *(arguments + [0] * 6)[:6])
    steps = list(struct.iter_unpack("=HBBI", program))
    accumulator = place = 0
    while True:
        code, yes, no, value = steps[place]
        place += 1
        if code == 0x20:
            [accumulator] = struct.unpack_from("=I", data, value)
        elif code == 0x06:
            return value
        else:
            place += yes if {0x15: accumulator == value, 0x45: bool(accumulator & value)}[code] else no


@pytest.mark.parametrize("machine", seccomp.MACHINES)
def test_the_filter_of_each_machine(machine: str) -> None:
    its = seccomp.MACHINES[machine]
    program = seccomp.program(machine)

    def answer(number: int, *arguments: int) -> int:
        return run_filter(program, number, list(arguments), its.architecture)

    special = {its.write, its.mmap, its.mprotect}
    for number in range(1000):
        if number not in special:
            assert answer(number) == (seccomp.ALLOW if number in its.free.values() else seccomp.REFUSE)
    assert answer(its.write, 1) == seccomp.ALLOW
    assert {answer(its.write, fd) for fd in (0, 2, 3, 2**32 - 1)} == {seccomp.REFUSE}
    for number in (its.mmap, its.mprotect):
        assert {answer(number, 0, 0, protection) for protection in (0, 1, 2, 3)} == {seccomp.ALLOW}
        assert {answer(number, 0, 0, protection) for protection in (4, 5, 6, 7)} == {seccomp.REFUSE}
    assert run_filter(program, its.write, [1], 0x40000003) == seccomp.KILL  # of 32 bits


@pytest.mark.parametrize(
    ("machine", "header"),
    [
        ("x86_64", "/usr/include/x86_64-linux-gnu/asm/unistd_64.h"),
        ("aarch64", "/usr/include/asm-generic/unistd.h"),
    ],
)
def test_numbers_are_those_of_the_kernel_s_headers(machine: str, header: str) -> None:
    if not Path(header).exists():
        pytest.skip("the kernel's headers are not here")
    said = dict(re.findall(r"#define __NR(?:3264)?_(\w+)\s+(\d+)", Path(header).read_text()))
    its = seccomp.MACHINES[machine]
    for name, number in {**its.free, "write": its.write, "mmap": its.mmap, "mprotect": its.mprotect}.items():
        assert int(said[name]) == number, name


@pytest.mark.parametrize(
    "code", ["(" * 10**4, "-" * 10**5 + "1", "1+" * 40_000 + "1", "x" * 200_000, "a\0b", "\ud800", "f(" * 300]
)
def test_source_that_cannot_be_read(code: str) -> None:
    with pytest.raises(SyntaxError):
        parsed(code)


def test_source_with_odd_escapes_is_read_without_a_warning() -> None:
    assert parsed(r"x = '\d'").body


def test_the_child_encodes_what_it_is_given() -> None:
    assert sandbox_child.encoded({"a": (1, {2})}) == '{"dict":[["a",{"tuple":[1,{"set":[2]}]}]]}'


def test_the_document_has_the_limits() -> None:
    document = " ".join((Path(__file__).parents[2] / "docs" / "security.md").read_text("utf-8").split())
    said = f"memory ({sandbox.MEMORY_BYTES >> 20} MB), processor time ({sandbox.PROCESSOR_SECONDS} s), time "
    assert said + f"({sandbox.WALL_SECONDS:.0f} s), and output ({sandbox.OUTPUT_BYTES >> 10} KB)" in document
