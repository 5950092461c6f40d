"""Write a text to a prompt, in the language that is asked for."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from statistics import fmean
from typing import Any, ClassVar, Literal

from pydantic import Field

from quipu.capabilities import base
from quipu.capabilities.base import Probe, Score, Source, required_text
from quipu.capabilities.parts.language import NAMES, Language, language_of, other_language
from quipu.capabilities.parts.repetition import STUCK, copied, repetition
from quipu.types import Message

PROBES = Path(__file__).parent / "probes" / "generate.toml"
SHORTEST = 40
"""Characters of a sentence: that of "The sea was calm, and the gulls were awake." are 43."""
COPIED = 0.5
"""Share of an answer's runs of four words that may be the prompt's: a title is, an echo is more."""

Length = Literal["short", "medium", "long"]
LENGTHS: dict[Length | None, tuple[str, int]] = {
    "short": ("Write at most three sentences.", 200),
    "medium": ("Write two or three paragraphs.", 800),
    "long": ("Write about one page.", 2000),
    None: ("", 1024),
}
"""What asks for a length, and the tokens it may take. None: what the prompt says."""


class Input(base.Input):
    """A prompt, and the language and length of the answer."""

    prompt: str = Field(description="What to write, in any language", min_length=1)
    language: Language | None = Field(
        default=None, description="Language of the text, as a code such as de; that of the prompt if not given"
    )
    length: Length | None = Field(
        default=None, description="About how long: a few sentences, a few paragraphs, or a page"
    )


class Output(base.Output):
    """The text, and the language that it turned out to be in."""

    text: str = Field(description="What the model wrote")
    language: Language | None = Field(default=None, description="The language it is in; none if too short to tell")


class Generate(base.Answering):
    """Text generation in eight languages."""

    title = "Generate text"
    description = (
        "Writes a text to a prompt - a story, an e-mail, a post, an explanation, an answer - in English, German, "
        "French, Italian, Portuguese, Hindi, Spanish or Thai."
    )
    phrases = (
        "write a short story about a lighthouse",
        "draft an e-mail to my landlord",
        "generate a product description",
        "write a blog post in French",
        "schreibe einen Text über den Herbst",
        "écris un poème sur la mer",
        "escribe un artículo sobre la energía solar",
        "explain photosynthesis in a paragraph",
        "multilingual text generation",
    )
    input = Input
    output = Output
    text_field = "prompt"
    sampling: ClassVar[Mapping[str, Any]] = {"temperature": 0.7, "top_p": 0.9}
    """What makes stories: the most probable text is a dull one, and of a small model a loop."""
    metric = "share of texts in the language asked for, about the subject, that neither loop nor echo the prompt"
    binary = True
    baseline = 0.125
    baseline_name = "a good text about the subject, in English for everyone"
    sources = (Source("requests and texts written for quipu", "Apache-2.0"),)

    def messages(self, given: Input) -> list[Message]:
        """The prompt, and after it a line for the language and the length, if they were named."""
        asked = [] if given.language is None else [f"Write in {NAMES[given.language]}."]
        asked += filter(None, [LENGTHS[given.length][0]])
        return [Message("user", "\n\n".join(filter(None, [given.prompt, " ".join(asked)])))]

    def parse(self, text: str, given: Input) -> Output:
        """All of the answer; Unparsed only if it is empty."""
        text = required_text(text, "text")
        return Output(text=text, language=language_of(text))

    def render(self, output: Output, given: Input) -> str:
        """The text."""
        return output.text

    def notes(self, output: Output, given: Input) -> Sequence[str]:
        """Whether it is in the language that was asked for."""
        return other_language(output.text, given.language)

    def longest(self, given: Input) -> int:
        """About 700 words of English, if no length is named."""
        return LENGTHS[given.length][1]

    def score(self, output: Output, probe: Probe) -> Score:
        """Right if it is in the language, a sentence at least, about the subject, and neither a loop nor an echo.

        What repeats the prompt to the letter is taken out first and counts for nothing.
        """
        wanted, text = probe.expected["language"], output.text.replace(probe.given["prompt"], " ").strip()
        if len(text) < SHORTEST:
            return Score.right(False, f"only {len(text)} characters beside the prompt")
        if (found := language_of(text)) != wanted:
            return Score.right(False, f"in {NAMES.get(str(found), 'no language one can tell')}, not {NAMES[wanted]}")
        if (share := repetition(text)) >= STUCK:
            return Score.right(False, f"it repeats itself: {share:.2f} of it was there before")
        if copied(text, probe.given["prompt"]) > COPIED:
            return Score.right(False, "it echoes the prompt")
        if not any(_has_word(each, text, wanted) for each in probe.expected["words"]):
            return Score.right(False, f"nothing of {', '.join(probe.expected['words'])} is in it")
        return Score.right(True)

    def trivial(self, probe: Probe) -> str:
        """The English text about the subject, whatever language was asked for."""
        return str(_material()["en"]["texts"][probe.expected["subject"]])

    def findings(self, scored: Sequence[tuple[Probe, Score]]) -> Mapping[str, Any]:
        """The score by language, and asked in the language itself or in another one with ``language``."""
        own = {own: [score.value for probe, score in scored if ("language" in probe.given) != own] for own in (1, 0)}
        languages = [each for each in NAMES if any(probe.part == each for probe, _ in scored)]
        return {
            "by_language": {
                each: fmean(score.value for probe, score in scored if probe.part == each) for each in languages
            },
            "asked_in_the_language": fmean(own[1]) if own[1] else None,
            "asked_in_another": fmean(own[0]) if own[0] else None,
        }

    def make_probes(self) -> Iterator[Probe]:
        """Five subjects in each language: three requests in the language itself, two in English that name it.

        English itself is asked for in German and Spanish.
        """
        for language in NAMES:
            own = _material()[language]
            for number, request in enumerate(own["requests"]):
                for place, subject in enumerate(own["subjects"]):
                    yield _probe(request.format(subject), language, None, number, place)
            for number in range(2):
                other = _material()[("de", "es")[number] if language == "en" else "english"]
                for place, subject in enumerate(other["subjects"]):
                    yield _probe(other["requests"][number].format(subject), language, language, number + 3, place)


def _has_word(word: str, text: str, language: str) -> bool:
    """Whether ``word`` is one of ``text``, with a * the beginning of one. Thai does not set words apart: anywhere."""
    pattern = re.escape(word.casefold().removesuffix("*"))
    if language != "th":
        pattern = rf"(?<!\w){pattern}" if word.endswith("*") else rf"(?<!\w){pattern}(?!\w)"
    return bool(re.search(pattern, text.casefold()))


def _probe(prompt: str, language: str, named: str | None, number: int, place: int) -> Probe:
    given = {"prompt": prompt, "length": "short"} | ({"language": named} if named else {})
    own = _material()[language]
    expected = {"language": language, "words": own["words"][place], "subject": place}
    other_script = language in ("hi", "th")
    difficulty: base.Difficulty = "hard" if other_script else "medium" if named and language != "en" else "easy"
    return Probe(given, expected, own["texts"][place], f"{language}, request {number}", difficulty, language)


@cache
def _material() -> dict[str, Any]:
    return tomllib.loads(PROBES.read_text("utf-8"))
