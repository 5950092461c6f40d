"""Tools through the official SDKs, unmodified: calls, streams, results, an agent's loop, and hostile requests."""

import json
from collections.abc import Iterator

import ollama
import openai
import pytest
from running_server import Running, serving

from quipu.engine.fake import fake_model
from quipu.engine.remote import RemoteModel
from quipu.errors import InvalidRequest
from quipu.types import Completion, Constraint, Message

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather in a city",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
            "required": ["city"],
        },
    },
}
TIME = {"type": "function", "function": {"name": "get.time", "parameters": {"type": "object", "properties": {}}}}
PARIS = '{"name": "get_weather", "parameters": {"city": "Paris", "days": 2}}'
BOTH = f'{PARIS}; {{"name": "get.time", "parameters": {{}}}}'


def answer(asked: str) -> str:
    """What the fake says: what it is told to, a call, or what a tool has told it."""
    if asked.startswith("say "):
        return asked.removeprefix("say ").split("<|start|>")[0]
    return asked


@pytest.fixture(scope="module")
def tooled() -> Iterator[Running]:
    with serving({"fake": fake_model(answer, context_length=8192)}) as running:
        yield running


def ask(server: Running, said: str, **options):
    messages = [{"role": "user", "content": f"say {said}"}]
    fields = {"model": "fake", "temperature": 0, "messages": messages, "tools": [WEATHER, TIME], **options}
    return server.openai.chat.completions.create(**fields)


def test_calls(tooled: Running) -> None:
    [choice] = ask(tooled, f"Let me see. {BOTH}").choices
    assert (choice.finish_reason, choice.message.content) == ("tool_calls", "Let me see.")
    first, second = choice.message.tool_calls
    assert (first.type, first.function.name) == ("function", "get_weather")
    assert json.loads(first.function.arguments) == {"city": "Paris", "days": 2}
    assert (second.function.name, second.function.arguments) == ("get.time", "{}")
    assert first.id != second.id
    assert first.id.startswith("call_")
    [alone] = ask(tooled, PARIS).choices
    assert alone.message.content is None


def test_an_answer_without_a_call_is_text(tooled: Running) -> None:
    [choice] = ask(tooled, 'It is {"name": "Paris"} [1].').choices
    assert (choice.finish_reason, choice.message.tool_calls) == ("stop", None)
    assert choice.message.content == 'It is {"name": "Paris"} [1].'


def test_a_stream_has_the_name_first_and_the_arguments_as_they_come(tooled: Running) -> None:
    chunks = [chunk.choices[0] for chunk in ask(tooled, f"Look: {BOTH}", stream=True)]
    assert "".join(choice.delta.content or "" for choice in chunks) == "Look:"
    deltas = [delta for choice in chunks for delta in choice.delta.tool_calls or ()]
    named = [delta for delta in deltas if delta.id]
    assert [(delta.index, delta.function.name, delta.type) for delta in named] == [
        (0, "get_weather", "function"),
        (1, "get.time", "function"),
    ]
    pieces = [delta.function.arguments for delta in deltas if delta.index == 0]
    assert json.loads("".join(pieces)) == {"city": "Paris", "days": 2}
    assert len(pieces) > 5, "in pieces, not all at once"
    for choice in chunks:
        places = [delta.index for delta in choice.delta.tool_calls or ()]
        assert len(places) == len(set(places)), "one piece of a call in a chunk: some programs read no other"
    assert chunks[-1].finish_reason == "tool_calls"


def test_the_stream_helper_of_the_sdk(tooled: Running) -> None:
    messages = [{"role": "user", "content": f"say {PARIS}"}]
    with tooled.openai.chat.completions.stream(model="fake", messages=messages, tools=[WEATHER]) as stream:
        done = [event for event in stream if event.type == "tool_calls.function.arguments.done"]
        final = stream.get_final_completion()
    assert [(event.name, json.loads(event.arguments)) for event in done] == [
        ("get_weather", {"city": "Paris", "days": 2})
    ]
    assert final.choices[0].finish_reason == "tool_calls"


@pytest.mark.parametrize("stream", [False, True])
def test_choices(tooled: Running, stream: bool) -> None:
    def called(choice, said="Hello.", **options) -> list[str]:
        got = ask(tooled, said, tool_choice=choice, stream=stream, max_tokens=300, **options)
        if stream:
            deltas = [delta for chunk in got for delta in chunk.choices[0].delta.tool_calls or ()]
            return [delta.function.name for delta in deltas if delta.id]
        return [call.function.name for call in got.choices[0].message.tool_calls or ()]

    assert called("auto") == []
    assert called("none", BOTH) == []
    assert called("auto", BOTH) == ["get_weather", "get.time"]
    assert called("auto", BOTH, parallel_tool_calls=False) == ["get_weather"]
    assert called("required"), "whatever the model would rather say"
    named = {"type": "function", "function": {"name": "get.time"}}
    assert called(named) == ["get.time"], "as OpenAI does it: a name asks for one call"
    assert called(named, parallel_tool_calls=False) == ["get.time"]
    assert set(called(named, parallel_tool_calls=True)) == {"get.time"}


