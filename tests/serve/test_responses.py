"""/v1/responses through the official SDK."""

import json

import pytest
from running_server import Running, serving

from quipu.engine.fake import fake_model

ASKED = {"model": "fake", "temperature": 0}


def test_a_response_has_every_field(server: Running) -> None:
    answer = server.openai.responses.create(input="hello", **ASKED)
    assert answer.output_text == "You said: hello"
    assert (answer.object, answer.status, answer.model, answer.error) == ("response", "completed", "fake", None)
    assert answer.id.startswith("resp_")
    [message] = answer.output
    assert (message.type, message.role, message.status) == ("message", "assistant", "completed")
    assert (answer.temperature, answer.top_p, answer.tools, answer.incomplete_details) == (0, 1, [], None)
    assert answer.usage.input_tokens == server.model.count([{"role": "user", "content": "hello"}])
    assert answer.usage.output_tokens == len("You said: hello") + 1
    assert answer.usage.total_tokens == answer.usage.input_tokens + answer.usage.output_tokens


def test_instructions_and_items_are_one_conversation(server: Running) -> None:
    first = server.openai.responses.create(input="hello", **ASKED)
    items = [
        {"role": "user", "content": "hello"},
        *(item.model_dump(exclude_none=True) for item in first.output),
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "and "}] * 2},
    ]
    answer = server.openai.responses.create(input=items, instructions="Be kind.", store=True, **ASKED)
    assert answer.output_text == "You said: and and "
    said = [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "hello"},
        {"role": "assistant", "content": "You said: hello"},
        {"role": "user", "content": "and and "},
    ]
    assert answer.usage.input_tokens == server.model.count(said)


def test_a_cut_answer_is_incomplete(server: Running) -> None:
    answer = server.openai.responses.create(input="hello", max_output_tokens=3, **ASKED)
    assert (answer.status, answer.incomplete_details.reason) == ("incomplete", "max_output_tokens")
    assert answer.output_text == "You"


def test_the_stream_helper(server: Running) -> None:
    with server.openai.responses.stream(input="hello", **ASKED) as stream:
        events = list(stream)
        final = stream.get_final_response()
    assert final.output_text == "You said: hello"
    kinds = [event.type.removeprefix("response.") for event in events]
    deltas = [event.delta for event in events if event.type == "response.output_text.delta"]
    assert "".join(deltas) == "You said: hello"
    assert kinds == [
        "created", "in_progress", "output_item.added", "content_part.added", *["output_text.delta"] * len(deltas),
        "output_text.done", "content_part.done", "output_item.done", "completed",
    ]  # fmt: skip
    assert [event.sequence_number for event in events] == list(range(len(events)))


def test_events_are_named_on_the_wire(server: Running) -> None:
    with server.http.stream("POST", "/v1/responses", json={**ASKED, "input": "hi", "stream": True}) as got:
        frames = got.read().decode().strip().split("\n\n")
    for frame in frames:
        name, data = frame.split("\n")
        assert name == f"event: {json.loads(data.removeprefix('data: '))['type']}"
    assert frames[-1].startswith("event: response.completed\n")


def test_a_stream_that_is_cut_ends_incomplete(server: Running) -> None:
    stream = server.openai.responses.create(input="hello", max_output_tokens=3, stream=True, **ASKED)
    last = list(stream)[-1]
    assert (last.type, last.response.status) == ("response.incomplete", "incomplete")


def test_a_stream_that_fails_says_so() -> None:
    with serving({"fake": fake_model(lambda asked: "x" * 900, seconds=0.01)}) as server:
        stream = server.openai.responses.create(input="hello", stream=True, **ASKED)
        assert next(stream).type == "response.created"
        server.model.close()
        last = list(stream)[-1]
        assert (last.type, last.response.status) == ("response.failed", "failed")
        assert "the engine was closed" in last.response.error.message


@pytest.mark.parametrize(
    ("fields", "param", "fragment"),
    [
        ({"previous_response_id": "resp_1"}, "previous_response_id", "previous_response_id is not supported"),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type", "only functions can be called"),
        ({"text": {"verbosity": "low"}}, "text.verbosity", "text has no field 'verbosity'"),
        ({"text": {"format": {"type": "xml"}}}, "text.format.type", "must be one of text, json_object, json_schema"),
        ({"input": ""}, "input", "input must be a string or a list of message items, not empty"),
        ({"input": [{"type": "reasoning"}]}, "input[0].type", "it must be message, function_call or"),
        ({"input": [{"role": "tool", "content": "x"}]}, "input[0].role", "it must be one of system, developer"),
        ({"input": [{"role": "user", "content": 3}]}, "input[0].content", "a string or a list of text parts, got 3"),
        ({"input": [{"role": "user", "content": "x", "nmae": 1}]}, "input[0].nmae", "has no field 'nmae'"),
        ({"input": [{"role": "user", "contnt": "x"}]}, "input[0].contnt", "did you mean content?"),
        (
            {"input": [{"role": "user", "content": [{"type": "input_text", "text": "x", "txt": "y"}]}]},
            "input[0].content[0].txt",
            "did you mean text?",
        ),
        (
            {"input": [{"role": "user", "content": [{"type": "input_audio", "audio": "x"}]}]},
            "input[0].content[0]",
            "is neither a text nor a picture",
        ),
        (
            {"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "x"}]}]},
            "input[0].content[0].image_url",
            "images at addresses are not fetched here",
        ),
        ({"max_output_tokens": 0}, "max_output_tokens", "greater than or equal to 1"),
        ({"stream_options": {"include_obfuscation": True}}, "stream_options.include_obfuscation", "False"),
        ({"temprature": 1}, "temprature", "did you mean temperature?"),
    ],
)
def test_what_is_wrong_is_named(server: Running, fields: dict, param: str, fragment: str) -> None:
    answer = server.post("/v1/responses", **({"input": "hi"} | fields))
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == param
    assert fragment in answer.json()["error"]["message"]
