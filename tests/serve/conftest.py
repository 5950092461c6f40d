"""One server for the tests that do not need their own, and programs of others to try servers with."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from running_server import Running, serving

PROGRAMS = Path(os.environ.get("QUIPU_CLIENTS") or Path(__file__).parents[2] / ".venv-clients") / "bin"


@pytest.fixture(scope="session")
def server() -> Iterator[Running]:
    with serving() as running:
        yield running


@pytest.fixture
def program(tmp_path: Path) -> Callable[..., str]:
    """Run one of the programs, with environment variables by name; what it prints."""

    def run(name: str, *arguments: str, **variables: str) -> str:
        assert (PROGRAMS / name).exists(), f"{PROGRAMS / name} is not there; `make clients` installs it"
        environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "LANG": "C.UTF-8", **variables}
        done = subprocess.run(
            [PROGRAMS / name, *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            env=environment,
            timeout=240,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run