def test_a_limit_of_tokens_cuts_no_call(tooled: Running) -> None:
    for limit in (60, 70, 90):
        [choice] = ask(tooled, "x" * 500, tool_choice="required", max_tokens=limit).choices
        assert choice.finish_reason in ("length", "tool_calls")
        for call in choice.message.tool_calls:
            assert isinstance(json.loads(call.function.arguments), dict)
    with pytest.raises(openai.BadRequestError, match="shortest answer"):
        ask(tooled, "x", tool_choice="required", max_tokens=3)


def test_an_agents_loop_with_two_tools(tooled: Running) -> None:
    tools = {"get_weather": lambda city, days=1: f"{city}: rain for {days} days", "get.time": lambda: "noon"}
    messages = [{"role": "user", "content": f"say {BOTH}"}]
    while True:
        reply = tooled.openai.chat.completions.create(model="fake", messages=messages, tools=[WEATHER, TIME])
        message = reply.choices[0].message
        if not message.tool_calls:
            break
        messages.append(message)
        for call in message.tool_calls:
            result = tools[call.function.name](**json.loads(call.function.arguments))
            messages.append({"role": "tool", "tool_call_id": call.id, "content": result})
        messages.append({"role": "user", "content": "say It rains at noon."})
    assert message.content == "It rains at noon."
    assert [each["role"] for each in messages if isinstance(each, dict)] == ["user", "tool", "tool", "user"]
    prompt = tooled.model.tokenizer.decode(tooled.model.prompt_ids([json.loads(m.model_dump_json(exclude_none=True))
                                           if not isinstance(m, dict) else m for m in messages]))  # fmt: skip
    assert "rain for 2 days" in prompt
    assert '{"name": "get_weather", "parameters": {"city": "Paris", "days": 2}}; {"name": "get.time"' in prompt


def test_a_remote_model_calls_as_a_local_one_does(tooled: Running) -> None:
    asked = [{"role": "user", "content": f"say {BOTH}"}]
    with RemoteModel(f"{tooled.url}/v1", "fake", context_length=8192) as remote:
        answer = Completion.of(remote.stream(asked, tools=[WEATHER, TIME]))
        local = tooled.model.chat(asked, tools=[WEATHER, TIME])
        made, same = ([(call.name, call.arguments) for call in each.tool_calls] for each in (answer, local))
        assert made == same == [("get_weather", {"city": "Paris", "days": 2}), ("get.time", {})]
        assert answer.finish_reason == "tool_calls"
        history = [*asked, Message("assistant", tool_calls=answer.tool_calls)]
        history += [Message("tool", "x", tool_call_id=call.id) for call in answer.tool_calls]
        assert str(Completion.of(remote.stream([*history, Message("user", "say Done.")]))) == "Done."
        only = Completion.of(
            remote.stream(asked, tools=[WEATHER, TIME], tool_choice="get.time", parallel_tool_calls=False)
        )
        assert [call.name for call in only.tool_calls] == ["get.time"]


def test_python_functions_are_tools(tooled: Running) -> None:
    def get_weather(city: str, days: int = 1) -> str:
        """The weather."""
        return f"{city} {days}"

    answer = tooled.model.chat(f"say {PARIS}", tools=[get_weather])
    [call] = answer.tool_calls
    assert get_weather(**call.arguments) == "Paris 2"
    with pytest.raises(InvalidRequest, match="tools are for conversations"):
        tooled.model.generate("x", tools=[get_weather])
    with pytest.raises(InvalidRequest, match="kept to constraint or be given tools, not both"):
        tooled.model.chat("x", tools=[get_weather], constraint=Constraint("json_object"))


def test_responses(tooled: Running) -> None:
    tools = [{"type": "function", **WEATHER["function"], "strict": True}]
    asked = {"model": "fake", "temperature": 0, "tools": tools}
    first = tooled.openai.responses.create(input=f"say Well. {PARIS}", **asked)
    message, call = first.output
    assert (message.type, first.output_text, first.status) == ("message", "Well.", "completed")
    assert (call.type, call.name, json.loads(call.arguments)) == (
        "function_call", "get_weather", {"city": "Paris", "days": 2},
    )  # fmt: skip
    items = [
        {"role": "user", "content": "hi"}, *first.output,
        {"type": "function_call_output", "call_id": call.call_id, "output": "rain"},
        {"role": "user", "content": "say It rains."},
    ]  # fmt: skip
    assert tooled.openai.responses.create(input=items, **asked).output_text == "It rains."
    named = tooled.openai.responses.create(
        input="hi", tool_choice={"type": "function", "name": "get_weather"}, max_output_tokens=200, **asked
    )
    assert {item.type for item in named.output} == {"function_call"}
    with tooled.openai.responses.stream(input=f"say Well. {PARIS}", **asked) as stream:
        events = list(stream)
        final = stream.get_final_response()
    assert [item.type for item in final.output] == ["message", "function_call"]
    kinds = [event.type.removeprefix("response.") for event in events]
    start = kinds.index("function_call_arguments.delta")
    assert kinds[start - 1] == "output_item.added"
    assert kinds[-3:] == ["function_call_arguments.done", "output_item.done", "completed"]
    assert [event.sequence_number for event in events] == list(range(len(events)))


