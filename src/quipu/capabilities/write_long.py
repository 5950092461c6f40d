"""Write a long text to an outline: section by section, in order, each knowing the outline."""

from __future__ import annotations

import random
import re
import tomllib
from collections.abc import Generator as Steps
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from importlib import resources
from typing import Any, ClassVar

from pydantic import Field
from rapidfuzz.distance import LCSseq

from quipu.capabilities import base
from quipu.capabilities.base import Delta, Difficulty, Event, Probe, Progress, Score, Source, required_text, result_of
from quipu.capabilities.parts.allowance import tokens_for
from quipu.capabilities.parts.calls import Calls
from quipu.capabilities.parts.facts import kept
from quipu.capabilities.parts.headings import Headings, SectionStream, key
from quipu.capabilities.parts.repetition import STUCK, repetition
from quipu.errors import InvalidRequest, Unparsed
from quipu.types import Generator, Message

TAILS = (600, 200, 0)
"""Characters of what is written so far that a connected section is shown; fewer where the context has no room. Of the
first 12 probes SmolLM2-135M scored 0.72 without, 0.24 with 200 and 0.08 with 600, as it says the same again."""
LONGEST_TITLE = 1000
"""Characters; headings are looked for in every line that is written."""
PARAGRAPH = 150
"""Words that are one paragraph."""
PROBE_WORDS = 40
"""Of a section of a probe."""
SHORT, LONG = 0.6, 1.5
"""Of the words asked for; beyond, the score falls with the square."""
USUAL_REPETITION = 0.05
FEWEST_WORDS = 5
"""Of a section that counts as written."""


class Section(base.Typed):
    """One section of the text."""

    title: str = Field(description="Its title in the outline.")
    text: str = Field(description="What it says.")


class Input(base.Input):
    """An outline, and what should be in the text."""

    outline: list[str] = Field(description="Titles of the sections, in order.", min_length=1, max_length=200)
    subject: str | None = Field(None, description="What the text is about.", max_length=1000)
    facts: list[str] = Field(
        [],
        description="Facts that must appear. One that begins with a title and a colon goes to that section; the others "
        "are dealt to the sections in order.",
    )
    words: int = Field(800, description="Words of the whole text, about.", ge=10, le=100_000)
    connected: bool = Field(
        False, description="Show the model the end of each section before the next. A small model copies it."
    )


class Output(base.Output):
    """The text, whole and by section."""

    text: str = Field(description="The text with its headings, in Markdown.")
    sections: list[Section] = Field(description="The sections in the order in which they stand.")


