"""A capability of one's own: the initials of a name. All of it is in this file.

QUIPU_CAPABILITIES=examples/capabilities quipu run initials --name "Ada Lovelace"
QUIPU_CAPABILITIES=examples/capabilities quipu measure --capability initials
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from pydantic import Field

from quipu.capabilities import base
from quipu.capabilities.base import Probe, Score, Source, required_text
from quipu.errors import Unparsed
from quipu.types import Message

FIRST = ("Ada", "Boris", "Clara", "Dmitri", "Edith", "Fatima", "Georg", "Hedy", "Imre", "Joan")
MIDDLE = ("", "Maria", "van der")
LAST = ("Lovelace", "Nowak", "Okafor", "Quist", "Rossi", "Tanaka")


class Input(base.Input):
    """A name."""

    name: str = Field(description="A person's full name", min_length=1)


class Output(base.Output):
    """Its initials."""

    initials: str = Field(description="Initials with dots, as in A.L.")


class Initials(base.Answering):
    """Initials of names, those of small words such as "van" in small letters."""

    title = "Initials"
    description = "Gives the initials of a person's full name, with a dot after each: Ada Lovelace becomes A.L."
    phrases = (
        "initials of a name",
        "what are the initials of Marie Curie",
        "shorten a person's name to letters",
        "monogram for John Smith",
        "first letters of each part of a name",
        "Initialen eines Namens",
        "initiales d'un nom",
        "iniciales de un nombre",
    )
    input = Input
    output = Output
    text_field = "name"
    metric = "share of names whose initials are right"
    binary = True
    baseline = 0.006
    baseline_name = "A.L. for everyone"
    sources = (Source("names put together for this example", "Apache-2.0"),)

    def messages(self, given: Input) -> list[Message]:
        """One question."""
        return [Message("user", f"Write only the initials of this name, each with a dot, as in A.L.\n\n{given.name}")]

    def parse(self, text: str, given: Input) -> Output:
        """The first thing that looks like initials."""
        found = re.search(r"(?:\b\w\.\s?)+", required_text(text, "initial"))
        if found is None:
            raise Unparsed("there are no initials in the answer", text=text)
        return Output(initials=re.sub(r"\s", "", found[0]))

    def render(self, output: Output, given: Input) -> str:
        """The initials."""
        return output.initials

    def longest(self, given: Input) -> int:
        """A few letters and dots."""
        return 24

    def score(self, output: Output, probe: Probe) -> Score:
        """Right or wrong."""
        return Score.right(output.initials == probe.expected["initials"])

    def trivial(self, probe: Probe) -> str:
        """The same for everyone."""
        return "A.L."

    def make_probes(self) -> Iterator[Probe]:
        """Every name that can be put together."""
        for first in FIRST:
            for middle in MIDDLE:
                for last in LAST:
                    name = f"{first} {middle} {last}" if middle else f"{first} {last}"
                    initials = "".join(f"{part[0]}." for part in name.split())
                    difficulty = {"": "easy", "Maria": "medium"}.get(middle, "hard")
                    yield Probe({"name": name}, {"initials": initials}, initials, f"{first} {middle}", difficulty)
