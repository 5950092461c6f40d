"""Ollama's API through the official package, unmodified, and byte by byte where the package hides something."""

import asyncio
import json
from collections.abc import Iterator

import httpx
import ollama
import pytest
from running_server import Running, serving, until

from quipu.engine.fake import HIDDEN_SIZE, fake_model
from quipu.serve.ollama.models import parameter_size

HELLO = [{"role": "user", "content": "hello"}]
GREEDY = {"temperature": 0}
KEY = "a-key-for-the-tests"


@pytest.fixture
def client(server: Running) -> Iterator[ollama.Client]:
    with ollama.Client(host=server.url) as client:
        yield client


def test_chat(client: ollama.Client, server: Running) -> None:
    answer = client.chat("fake", HELLO, options=GREEDY)
    assert answer.message.role == "assistant"
    assert answer.message.content == "You said: hello"
    assert (answer.model, answer.done, answer.done_reason) == ("fake", True, "stop")
    assert answer.prompt_eval_count == server.model.count(HELLO)
    assert answer.eval_count == len("You said: hello") + 1
    parts = answer.load_duration + answer.prompt_eval_duration + answer.eval_duration
    assert 0 < parts == answer.total_duration < 5e9
    assert answer.created_at.endswith("Z")


def test_chat_streams_by_default(server: Running) -> None:
    with server.http.stream("POST", "/api/chat", json={"model": "fake", "messages": HELLO, "options": GREEDY}) as got:
        assert got.headers["content-type"] == "application/x-ndjson"
        *pieces, last = [json.loads(line) for line in got.iter_lines()]
    assert "".join(piece["message"]["content"] for piece in pieces) == "You said: hello"
    assert len(pieces) > 3
    assert not any(piece["done"] for piece in pieces)
    assert (last["message"]["content"], last["done"], last["done_reason"]) == ("", True, "stop")


def test_the_package_streams(client: ollama.Client) -> None:
    parts = list(client.chat("fake:latest", HELLO, stream=True, options=GREEDY))
    assert "".join(part.message.content for part in parts) == "You said: hello"
    assert parts[-1].eval_count == len("You said: hello") + 1
    assert {part.model for part in parts} == {"fake:latest"}


def test_a_conversation_goes_on(client: ollama.Client) -> None:
    first = client.chat("fake", HELLO, options=GREEDY).message
    again = client.chat("fake", [*HELLO, first, {"role": "user", "content": "more"}], options=GREEDY)
    assert again.message.content == "You said: more"


def test_generate(client: ollama.Client) -> None:
    answer = client.generate("fake", "hello", system="Be kind.", options=GREEDY)
    assert (answer.response, answer.done_reason) == ("You said: hello", "stop")
    assert "".join(part.response for part in client.generate("fake", "hi", stream=True, options=GREEDY)) == (
        "You said: hi"
    )


def test_raw_is_continued_as_it_is(client: ollama.Client, server: Running) -> None:
    options = {**GREEDY, "num_predict": 4, "seed": 1}
    answer = client.generate("fake", "abc", raw=True, options=options)
    assert answer.response == server.model.generate("abc", temperature=0, max_tokens=4, seed=1)
    assert (answer.prompt_eval_count, answer.eval_count, answer.done_reason) == (3, 4, "length")


@pytest.mark.parametrize("endless", [-1, -2])
def test_num_predict_without_end(client: ollama.Client, endless: int) -> None:
    assert client.chat("fake", HELLO, options={**GREEDY, "num_predict": endless}).done_reason == "stop"


def test_every_option_of_sampling_is_taken(client: ollama.Client) -> None:
    options = {
        "temperature": 0.5, "top_p": 0.9, "top_k": 1, "min_p": 0.1, "seed": 4, "num_predict": 20, "stop": ["said"],
        "repeat_penalty": 1.0, "presence_penalty": 0.1, "frequency_penalty": 0.1, "num_ctx": 1024, "num_thread": 3,
        "repeat_last_n": -1,
    }  # fmt: skip
    assert client.chat("fake", HELLO, options=options).message.content == "You "


def test_without_messages_the_model_is_only_loaded(client: ollama.Client) -> None:
    for answer in (client.chat("fake"), client.generate("fake")):
        assert (answer.done, answer.done_reason, answer.eval_count) == (True, "load", None)


def test_tags_and_ps(client: ollama.Client) -> None:
    [model] = client.list().models
    assert model.model == "fake:latest"
    assert model.details.family == "fake"
    assert len(model.digest) == 64
    [running] = client.ps().models
    assert (running.model, running.context_length) == ("fake:latest", 1024)


def test_show(client: ollama.Client) -> None:
    shown = client.show("fake:latest")
    assert shown.modelinfo["fake.context_length"] == 1024
    assert shown.capabilities == ["completion"]
    assert shown.details.quantization_level == "none"


def test_show_takes_the_older_name(server: Running) -> None:
    assert server.http.post("/api/show", json={"name": "fake"}).json()["capabilities"] == ["completion"]


def test_the_content_type_may_be_left_out(server: Running) -> None:
    assert server.http.post("/api/show", content=b'{"model": "fake"}').status_code == 200


def test_sizes_are_written_as_ollama_does() -> None:
    assert (parameter_size(134_515_008), parameter_size(8_030_261_248)) == ("134.5M", "8.0B")


def test_version(server: Running) -> None:
    assert server.http.get("/api/version").json() == {"version": "0.9.0"}


