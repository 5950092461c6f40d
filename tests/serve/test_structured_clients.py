"""Programs of others that ask for data and make calls, unmodified (``make clients``), against a real small model.

It knows little: whether what it says is true is not asked here, but that it is always what was asked for.
"""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from running_server import Running, serving

import quipu

TEXT = "Ms Anna Schmidt ordered 3 chairs and 2 tables for 450.50 euros."
MODELS = """
import json, sys
from typing import Literal
from pydantic import BaseModel, Field

class Item(BaseModel):
    description: str = Field(max_length=30)
    quantity: int = Field(ge=0, le=1000)

class Order(BaseModel):
    '''What somebody ordered.'''
    customer: str = Field(max_length=30)
    currency: Literal["EUR", "USD"]
    total: float | None
    items: list[Item] = Field(max_length=3)

url, text = sys.argv[1:3]
asked = [{"role": "user", "content": "Extract the order: " + text}]
said = {}
"""
ORDER = {
    "type": "object",
    "properties": {
        "customer": {"type": "string", "maxLength": 30},
        "currency": {"enum": ["EUR", "USD"]},
        "total": {"type": ["number", "null"]},
        "items": {
            "type": "array",
            "maxItems": 3,
            "items": {
                "type": "object",
                "properties": {
                    "description": {"type": "string", "maxLength": 30},
                    "quantity": {"type": "integer", "minimum": 0, "maximum": 1000},
                },
                "required": ["description", "quantity"],
                "additionalProperties": False,
            },
        },
    },
    "required": ["customer", "currency", "total", "items"],
    "additionalProperties": False,
}
"""Written by hand, so that what the program understood is not checked with what it made itself."""

INSTRUCTOR = (
    MODELS
    + """
import instructor
from openai import OpenAI

for mode in (instructor.Mode.JSON_SCHEMA, instructor.Mode.TOOLS, instructor.Mode.TOOLS_STRICT):
    client = instructor.from_openai(OpenAI(base_url=url + "/v1", api_key="none", max_retries=0), mode=mode)
    for temperature in (0, 1.5):
        options = dict(model="real", messages=asked, max_tokens=400, temperature=temperature, seed=3, max_retries=0)
        order = client.chat.completions.create(response_model=Order, **options)
        said[f"{mode.name} {temperature}"] = order.model_dump()
        *_, last = client.chat.completions.create_partial(response_model=Order, **options)
        said[f"{mode.name} {temperature} in parts"] = last.model_dump()
print("SAID " + json.dumps(said))
"""
)

LANGCHAIN = (
    MODELS
    + """
from langchain_openai import ChatOpenAI

for temperature in (0, 1.5):
    model = ChatOpenAI(
        model="real", base_url=url + "/v1", api_key="none", max_retries=0, max_tokens=400,
        temperature=temperature, seed=3,
    )
    for method in ("json_schema", "function_calling"):
        for strict in (None, True):
            client = model.with_structured_output(Order, method=method, strict=strict)
            name = f"{method} {temperature} {strict}"
            said[name] = client.invoke(asked).model_dump()
            *_, last = client.stream(asked)
            said[name + " streamed"] = last.model_dump()
    both = model.with_structured_output(Order.model_json_schema(), include_raw=True).invoke(asked)
    assert both["parsing_error"] is None
    said[f"a schema {temperature}"] = both["parsed"]
print("SAID " + json.dumps(said))
"""
)