class WriteLong(base.Answering):
    """Sections in order, facts in place, no loops, length reached."""

    title = "Write a long text"
    description = (
        "Write a long text from an outline, an essay, report, story or manual of thousands of words, section by "
        "section in order, with given facts in the right place and without repeating itself."
    )
    phrases = (
        "write a long article from this outline",
        "draft a report with these sections",
        "write an essay of 2000 words with headings",
        "turn my table of contents into a full text",
        "write a chapter for each of these titles",
        "long-form writing",
        "Schreibe einen langen Aufsatz nach dieser Gliederung",
        "rédige un long rapport à partir de ce plan",
        "escribe un ensayo largo con este esquema",
        "scrivi un testo lungo seguendo questa scaletta",
    )
    input = Input
    output = Output
    sampling: ClassVar[Mapping[str, Any]] = {"temperature": 0, "frequency_penalty": 0.5}
    metric = "sections in order x facts in their section x no repetition x length reached"
    binary = False
    baseline = 0.084
    baseline_name = "each heading with its fact, word for word"
    sources = (Source("procedural: outlines of ten subjects with a fact for each section", "Apache-2.0"),)

    def messages(self, given: Input) -> list[Message]:
        """All of the text at once, which is how a model is tuned for it; a call asks by section."""
        return [
            Message(
                "user",
                f"{_about(given, given.facts)}\n\nWrite all of this text, about {given.words} words. Each title is "
                'a heading that begins with "## ". Say each fact in its section.',
            )
        ]

    def parse(self, text: str, given: Input) -> Output:
        """A whole text with headings. Raises Unparsed if no line is a title, unless there is but one section."""
        required_text(text, "text")
        headings = Headings(given.outline)
        found: list[tuple[str, list[str]]] = []
        for line in text.strip().split("\n"):
            title = headings.of(line)
            if title is not None:
                found.append((title, []))
            elif found:
                found[-1][1].append(line)
        if not found and len(given.outline) == 1:
            found = [(given.outline[0], [text])]
        sections = [Section(title=title, text="\n".join(lines).strip()) for title, lines in found]
        if not any(section.text for section in sections):
            raise Unparsed("no line of the model's answer is a title of the outline with text below it", text=text)
        return Output(
            text="\n\n".join(f"## {each.title}\n\n{each.text}".strip() for each in sections), sections=sections
        )

    def render(self, output: Output, given: Input) -> str:
        """The text with its headings."""
        return output.text

    def longest(self, given: Input) -> int:
        """Of all sections."""
        return tokens_for(_words_each(given), given.outline[0]) * len(given.outline)

    def events(self, model: Generator, given: Input, sampling: Mapping[str, Any]) -> Iterator[Event]:
        """A call for each section; the Deltas together are the text."""
        _check(given.outline)
        calls = Calls(model, {**self.sampling, **sampling})
        headings, facts = Headings(given.outline), _dealt(given)
        text = ""
        for place, title in enumerate(given.outline):
            yield Progress(place, len(given.outline), title)
            heading = f"## {title}\n\n"
            yield Delta(heading)
            said = yield from self._section(calls, given, place, facts[place], text, SectionStream(title, headings))
            yield Delta("\n\n")
            text += f"{heading}{said.strip()}\n\n"
        yield result_of(calls, self.parse(text, given), text.strip())

    def _section(
        self, calls: Calls, given: Input, place: int, facts: Sequence[str], before: str, reading: SectionStream
    ) -> Steps[Event, None, str]:
        """What the model writes for one section, as Deltas; the iterator's value is all of it."""
        longest = tokens_for(_words_each(given), given.outline[place])
        for tail in TAILS if given.connected else (0,):
            messages = _section_messages(given, place, facts, before[-tail:] if tail else "")
            if calls.room(messages) >= longest:
                break
        said = []
        with closing(calls.stream(messages, longest)) as pieces:
            for piece in pieces:
                said.append(reading.push(piece))
                if said[-1]:
                    yield Delta(said[-1])
                if reading.over:
                    break
        said.append(reading.end())
        yield Delta(said[-1])
        return "".join(said)

    def make_probes(self) -> Iterator[Probe]:
        """Each subject with two, three and four sections; more of the shorter, for time."""
        source = resources.files("quipu.capabilities") / "probes" / "write_long.toml"
        material = tomllib.loads(source.read_text("utf-8"))
        for place, subject in enumerate(material["subjects"]):
            for number in range(17):
                count = 2 if number < 8 else 3 if number < 14 else 4
                yield _probe(material, subject, count, random.Random(1000 * place + number))

    def score(self, output: Output, probe: Probe) -> Score:
        """The product of four factors; ``measured`` has each."""
        outline, facts = list(probe.given["outline"]), probe.expected["facts"]
        texts = {title: " ".join(each.text for each in output.sections if each.title == title) for title in outline}
        written = [each.title for each in output.sections if len(each.text.split()) >= FEWEST_WORDS]
        kept_facts = [kept(texts[title], [fact])[0] for title, fact in zip(outline, facts, strict=True)]
        body = "\n".join(each.text for each in output.sections)
        repeated = repetition(body)
        reached = len(body.split()) / probe.given["words"]
        measured = {
            "sections": LCSseq.similarity(outline, written) / max(len(outline), len(written)),
            "facts": sum(kept_facts) / len(facts),
            "fresh": min(1.0, max(0.0, 1 - (repeated - USUAL_REPETITION) / (2 * STUCK))),
            "length": min(1.0, reached / SHORT, LONG / reached) ** 2 if reached else 0.0,
        }
        value = measured["sections"] * measured["facts"] * measured["fresh"] * measured["length"]
        why = f"{len(written)} sections for {len(outline)}, {sum(kept_facts)} of {len(facts)} facts in their section, "
        why += f"{repeated:.0%} repeated, {reached:.0%} of the length"
        return Score(value, value >= 0.8, why, measured)

    def trivial(self, probe: Probe) -> str:
        """What was given, in the form that was asked for."""
        pairs = zip(probe.given["outline"], probe.given["facts"], strict=True)
        return "\n\n".join(f"## {title}\n\n{fact}" for title, fact in pairs)

    def findings(self, scored: Sequence[tuple[Probe, Score]]) -> Mapping[str, Any]:
        """The mean of each factor, by number of sections."""
        rows: dict[str, Any] = {}
        for part in sorted({probe.part for probe, _ in scored}):
            measured = [score.measured for probe, score in scored if probe.part == part and score.measured]
            if measured:
                means = {name: sum(each[name] for each in measured) / len(measured) for name in measured[0]}
                rows[part] = {"n": len(measured), **{name: round(value, 3) for name, value in means.items()}}
        return {"by_sections": rows}


