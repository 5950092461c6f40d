"""Which calls count as right, and what is asked of a model."""

import pytest
from oracle import saying

from quipu import capabilities
from quipu.capabilities.base import Probe
from quipu.capabilities.parts.accepted import accepted
from quipu.engine.fake import fake_model
from quipu.errors import InvalidRequest

TOOLS = capabilities.find("tools")
WEATHER = {
    "name": "get_weather",
    "description": "The weather",
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
        "required": ["city"],
    },
}
GIVEN = {"question": "How is it in Paris?", "tools": [WEATHER, {"name": "get_time"}]}


def gold(**arguments: list) -> dict:
    return {"name": "f", "arguments": arguments}


@pytest.mark.parametrize(
    ("arguments", "expected", "right"),
    [
        ({"x": 5}, gold(x=[5]), True),
        ({"x": 5.0}, gold(x=[5]), True),
        ({"x": "5"}, gold(x=[5]), False),
        ({"x": True}, gold(x=[1]), False),
        ({"x": True}, gold(x=[True]), True),
        ({}, gold(x=[5]), False),
        ({}, gold(x=[5, ""]), True),
        ({"x": 5}, gold(x=["", 5]), True),
        ({"x": 6}, gold(x=["", 5]), False),
        ({"y": 5}, gold(x=["", 5]), False),
        ({"x": "New York, NY"}, gold(x=["new york ny", "NYC"]), True),
        ({"x": "Boston"}, gold(x=["New York"]), False),
        ({"x": ["a", "B"]}, gold(x=[["A", "b"]]), True),
        ({"x": ["b", "a"]}, gold(x=[["a", "b"]]), False),
        ({"x": ["a"]}, gold(x=[["a", "b"]]), False),
        ({"x": {"lat": 1.0}}, gold(x=[{"lat": [1], "lon": [2, ""]}]), True),
        ({"x": {"lat": 1, "alt": 3}}, gold(x=[{"lat": [1]}]), False),
        ({"x": {"lon": 2}}, gold(x=[{"lat": [1], "lon": [2]}]), False),
    ],
)
def test_accepted_arguments(arguments: dict, expected: dict, right: bool) -> None:
    assert accepted("f", arguments, expected) is right
    assert not accepted("g", arguments, expected)


def test_every_call_is_needed_and_no_other() -> None:
    probe = Probe(GIVEN, {"calls": [gold(x=[1]), gold(x=[2, ""])]}, "", "g", "easy")
    call = {"name": "f", "arguments": {"x": 1}}
    other = {"name": "f", "arguments": {}}
    for calls, right in (
        ([call, other], 1),
        ([other, call], 1),
        ([call], 0),
        ([call, call], 0),
        ([call, other, other], 0),
    ):
        assert TOOLS.score(TOOLS.output(calls=calls), probe).value == right
    nothing = Probe(GIVEN, {"calls": []}, "", "g", "easy")
    assert TOOLS.score(TOOLS.output(calls=[], text="No."), nothing).passed
    score = TOOLS.score(
        TOOLS.output(calls=[TOOLS.output.model_fields["calls"].annotation.__args__[0].of(call)]), nothing
    )
    assert (score.passed, score.why) == (False, "f must not be called")


def test_the_tools_go_to_the_model_in_its_own_format() -> None:
    oracle = saying("None.")
    result = TOOLS.run(oracle, TOOLS.input.of(GIVEN))
    assert oracle.options[0]["tools"] == GIVEN["tools"]
    assert [message.content for message in oracle.asked[0]] == ["How is it in Paris?"]
    assert (result.output.calls, result.output.text) == ([], "None.")


def test_a_model_that_calls() -> None:
    said = (
        'Let me see: {"name": "get_weather", "parameters": {"city": "Paris"}}; {"name": "get_time", "parameters": {}}'
    )
    with fake_model(lambda asked: said, context_length=8192) as model:
        result = TOOLS.run(model, TOOLS.input.of(GIVEN))
    made = [(call.name, call.arguments) for call in result.output.calls]
    assert made == [("get_weather", {"city": "Paris"}), ("get_time", {})]
    assert result.output.text == "Let me see:"
    assert result.finish_reason == "stop"


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"question": " "}, "question"),
        ({"tools": []}, "tools"),
        ({"tools": [{"name": "a b"}]}, "tools[0].name"),
        ({"tools": [WEATHER, WEATHER]}, "tools[1]"),
    ],
)
def test_what_is_wrong_is_named(fields: dict, param: str) -> None:
    with pytest.raises(InvalidRequest) as error:
        TOOLS.run(saying("x"), TOOLS.input.of({**GIVEN, **fields}))
    assert error.value.param == param


def test_probes_say_when_not_to_call_and_speak_eight_languages() -> None:
    parts = {probe.part for probe in TOOLS.probes}
    assert parts >= {"no call", "several calls", "de", "en", "es", "fr", "hi", "it", "pt", "th"}
    assert sum(not probe.expected["calls"] for probe in TOOLS.probes) >= 30
