"""A capability that asks the model many times and goes wrong on demand. Also a file for a folder of one's own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal

from pydantic import Field

from quipu.capabilities import base
from quipu.capabilities.base import Event, Progress, Typed, result_of
from quipu.capabilities.parts.calls import Calls
from quipu.types import Generator, Message


class Pair(Typed):
    """Two texts that belong together."""

    left: str = Field(description="One of them")
    right: str = Field("", description="The other")


class Input(base.Input):
    text: str = Field(description="What is repeated to the model")
    times: int = Field(3, ge=1, le=1000, description="How often")
    longest: int = Field(200, ge=1, description="Most tokens of each answer")
    mood: Literal["calm", "faulty", "silent"] = Field("calm", description="Whether it works")
    ratio: float | None = Field(None, gt=0, lt=1, description="A number between")
    loud: bool = Field(False, description="In capitals")
    names: list[str] = Field([], max_length=3, description="Whoever is concerned")
    pairs: list[Pair] = Field([], description="Examples")


class Output(base.Output):
    summary: str = Field(description="All answers")
    lengths: list[int] = Field(description="Characters of each")
    pairs: list[Pair] = Field(description="What was given")
    longest: str | None = Field(description="The longest answer")
    loud: bool = Field(description="Whether it is in capitals")


class Several(base.Capability):
    title = "Several"
    description = "Asks the model the same thing several times, numbered, and puts the answers together."
    phrases = tuple(f"ask it several times, way {number}" for number in range(8))
    input = Input
    output = Output
    text_field = "text"

    def events(self, model: Generator, given: Input, sampling: Mapping[str, Any]) -> Iterator[Event]:
        calls = Calls(model, {"temperature": 0, **sampling})
        if given.mood == "faulty":
            raise KeyError("a secret of the server")
        asked = [[Message("user", f"{number} {given.text}")] for number in range(given.times)]
        answers = []
        for place, answer in calls.answers(asked, given.longest):
            answers.append((place, answer))
            yield Progress(len(answers), given.times, "asking")
        if given.mood == "calm":
            texts = [text.upper() if given.loud else text for _, text in sorted(answers)]
            output = Output(
                summary="\n".join(texts),
                lengths=[len(text) for text in texts],
                pairs=given.pairs,
                longest=max(texts, key=len) or None,
                loud=given.loud,
            )
            yield result_of(calls, output, texts[-1], [f"{len(texts)} answers were put together"])