@pytest.mark.parametrize("stream", [False, True])
def test_ollama(tooled: Running, stream: bool) -> None:
    client = ollama.Client(tooled.url)

    def chat(messages: list) -> list:
        got = client.chat("fake", messages, tools=[WEATHER, TIME], stream=stream, options={"temperature": 0})
        return list(got) if stream else [got]

    got = chat([{"role": "user", "content": f"say {BOTH}"}])
    calls = [call for part in got for call in part.message.tool_calls or ()]
    assert [(call.function.name, call.function.arguments) for call in calls] == [
        ("get_weather", {"city": "Paris", "days": 2}),
        ("get.time", {}),
    ]
    assert got[-1].done_reason == "stop"
    history = [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": "", "tool_calls": [call.model_dump() for call in calls]},
        {"role": "tool", "content": "rain", "tool_name": "get_weather"},
        {"role": "user", "content": "say It rains."},
    ]
    assert "".join(part.message.content or "" for part in chat(history)) == "It rains."
    client._client.close()


def called(**fields) -> list[dict]:
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}} | fields
    return [{"role": "user", "content": "x"}, {"role": "assistant", "content": None, "tool_calls": [call]}]


BOMB = {"type": "object", "properties": {"x": {"type": "string", "pattern": "(a{1,900}){1,900}"}}}
PATTERN = "tools[0].function.parameters.properties.x.pattern"
BIG = {"type": "object", "properties": {f"x{n}": {} for n in range(11_000)}}


def test_ten_thousand_tools_are_refused(tooled: Running) -> None:
    many = [{"type": "function", "function": {"name": f"f{n}"}} for n in range(10_000)]
    answer = tooled.post("/v1/chat/completions", messages=[{"role": "user", "content": "x"}], tools=many)
    assert answer.status_code == 413
    assert "more than 32768 lists, objects and names" in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("fields", "param", "fragment"),
    [
        ({"tools": [{"type": "function", "function": {"name": f"f{n}"}} for n in range(200)]}, "tools", "at most 128"),
        ({"tools": [WEATHER, TIME, WEATHER]}, "tools[2]", "a second tool named 'get_weather'"),
        ({"tools": [{"type": "function", "function": {"name": "get weather"}}]}, "tools[0].function.name", "1 to 64"),
        ({"tools": [{"type": "function", "function": {"name": "f", "parameters": BOMB}}]}, PATTERN, 'is not a "regex"'),
        (
            {"tools": [TIME, {"type": "function", "function": {"name": "f", "parameters": BIG}}]},
            "tools[1].function.parameters",
            "beyond the limit of 10000 for schemas in it",
        ),
        (
            {"tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object", "not": {}}}}]},
            "tools[0].function.parameters.not",
            "cannot be held to not",
        ),
        ({"tools": [WEATHER], "tool_choice": "get_wether"}, "tool_choice", "did you mean get_weather"),
        ({"tools": [WEATHER], "tool_choice": 3}, "tool_choice", "must be auto, none, required or"),
        ({"tool_choice": "required"}, "tool_choice", "there are no tools"),
        ({"tools": {"a": 1}}, "tools", "list"),
        (
            {"messages": [*called(), {"role": "tool", "tool_call_id": "c2", "content": "x"}]},
            "messages[2].tool_call_id",
            "no earlier message of the assistant has a call of that id",
        ),
        (
            {"messages": [{"role": "tool", "tool_call_id": "c1", "content": "x"}]},
            "messages[0].tool_call_id",
            "no earlier message",
        ),
        (
            {"messages": called(function={"name": "f", "arguments": "{x: 1}"})},
            "messages[1].tool_calls[0]",
            "arguments is not JSON",
        ),
        ({"messages": called(function={"name": "f", "arguments": "[1]"})}, "messages[1].tool_calls[0]", "JSON object"),
        (
            {"messages": [*called(), {"role": "tool", "tool_call_id": "c1", "content": "word " * 300_000}]},
            "messages",
            "the context of this model, as loaded, is 8192",
        ),
    ],
)
def test_what_is_wrong_is_named(tooled: Running, fields: dict, param: str, fragment: str) -> None:
    answer = tooled.post("/v1/chat/completions", **({"messages": [{"role": "user", "content": "x"}]} | fields))
    assert answer.status_code == 400, answer.text[:500]
    assert answer.json()["error"]["param"] == param
    assert fragment in answer.json()["error"]["message"]
