"""Answers in a form that was asked for, as OpenAI's SDK, vLLM's fields and Ollama's say it."""

import json
from collections.abc import Iterator

import jsonschema
import pytest
from pydantic import BaseModel
from running_server import Running, serving

from quipu.engine.fake import fake_model
from quipu.engine.remote import RemoteModel
from quipu.errors import InvalidRequest
from quipu.types import Completion, Constraint


class Item(BaseModel):
    description: str
    quantity: int


class Order(BaseModel):
    """What somebody ordered."""

    customer: str
    total: float | None = None
    items: list[Item]


SAID = '{"customer": "Jo", "total": null, "items": [{"description": "chair", "quantity": 3}]}'
SCHEMA = Order.model_json_schema()
ASKED = {"model": "fake", "messages": [{"role": "user", "content": SAID}], "temperature": 0}


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    with serving({"fake": fake_model(lambda asked: asked)}) as running:
        yield running


def test_the_sdk_parses_pydantic_models(server: Running) -> None:
    answer = server.openai.chat.completions.parse(**ASKED, response_format=Order)
    assert answer.choices[0].message.parsed == Order(customer="Jo", items=[Item(description="chair", quantity=3)])
    with server.openai.chat.completions.stream(**ASKED, response_format=Order) as stream:
        assert stream.get_final_completion().choices[0].message.parsed == answer.choices[0].message.parsed


def test_responses_parse_pydantic_models(server: Running) -> None:
    answer = server.openai.responses.parse(model="fake", input=SAID, temperature=0, text_format=Order)
    assert answer.output_parsed == Order(customer="Jo", items=[Item(description="chair", quantity=3)])
    assert answer.text.format.type == "json_schema"


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"response_format": {"type": "text"}}, SAID),
        ({"response_format": {"type": "json_object"}}, SAID),
        ({"response_format": {"type": "json_object", "schema": SCHEMA}}, SAID),
        ({"response_format": {"type": "json_schema", "json_schema": {"name": "order", "schema": SCHEMA}}}, SAID),
        ({"response_format": {"type": "json_schema", "schema": SCHEMA, "strict": False}}, SAID),
        ({"structured_outputs": {"json": SCHEMA, "regex": None}}, SAID),
        ({"structured_outputs": {"json_object": True}}, SAID),
        ({"structured_outputs": {"choice": ["{}", SAID]}}, SAID),
        ({"structured_outputs": {"regex": "[^x]*"}}, SAID),
        ({"structured_outputs": {"grammar": "start: /.*/"}}, SAID),
        ({"structured_outputs": {"choice": ["{}"]}}, "{}"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_every_way_to_say_it(server: Running, fields: dict, said: str, stream: bool) -> None:
    answer = server.openai.chat.completions.create(**ASKED, extra_body=fields, stream=stream)
    text = "".join(e.choices[0].delta.content or "" for e in answer) if stream else answer.choices[0].message.content
    assert text == said


def test_completions_and_ollama(server: Running) -> None:
    answer = server.post("/v1/completions", prompt="x", max_tokens=200, structured_outputs={"json": SCHEMA}).json()
    jsonschema.validate(json.loads(answer["choices"][0]["text"]), SCHEMA)
    for fields in ({"format": "json"}, {"format": SCHEMA}):
        body = {**ASKED, "stream": False, "options": {"temperature": 0}, **fields}
        body.pop("temperature")
        assert server.http.post("/api/chat", json=body).json()["message"]["content"] == SAID
    body = {"model": "fake", "prompt": SAID, "format": SCHEMA, "stream": False, "options": {"num_predict": 60}}
    cut = server.http.post("/api/generate", json=body).json()
    assert (cut["done_reason"], cut["incomplete"]) == ("length", ["items"])
    jsonschema.validate(json.loads(cut["response"]), SCHEMA)


def test_what_a_limit_cut_is_told(server: Running) -> None:
    asked = {**ASKED, "response_format": {"type": "json_schema", "json_schema": {"name": "o", "schema": SCHEMA}}}
    [choice] = server.http.post("/v1/chat/completions", json={**asked, "max_tokens": 50}).json()["choices"]
    assert (choice["finish_reason"], choice["incomplete"]) == ("length", ["items"])
    jsonschema.validate(json.loads(choice["message"]["content"]), SCHEMA)
    answer = server.openai.chat.completions.create(**asked, max_tokens=50, stream=True)
    assert list(answer)[-1].choices[0].incomplete == ["items"]
    whole = server.http.post("/v1/chat/completions", json=asked).json()["choices"][0]
    assert whole["finish_reason"] == "stop"
    assert "incomplete" not in whole
    form = {"type": "json_schema", "name": "o", "schema": SCHEMA}
    answer = server.openai.responses.create(
        model="fake", input=SAID, temperature=0, max_output_tokens=50, text={"format": form}
    )
    assert (answer.status, answer.incomplete_details.fields) == ("incomplete", ["items"])


@pytest.mark.parametrize(
    ("fields", "param", "fragment"),
    [
        ({"response_format": {"type": "xml"}}, "response_format.type", "must be one of text, json_object, json_schema"),
        ({"response_format": {"type": "text", "x": 1}}, "response_format.x", "has no field 'x'"),
        ({"response_format": {"type": "json_schema"}}, "response_format.schema", "is missing"),
        ({"response_format": {"type": "json_schema", "json_schema": []}}, "response_format.json_schema", "an object"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"schema": {"not": {}}}}},
            "response_format.json_schema.schema.not",
            "cannot be held to not",
        ),
        ({"response_format": {"type": "json_object"}, "max_tokens": 1}, "max_tokens", "has 2 tokens"),
        ({"response_format": {"type": "json_object"}, "ignore_eos": True}, "ignore_eos", "leave one of them out"),
        ({"structured_outputs": {}}, "structured_outputs", "exactly one of json, json_object, regex"),
        ({"structured_outputs": {"regex": "a", "choice": ["b"]}}, "structured_outputs", "exactly one of"),
        ({"structured_outputs": {"regexp": "a"}}, "structured_outputs.regexp", "did you mean regex?"),
        ({"structured_outputs": {"choice": []}}, "structured_outputs.choice", "a list of one or more texts"),
        ({"structured_outputs": {"regex": "("}}, "structured_outputs.regex", "regex parse error"),
        (
            {"structured_outputs": {"regex": "a"}, "response_format": {"type": "json_object"}},
            "structured_outputs",
            "not both",
        ),
    ],
)
def test_what_is_wrong_is_named(server: Running, fields: dict, param: str, fragment: str) -> None:
    answer = server.http.post("/v1/chat/completions", json=ASKED | fields)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == param
    assert fragment in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    "constraint",
    [
        Constraint("json_schema", SCHEMA), Constraint("json_object"), Constraint("regex", r"\{.*\}"),
        Constraint("choice", [SAID, "no"]), Constraint("grammar", 'start: "{" /.*/'),
    ],
)  # fmt: skip
def test_a_remote_model_keeps_to_constraints_too(server: Running, constraint: Constraint) -> None:
    with RemoteModel(f"{server.url}/v1") as model:
        asked = [{"role": "user", "content": SAID}]
        assert Completion.of(model.stream(asked, temperature=0, constraint=constraint)) == SAID
        if constraint.kind == "json_schema":
            cut = Completion.of(model.stream(asked, temperature=0, max_tokens=50, constraint=constraint))
            assert cut.choices[0].incomplete == ("items",)
        with pytest.raises(InvalidRequest, match=r"response_format\.json_schema\.schema\.not"):
            model.stream(asked, constraint=Constraint("json_schema", {"not": {}}))