def _check(outline: Sequence[str]) -> None:
    """Raises InvalidRequest for a title that is none, that is a text, or that comes twice."""
    seen: set[str] = set()
    for place, title in enumerate(outline):
        if len(title) > LONGEST_TITLE:
            raise InvalidRequest(
                f"outline[{place}] has {len(title):,} characters; a title has at most {LONGEST_TITLE:,}",
                param="outline",
            )
        if not key(title) or "\n" in title:
            raise InvalidRequest(
                f"outline[{place}] must be a line with a word in it, got {title!r:.80}", param="outline"
            )
        if key(title) in seen:
            raise InvalidRequest(f"outline[{place}], {title!r:.80}, comes twice; give each its own", param="outline")
        seen.add(key(title))


def _words_each(given: Input) -> int:
    return -(-given.words // len(given.outline))


def _dealt(given: Input) -> list[list[str]]:
    """The facts of each section."""
    dealt: list[list[str]] = [[] for _ in given.outline]
    keys = [key(title) for title in given.outline]
    others = []
    for fact in given.facts:
        title, colon, said = fact.partition(":")
        if colon and key(title) in keys:
            dealt[keys.index(key(title))].append(said.strip())
        else:
            others.append(fact)
    for place, fact in enumerate(others):
        dealt[place * len(dealt) // len(others)].append(fact)
    return dealt


def _about(given: Input, facts: Sequence[str]) -> str:
    """The outline first, which is the same for all sections."""
    lines = [f"Subject: {given.subject}"] if given.subject else []
    lines += [f"Sections: {'; '.join(given.outline)}", *[f"Fact: {fact}" for fact in facts]]
    return "\n".join(lines)


def _section_messages(given: Input, place: int, facts: Sequence[str], tail: str) -> list[Message]:
    """What is known of the section, and the task last."""
    words, told = _words_each(given), "Begin with the facts and add" if facts else "Give"
    form = "one paragraph" if words <= PARAGRAPH else "several paragraphs"
    tail = re.sub(r"^\S*\s", "… ", tail.strip()) if len(tail) in TAILS else tail.strip()
    before = f"\n\nThe section before ends so:\n{tail}" if tail else ""
    return [
        Message(
            "user",
            f"{_about(given, facts)}{before}\n\nWrite {form} of about {words} words for the section "
            f'"{given.outline[place]}". {told} details in several sentences, without a heading.',
        )
    ]


def _probe(material: Mapping[str, Any], subject: Mapping[str, Any], count: int, chance: random.Random) -> Probe:
    lists = material["slots"]
    last = chance.choice(lists["last"])
    slots: dict[str, Any] = {
        "person": f"{chance.choice(lists['first'])} {last}",
        "surname": last,
        "place": chance.choice(lists["place"]),
        "year": chance.randrange(1801, 1990),
        "future": chance.randrange(2031, 2060),
        "count": chance.randrange(21, 500),
        "count2": chance.randrange(501, 1000),
    }
    sections = subject["sections"][:count]
    facts = [section["fact"].format(**slots) for section in sections]
    filling = iter(chance.sample(material["sentences"], len(material["sentences"])))
    answer = [
        f"## {section['title']}\n\n{fact} {next(filling)} {next(filling)}"
        for section, fact in zip(sections, facts, strict=True)
    ]
    difficulties: dict[int, Difficulty] = {2: "easy", 3: "medium", 4: "hard"}
    return Probe(
        given={
            "outline": [section["title"] for section in sections],
            "subject": subject["subject"].format(**slots),
            "facts": facts,
            "words": PROBE_WORDS * count,
        },
        expected={"facts": [[slots[name] for name in section["keys"]] for section in sections]},
        answer="\n\n".join(answer),
        group=subject["name"],
        difficulty=difficulties[count],
        part=str(count),
    )
