"""A question and functions that could help; which to call, with which arguments, if any."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import Field, JsonValue

from quipu.capabilities import base
from quipu.capabilities.base import Difficulty, Event, Probe, Score, Source, required_text, result_of
from quipu.capabilities.parts.accepted import accepted
from quipu.capabilities.parts.calls import Calls
from quipu.errors import InvalidRequest
from quipu.tools.reader import read
from quipu.tools.tool import ToolUse
from quipu.tools.written import written
from quipu.types import Generator, Message, ToolCall

MATERIAL = Path(__file__).parent / "probes" / "tools.jsonl"
LONGEST = 512
"""Tokens of calls, or of a sentence that says why there is none."""
DECLINED = "None of the functions can do that."
NO_CALL = "no call"
DIFFICULTIES: Mapping[str, Difficulty] = {"one call": "easy", "one of several tools": "medium", "several calls": "hard"}


class Input(base.Input):
    """What is wanted, and what can be called."""

    question: str = Field(description="What the user wants, in their own words")
    tools: list[dict[str, JsonValue]] = Field(
        description="The functions that may be called: name, description, and parameters as a JSON Schema"
    )


class Call(base.Typed):
    """One call."""

    name: str = Field(description="The function's name")
    arguments: dict[str, JsonValue] = Field(description="Its arguments by name")


class Output(base.Output):
    """What to call, or what to say instead."""

    calls: list[Call] = Field(description="The calls, in order; empty when none of the functions helps")
    text: str = Field(default="", description="What the model says beside its calls, or instead of one")


class Tools(base.Answering):
    """Chooses functions and fills in their arguments."""

    title = "Call a tool"
    description = (
        "Turn a request in plain words into function calls with the right arguments, or say that none of the tools "
        "fits: for agents, assistants, smart homes, APIs. Tool use, function calling, one call or several at once."
    )
    phrases = (
        "call a function",
        "tool calling for an agent",
        "function calling with JSON arguments",
        "choose the right API for a request",
        "turn off the lights in the kitchen",
        "connect the model to my own functions",
        "use tools",
        "fill in the parameters of an API call",
        "Funktionen aufrufen",
        "appeler des outils",
        "llamar a funciones",
        "chiamare una funzione",
    )
    input = Input
    output = Output
    text_field = "question"
    metric = "the right functions with accepted arguments, all of them and no other; or no call where none fits"
    binary = True
    baseline = 0.146
    baseline_name = "never calling anything"
    sources = (
        Source("BFCL v4: questions, functions and accepted answers", "Apache-2.0", "https://gorilla.cs.berkeley.edu"),
        Source(
            "Home Assistant intents: sentences in eight languages",
            "Apache-2.0",
            "https://github.com/home-assistant/intents-package",
        ),
    )

    def messages(self, given: Input) -> list[Message]:
        """The question; how the model is told of the tools is its own format's affair.

        Raises InvalidRequest without a question or a tool, and by field for a definition that is none.
        """
        if not given.question.strip():
            raise InvalidRequest("question is empty; say what is wanted", param="question")
        if ToolUse.of(given.tools) is None:
            raise InvalidRequest("tools is empty; give at least one function that may be called", param="tools")
        return [Message("user", given.question)]

    def longest(self, given: Input) -> int:
        """Enough for several calls."""
        return LONGEST

    def events(self, model: Generator, given: Input, sampling: Mapping[str, Any]) -> Iterator[Event]:
        """One answer with tools; what it calls is put into words after what it says."""
        calls = Calls(model, {**self.sampling, **sampling})
        said = yield from self.ask(calls, self.messages(given), self.longest(given), tools=given.tools)
        text = _joined(said, calls.tool_calls)
        yield result_of(calls, self.parse(text, given), text)

    def parse(self, text: str, given: Input) -> Output:
        """The calls in either of Llama's forms, and what stands beside them."""
        use = ToolUse.of(given.tools)
        names = [] if use is None else [tool.name for tool in use.tools]
        said, calls = read(required_text(text, "call or text"), names)
        made = [Call(name=call.name, arguments=dict(call.arguments)) for call in calls]
        return Output(calls=made, text=said)

    def render(self, output: Output, given: Input) -> str:
        """What is said, and the calls in JSON."""
        return _joined(output.text, [ToolCall(call.name, call.arguments) for call in output.calls])

    def make_probes(self) -> Iterator[Probe]:
        """Each question of the material with its tools; where nothing must be called, a perfect answer declines."""
        with MATERIAL.open(encoding="utf-8") as file:
            home = {tool["name"]: tool for tool in json.loads(next(file))["home"]}
            for row in map(json.loads, file):
                calls = [ToolCall(call["name"], call["arguments"]) for call in row["answer"]]
                part = row["part"]
                yield Probe(
                    given={
                        "question": row["question"],
                        "tools": [home[tool] if isinstance(tool, str) else tool for tool in row["tools"]],
                    },
                    expected={"calls": row["calls"]},
                    answer=written(calls, "json") if calls else DECLINED,
                    group=row["group"],
                    difficulty="medium" if part == NO_CALL else DIFFICULTIES.get(part, "easy"),
                    part=part,
                )

    def score(self, output: Output, probe: Probe) -> Score:
        """Right or wrong: each expected call has one of its own among the answer's, and none is left over."""
        left = list(output.calls)
        for expected in probe.expected["calls"]:
            found = next((call for call in left if accepted(call.name, call.arguments, expected)), None)
            if found is None:
                return Score.right(False, f"no call is the expected {json.dumps(expected, ensure_ascii=False):.300}")
            left.remove(found)
        return Score.right(not left, f"{left[0].name} must not be called" if left else "")

    def trivial(self, probe: Probe) -> str:
        """Declining, whatever is asked."""
        return DECLINED

    def findings(self, scored: Sequence[tuple[Probe, Score]]) -> Mapping[str, Any]:
        """The share that is right where something must be called, and where nothing must."""
        right = defaultdict(list)
        for probe, score in scored:
            right["must_call" if probe.expected["calls"] else "must_not_call"].append(score.value)
        return {f"right_where_it_{name}": round(sum(values) / len(values), 3) for name, values in right.items()}


def _joined(text: str, calls: Sequence[ToolCall]) -> str:
    return "\n\n".join(filter(None, (text, written(calls, "json") if calls else "")))
