"""A capability for tests of what works on any: add two numbers. Also the text of a file for a folder of one's own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pydantic import Field

from quipu.capabilities import base
from quipu.capabilities.base import Probe, Score, Source
from quipu.errors import Unparsed
from quipu.types import Message


class Input(base.Input):
    question: str = Field(description="What to add, as in 3+4")


class Output(base.Output):
    total: int = Field(description="The sum")


class Adding(base.Answering):
    title = "Add"
    description = "Adds two whole numbers that are written with a plus sign between them, and says what they make."
    phrases = tuple(f"add {number} to another number" for number in range(8))
    input = Input
    output = Output
    text_field = "question"
    metric = "share of sums that are right"
    binary = True
    baseline = 0.0
    baseline_name = "nothing"
    sources = (Source("made here", "Apache-2.0"),)

    def messages(self, given: Input) -> list[Message]:
        return [Message("user", given.question)]

    def parse(self, text: str, given: Input) -> Output:
        if not text.strip().isascii() or not text.strip().isdigit():
            raise Unparsed("there is no number in the answer", text=text)
        return Output(total=int(text))

    def render(self, output: Output, given: Input) -> str:
        return str(output.total)

    def longest(self, given: Input) -> int:
        return 5

    def score(self, output: Output, probe: Probe) -> Score:
        return Score.right(output.total == probe.expected["total"], measured={"said": output.total})

    def trivial(self, probe: Probe) -> str:
        return ""

    def make_probes(self) -> Iterator[Probe]:
        for a in range(8):
            for b in range(20, 40):
                yield Probe({"question": f"{a}+{b}"}, {"total": a + b}, str(a + b), f"b{b}", "easy", f"{a} first")


def added(messages: Sequence[Message]) -> str:
    a, b = messages[-1].content.split("+")
    return str(int(a) + int(b))


def half_right(messages: Sequence[Message]) -> str:
    """Right about odd numbers; about multiples of 6 it says no number."""
    total = int(added(messages))
    return "I do not know" if total % 6 == 0 else str(total // 2 * 2 + 1)
