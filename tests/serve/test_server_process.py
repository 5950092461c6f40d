"""From the first connection to a clean end."""

import json
import os
import shlex
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import httpx
import pytest
from running_server import serving, until

import quipu
from quipu.engine.fake import fake_model
from quipu.errors import EngineStopped
from quipu.serve.server import address, bind, greeting

pytestmark = pytest.mark.alone

PROGRAM = """
import sys
from quipu.engine.fake import fake_model
from quipu.serve.app import create_app
from quipu.serve.server import bind, run

model = fake_model(seconds=0.01, context_length=4096)
run(create_app({"it's": model}), bind("127.0.0.1", 0), grace_seconds=0.5)
print("closed" if model.engine._runner.closed else "open", flush=True)
"""


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_a_process_that_is_told_to_stop_ends_its_streams_and_exits(stop: signal.Signals) -> None:
    environment = os.environ | {"PYTHONPATH": str(Path(quipu.__file__).parents[1])}
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(PROGRAM)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        lines = [process.stdout.readline() for _ in range(5)]
        [url] = [word for word in lines[0].split() if word.startswith("http") and "docs" not in word]
        command = shlex.split("".join(lines).split("\n\n")[1].replace("\\\n", ""))
        assert (command[0], command[1]) == ("curl", f"{url}/v1/chat/completions")
        body = json.loads(command[command.index("-d") + 1]) | {"max_tokens": 1}
        assert httpx.post(command[1], json=body).status_code == 200
        endless = body | {"stream": True, "max_tokens": 3000, "ignore_eos": True}
        with httpx.stream("POST", command[1], json=endless, timeout=10) as stream:
            lines_sent = stream.iter_lines()
            next(lines_sent)
            start = time.perf_counter()
            process.send_signal(stop)
            rest = [line for line in lines_sent if line]
        assert process.wait(10) == 0
        assert time.perf_counter() - start < 4
        assert json.loads(rest[-1].removeprefix("data: "))["error"]["code"] == "engine_stopped"
        assert process.stdout.read() == "closed\n"
        assert process.stderr.read() == ""


def test_short_answers_complete_while_the_server_stops() -> None:
    texts = []
    with serving({"fake": fake_model(seconds=0.01)}, grace_seconds=3) as server:
        asking = threading.Thread(target=lambda: texts.append(server.ask("hello").choices[0].message.content))
        asking.start()
        until(lambda: server.stats().running == 1)
        server.server.should_exit = True
        asking.join()
    assert texts == ["You said: hello"]


def test_shutdown_closes_the_models() -> None:
    model = fake_model()
    with serving({"fake": model}) as server:
        server.ask("hi")
    with pytest.raises(EngineStopped):
        model.chat("hi")


def test_the_greeting_is_about_an_address_that_can_be_reached() -> None:
    with bind("0.0.0.0", 0) as listener:
        port = listener.getsockname()[1]
        assert address(listener) == f"http://127.0.0.1:{port}"
    assert "http://127.0.0.1:8000/v1/chat/completions" in greeting("http://127.0.0.1:8000", "m")


@pytest.mark.parametrize(("limit", "starts"), [("-Sn 300", True), ("-n 1200", False)])
def test_open_files_are_enough_for_all_connections(limit: str, starts: bool) -> None:
    environment = os.environ | {"PYTHONPATH": str(Path(quipu.__file__).parents[1])}
    program = """
    import resource
    from quipu.errors import CannotListen
    from quipu.serve.server import OTHER_FILES, open_files
    try:
        open_files(1024 + OTHER_FILES)
    except CannotListen as error:
        print(error)
    print(resource.getrlimit(resource.RLIMIT_NOFILE)[0])
    """
    command = f"ulimit {limit}; exec {shlex.quote(sys.executable)} -c {shlex.quote(textwrap.dedent(program))}"
    said = subprocess.run(["bash", "-c", command], capture_output=True, text=True, env=environment, check=True).stdout
    if starts:
        assert said == "1280\n"
    else:
        assert "may have 1200 open files, too few for --max-connections 1024; raise the limit (ulimit -Hn 1280)" in said
