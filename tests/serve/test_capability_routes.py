"""Capabilities over HTTP, as clients see them: two of tests, one that asks once and one that asks often."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator, Mapping
from typing import Any

import adding
import httpx
import pytest
from own_folder import HERE, own_folder
from running_server import Running, serving, until

from quipu import capabilities
from quipu.engine.fake import fake_model
from quipu.errors import InvalidConfiguration
from quipu.serve.app import create_app
from quipu.serve.limits import Limits

pytestmark = pytest.mark.alone

SUMS, SEVERAL = "/v1/capabilities/adding", "/v1/capabilities/several"


def reply(asked: str) -> str:
    if re.fullmatch(r"\d+\+\d+", asked):
        return str(sum(map(int, asked.split("+"))))
    return "on and on " * 100 if "long" in asked else f"You said: {asked}"


@pytest.fixture(scope="module", autouse=True)
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with own_folder(tmp_path_factory.mktemp("own"), "adding", "several"):
        yield


@pytest.fixture(scope="module")
def server(own: None) -> Iterator[Running]:
    with serving({"fake": fake_model(reply)}) as running:
        yield running


@pytest.fixture
def slow() -> Iterator[Running]:
    with serving({"fake": fake_model(reply, context_length=2048, seconds=0.002)}) as running:
        yield running


def events(text: str) -> list[dict[str, Any]]:
    """The events of a stream, without the end mark, which must be there unless it ends with an error."""
    lines = [line.removeprefix("data: ") for line in text.split("\n\n") if line.startswith("data: ")]
    if lines[-1] == "[DONE]":
        lines.pop()
    else:
        assert json.loads(lines[-1])["type"] == "error"
    return [json.loads(line) for line in lines]


def error_of(response: httpx.Response) -> dict[str, Any]:
    error: dict[str, Any] = response.json()["error"]
    return error


# ---- what there is


def test_all_are_listed_with_what_a_form_needs(server: Running) -> None:
    listed = server.http.get("/v1/capabilities").json()
    assert listed["object"] == "list"
    assert [each["id"] for each in listed["data"]] == capabilities.names()
    [card] = [each for each in listed["data"] if each["id"] == "adding"]
    assert server.http.get(SUMS).json() == card
    assert (card["uri"], card["title"], card["text_field"]) == ("capability://adding@1", "Add", "question")
    assert card["input"]["properties"]["question"]["description"] == "What to add, as in 3+4"
    assert card["output"]["properties"]["total"]["type"] == "integer"
    assert (card["metric"], card["baseline"]) == (adding.Adding.metric, 0.0)
    assert card["sources"] == [{"name": "made here", "license": "Apache-2.0", "url": ""}]
    [service] = [each for each in listed["data"] if each["id"] == "streaming"]
    assert (service["metric"], service["sources"]) == (None, None)


def test_each_has_a_typed_route_in_the_documentation(server: Running) -> None:
    schema = server.http.get("/openapi.json").json()
    for name in capabilities.names():
        route = schema["paths"][f"/v1/capabilities/{name}"]["post"]
        reference = route["requestBody"]["content"]["application/json"]["schema"]["$ref"]
        fields = schema["components"]["schemas"][reference.rpartition("/")[2]]["properties"]
        assert {*capabilities.find(name).input.model_fields, "model", "stream", "sampling"} == fields.keys()
        assert all(field.get("description") for field in fields.values())
        assert route["responses"]["200"]["content"].keys() == {"application/json", "text/event-stream"}


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_what_there_is_not_is_told_the_nearest(server: Running, method: str) -> None:
    response = server.http.request(method, "/v1/capabilities/addin", json={})
    assert response.status_code == 404
    assert error_of(response)["code"] == "capability_not_found"
    assert "did you mean adding?" in error_of(response)["message"]


# ---- a call


def test_a_result(server: Running) -> None:
    answer = server.http.post(SUMS, json={"question": "3+4"}).json()
    assert answer.pop("id").startswith("cap-")
    assert answer.pop("created") > 1_700_000_000
    usage = answer.pop("usage")
    assert (usage["completion_tokens"], usage["total_tokens"]) == (2, usage["prompt_tokens"] + 2)
    assert answer == {
        "object": "capability.result",
        "capability": "capability://adding@1",
        "model": "fake",
        "output": {"total": 7},
        "text": "7",
        "finish_reason": "stop",
        "notes": [],
    }


def test_a_stream_has_pieces_and_the_result(server: Running) -> None:
    response = server.http.post(SUMS, json={"question": "300+44", "stream": True, "model": "fake"})
    assert response.headers["content-type"].startswith("text/event-stream")
    *deltas, result = events(response.text)
    assert {delta["type"] for delta in deltas} == {"delta"}
    assert "".join(delta["text"] for delta in deltas) == "344"
    assert (result["type"], result["output"], result["text"]) == ("result", {"total": 344}, "344")


def test_several_calls_tell_of_progress_and_are_counted_together(server: Running) -> None:
    given = {"text": "hello", "times": 20, "pairs": [{"left": "a"}], "loud": True}
    *progress, result = events(server.http.post(SEVERAL, json={**given, "stream": True}).text)
    assert progress == [{"type": "progress", "done": n, "total": 20, "what": "asking"} for n in range(1, 21)]
    output = result["output"]
    assert output["summary"] == "\n".join(f"YOU SAID: {number} HELLO" for number in range(20))
    assert output["pairs"] == [{"left": "a", "right": ""}]
    assert result["notes"] == ["20 answers were put together"]
    assert result["usage"]["completion_tokens"] == sum(output["lengths"]) + 20  # a byte a token, and the end
    assert server.http.post(SEVERAL, json=given).json()["output"] == output


def test_sampling_goes_over_the_capabilitys_own(server: Running) -> None:
    answer = server.http.post(SUMS, json={"question": "300+44", "sampling": {"max_tokens": 2, "top_k": 1}}).json()
    assert (answer["output"]["total"], answer["finish_reason"]) == (34, "length")


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_that_cannot_be_read_comes_with_the_error(server: Running, stream: bool) -> None:
    response = server.http.post(SUMS, json={"question": "x", "stream": stream})
    error = events(response.text)[-1]["error"] if stream else error_of(response)
    assert response.status_code == (200 if stream else 422)
    assert error == {
        "message": "there is no number in the answer",
        "type": "unparsed_answer",
        "param": None,
        "code": "unparsed_answer",
        "text": "You s",
    }


REFUSALS: list[tuple[str, Mapping[str, Any], int, str | None, str]] = [
    (SUMS, {}, 400, "question", "question is missing"),
    (SUMS, {"questio": "1+2"}, 400, "questio", "did you mean question?"),
    (SUMS, {"question": "1+2", "strem": True}, 400, "strem", "did you mean stream?"),
    (SUMS, {"question": 3}, 400, "question", "valid string"),
    (SUMS, {"question": None}, 400, "question", "valid string"),
    (SUMS, {"question": "\ud800"}, 400, None, "surrogate"),
    (SUMS, {"question": "1+2", "stream": "yes"}, 400, "stream", "boolean"),
    (SUMS, {"question": "1+2", "model": "nope"}, 404, "model", "served: fake"),
    (SUMS, {"question": "1+2", "sampling": {"temperature": 200}}, 400, "sampling.temperature", "between 0 and 100"),
    (SUMS, {"question": "1+2", "sampling": {"temperatur": 1}}, 400, "sampling.temperatur", "mean temperature?"),
    (SUMS, {"question": "1+2", "sampling": {"n": 2}}, 400, "sampling.n", "known: max_tokens"),
    (SUMS, {"question": "1+2", "sampling": {"stop": ["x"] * 17}}, 400, "stop", "--max-stops"),
    (SUMS, {"question": "1+" + "2" * 3000}, 400, "messages", "context"),
    (SEVERAL, {"text": "x", "times": 0}, 400, "times", "greater than or equal to 1"),
    (SEVERAL, {"text": "x", "times": "3"}, 400, "times", "valid integer"),
    (SEVERAL, {"text": "x", "mood": "sad"}, 400, "mood", "'calm', 'faulty' or 'silent'"),
    (SEVERAL, {"text": "x", "names": ["a"] * 4}, 400, "names", "at most 3"),
    (SEVERAL, {"text": "x", "pairs": [{"left": "a", "rigth": "b"}]}, 400, "pairs[0].rigth", "unknown field"),
    (SEVERAL, {"text": "x", "pairs": [{"right": "b"}]}, 400, "pairs[0].left", "is missing"),
]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("path", "given", "status", "param", "said"), REFUSALS)
def test_what_is_wrong_is_named(
    server: Running, path: str, given: Mapping[str, Any], status: int, param: str, said: str, stream: bool
) -> None:
    """Before anything is streamed, so with its own status."""
    body = json.dumps({"stream": stream, **given})
    response = server.http.post(path, content=body, headers={"content-type": "application/json"})
    assert (response.status_code, error_of(response)["param"]) == (status, param)
    assert said in error_of(response)["message"]


@pytest.mark.parametrize(("mood", "said"), [("faulty", "KeyError"), ("silent", "ended without a result")])
@pytest.mark.parametrize("stream", [False, True])
def test_a_capability_that_fails(server: Running, mood: str, said: str, stream: bool, caplog: Any) -> None:
    response = server.http.post(SEVERAL, json={"text": "x", "mood": mood, "stream": stream})
    late = response.status_code == 200
    error = events(response.text)[-1]["error"] if late else error_of(response)
    assert late == (stream and mood == "silent")
    assert error["code"] == "capability_failed"
    assert said in error["message"]
    assert "secret" not in response.text
    assert ("a secret" in caplog.text) == (mood == "faulty")


def test_an_input_with_a_name_of_the_requests_own_is_refused(tmp_path: Any) -> None:
    text = (HERE / "adding.py").read_text().replace("question", "stream")
    (tmp_path / "confusing.py").write_text(text)
    with own_folder(tmp_path), pytest.raises(InvalidConfiguration, match="confusing has the field stream"):
        create_app({"fake": fake_model()})


# ---- beside others


def test_others_are_answered_while_a_long_call_runs(slow: Running) -> None:
    with slow.http.stream("POST", SEVERAL, json={"text": "long", "times": 300, "longest": 40, "stream": True}):
        until(lambda: slow.stats().running > 8)
        assert slow.stats().running + slow.stats().waiting <= 16
        assert slow.ask("hi").choices[0].message.content == "You said: hi"
        assert slow.stats().running > 8
        assert slow.stats().finished < 100
    until(lambda: slow.stats().blocks_used == 0)


def test_a_full_queue_delays_a_call_that_has_begun() -> None:
    with serving({"fake": fake_model(reply, concurrency=2, queue=3)}) as server:
        answer = server.http.post(SEVERAL, json={"text": "hello", "times": 30}).json()
        assert "output" in answer, answer
        assert len(answer["output"]["lengths"]) == 30
        assert server.stats().finished == 30


def test_a_full_queue_refuses_a_call_that_has_not() -> None:
    with serving({"fake": fake_model(reply, concurrency=1, queue=1, seconds=0.01)}) as server:
        others = [server.model.stream([{"role": "user", "content": "long"}]) for _ in range(2)]
        for stream in (False, True):
            response = server.http.post(SUMS, json={"question": "3+4", "stream": stream})
            assert (response.status_code, error_of(response)["code"]) == (429, "queue_full")
            assert int(response.headers["retry-after"]) >= 1
        for other in others:
            other.close()


def test_so_many_calls_at_once() -> None:
    limits = Limits(calls=1)
    with serving({"fake": fake_model(reply, seconds=0.001)}, limits=limits) as server:
        with server.http.stream("POST", SEVERAL, json={"text": "long", "times": 50, "stream": True}):
            response = server.http.post(SUMS, json={"question": "3+4"})
            assert (response.status_code, error_of(response)["code"]) == (503, "server_busy")
            assert "--max-calls" in error_of(response)["message"]
            assert int(response.headers["retry-after"]) >= 1
        until(lambda: server.http.post(SUMS, json={"question": "3+4"}).status_code == 200)


# ---- the end


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("given", [{"text": "long", "times": 100}, {"text": "x" * 1500, "times": 100}])
def test_a_client_that_leaves_ends_the_work(slow: Running, given: Mapping[str, Any], stream: bool) -> None:
    """While answers grow, and while their prompts are still read."""
    with httpx.Client(base_url=slow.url) as client:
        if stream:
            with client.stream("POST", SEVERAL, json={**given, "stream": True}, timeout=30):
                until(lambda: slow.stats().running > 0)
        else:
            with pytest.raises(httpx.ReadTimeout):
                client.post(SEVERAL, json=given, timeout=1)
    until(lambda: slow.stats().running + slow.stats().waiting == 0, 2)
    assert slow.stats().blocks_used == 0
    assert slow.stats().finished < 100
    until(lambda: f'route="{SEVERAL}",status="499"' in slow.http.get("/metrics").text)
    until(lambda: not any(thread.name == "quipu-several" for thread in threading.enumerate()))


@pytest.mark.parametrize("stream", [False, True])
def test_the_time_of_a_request_is_limited(stream: bool) -> None:
    with serving({"fake": fake_model(reply, seconds=0.005)}, limits=Limits(request_seconds=0.5)) as server:
        response = server.http.post(SEVERAL, json={"text": "long", "times": 50, "stream": stream})
        late = response.status_code == 200
        error = events(response.text)[-1]["error"] if late else error_of(response)
        assert error["code"] == "time_limit"
        assert "--request-timeout" in error["message"]
        until(lambda: server.stats().running + server.stats().waiting == 0)


def test_a_silent_stream_keeps_the_connection() -> None:
    with serving({"fake": fake_model(reply, seconds=0.005)}, keep_alive_seconds=0.05) as server:
        text = server.http.post(SEVERAL, json={"text": "hello", "times": 3, "stream": True}).text
        assert ": keep-alive\n\n" in text
        assert events(text)[-1]["type"] == "result"


def test_a_server_that_stops_says_so() -> None:
    with serving({"fake": fake_model(reply, seconds=0.005)}) as server:
        given = {"text": "long", "times": 100, "stream": True}
        with server.http.stream("POST", SEVERAL, json=given) as response:
            until(lambda: server.stats().running > 0)
            server.server.should_exit = True
            assert events(response.read().decode())[-1]["error"]["code"] == "engine_stopped"


def test_a_model_is_kept_while_a_call_has_it() -> None:
    loads: list[str] = []

    def load() -> Any:
        loads.append("fake")
        return fake_model(reply, seconds=0.002)

    with serving({"fake": load}, unload_after_seconds=0.05) as server:  # type: ignore[dict-item]
        assert server.http.post(SEVERAL, json={"text": "long", "times": 5, "longest": 100}).status_code == 200
        assert loads == ["fake"]
        until(lambda: not server.http.get("/v1/models").json()["data"][0]["loaded"])


@pytest.mark.parametrize("prompts", [False, True])
def test_the_log_has_counts_and_text_only_if_asked(prompts: bool) -> None:
    lines: list[Mapping[str, Any]] = []
    with serving({"fake": fake_model(reply)}, log=lines.append, log_prompts=prompts) as server:
        usage = server.http.post(SEVERAL, json={"text": "a secret"}).json()["usage"]
    [line] = [line for line in lines if line["route"] == SEVERAL]
    assert (line["model"], line["status"]) == ("fake", 200)
    assert (line["prompt_tokens"], line["completion_tokens"]) == (usage["prompt_tokens"], usage["completion_tokens"])
    assert line["first_token_seconds"] > 0
    assert ("a secret" in json.dumps(line)) == prompts


def test_tokens_are_timed(server: Running) -> None:
    def count(name: str) -> float:
        found = re.search(rf'^{name}_count{{model="fake"}} ([\d.]+)', server.http.get("/metrics").text, re.MULTILINE)
        return float(found[1]) if found else 0.0

    first, between = (count(f"quipu_{name}_seconds") for name in ("time_to_first_token", "inter_token"))
    server.http.post(SEVERAL, json={"text": "hi", "times": 4})
    assert count("quipu_time_to_first_token_seconds") == first + 1
    assert count("quipu_inter_token_seconds") > between + 20