@pytest.mark.parametrize(
    ("path", "fields", "status", "fragment"),
    [
        ("chat", {"model": "other"}, 404, "the model 'other' is not served here; served: fake"),
        ("chat", {"options": {"temprature": 1}}, 400, "unknown field 'temprature'; did you mean temperature?"),
        ("chat", {"options": {"mirostat": 2}}, 400, "mirostat is not supported"),
        ("chat", {"options": {"num_ctx": 4096}}, 400, "options.num_ctx is 4096; this model is loaded with a context"),
        ("chat", {"options": {"num_ctx": 0}}, 400, "options.num_ctx should be greater than or equal to 1"),
        ("chat", {"options": {"temperature": -1}}, 400, "temperature must be between 0 and 100"),
        ("chat", {"tools": [{"type": "function"}]}, 400, "tools[0].function must be an object with a name"),
        ("chat", {"format": "xml"}, 400, 'it must be "json" or a JSON Schema'),
        ("chat", {"messages": [{"role": "user", "content": "x", "images": ["aGk="]}]}, 400, "reads text only"),
        ("generate", {"prompt": "x", "raw": True, "system": "y"}, 400, "system is not used when raw is true"),
        ("generate", {"prompt": "x", "context": [1, 2]}, 400, "context is not supported"),
        ("generate", {"prompt": "x" * 2000, "raw": True}, 400, "the context of this model, as loaded, is 1024"),
        ("show", {"model": ""}, 400, "model is missing"),
    ],
)
def test_what_is_wrong_is_said(server: Running, path: str, fields: dict, status: int, fragment: str) -> None:
    base = {"model": "fake", "messages": HELLO} if path == "chat" else {"model": "fake"}
    answer = server.http.post(f"/api/{path}", json=base | fields)
    assert answer.status_code == status
    assert answer.json().keys() == {"error"}
    assert fragment in answer.json()["error"]


def test_the_package_raises_what_is_wrong(client: ollama.Client) -> None:
    with pytest.raises(ollama.ResponseError, match="served: fake") as caught:
        client.chat("nothing", HELLO)
    assert caught.value.status_code == 404


@pytest.mark.parametrize("stream", [True, False])
def test_the_package_raises_what_a_field_asks_wrongly(client: ollama.Client, stream: bool) -> None:
    with pytest.raises(ollama.ResponseError, match="temperature must be between 0 and 100") as caught:
        list(client.chat("fake", HELLO, stream=stream, options={"temperature": 101}))
    assert caught.value.status_code == 400


def test_the_asynchronous_client() -> None:
    async def talk(url: str) -> tuple[str, str, list[str]]:
        async with ollama.AsyncClient(host=url) as client:
            whole = await client.chat("fake", HELLO, options=GREEDY)
            stream = await client.generate("fake", "hi", stream=True, options=GREEDY)
            pieces = [part.response async for part in stream]
            names = [model.model for model in (await client.list()).models]
            return whole.message.content, "".join(pieces), names

    with serving() as server:
        assert asyncio.run(talk(server.url)) == ("You said: hello", "You said: hi", ["fake:latest"])


def test_the_package_sends_a_key() -> None:
    with serving(key=KEY) as server:
        with ollama.Client(host=server.url, headers={"Authorization": f"Bearer {KEY}"}) as client:
            assert client.chat("fake", HELLO, options=GREEDY).message.content == "You said: hello"
        with ollama.Client(host=server.url) as client, pytest.raises(ollama.ResponseError, match="key") as caught:
            client.list()
        assert caught.value.status_code == 401


@pytest.mark.parametrize("given", ["one", ["one", "two"]])
def test_embed(client: ollama.Client, server: Running, given: str | list[str]) -> None:
    answer = client.embed("fake:latest", given, truncate=True, dimensions=HIDDEN_SIZE, options={"num_ctx": 1024})
    same = server.openai.embeddings.create(model="fake", input=given, encoding_format="float")
    assert answer.embeddings == [each.embedding for each in same.data]
    assert (answer.model, answer.prompt_eval_count) == ("fake:latest", same.usage.prompt_tokens)
    assert 0 <= answer.load_duration < answer.total_duration < 5e9


@pytest.mark.parametrize(
    ("fields", "fragment"),
    [
        ({"input": "x" * 1025}, "input[0] has 1025 tokens"),
        ({"input": "x" * 1025, "truncate": True}, "input[0] has 1025 tokens"),
        ({"input": []}, "input must be a string"),
        ({"dimensions": 3}, "dimensions is 3; vectors of this model have 8"),
        ({"options": {"num_ctx": 4096}}, "options.num_ctx is 4096"),
    ],
)
def test_the_package_raises_what_is_wrong_with_texts(client: ollama.Client, fields: dict, fragment: str) -> None:
    with pytest.raises(ollama.ResponseError) as caught:
        client.embed("fake", **({"input": "x"} | fields))
    assert caught.value.status_code == 400
    assert fragment in caught.value.error


def test_a_stream_that_fails_says_so() -> None:
    with serving({"fake": fake_model(seconds=0.01)}) as server, ollama.Client(host=server.url) as client:
        stream = client.chat("fake", HELLO, stream=True, options={"num_predict": 900})
        next(stream)
        server.model.close()
        with pytest.raises(ollama.ResponseError, match="the engine was closed"):
            list(stream)


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_leaves_ends_its_answer(stream: bool) -> None:
    with serving({"fake": fake_model(lambda asked: "x" * 900, seconds=0.01)}) as server:
        body = {"model": "fake", "messages": HELLO, "stream": stream}
        with httpx.Client() as leaving:
            if stream:
                with leaving.stream("POST", f"{server.url}/api/chat", json=body) as answer:
                    next(answer.iter_lines())
            else:
                with pytest.raises(httpx.ReadTimeout):
                    leaving.post(f"{server.url}/api/chat", json=body, timeout=0.3)
        until(lambda: server.stats().aborted == 1)
