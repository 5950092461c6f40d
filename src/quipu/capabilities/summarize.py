"""Say in few words what a text says, however long it is: by sections, then over their summaries."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

from pydantic import Field

from quipu.capabilities import base
from quipu.capabilities.base import Event, Probe, Progress, Score, Source, required_text, result_of
from quipu.capabilities.parts.allowance import tokens_for
from quipu.capabilities.parts.calls import Calls
from quipu.capabilities.parts.facts import invented, kept
from quipu.capabilities.parts.reports import reports
from quipu.capabilities.parts.sections import sections
from quipu.errors import ContextLengthExceeded, InvalidRequest, Unparsed
from quipu.types import Generator, Message

Style = Literal["tldr", "bullets", "abstract"]

SECTION = 3000
"""Most tokens read at once, also where the context is longer: models lose more of what they read the more it is."""
SMALLEST_SECTION = 128
SECTION_WORDS = 120
"""Words of the summary of a section that is not the end."""
ASKED: dict[Style, str] = {
    "tldr": "Write a TL;DR of the text above in one or two sentences, at most {words} words.",
    "bullets": 'Summarize the text above as bullet points that begin with "- ", at most {words} words in all.',
    "abstract": "Summarize the text above in one paragraph of at most {words} words.",
}
TOLERANCE = 1.25
"""How many times the words asked for a summary may have; beyond it the score falls with the square of the excess."""


class Input(base.Input):
    """A text, and what its summary should be like."""

    text: str = Field(description="The text to summarize, of any length.", min_length=1)
    words: int = Field(80, description="Most words of the summary.", ge=5, le=1000)
    style: Style = Field("abstract", description="One or two sentences, a list of points, or a paragraph.")
    focus: str | None = Field(None, description="What the summary should be about, if not all.", max_length=1000)
    max_calls: int = Field(
        100, description="Most calls of the model that a long text may take; one that takes more is refused.", ge=1
    )


class Output(base.Output):
    """The summary."""

    summary: str = Field(description="The summary.")


class Summarize(base.Answering):
    """Key facts kept, nothing invented, length kept."""

    title = "Summarize"
    description = (
        "Summarize a text of any length, an article, report, email thread or transcript, as a tl;dr, bullet points or "
        "an abstract of so many words, with a focus if wanted; the key facts in brief, nothing made up."
    )
    phrases = (
        "summarize this article",
        "tl;dr",
        "give me the key points of this report as bullets",
        "shorten this email thread to three sentences",
        "what are the main takeaways",
        "write an abstract of this paper",
        "condense the meeting transcript",
        "Fasse diesen Text zusammen",
        "résume ce document en quelques phrases",
        "haz un resumen de este informe",
        "riassumi questo articolo",
        "resuma este texto",
        "इस लेख का सारांश लिखो",
        "สรุปบทความนี้",
    )
    input = Input
    output = Output
    text_field = "text"
    metric = (
        "share of key facts kept, halved by each fact made up, less for excess length, wrong form and lists of words"
    )
    binary = False
    baseline = 0.191
    baseline_name = "the first words of the text, as many as asked for"
    sources = (
        Source("procedural: reports, news, letters and minutes with known key facts among asides", "Apache-2.0"),
    )

    def messages(self, given: Input) -> list[Message]:
        """For a text that is read at once."""
        return _request(given.text, given.words, given.style, given.focus)

    def parse(self, text: str, given: Input) -> Output:
        """Without an introduction, a title or quotation marks around it; points begin with "- "."""
        said = _bare(required_text(text, "summary"))
        if not said:
            raise Unparsed(f"the model's answer, {text.strip()[:80]!r}, introduces a summary and has none", text=text)
        if given.style == "bullets":
            said = "\n".join(BULLET.sub("- ", line.strip()) for line in said.splitlines() if line.strip())
        return Output(summary=said)

    def render(self, output: Output, given: Input) -> str:
        """As it is."""
        return output.summary

    def longest(self, given: Input) -> int:
        """The words asked for and half as many again."""
        return tokens_for(given.words, given.text)

    def events(self, model: Generator, given: Input, sampling: Mapping[str, Any]) -> Iterator[Event]:
        """Sections, all at the model at once, then their summaries as a text, until that is read at once."""
        if not given.text.strip():
            raise InvalidRequest("text has nothing but white space; give it some words", param="text")
        calls = Calls(model, {**self.sampling, **sampling})
        reading = _Reading(model, given, self.longest(given))
        text, pieces = given.text, reading.planned(given.text)
        first, done = len(pieces), 0
        while len(pieces) > 1:
            total = done + reading.calls(len(pieces))
            asked = [_request(piece, SECTION_WORDS, "abstract", given.focus) for piece in pieces]
            summaries = [""] * len(pieces)
            for place, answer in calls.answers(asked, reading.longest):
                summaries[place] = _bare(answer)
                done += 1
                yield Progress(done, total, "reading sections" if len(pieces) == first else "joining summaries")
            text = required_text("\n\n".join(filter(None, summaries)), "summary of any section")
            pieces = list(reading.sections(text))
        said = yield from self.ask(calls, self.messages(given.model_copy(update={"text": text})), self.longest(given))
        notes = (f"read in {first} sections, then their summaries",) if first > 1 else ()
        yield result_of(calls, self.parse(said, given), said, notes)

    def make_probes(self) -> Iterator[Probe]:
        """Each kind of report in each style."""
        for report in reports():
            style: Style = ("tldr", "bullets", "abstract")[report.number % 3]
            mark = "- " if style == "bullets" else ""
            yield Probe(
                given={"text": report.text, "words": 30 if style == "tldr" else 45, "style": style},
                expected={"facts": report.facts},
                answer=("\n" if mark else " ").join(mark + sentence for sentence in report.summary),
                group=report.kind,
                difficulty="easy" if report.words < 180 else "medium" if report.words < 350 else "hard",
                part=style,
            )

    def score(self, output: Output, probe: Probe) -> Score:
        """The product of five factors; ``measured`` has each."""
        words = output.summary.split()
        here = kept(output.summary, probe.expected["facts"])
        made = invented(output.summary, str(probe.given["text"]))
        allowed = TOLERANCE * probe.given["words"] + 5
        plain = sum(word.strip(".,;:()").islower() for word in words) / max(1, len(words))
        measured = {
            "kept": sum(here) / len(here),
            "invented": float(len(made)),
            "length": min(1.0, allowed / max(1, len(words))) ** 2,
            "form": 1.0 if _has_form(output.summary, probe.given["style"]) else 0.5,
            "prose": min(1.0, plain / 0.4),
        }
        value = measured["kept"] * measured["length"] * measured["form"] * measured["prose"] * 0.5 ** len(made)
        why = f"{sum(here)} of {len(here)} facts kept, {len(words)} words for {probe.given['words']}"
        why += f"; made up: {', '.join(made)[:200]}" if made else ""
        return Score(value, value >= 0.8, why, measured)

    def trivial(self, probe: Probe) -> str:
        """The lead."""
        return " ".join(str(probe.given["text"]).split()[: probe.given["words"]])

    def findings(self, scored: Sequence[tuple[Probe, Score]]) -> Mapping[str, Any]:
        """The mean of each factor; of ``invented`` also the share of summaries that make nothing up."""
        all_measured = [score.measured for _, score in scored if score.measured]
        if not all_measured:
            return {}
        means = {name: sum(each[name] for each in all_measured) / len(all_measured) for name in all_measured[0]}
        clean = sum(each["invented"] == 0 for each in all_measured) / len(all_measured)
        return {name: round(value, 3) for name, value in {**means, "nothing_invented": clean}.items()}


class _Reading:
    """How a text is read by a model: in sections of which size, and what that takes."""

    def __init__(self, model: Generator, given: Input, longest: int) -> None:
        self.model, self.given = model, given
        self.empty = model.count(_request("", SECTION_WORDS, "abstract", given.focus))
        self.size = min(SECTION, model.context_length - self.empty - longest - 16)
        self.longest = min(tokens_for(SECTION_WORDS, given.text), self.size // 4)
        """Tokens of the summary of a section: at most a fourth of one, so that each round is shorter."""

    def planned(self, text: str) -> list[str]:
        """The sections of ``text``. Raises ContextLengthExceeded and InvalidRequest with the numbers."""
        if self.size < SMALLEST_SECTION:
            raise ContextLengthExceeded(
                f"the context of this model, {self.model.context_length} tokens, leaves {max(0, self.size)} for a text "
                f"beside the request and a summary of {self.given.words} words; it takes {SMALLEST_SECTION}. Ask for "
                "fewer words or a shorter focus, or load the model with a larger --context.",
                param="words",
            )
        pieces: list[str] = []
        for piece in self.sections(text):
            pieces.append(piece)
            if len(pieces) > self.given.max_calls:  # what is left would take as many for each character
                read = sum(map(len, pieces))
                self._refuse(f"about {self.calls(len(pieces) * len(text) // read):,}", len(text))
        if self.calls(len(pieces)) > self.given.max_calls:
            self._refuse(f"{self.calls(len(pieces)):,}", len(text))
        return pieces

    def sections(self, text: str) -> Iterator[str]:
        """See ``sections.sections``."""
        return sections(text, self.size, lambda piece: self.model.count([Message("user", piece)]))

    def calls(self, pieces: int) -> int:
        """Calls that ``pieces`` sections take, over all rounds, if no summary is shorter than it may be."""
        if pieces <= 1:
            return 1
        return pieces + self.calls(-(-pieces * self.longest // (self.size - self.longest)))

    def _refuse(self, calls: str, characters: int) -> None:
        raise InvalidRequest(
            f"a text of {characters:,} characters takes {calls} calls of this model, in sections of {self.size:,} "
            f"tokens; max_calls is {self.given.max_calls}. Give a shorter text, or raise max_calls.",
            param="max_calls",
        )


BULLET = re.compile(r"^(?:[-*•–‣▪]|\d{1,2}[.)])\s+")
FENCE = re.compile(r"^```\w*\n(.*?)\n?```$", re.DOTALL)
INTRODUCTIONS = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        r"^(?:sure(?: thing)?|certainly|of course|okay|ok)[!,.:]\s*",
        r"^here(?:['’]s| is| are)\b[^\n:]{0,80}(?:summar|tl;?dr|abstract|point|bullet|takeaway)[^\n:]{0,80}:\s*",
        r"^(?:#{1,6}\s+|\*\*)?(?:tl;?dr|summary|abstract)(?:\*\*)?\s*(?::(?:\*\*)?|\n)\s*",
    )
)


def _request(text: str, words: int, style: Style, focus: str | None) -> list[Message]:
    about = f" Focus on this: {focus.strip()}." if focus and focus.strip() else ""
    asked = ASKED[style].format(words=words)
    return [
        Message(
            "user",
            f"{text.strip()}\n\n---\n{asked}{about} Keep the important names, numbers, places and dates exactly "
            "as they are, and add nothing. Write only the summary.",
        )
    ]


def _bare(text: str) -> str:
    """Without fences, an introduction, and quotation marks around all of it."""
    text = text.strip()
    fenced = FENCE.match(text)
    text = fenced[1].strip() if fenced else text
    for introduction in INTRODUCTIONS:
        text = introduction.sub("", text)
    if text[:1] + text[-1:] in ('""', "“”", "„“", "«»") and text[0] not in text[1:-1]:
        text = text[1:-1].strip()
    return text


def _has_form(summary: str, style: Style) -> bool:
    points = [line.startswith("- ") for line in summary.splitlines() if line.strip()]
    return all(points) and len(points) > 1 if style == "bullets" else not any(points)
