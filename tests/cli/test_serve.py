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

from quipu.cli import main

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
        body = json.dumps({"model": "two", "prompt": "x"}).encode()
        asking = urllib.request.Request(f"{url[0]}/tokenize", body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(asking) as answer:
            assert json.load(answer)["count"] == 1
        server.send_signal(signal.SIGINT)
        _, errors = server.communicate(timeout=30)
        assert server.returncode == 0
        listed, loaded, counted = errors.splitlines()
        assert loaded == "loaded two (context 12000 of 12000 tokens, none) from "
        assert " GET /v1/models 200 id=" in listed
        assert " POST /tokenize 200 id=" in counted
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
        "kv_dtype": "auto", "runner": "auto",
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


def test_two_models_of_one_name_are_refused(loads, monkeypatch, capsys):
    monkeypatch.setattr("quipu.cli.serve.checkpoint_name", lambda model: "same")
    assert main(["serve", "a/x.gguf", "b/x.gguf", "--port", "0"]) == 1
    assert "two models are called same" in capsys.readouterr().err
    assert loads == []


def test_a_wrong_path_is_said_at_the_start_even_if_loading_waits(loads, capsys):
    assert main(["serve", "./nowhere.gguf", "--keep-alive", "0", "--port", "0"]) == 1
    assert "nowhere.gguf" in capsys.readouterr().err
    assert loads == []


@pytest.mark.parametrize(
    ("words", "idle", "on_demand"),
    [
        (["a"], 300, False),
        (["a", "b"], 300, True),
        (["a", "--keep-alive", "2.5"], 2.5, True),
        (["a", "b", "--keep-alive", "0"], 0, True),
        (["a", "--keep-alive", "-1"], None, True),
    ],
)
def test_when_models_are_loaded_and_unloaded(loads, monkeypatch, words, idle, on_demand):
    monkeypatch.setattr("quipu.cli.serve.checkpoint_name", lambda model: model)
    monkeypatch.setattr("quipu.serve.server.run", lambda app, listener, announce: None)
    made = {}
    monkeypatch.setattr("quipu.serve.app.create_app", lambda models, **options: made.update(models=models, **options))
    assert main(["serve", *words, "--port", "0"]) == 0
    assert made["unload_after_seconds"] == idle
    assert bool(loads) is not on_demand
    if on_demand:
        with made["models"]["a"]() as model:
            assert model.facts.name == "a"


@pytest.mark.parametrize("text", ["-2", "x", "nan", "1e3", "inf", ""])
def test_a_keep_alive_that_is_no_time_is_refused(text, capsys):
    assert main(["serve", "--keep-alive", text]) == 2
    assert "is not a number of seconds from 0, nor -1 for never" in capsys.readouterr().err
