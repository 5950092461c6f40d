"""A filter of system calls for the Linux kernel: what a Python process may still do that only computes.

The filter is a program in classic BPF that the kernel runs at each system call (seccomp(2), bpf(4), the kernel's
Documentation/userspace-api/seccomp_filter.rst). It lists what is allowed; everything else fails with EPERM.
"""

from __future__ import annotations

import errno
import struct
from typing import NamedTuple

# include/uapi/linux/bpf_common.h: class, size and mode of an instruction in one number.
_LOAD = 0x20  # BPF_LD | BPF_W | BPF_ABS
_EQUAL = 0x15  # BPF_JMP | BPF_JEQ | BPF_K
_ANY_BIT = 0x45  # BPF_JMP | BPF_JSET | BPF_K
_RETURN = 0x06  # BPF_RET | BPF_K

# include/uapi/linux/seccomp.h
ALLOW = 0x7FFF0000
REFUSE = 0x00050000 | errno.EPERM
KILL = 0x80000000

# struct seccomp_data: number, architecture, instruction pointer, six arguments of 64 bits, low half first.
_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16

_WRITABLE = 1
"""The one descriptor that may be written to."""
_PROT_EXEC = 4


class _Machine(NamedTuple):
    """Numbers of system calls: ``free`` ones, and three that are allowed with certain arguments."""

    architecture: int
    write: int
    mmap: int
    mprotect: int
    free: dict[str, int]


MACHINES = {
    # arch/x86/entry/syscalls/syscall_64.tbl
    "x86_64": _Machine(
        architecture=0xC000003E,
        write=1,
        mmap=9,
        mprotect=10,
        free={
            "munmap": 11,
            "brk": 12,
            "rt_sigreturn": 15,
            "mremap": 25,
            "nanosleep": 35,
            "exit": 60,
            "gettimeofday": 96,
            "time": 201,
            "restart_syscall": 219,
            "clock_gettime": 228,
            "clock_getres": 229,
            "clock_nanosleep": 230,
            "exit_group": 231,
            "getrandom": 318,
        },
    ),
    # include/uapi/asm-generic/unistd.h
    "aarch64": _Machine(
        architecture=0xC00000B7,
        write=64,
        mmap=222,
        mprotect=226,
        free={
            "munmap": 215,
            "brk": 214,
            "rt_sigreturn": 139,
            "mremap": 216,
            "nanosleep": 101,
            "exit": 93,
            "gettimeofday": 169,
            "restart_syscall": 128,
            "clock_gettime": 113,
            "clock_getres": 114,
            "clock_nanosleep": 115,
            "exit_group": 94,
            "getrandom": 278,
        },
    ),
}


def program(machine: str) -> bytes:
    """The filter for ``machine`` (a key of MACHINES), as an array of ``struct sock_filter``.

    Memory may be had, but none that can be executed; only descriptor 1 may be written to. A system call of another
    architecture than the process's (32 bits, whose numbers mean other calls) ends the process.
    """
    its = MACHINES[machine]
    steps = [
        _step(_LOAD, _ARCHITECTURE),
        _step(_EQUAL, its.architecture, yes=1),
        _step(_RETURN, KILL),
        _step(_LOAD, _NUMBER),
    ]
    for number in its.free.values():
        steps += [_step(_EQUAL, number, no=1), _step(_RETURN, ALLOW)]
    # The kernel takes descriptor and protection from the low half of the argument.
    steps += _with_argument(its.write, 0, _step(_EQUAL, _WRITABLE, no=1))
    for number in (its.mmap, its.mprotect):
        steps += _with_argument(number, 2, _step(_ANY_BIT, _PROT_EXEC, yes=1))
    return b"".join([*steps, _step(_RETURN, REFUSE)])


def _with_argument(number: int, argument: int, test: bytes) -> list[bytes]:
    """Call ``number`` is allowed if ``test``, of the low half of an argument, does not jump over the next step."""
    return [
        _step(_EQUAL, number, no=4),
        _step(_LOAD, _ARGUMENTS + 8 * argument),
        test,
        _step(_RETURN, ALLOW),
        _step(_RETURN, REFUSE),
    ]


def _step(code: int, value: int, yes: int = 0, no: int = 0) -> bytes:
    """One instruction; ``yes`` and ``no`` are how many to jump over."""
    return struct.pack("=HBBI", code, yes, no, value)
