"""Pictures over HTTP: through the SDKs, in three APIs, and every way to send what is none."""

from __future__ import annotations

import base64
import contextlib
import io
import time
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import ollama
import pytest
from PIL import Image as Pillow
from running_server import Running, serving
from seeing import seeing_model

from quipu.engine.fake import fake_model
from quipu.picture import Image


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    with serving({"seeing": seeing_model()}) as running:
        yield running


def saved(color: str = "red", size: tuple[int, int] = (70, 40)) -> bytes:
    file = io.BytesIO()
    Pillow.new("RGB", size, color).save(file, "PNG")
    return file.getvalue()


def question(*images: bytes, text: str = "What?") -> list[dict[str, object]]:
    parts = [Image(each).as_part() for each in images]
    return [{"role": "user", "content": [*parts, {"type": "text", "text": text}]}]


def test_the_openai_sdk_shows_pictures_and_a_second_question_finds_them_known(server):
    ask = server.openai.chat.completions.create
    first = ask(model="seeing", messages=question(saved()), max_tokens=4, temperature=0)
    assert first.usage.prompt_tokens_details.model_dump()["image_tokens"] == 12
    assert first.usage.prompt_tokens_details.model_dump()["encoded_images"] == 1
    again = ask(model="seeing", messages=question(saved(), text="What? Where?"), max_tokens=4, temperature=0)
    assert again.usage.prompt_tokens_details.model_dump()["encoded_images"] == 0
    assert again.usage.prompt_tokens_details.cached_tokens > 0
    two = ask(model="seeing", messages=question(saved("blue"), saved("green")), max_tokens=4, temperature=0)
    assert two.usage.prompt_tokens_details.model_dump()["image_tokens"] == 24
    chunks = list(ask(model="seeing", messages=question(saved()), max_tokens=4, stream=True, temperature=0))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == first.choices[0].message.content


def test_the_three_apis_say_the_same_of_one_picture(server):
    data = saved("purple")
    url = Image(data).as_part()["image_url"]["url"]
    chat = server.openai.chat.completions.create(
        model="seeing", messages=question(data), max_tokens=5, temperature=0, top_p=1
    )
    said = chat.choices[0].message.content
    response = server.openai.responses.create(
        model="seeing",
        input=[{"role": "user", "content": [{"type": "input_image", "image_url": url, "detail": "auto"},
                                            {"type": "input_text", "text": "What?"}]}],
        max_output_tokens=5,
        temperature=0,
        top_p=1,
    )  # fmt: skip
    assert response.output_text == said
    client = ollama.Client(server.url)
    options = {"temperature": 0, "num_predict": 5, "top_p": 1}
    message = {"role": "user", "content": "What?", "images": [base64.b64encode(data).decode()]}
    with contextlib.closing(client._client):
        assert client.chat("seeing", [message], options=options).message.content == said
        assert client.generate("seeing", "What?", images=[data], options=options).response == said


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"hello", "in none of the formats"),
        (b"", "in none of the formats"),
        (saved()[:80], "damaged"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "in none of the formats"),
    ],
)
def test_what_is_no_picture_is_refused(server, data, said):
    response = server.http.post("/v1/chat/completions", json={"model": "seeing", "messages": question(data)})
    assert response.status_code == 400
    assert said in response.json()["error"]["message"]
    assert response.json()["error"]["param"] == "messages"


@pytest.mark.parametrize(
    ("path", "body", "said"),
    [
        ("/api/chat", {"messages": [{"role": "user", "content": "x", "images": "abc"}]}, "must be a list of pictures"),
        ("/api/chat", {"messages": [{"role": "user", "content": "x", "images": ["@"]}]}, "no base64"),
        ("/api/generate", {"prompt": "x", "images": ["aGVsbG8="]}, "in none of the formats"),
        ("/api/generate", {"prompt": "x", "images": ["aGVsbG8="], "raw": True}, "raw has none"),
    ],
)
def test_ollamas_pictures_at_fault(server, path, body, said):
    response = server.http.post(path, json={"model": "seeing", **body})
    assert response.status_code == 400
    assert said in response.json()["error"]


def test_tokens_of_a_conversation_with_pictures_are_counted(server):
    counted = server.http.post("/tokenize", json={"model": "seeing", "messages": question(saved("teal"))}).json()
    asked = server.openai.chat.completions.create(model="seeing", messages=question(saved("teal")), max_tokens=1)
    assert counted["count"] == asked.usage.prompt_tokens


def test_who_sees_is_said_before_anybody_asks(server):
    assert server.http.get("/v1/models/seeing").json()["input_modalities"] == ["text", "image"]
    shown = server.http.post("/api/show", json={"model": "seeing"}).json()
    assert shown["capabilities"] == ["completion", "vision"]
    with serving({"blind": fake_model(), "later": fake_model}) as blind:
        listed = {each["id"]: each["input_modalities"] for each in blind.http.get("/v1/models").json()["data"]}
    assert listed == {"blind": ["text"], "later": None}


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/tokenize"])
def test_pictures_of_a_request_are_counted_before_any_is_decoded(server, path):
    body = {"model": "seeing", "messages": [*question(*[saved()] * 9), *question(*[b"no picture"] * 8)]}
    response = server.http.post(path, json=body)
    assert response.status_code == 400
    error = response.json()["error"]
    assert "17 pictures were sent; this server takes at most 16 (--max-images sets it)" in error["message"]
    assert (error["param"], error["code"]) == ("messages", "limit_exceeded")


def test_a_bomb_among_others_disturbs_none(server):
    """Sixteen bombs at once: each is refused, and an answer that streams meanwhile comes whole."""
    bomb = bytearray(saved(size=(64, 64)))
    bomb[16:24] = (60_000).to_bytes(4, "big") * 2
    bomb[29:33] = zlib.crc32(bytes(bomb[12:29])).to_bytes(4, "big")
    stream = server.openai.chat.completions.create(
        model="seeing", messages=[{"role": "user", "content": "Go on."}], max_tokens=60, stream=True,
        extra_body={"ignore_eos": True},
    )  # fmt: skip
    start = time.monotonic()
    with ThreadPoolExecutor(16) as pool:
        body = {"model": "seeing", "messages": question(bytes(bomb))}
        sent = [pool.submit(server.http.post, "/v1/chat/completions", json=body) for _ in range(16)]
        chunks = list(stream)
        answers = [each.result() for each in sent]
    assert {answer.status_code for answer in answers} == {400}
    assert "too large" in answers[0].json()["error"]["message"]
    assert chunks[-1].choices[0].finish_reason == "length"
    assert time.monotonic() - start < 60
