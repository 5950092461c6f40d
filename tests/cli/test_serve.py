"""``quipu serve``: from the command to an answer over HTTP, and a clean end."""

import json
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

import quipu
from quipu.cli import main
from quipu.engine.fake import fake_model

FAKE = Path(__file__).parent / "fake_command.py"


def test_it_serves_until_interrupted(environment):
    server = subprocess.Popen(
        [sys.executable, str(FAKE), "serve", "one", "two", "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
        text=True,
    )
    try:
        assert server.stdout is not None
        line = server.stdout.readline()
        url = re.search(r"http://127\.0\.0\.1:\d+", line)
        assert url, line
        with urllib.request.urlopen(f"{url[0]}/v1/models") as answer:
            assert [each["id"] for each in json.load(answer)["data"]] == ["one", "two"]
        server.send_signal(signal.SIGINT)
        _, errors = server.communicate(timeout=30)
        assert server.returncode == 0
        assert errors.splitlines() == [
            f"loaded {name} (context 12000 of 12000 tokens, none) from " for name in ("one", "two")
        ]
    finally:
        server.kill()
        server.wait()


def test_options_reach_the_models_and_the_server(loads, monkeypatch):
    served = {}
    with socket.create_server(("127.0.0.2", 0)) as taken:
        free = taken.getsockname()[1]
    monkeypatch.setattr(
        "quipu.serve.server.run", lambda app, listener, announce: served.update(at=listener.getsockname())
    )
    words = [
        "serve",
        "a.gguf",
        "--name",
        "x",
        "--host",
        "127.0.0.2",
        "--port",
        str(free),
        "--concurrency",
        "3",
        "--queue",
        "0",
    ]
    assert main([*words, "--context", "64"]) == 0
    [(model, options)] = loads
    assert callable(options.pop("progress"))
    assert model == "a.gguf"
    assert options == {
        "name": "x", "concurrency": 3, "queue": 0, "context": 64, "dtype": "auto", "device": "auto",
    }  # fmt: skip
    assert served == {"at": ("127.0.0.2", free)}


def test_a_port_in_use_is_said_before_a_model_is_loaded(loads, capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert main(["serve", "--port", str(taken.getsockname()[1])]) == 1
    assert "choose another port with --port" in capsys.readouterr().err
    assert loads == []


def test_the_demonstration_model_is_served_unless_another_is_named(loads, monkeypatch):
    monkeypatch.setattr("quipu.serve.server.run", lambda app, listener, announce: None)
    assert main(["serve", "--port", "0"]) == 0
    assert [model for model, _ in loads] == ["smollm2-135m-instruct"]


def test_two_models_of_one_name_are_refused_and_closed(monkeypatch, capsys):
    models = [fake_model(name="same"), fake_model(name="same")]
    waiting = iter(models)
    monkeypatch.setattr(quipu, "load", lambda model, **options: next(waiting), raising=False)
    assert main(["serve", "a/x.gguf", "b/x.gguf", "--port", "0"]) == 1
    assert "two models are called same" in capsys.readouterr().err
    for model in models:
        with pytest.raises(quipu.QuipuError, match="closed"):
            model.chat("hello")
