"""A real PostgreSQL of the tests' own: Debian's, in a folder that goes with it, reached by a socket in that folder."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def programs() -> Path | None:
    """Where its programs are: the newest version that is installed; None without one."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    return found[-1].parent if found else None


@contextmanager
def postgres() -> Iterator[str]:
    """Start a server while the block runs; the start of its databases' addresses, which a name and ``where`` end."""
    place = programs()
    assert place is not None
    folder = Path(tempfile.mkdtemp(prefix="quipu-postgres-", dir="/tmp"))  # a path of a socket is short
    user: list[str] = []
    if os.geteuid() == 0:  # it refuses to run as root
        shutil.chown(folder, "postgres")
        user = ["runuser", "-u", "postgres", "--"]
    data = folder / "data"

    def call(program: str, *arguments: str) -> None:
        done = subprocess.run(
            [*user, str(place / program), *arguments], cwd="/", capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0, done.stderr

    try:
        call("initdb", "-D", str(data), "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "-N")
        options = f"-c listen_addresses='' -k {folder} -c fsync=off"
        call("pg_ctl", "start", "-w", "-D", str(data), "-o", options, "-l", str(folder / "log"))
        try:
            yield f"postgresql://postgres@/{{name}}?host={folder}"
        finally:
            call("pg_ctl", "stop", "-w", "-m", "immediate", "-D", str(data))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
