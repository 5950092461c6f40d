"""Definitions of tools: those that are taken, and every reason why one is not."""

import json
from enum import StrEnum
from typing import Annotated, Literal

import pytest
from jsonschema import Draft202012Validator
from pydantic import BaseModel, Field

from quipu.errors import InvalidRequest
from quipu.tools.tool import Tool, ToolUse

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
        "strict": True,
    },
}
TIME = {"type": "function", "function": {"name": "get_time"}}


def test_definitions() -> None:
    tool = Tool.of(WEATHER)
    assert (tool.name, tool.description, tool.parameters) == (
        "get_weather", "The weather", WEATHER["function"]["parameters"],
    )  # fmt: skip
    assert Tool.of(tool.as_dict()) == tool == Tool.of(WEATHER["function"]) == Tool.of(tool)
    assert Tool.of({"type": "function", **WEATHER["function"]}) == tool, "as /v1/responses has it"
    assert Tool.of(TIME).parameters == {"type": "object", "properties": {}}
    assert Tool.of({"name": "a.b-c_1"}).name == "a.b-c_1"


class Unit(StrEnum):
    METRIC = "metric"
    IMPERIAL = "imperial"


class Place(BaseModel):
    title: str
    zip_code: int | None = None


def forecast(
    place: Place,
    days: Annotated[int, Field(ge=1, le=7)],
    unit: Unit = Unit.METRIC,
    *,
    tone: Literal["dry", "warm"] = "dry",
) -> str:
    """What the weather will be.

    For some days.
    """
    return f"{place}{days}{unit}{tone}"


def test_a_function_is_its_hints_and_its_docstring() -> None:
    tool = Tool.of(forecast)
    assert tool.name == "forecast"
    assert tool.description == "What the weather will be.\n\nFor some days."
    Draft202012Validator.check_schema(tool.parameters)
    valid = Draft202012Validator(tool.parameters).is_valid
    assert valid({"place": {"title": "x"}, "days": 3})
    assert valid({"place": {"title": "x", "zip_code": 1}, "days": 3, "unit": "imperial", "tone": "warm"})
    for wrong in ({"days": 3}, {"place": {"title": "x"}, "days": 8}, {"place": {}, "days": 1}):
        assert not valid(wrong)
    assert not valid({"place": {"title": "x"}, "days": 1, "unit": "kelvin"})
    assert "title" in tool.parameters["$defs"]["Place"]["properties"], "a field of that name is no decoration"
    assert '"Place"' not in json.dumps(tool.parameters["$defs"]["Place"])


def positional(x: int, /) -> None: ...


def variadic(*x: int) -> None: ...


def unsayable(x: object, y: "Missing") -> None: ...  # noqa: F821


@pytest.mark.parametrize("function", [positional, variadic, unsayable, lambda **x: x])
def test_a_function_that_no_call_can_name_is_refused(function) -> None:
    with pytest.raises(InvalidRequest, match=r"^tools\[0\]: ") as error:
        ToolUse.of([function])
    assert error.value.param == "tools[0]"


def definition(**fields) -> dict:
    return {"type": "function", "function": {"name": "f", **fields}}


@pytest.mark.parametrize(
    ("tools", "param", "says"),
    [
        ("get_weather", "tools", "must be a list"),
        (7, "tools", "must be a list"),
        ([7], "tools[0]", "must be an object with type and function"),
        ([TIME, {"type": "function"}], "tools[1].function", "must be an object with a name"),
        ([{"type": "web_search", "function": {}}], "tools[0].type", "only functions can be called"),
        ([{"type": "function", "function": {"name": "f"}, "cache": 1}], "tools[0].cache", "has no field 'cache'"),
        ([definition(parametres={})], "tools[0].function.parametres", "did you mean parameters"),
        ([definition(name=None)], "tools[0].function.name", "name is None"),
        ([definition(name="")], "tools[0].function.name", "1 to 64 letters"),
        ([definition(name="get weather")], "tools[0].function.name", "1 to 64 letters"),
        ([definition(name="f" * 65)], "tools[0].function.name", "1 to 64 letters"),
        ([definition(name='f"}')], "tools[0].function.name", "1 to 64 letters"),
        ([definition(description=1)], "tools[0].function.description", "must be a string"),
        ([definition(parameters=[])], "tools[0].function.parameters", "JSON Schema of type object"),
        ([definition(parameters={"type": "string"})], "tools[0].function.parameters", "JSON Schema of type object"),
        ([TIME, WEATHER, TIME], "tools[2]", "a second tool named 'get_time'"),
        ([definition(name=f"f{i}") for i in range(10_000)], "tools", "10000 entries; at most 128"),
    ],
)
def test_definitions_that_are_refused(tools, param: str, says: str) -> None:
    with pytest.raises(InvalidRequest) as error:
        ToolUse.of(tools)
    assert says in str(error.value)
    assert error.value.param == param


def test_choices() -> None:
    both = [WEATHER, TIME]
    assert ToolUse.of(None) is ToolUse.of([]) is ToolUse.of(both, "none") is ToolUse.of([], "auto") is None
    for choice in (None, "auto"):
        use = ToolUse.of(both, choice)
        assert (use.required, use.parallel, [tool.name for tool in use.callable]) == (
            False, True, ["get_weather", "get_time"],
        )  # fmt: skip
    assert ToolUse.of(both, "required", False).required
    assert not ToolUse.of(both, "required", False).parallel
    assert not ToolUse.of(both, "get_time").parallel
    assert ToolUse.of(both, "get_time", True).parallel
    for choice in (
        {"type": "function", "function": {"name": "get_time"}}, {"type": "function", "name": "get_time"}, "get_time",
    ):  # fmt: skip
        use = ToolUse.of(both, choice)
        assert (use.required, [tool.name for tool in use.callable], len(use.tools)) == (True, ["get_time"], 2)


@pytest.mark.parametrize(
    ("tools", "choice", "says"),
    [
        ([], "required", "there are no tools"),
        (None, "get_time", "there are no tools"),
        ([WEATHER, TIME], "get_tim", "did you mean get_time"),
        ([WEATHER], {"type": "function", "function": {"name": "x"}}, "not among tools"),
        ([WEATHER], {"type": "allowed_tools"}, "must be auto, none, required"),
        ([WEATHER], {"type": "function", "function": 1}, "must be auto, none, required"),
        ([WEATHER], 7, "must be auto, none, required"),
    ],
)
def test_choices_that_are_refused(tools, choice, says: str) -> None:
    with pytest.raises(InvalidRequest, match=says) as error:
        ToolUse.of(tools, choice)
    assert error.value.param == "tool_choice"
