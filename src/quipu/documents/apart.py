"""A process of its own for what a hostile file can make slow or large: little memory, little time, no writing.

The file goes in by standard input and JSON comes out, so the process opens no file that the document could name.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import subprocess
import sys
from typing import Any

from quipu.documents.document import refuse
from quipu.errors import UnreadableDocument

MEMORY = 2 << 30
"""Bytes of address space: a file of the largest size that is read, its parts and its text."""
MOST_CHARACTERS = 64 << 20
"""Of text."""

PATIENCE = 3
"""Times the seconds of computing that a file may take, it may take in all: the machine has other things to do."""


def apart(kind: str, data: bytes, name: str, seconds: float) -> dict[str, Any]:
    """What ``extract`` of the module ``kind`` finds in ``data`` in so many seconds of computing.

    Raises UnreadableDocument.
    """
    # -P: a file of the working folder must not be taken for a library.
    command = [sys.executable, "-P", "-m", "quipu.documents.apart", kind, str(max(1, round(seconds)))]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    slow = f"takes longer than {seconds:g} seconds to read; cut it into parts, or save it as text"
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment
    ) as process:
        try:
            answer, _ = process.communicate(data, timeout=seconds * PATIENCE)
        except subprocess.TimeoutExpired:
            raise refuse(name, slow) from None
        finally:
            process.kill()
    if process.returncode in (-signal.SIGXCPU, -signal.SIGKILL):  # the soft limit of its time, and the hard one
        raise refuse(name, slow)
    try:
        found = json.loads(answer)
    except ValueError:  # it died in the middle
        raise refuse(name, "takes too much memory to read; cut it into parts, or save it as text") from None
    if "lost" in found:
        raise refuse(name, found["lost"])
    return dict(found)


def lost(why: str) -> UnreadableDocument:
    """The error to raise in ``extract``; ``why`` goes on after the file's name."""
    return UnreadableDocument(why, param="file")


def _main(kind: str, seconds: int) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if kind == "pdf":
        from quipu.documents.pdf import extract
    else:
        from quipu.documents.html import extract
    try:
        found = extract(sys.stdin.buffer.read())
        if len(found["text"]) > MOST_CHARACTERS:
            raise lost(f"has more than {MOST_CHARACTERS >> 20} million characters of text; cut it into parts")
    except UnreadableDocument as error:
        found = {"lost": str(error)}
    except MemoryError:
        found = {"lost": "takes too much memory to read; cut it into parts, or save it as text"}
    except Exception as error:  # what a library did not foresee; the file is at fault
        found = {"lost": f"is damaged ({type(error).__name__}: {str(error)[:200]}); save it again, or as text"}
    with contextlib.suppress(BrokenPipeError):
        sys.stdout.write(json.dumps(found))
        sys.stdout.flush()


if __name__ == "__main__":
    _main(sys.argv[1], int(sys.argv[2]))
