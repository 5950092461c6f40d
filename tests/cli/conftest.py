"""The command as users meet it: in a process of its own, through pipes or a pseudo-terminal."""

import fcntl
import io
import json
import os
import pty
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import quipu
from quipu.engine.fake import fake_model

FAKE = Path(__file__).parent / "fake_command.py"


class Terminal:
    """A program that believes a person sits at it."""

    def __init__(self, command: list[str], environment: dict[str, str]) -> None:
        self._keys, screen = pty.openpty()
        fcntl.ioctl(screen, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 300, 0, 0))
        self.process = subprocess.Popen(
            command,
            stdin=screen,
            stdout=screen,
            stderr=screen,
            env=environment,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # so that Ctrl-C reaches it as a signal
        )
        os.close(screen)
        self._unread = ""

    def expect(self, text: str, seconds: float = 30) -> str:
        """What is shown up to and with ``text``."""
        end = time.monotonic() + seconds
        while text not in self._unread:
            ready, _, _ = select.select([self._keys], [], [], max(0, end - time.monotonic()))
            try:
                piece = os.read(self._keys, 65536) if ready else b""
            except OSError:  # Linux says so when the program has closed its side
                piece = b""
            if not piece:
                raise AssertionError(f"{text!r} did not come; there was {self._unread!r}")
            self._unread += piece.decode(errors="replace")
        shown, found, self._unread = self._unread.partition(text)
        return shown + found

    def type(self, keys: str) -> None:
        os.write(self._keys, keys.encode())

    def ask(self, line: str) -> str:
        """Type a line at the prompt and return what is shown until the next prompt."""
        self.type(line + "\n")
        self.expect(line)
        return self.expect(">>> ")

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._keys)


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """Variables under which a command finds nothing of this user's, but what earlier tests packed."""
    source = str(Path(quipu.__file__).parents[1])
    return {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": source,
        "HOME": str(tmp_path),
        "XDG_STATE_HOME": str(tmp_path / "state"),
        "HF_HOME": str(tmp_path / "hub"),
        "QUIPU_CACHE": os.environ["QUIPU_CACHE"],
        "TERM": "dumb",
        "LANG": "C.UTF-8",
    }


@pytest.fixture
def terminal(environment: dict[str, str]) -> Iterator[Callable[..., Terminal]]:
    """Start ``quipu chat``, or another verb, with a fake model at a terminal."""
    opened = []

    def start(*arguments: str, verb: str = "chat", **variables: str) -> Terminal:
        opened.append(Terminal([sys.executable, str(FAKE), verb, *arguments], environment | variables))
        return opened[-1]

    yield start
    for each in opened:
        each.close()


@pytest.fixture
def fake_command(environment: dict[str, str]) -> Callable[..., subprocess.CompletedProcess[bytes]]:
    """Run ``quipu ...`` with a fake model, through pipes."""

    def run(*arguments: str, stdin: bytes | None = b"", **variables: str) -> subprocess.CompletedProcess[bytes]:
        command = [sys.executable, str(FAKE), *arguments]
        return subprocess.run(command, input=stdin, capture_output=True, env=environment | variables, timeout=60)

    return run


@pytest.fixture
def command(environment: dict[str, str]) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run ``quipu ...`` itself, through pipes."""

    def run(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        line = [sys.executable, "-m", "quipu", *arguments]
        return subprocess.run(
            line, stdin=subprocess.DEVNULL, capture_output=True, text=True, env=environment | variables, timeout=60
        )

    return run


@pytest.fixture
def standard_input(monkeypatch: pytest.MonkeyPatch) -> Callable[[bytes], None]:
    """Put bytes into standard input of this process."""

    def put(data: bytes) -> None:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data), encoding="utf-8"))

    return put


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, dict[str, object]]]:
    """Let ``quipu.load`` give fake models in this process; the list gets what it was asked for."""
    asked: list[tuple[str, dict[str, object]]] = []

    def load(model: str, **options: object) -> quipu.LocalModel:
        asked.append((model, options))
        return fake_model(name=str(options.get("name") or model))

    monkeypatch.setattr(quipu, "load", load, raising=False)
    return asked


@pytest.fixture
def tools_file(tmp_path: Path) -> Path:
    """Definitions of a tool, as the OpenAI API has them."""
    types = {"city": {"type": "string"}, "days": {"type": "integer"}}
    parameters = {"type": "object", "properties": types, "required": ["city"]}
    path = tmp_path / "tools.json"
    function = {"name": "get_weather", "description": "The weather to come.", "parameters": parameters}
    path.write_text(json.dumps([{"type": "function", "function": function}]))
    return path
