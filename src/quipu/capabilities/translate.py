"""Translate a text of any length, and say which placeholders and terms did not come through."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any, cast

from pydantic import Field

from quipu.capabilities import base
from quipu.capabilities.base import Delta, Event, Probe, Progress, Score, Source, Typed, required_text, result_of
from quipu.capabilities.parts import address, placeholders
from quipu.capabilities.parts.calls import Calls
from quipu.capabilities.parts.language import NAMES, Language, language_of, other_language
from quipu.capabilities.parts.segments import Piece, segments
from quipu.capabilities.parts.translated import translation_in
from quipu.errors import InvalidRequest, Unparsed
from quipu.types import Generator, Message

if TYPE_CHECKING:
    from sacrebleu.metrics.chrf import CHRF

PROBES = Path(__file__).parent / "probes"
LARGEST = 1200
"""Characters of a segment: about two hundred words, which small models still follow from end to end."""
SMALLEST = 60
"""Characters below which a segment is not divided further to fit: then it is the model's context that is too small."""
ENOUGH = 0.4
"""chrF from which on a translation counts as one. Two sentences of LibreOffice with nothing in common come to it in
less than 1 case in 100 in any language (99th percentile 0.30 to 0.36); of 3,872 pairs of a Brazilian and a Portuguese
translation of one English sentence, made by different people, 9 in 10 do."""
TOKENS_PER_CHARACTER = {"hi": 1.5, "th": 1.5}
"""What an answer may take for a character of the source; 0.6 in Latin letters."""


class Term(Typed):
    """One entry of a glossary."""

    term: str = Field(description="A word or phrase of the source", min_length=1)
    translation: str = Field(description="What it is to become", min_length=1)


class Input(base.Input):
    """A text, the language it is to be in, and how."""

    text: str = Field(description="What to translate: a phrase or a document of any length; Markdown keeps its form")
    to: Language = Field(description="Language to translate into, as a code such as de")
    source: Language | None = Field(default=None, description="Language of the text; found out if not given")
    formality: address.Formality | None = Field(default=None, description="How the reader is addressed")
    domain: str | None = Field(default=None, description="What the text is about, such as law or cooking")
    glossary: list[Term] = Field(default=[], description="Terms and what they are to become")
    max_calls: int = Field(
        default=1000,
        ge=1,
        description="Most calls of the model that a document may take, one for each segment; one that takes more is "
        "refused",
    )


class Output(base.Output):
    """The translation, and what is known about it."""

    text: str = Field(description="The translation")
    source: Language | None = Field(
        default=None, description="Language of the source; none if it was too short to tell"
    )
    lost: list[str] = Field(
        default=[], description="Placeholders, tags, URLs and translations of the glossary that are missing in it"
    )


