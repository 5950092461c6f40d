"""The server and the machine: no connection to elsewhere, nothing left by a kill, files that vanish."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from running_server import serving

import quipu

SOURCE = str(Path(quipu.__file__).parents[1])
TINY = Path(__file__).parents[1] / "golden" / "llama3-tiny"

# Runs the real command and uses it over loopback; prints every other address that any of it wanted.
ALONE = f"""
import array, fcntl, json, socket, struct, subprocess, sys, threading, urllib.request

with socket.socket() as any:  # a new network namespace has a loopback device that is down
    fcntl.ioctl(any, 0x8914, struct.pack("16sh22x", b"lo", 0x1 | 0x40))  # SIOCSIFFLAGS, IFF_UP | IFF_RUNNING

wanted = []

def hear(event, arguments):
    if event == "socket.getaddrinfo":
        wanted.append(str(arguments[0]))
    elif event == "socket.connect" and isinstance(arguments[1], tuple):
        wanted.append(str(arguments[1][0]))

sys.addaudithook(hear)

import quipu.serve.server
from quipu.cli import main

def use(url):
    for path in (
        "/health", "/v1/models", "/docs", "/openapi.json", "/metrics", "/chat", "/capabilities", "/v1/capabilities",
        "/compare", "/models", "/rank", "/claims", "/llms.txt", "/api/tags",
    ):
        urllib.request.urlopen(url + path).read()
    body = json.dumps({{"model": "tiny", "prompt": [1, 2, 3], "max_tokens": 4}}).encode()
    asked = urllib.request.Request(url + "/v1/completions", body, {{"content-type": "application/json"}})
    print("answered", json.load(urllib.request.urlopen(asked))["usage"]["completion_tokens"], flush=True)

def visit(server, url):
    try:
        use(url)
    finally:
        server.handle_exit(2, None)

async def announced(self, sockets=None):
    await started(self, sockets)
    threading.Thread(target=visit, args=(self, quipu.serve.server.address(sockets[0]))).start()

started = quipu.serve.server.Server.startup
quipu.serve.server.Server.startup = announced
code = main(["serve", {str(TINY)!r}, "--name", "tiny", "--port", "0", "--context", "64"])
print("left", code, sorted(set(wanted) - {{"127.0.0.1"}}))
"""


def test_it_connects_to_nowhere(tmp_path: Path) -> None:
    """In a network namespace with nothing but loopback, `quipu serve` loads, answers and stops."""
    unshare = shutil.which("unshare")
    if unshare is None or subprocess.run([unshare, "-n", "true"], capture_output=True).returncode:
        pytest.skip("no new network namespace can be made here: that takes unshare and its privilege")
    ended = subprocess.run(
        [unshare, "-n", sys.executable, "-c", ALONE],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": SOURCE, "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert ended.returncode == 0, ended.stderr
    assert "answered 4\n" in ended.stdout, ended.stdout + ended.stderr
    assert ended.stdout.endswith("left 0 []\n"), ended.stdout


def start(port: int, home: Path) -> tuple[subprocess.Popen[str], str]:
    fake = Path(__file__).parents[1] / "cli" / "fake_command.py"
    process = subprocess.Popen(
        [sys.executable, str(fake), "serve", "fake", "--port", str(port)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=home,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": SOURCE, "HOME": str(home)},
    )
    assert process.stdout is not None
    first = process.stdout.readline()
    assert first, process.communicate(timeout=10)[1]
    return process, first.split(" at ")[1].split()[0]


def test_a_kill_leaves_nothing_that_hinders_the_next_start(tmp_path: Path) -> None:
    process, url = start(0, tmp_path)
    port = int(url.rpartition(":")[2])
    body = {"model": "fake", "messages": [{"role": "user", "content": "long"}], "stream": True}
    try:
        with httpx.stream("POST", f"{url}/v1/chat/completions", json=body) as stream:  # in the middle of an answer
            pieces = stream.iter_raw()
            next(pieces)
            process.send_signal(signal.SIGKILL)
            process.communicate(timeout=10)
            with pytest.raises(httpx.TransportError):
                list(pieces)
        assert list(tmp_path.rglob("*")) == []  # no lock, no socket, no temporary file
        process, again = start(port, tmp_path)
        assert again == url
        assert httpx.get(f"{url}/health").status_code == 200
    finally:
        process.kill()
        process.communicate(timeout=10)


def test_a_model_whose_files_are_removed_is_still_served(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(TINY, folder)
    model = quipu.load(str(folder), context=64, name="fake")
    with serving({"fake": model}) as server:
        asked = {"prompt": [1, 2, 3], "max_tokens": 8, "temperature": 0, "ignore_eos": True, "logprobs": 0}
        before = server.post("/v1/completions", **asked)
        assert before.status_code == 200, before.text
        shutil.rmtree(folder)
        after = server.post("/v1/completions", **asked)
        assert after.json()["choices"] == before.json()["choices"]


def test_an_address_of_all_machines_is_not_open(tmp_path: Path) -> None:
    """The real command on 0.0.0.0: it makes a key, prints it once, and wants it."""
    fake = Path(__file__).parents[1] / "cli" / "fake_command.py"
    process = subprocess.Popen(
        [sys.executable, str(fake), "serve", "fake", "--port", "0", "--host", "0.0.0.0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": SOURCE, "HOME": str(tmp_path)},
    )
    try:
        assert process.stdout is not None
        made = process.stdout.readline()
        assert "clients need a key" in made
        key = made.split()[-1]
        greeting = process.stdout.readline()
        url = greeting.split(" at ")[1].split()[0]
        assert httpx.get(f"{url}/v1/models").status_code == 401
        answer = httpx.get(f"{url}/v1/models", headers={"authorization": f"Bearer {key}", "host": socket.gethostname()})
        assert answer.status_code == 200
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0
        rest = process.stdout.read()
        assert key not in rest
        assert "Bearer $QUIPU_API_KEY" in rest
    finally:
        process.kill()
        process.communicate(timeout=10)