AGENT = """
import json, sys
from langchain.agents import create_agent
from langchain.agents.middleware import wrap_model_call
from langchain.messages import ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI

url = sys.argv[1]
did = []

@tool
def get_weather(city: str, days: int) -> str:
    "The weather in a city, for the next days."
    did.append(["get_weather", city, days])
    return f"rain for {days} days"

@tool
def get_time(zone: str) -> str:
    "The time in a zone."
    did.append(["get_time", zone])
    return "noon"

@wrap_model_call
def in_turn(request, handler):
    # So small a model would not call the one and then the other: it is told to. What it writes then is its own.
    results = sum(isinstance(message, ToolMessage) for message in request.messages)
    choice = ["get_weather", "get_time", "none"][results]
    return handler(request.override(tool_choice=choice, model_settings={"parallel_tool_calls": False}))

model = ChatOpenAI(
    model="real", base_url=url + "/v1", api_key="none", max_retries=0, max_tokens=300, temperature=0,
    streaming=sys.argv[2] == "stream",
)
agent = create_agent(model, tools=[get_weather, get_time], middleware=[in_turn])
asked = "What is the weather in Paris in the next 3 days, and what time is it in the zone CET?"
done = agent.invoke({"messages": [{"role": "user", "content": asked}]}, {"recursion_limit": 20})
history = [
    [each.type, each.content, [[call["name"], call["args"]] for call in getattr(each, "tool_calls", [])]]
    for each in done["messages"]
]
print("SAID " + json.dumps({"did": did, "history": history}))
"""


@pytest.fixture(scope="module")
def real(smollm2_file: Path) -> Iterator[Running]:
    with (
        quipu.load(smollm2_file, context=2048, kv_memory=0.5, concurrency=4) as model,
        serving({"real": model}) as running,
    ):
        yield running


@pytest.fixture
def said(real: Running, program: Callable[..., str]) -> Callable[..., Any]:
    """What a script of ours prints after SAID, as JSON, when it is run where the programs of others are."""

    def run(script: str, *arguments: str) -> Any:
        output = program("python", "-c", script, real.url, *arguments)
        [line] = [line for line in output.splitlines() if line.startswith("SAID ")]
        return json.loads(line.removeprefix("SAID "))

    return run


@pytest.mark.slow
def test_instructor(said: Callable[..., Any]) -> None:
    answers = said(INSTRUCTOR, TEXT)
    assert len(answers) == 3 * 2 * 2
    for answer in answers.values():
        jsonschema.validate(answer, ORDER)


@pytest.mark.slow
def test_structured_output_of_langchain(said: Callable[..., Any]) -> None:
    answers = said(LANGCHAIN, TEXT)
    assert len(answers) == 2 * (2 * 2 * 2 + 1)
    for answer in answers.values():
        jsonschema.validate(answer, ORDER)


@pytest.mark.slow
@pytest.mark.parametrize("way", ["whole", "stream"])
def test_an_agent_of_langchain_with_two_tools(said: Callable[..., Any], way: str) -> None:
    told = said(AGENT, way)
    (first, city, days), (second, zone) = told["did"]
    assert (first, second) == ("get_weather", "get_time")
    assert (type(city), type(days), type(zone)) == (str, int, str)
    kinds, contents, calls = zip(*told["history"], strict=True)
    assert kinds == ("human", "ai", "tool", "ai", "tool", "ai")
    assert calls[1::2] == ([["get_weather", {"city": city, "days": days}]], [["get_time", {"zone": zone}]], [])
    assert contents[2] == f"rain for {days} days"
    assert contents[4] == "noon"
    assert contents[5]


@pytest.mark.slow
@pytest.mark.parametrize("way", [[], ["--no-stream"]])
def test_schemas_of_llm(real: Running, program: Callable[..., str], tmp_path: Path, way: list[str]) -> None:
    entry = f"- model_id: ours\n  model_name: real\n  api_base: {real.url}/v1\n  supports_schema: true\n"
    (tmp_path / "extra-openai-models.yaml").write_text(entry)

    def ask(schema: str, *options: str) -> Any:
        command = ["-m", "ours", f"Extract the order: {TEXT}", "--schema", schema, "--key", "none", *way]
        return json.loads(program("llm", *command, *options, LLM_USER_PATH=str(tmp_path)))

    for temperature in ("0", "1.5"):
        options = ["-o", "temperature", temperature, "-o", "max_tokens", "400"]
        jsonschema.validate(ask(json.dumps(ORDER), *options), ORDER)
        jsonschema.validate(ask("customer, chairs int, total float", *options), {
            "type": "object",
            "properties": {"customer": {"type": "string"}, "chairs": {"type": "integer"}, "total": {"type": "number"}},
            "required": ["customer", "chairs", "total"],
        })  # fmt: skip
