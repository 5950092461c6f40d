"""A process of its own in which a grammar of unknown cost is compiled first: llguidance cannot be interrupted.

A pattern of one line can keep it busy for ever. What compiles here within its budget, over a vocabulary of bytes, and
goes on once something is opened (thousands of fields exceed llguidance's limits only there), is compiled again where it
is used. The source goes in by standard input; the complaint comes out, or nothing.
"""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys

from quipu.errors import InvalidRequest, TookTooLong

SECONDS = 3
"""Of computing."""
MEMORY = 1 << 30
"""Bytes of address space."""
PATIENCE = 10
"""Times its seconds of computing, it may take in all: the machine has other things to do, and they go first."""


def try_grammar(source: str, name: str) -> None:
    """Raise InvalidRequest if llguidance's ``source``, the request's field ``name``, does not compile in its budget."""
    # -P: a file of the working folder must not be taken for a library.
    command = [sys.executable, "-P", "-m", "quipu.engine.grammar_trial"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment
    ) as process:
        try:
            answer, _ = process.communicate(source.encode(), timeout=SECONDS * PATIENCE)
        except subprocess.TimeoutExpired:
            raise TookTooLong(
                f"{name} did not compile within {SECONDS * PATIENCE} seconds; the machine may be busy, or it is too "
                "complex: make it simpler",
                param=name,
            ) from None
        finally:
            process.kill()
    if process.returncode in (-signal.SIGXCPU, -signal.SIGKILL):  # the soft limit of its time, and the hard one
        raise InvalidRequest(
            f"{name} is too complex: it takes more than the limit of {SECONDS} seconds to compile. Make it simpler: "
            "fewer or shorter patterns, smaller numbers in {m,n} and multipleOf",
            param=name,
        )
    if process.returncode:
        raise InvalidRequest(
            f"{name} is too complex: compiling it takes more than the limit of {MEMORY >> 20} MiB of memory. Make it "
            "simpler: fewer or shorter patterns, smaller numbers in {m,n}",
            param=name,
        )
    if answer:
        raise complaint(answer.decode(errors="replace"), name)


def complaint(error: str, name: str) -> InvalidRequest:
    """llguidance's ``error`` about the request's field ``name``."""
    if "items; max is" in error or "Too many items" in error:
        return InvalidRequest(
            f"{name} is too complex: more may come next at one place of an answer than the limit allows, as in an "
            "object of 500 fields that may be left out. Name fields in required, or ask for fewer at once",
            param=name,
        )
    first = " ".join(error.split())[:500]
    return InvalidRequest(f"{name} cannot be used: {first}", param=name)


def _main() -> None:
    os.nice(10)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS + 1))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    from llguidance import LLMatcher

    from quipu.engine.grammar_text import limits
    from quipu.engine.grammar_tokens import bytes_only

    matcher = LLMatcher(bytes_only(), sys.stdin.read(), log_level=0, limits=limits())
    if not matcher.is_error():
        matcher.compute_bitmask()
        for opening in b'{["':
            if matcher.validate_tokens([opening]) == 1:
                matcher.consume_token(opening)
                matcher.compute_ff_tokens()
                matcher.compute_bitmask()
                break
    sys.stdout.write(matcher.get_error())


if __name__ == "__main__":
    _main()
