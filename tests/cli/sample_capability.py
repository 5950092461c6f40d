"""A capability with a field of every type, copied by tests into a folder of QUIPU_CAPABILITIES."""

from collections.abc import Iterator, Mapping
from typing import Any, Literal

from pydantic import Field

from quipu.capabilities import base
from quipu.capabilities.base import Delta, Event, Progress, Typed, result_of
from quipu.capabilities.parts.calls import Calls
from quipu.errors import Unparsed
from quipu.types import Message


class Pair(Typed):
    before: str
    after: str


class Input(base.Input):
    text: str = Field(description="what to say again")
    tone: Literal["plain", "loud"] = Field("plain", description="how; 100% sure")
    words: int | None = Field(None, ge=1, le=50, description="at most so many", examples=[20])
    share: float = Field(0.5, description="a part of it")
    careful: bool = Field(False, description="whether to take care")
    keep: list[str] = Field([], description="texts to keep")
    pairs: list[Pair] = Field([], description="what becomes what")
    seed: int = Field(7, description="clashes with an option of sampling")
    steps: int = Field(1, description="steps to show")


class Output(base.Output):
    said: str = Field(description="what was said")
    count: int = Field(description="its words")


class Sample(base.Capability):
    """Says it."""

    title = "Say again"
    description = "Says again what it is given, for tests of the command line that need every kind of field."
    phrases = ("say that again", "repeat after me")
    input = Input
    output = Output
    text_field = "text"

    def events(self, model: Any, given: Input, sampling: Mapping[str, Any]) -> Iterator[Event]:
        calls = Calls(model, {"temperature": 0, **sampling})
        for step in range(1, given.steps):
            yield Progress(step, given.steps, "thinking")
        pieces = []
        for piece in calls.stream([Message("user", given.text)], 60):
            pieces.append(piece)
            yield Delta(piece)
        text = "".join(pieces)
        if "unreadable" in text:
            raise Unparsed("the answer is no answer", text=text)
        said = text.upper() if given.tone == "loud" else text
        extra = [f"{given.model_dump(exclude={'text'})}"] if given.careful else []
        yield result_of(calls, Output(said=said, count=len(said.split())), text, extra)