class Translate(base.Answering):
    """Translation between eight languages."""

    title = "Translate"
    description = (
        "Translates a text or a whole document between English, German, French, Italian, Portuguese, Hindi, Spanish "
        "and Thai: formal or informal, with a glossary, keeping placeholders, tags, links and Markdown."
    )
    phrases = (
        "translate this into German",
        "what is this in Spanish",
        "translation of a contract from English to French",
        "localize the strings of my app",
        "übersetze diesen Brief ins Englische",
        "traduis ce courriel en anglais",
        "traduce este documento al italiano",
        "इसका हिंदी में अनुवाद करो",
        "แปลเป็นภาษาไทย",
        "translate with a glossary, formal address",
    )
    input = Input
    output = Output
    text_field = "text"
    metric = "chrF against a person's translation, 0 in the wrong language, less for what is lost or wrongly addressed"
    binary = False
    baseline = 0.0
    baseline_name = "a copy of the source"
    sources = (
        Source("libreoffice-l10n 7.4.7 (Debian); pt is pt_BR", "MPL-2.0", "https://www.libreoffice.org/"),
        Source("placeholders, glossaries and addresses written for quipu", "Apache-2.0"),
    )

    def messages(self, given: Input) -> list[Message]:
        """The task, what to mind in this text, and the text last."""
        source = given.source or language_of(given.text)
        from_ = f" from {NAMES[source]}" if source and source != given.to else ""
        text = re.sub(r"\s*\n\s*", " ", given.text) if "\n\n" not in given.text else given.text
        lines = [f"Translate the text below{from_} to {NAMES[given.to]}. Write only the translation."]
        if given.domain:
            lines.append(f"The text is about {given.domain}.")
        if given.formality:
            lines.append(address.WANTED[given.formality][given.to])
        lines += [f'Translate "{each.term}" as "{each.translation}".' for each in _due(given)]
        if held := dict.fromkeys(placeholders.placeholders(given.text)):
            lines.append(f"Keep these exactly as they are: {' '.join(held)}")
        return [Message("user", "\n".join(lines) + f"\n\n{text}")]

    def parse(self, text: str, given: Input) -> Output:
        """The translation without what models say around it; Unparsed only if the answer is empty."""
        translation = translation_in(required_text(text, "translation"), given.text)
        return Output(text=translation, source=given.source or language_of(given.text), lost=_lost(given, translation))

    def render(self, output: Output, given: Input) -> str:
        """The translation."""
        return output.text

    def notes(self, output: Output, given: Input) -> Sequence[str]:
        """Whether it is in the language that was asked for."""
        return other_language(output.text, given.to)

    def longest(self, given: Input) -> int:
        """A good half more than a translation takes."""
        return 40 + int(len(given.text) * TOKENS_PER_CHARACTER.get(given.to, 0.6))

    def events(self, model: Generator, given: Input, sampling: Mapping[str, Any]) -> Iterator[Event]:
        """One call for each segment; a text of one segment is streamed."""
        given = _checked(given)
        calls = Calls(model, {**self.sampling, **sampling})
        pieces = _affordable(given, segments(given.text, LARGEST))
        pieces = _affordable(given, self._fitting(calls, given, pieces))
        return self._one(calls, given) if len(pieces) == 1 else self._many(calls, given, pieces)

    def _one(self, calls: Calls, given: Input) -> Iterator[Event]:
        text = yield from self.ask(calls, self.messages(given), self.longest(given))
        output = self.parse(text, given)
        yield result_of(calls, output, text, self.notes(output, given))

    def _many(self, calls: Calls, given: Input, pieces: Sequence[Piece]) -> Iterator[Event]:
        """Deltas come in the order of the document, Progress as segments are ready, in any order."""
        asked = {place: _part(given, piece.text) for place, piece in enumerate(pieces) if not piece.kept}
        places = list(asked)
        outputs: dict[int, Output] = {}
        empty: list[str] = []
        shown = 0
        longest = max(map(self.longest, asked.values()))
        for number, text in calls.answers([self.messages(part) for part in asked.values()], longest):
            place = places[number]
            try:
                output = self.parse(text, asked[place])
                # A line stays a line: a heading, a list's entry and a table's cell end with it.
                outputs[place] = output.model_copy(update={"text": " ".join(output.text.split("\n"))})
            except Unparsed:
                if len(asked) == 1:
                    raise
                empty.append(text)
                outputs[place] = Output(text=pieces[place].text, lost=_lost(asked[place], pieces[place].text))
            yield Progress(len(outputs), len(asked), "segments translated")
            while shown < len(pieces) and (pieces[shown].kept or shown in outputs):
                yield Delta(outputs[shown].text if shown in outputs else pieces[shown].text)
                shown += 1
        if len(empty) == len(asked):
            raise Unparsed(f"none of the answers to {len(asked)} segments has a translation in it", text=empty[0])
        whole = "".join(outputs[place].text if place in outputs else piece.text for place, piece in enumerate(pieces))
        lost = [each for place in places for each in outputs[place].lost]
        notes = [f"{len(empty)} of {len(asked)} segments came back empty and stand as they were"] if empty else []
        output = Output(text=whole, source=given.source, lost=lost)
        yield result_of(calls, output, whole, [*notes, *self.notes(output, given)])

    def _fitting(self, calls: Calls, given: Input, pieces: Iterable[Piece]) -> Iterator[Piece]:
        """The segments of a text, divided further until each has room for its translation in the model's context."""
        for piece in pieces:
            part = _part(given, piece.text)
            if piece.kept or len(piece.text) < SMALLEST or calls.room(self.messages(part)) >= self.longest(part):
                yield piece
            else:
                yield from self._fitting(calls, part, segments(piece.text, len(piece.text) // 2))

    def score(self, output: Output, probe: Probe) -> Score:
        """chrF, times 0 in another language, times the share of placeholders and terms kept, halved if misaddressed."""
        given = Input.of(probe.given)
        found = language_of(output.text)
        if found not in (None, given.to) and output.text != probe.expected["reference"]:
            return Score(0.0, False, f"in {NAMES[str(found)]}, not {NAMES[given.to]}")
        if output.text.strip().casefold() == given.text.strip().casefold():
            return Score(0.0, False, "it is the source")
        closeness = chrf(output.text, probe.expected["reference"])
        due = len(placeholders.placeholders(given.text)) + len(_due(given))
        kept = 1 - len(output.lost) / due if due else 1.0
        addressed = not given.formality or address.is_addressed(output.text, given.to, given.formality)
        value = closeness * kept * (1.0 if addressed else 0.5)
        why = [f"chrF {closeness:.2f}", *(f"{each} is lost" for each in output.lost)]
        why += [] if addressed else [f"not {given.formality}"]
        return Score(value, closeness >= ENOUGH and kept == 1 and addressed, "; ".join(why))

    def trivial(self, probe: Probe) -> str:
        """The source, as it is."""
        return str(probe.given["text"])

    def findings(self, scored: Sequence[tuple[Probe, Score]]) -> Mapping[str, Any]:
        """The mean by direction, of whole sentences, and by what else was to be minded."""
        parts = dict.fromkeys(sorted(probe.part for probe, _ in scored))
        return {
            "by_part": {each: fmean(score.value for probe, score in scored if probe.part == each) for each in parts}
        }

    def make_probes(self) -> Iterator[Probe]:
        """Sentences of LibreOffice in ten directions; placeholders, glossaries and addresses in sentences of ours."""
        for line in (PROBES / "translate.jsonl").read_text("utf-8").splitlines():
            row = json.loads(line)
            given = {"text": row["text"], "to": row["target"], "source": row["source"]}
            direction = f"{row['source']}-{row['target']}"
            yield _probe(given, row["reference"], direction, direction)
        for number, row in _rows("placeholders"):
            for to, reference in row["to"].items():
                yield _probe({"text": row["text"], "to": to}, reference, f"placeholders {number}", "placeholders")
        for number, row in _rows("glossary"):
            for to, reference in row["to"].items():
                term = {"term": row["term"], "translation": row["translations"][to]}
                given = {"text": row["text"], "to": to, "glossary": [term]}
                yield _probe(given, reference, f"glossary {number}", "glossary")
        for number, row in _rows("addressed"):
            for to, references in row["to"].items():
                for formality, reference in references.items():
                    given = {"text": row["text"], "to": to, "formality": formality}
                    yield _probe(given, reference, f"addressed {number}", "formality")


def chrf(text: str, reference: str) -> float:
    """Character F-score of Popović (2015), from 0 to 1, as sacrebleu computes it for one sentence by default."""
    return float(_metric().sentence_score(text, [reference]).score) / 100


@cache
def _metric() -> CHRF:
    from sacrebleu.metrics.chrf import CHRF

    return CHRF()


def _checked(given: Input) -> Input:
    """With the source filled in where it can be told. Raises InvalidRequest where there is nothing to translate."""
    if placeholders.is_bare(given.text):
        raise InvalidRequest("text has no word to translate", param="text")
    source = given.source or language_of(given.text)
    if source == given.to:
        hint = "" if given.source else f"; if it is in another language, name that as source instead of {source}"
        raise InvalidRequest(
            f"the text is in {NAMES[given.to]} already, the language to translate to{hint}", param="to"
        )
    return given.model_copy(update={"source": source})


def _affordable(given: Input, pieces: Iterable[Piece]) -> list[Piece]:
    """All of ``pieces``. Raises InvalidRequest, at once, where more of them are to be translated than is allowed."""
    read: list[Piece] = []
    calls = characters = 0
    for piece in pieces:
        read.append(piece)
        calls += not piece.kept
        characters += len(piece.text)
        if calls > given.max_calls:  # what is left would take as many for each character
            raise InvalidRequest(
                f"a text of {len(given.text):,} characters takes about {calls * len(given.text) // characters:,} calls "
                f"of the model, one for each segment; max_calls is {given.max_calls:,}. Give a shorter text, or raise "
                "max_calls.",
                param="max_calls",
            )
    return read


def _part(given: Input, text: str) -> Input:
    return given.model_copy(update={"text": text})


def _due(given: Input) -> list[Term]:
    """The entries of the glossary whose term is in the text, as a word of its own, upper or lower case."""
    return [
        each for each in given.glossary if re.search(rf"(?<!\w){re.escape(each.term)}(?!\w)", given.text, re.IGNORECASE)
    ]


def _lost(given: Input, translation: str) -> list[str]:
    """What had to be in the translation and is not."""
    terms = [each.translation for each in _due(given) if each.translation.casefold() not in translation.casefold()]
    return placeholders.lost(given.text, translation) + terms


def _probe(given: dict[str, Any], reference: str, group: str, part: str) -> Probe:
    """Hindi and Thai are hard, long sentences medium."""
    hard = {given["to"], given.get("source")} & {"hi", "th"}
    difficulty: base.Difficulty = "hard" if hard else "easy" if len(given["text"]) < 70 else "medium"
    return Probe(given, {"reference": reference}, reference, group, difficulty, part)


@cache
def _material() -> dict[str, Any]:
    return tomllib.loads((PROBES / "translate.toml").read_text("utf-8"))


def _rows(kind: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    return enumerate(cast("list[Mapping[str, Any]]", _material()[kind]))
