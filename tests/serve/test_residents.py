"""Models loaded when first asked for, unloaded when idle or when memory is short."""

import threading
import time

import openai
import pytest
from running_server import serving, until

from quipu.engine.fake import fake_model
from quipu.errors import CheckpointError, NotEnoughMemory

pytestmark = pytest.mark.alone


class Machine:
    """Room for so many models; loads them and knows which are there."""

    def __init__(self, room: int = 10, names: str = "abc") -> None:
        self.room = room
        self.loaded: list = []
        self.history: list[str] = []
        self.fault: Exception | None = None
        self.may_load = threading.Event()
        self.may_load.set()
        self.sources = {name: lambda name=name: self.load(name) for name in names}

    @property
    def names(self) -> list[str]:
        return [model.facts.name for model in self.loaded if not model.engine._runner.closed]

    def load(self, name: str):
        assert self.may_load.wait(10)
        if self.fault is not None:
            raise self.fault
        if len(self.names) >= self.room:
            raise NotEnoughMemory(f"the weights of {name} take 8.0 GiB and 2.0 GiB of memory are free")
        self.history.append(name)
        self.loaded.append(fake_model(name=name, seconds=0.002))
        return self.loaded[-1]


def ask(server, name: str, text: str = "hi", **options):
    return server.openai.chat.completions.create(
        model=name, messages=[{"role": "user", "content": text}], temperature=0, **options
    )


def content(server, name: str) -> str:
    return ask(server, name).choices[0].message.content


def test_a_model_is_loaded_once_when_it_is_first_asked_for() -> None:
    machine = Machine()
    with serving(machine.sources) as server:
        listed = server.http.get("/v1/models").json()["data"]
        assert [(each["id"], each["loaded"], each["max_model_len"]) for each in listed] == [
            (name, False, None) for name in "abc"
        ]
        assert [each["name"] for each in server.http.get("/api/tags").json()["models"]] == [
            f"{name}:latest" for name in "abc"
        ]
        assert server.http.get("/api/ps").json() == {"models": []}
        assert server.http.get("/v1/models/b").status_code == 200
        assert machine.history == []
        machine.may_load.clear()
        answers: list[str] = []
        asking = [threading.Thread(target=lambda: answers.append(content(server, "b"))) for _ in range(5)]
        for thread in asking:
            thread.start()
        time.sleep(0.1)
        assert server.http.get("/health").json()["models"] == ["a", "b", "c"]  # others are answered meanwhile
        machine.may_load.set()
        for thread in asking:
            thread.join()
        assert answers == ["You said: hi"] * 5
        assert machine.history == ["b"]
        assert [each["loaded"] for each in server.http.get("/v1/models").json()["data"]] == [False, True, False]
        assert 'quipu_finished_total{model="b"} 5.0' in server.http.get("/metrics").text


@pytest.mark.parametrize("idle", [0.0, 0.2])
def test_an_idle_model_is_unloaded_and_loaded_again(idle: float) -> None:
    machine = Machine()
    with serving(machine.sources, unload_after_seconds=idle) as server:
        assert content(server, "a") == "You said: hi"
        if idle:
            assert machine.names == ["a"]
        until(lambda: machine.names == [])
        assert content(server, "a") == "You said: hi"
        assert machine.history == ["a", "a"]


def test_a_model_stays_while_it_answers_and_while_it_is_used_often() -> None:
    machine = Machine()
    with serving(machine.sources, unload_after_seconds=0.15) as server:
        stream = ask(server, "a", "x" * 150, stream=True)
        next(stream)
        time.sleep(0.3)
        assert machine.names == ["a"]
        assert len(list(stream)) > 100
        for _ in range(4):
            time.sleep(0.05)
            content(server, "a")
        assert machine.history == ["a"]
        until(lambda: machine.names == [])


def test_what_was_not_used_for_longest_makes_room() -> None:
    machine = Machine(room=2)
    with serving(machine.sources) as server:
        for name in "abab":
            content(server, name)
        content(server, "a")
        content(server, "c")
        assert sorted(machine.names) == ["a", "c"]
        content(server, "b")
        assert sorted(machine.names) == ["b", "c"]


def test_a_model_in_use_does_not_make_room() -> None:
    machine = Machine(room=1)
    with serving(machine.sources) as server:
        stream = ask(server, "a", "x" * 300, stream=True)
        next(stream)
        refused = server.http.post("/tokenize", json={"model": "b", "prompt": "x"})
        assert refused.status_code == 503
        assert refused.headers["retry-after"] == "10"
        error = refused.json()["error"]
        assert error["code"] == "not_enough_memory"
        assert error["message"].startswith("b does not fit beside the models that are in use (a): the weights of b")
        assert len(list(stream)) > 100
        assert content(server, "b") == "You said: hi"
        assert machine.names == ["b"]


def test_a_model_that_never_fits_says_so_without_a_time_to_wait() -> None:
    machine = Machine(room=0)
    with serving(machine.sources) as server:
        refused = server.http.post("/api/chat", json={"model": "a"})
        assert refused.status_code == 503
        assert "retry-after" not in refused.headers
        assert refused.json() == {"error": "the weights of a take 8.0 GiB and 2.0 GiB of memory are free"}


@pytest.mark.parametrize(
    ("fault", "status", "says"),
    [
        (CheckpointError("the file a.gguf ends early"), 422, "the file a.gguf ends early"),
        (MemoryError(), 503, "a could not be loaded: MemoryError; see the server's log"),
    ],
)
def test_a_failed_load_is_told_to_all_and_tried_again(fault: Exception, status: int, says: str, caplog) -> None:
    machine = Machine()
    machine.fault = fault
    with serving(machine.sources) as server:
        machine.may_load.clear()
        errors: list[openai.APIStatusError] = []

        def fails() -> None:
            with pytest.raises(openai.APIStatusError) as caught:
                ask(server, "a")
            errors.append(caught.value)

        asking = [threading.Thread(target=fails) for _ in range(3)]
        for thread in asking:
            thread.start()
        time.sleep(0.1)
        machine.may_load.set()
        for thread in asking:
            thread.join()
        assert [error.status_code for error in errors] == [status] * 3
        assert all(says in str(error) for error in errors)
        machine.fault = None
        assert content(server, "a") == "You said: hi"


def test_a_client_that_leaves_while_a_model_loads_does_not_stop_the_loading() -> None:
    machine = Machine()
    with serving(machine.sources) as server:
        machine.may_load.clear()
        with pytest.raises(openai.APITimeoutError):
            ask(server, "a", timeout=0.2)
        machine.may_load.set()
        until(lambda: machine.history == ["a"])
        assert content(server, "a") == "You said: hi"
        assert machine.history == ["a"]


def test_the_end_of_the_server_closes_what_was_loaded() -> None:
    machine = Machine()
    with serving(machine.sources) as server:
        content(server, "a")
        content(server, "c")
    assert machine.names == []


def test_a_model_given_loaded_stays() -> None:
    model = fake_model(name="kept")
    machine = Machine(room=0)
    with serving({"kept": model, **machine.sources}, unload_after_seconds=0) as server:
        content(server, "kept")
        assert server.http.post("/tokenize", json={"model": "a", "prompt": "x"}).status_code == 503
        time.sleep(0.05)
        assert content(server, "kept") == "You said: hi"
