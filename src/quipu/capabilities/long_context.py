"""Find in a long document what a question asks, and quote the passage that says it."""

from __future__ import annotations

import random
import re
import tomllib
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from importlib import resources
from typing import Any

from pydantic import Field

from quipu.capabilities import base
from quipu.capabilities.base import Difficulty, Probe, Score, Source, digest, required_text
from quipu.capabilities.parts.haystack import hide
from quipu.types import Message

LENGTHS = {512: 5, 1024: 4, 2048: 4, 4096: 2, 8192: 1, 16384: 1, 32768: 1, 65536: 1, 131072: 1}
"""Tokens of context -> documents made to fill 7/8 of it, so that question and answer fit, too. Up to 8k they are as
many as take turns."""
QUESTIONS = 10
KINDS = (10, 5)
"""Of facts in a document, in turn: all different, or each twice, so that a fact has a near miss."""
SHARED = 16
"""Documents whose questions take turns: no two questions of one document are asked in a batch, where the second could
not use what the first computes, and yet its beginning is still in the cache when the next is asked."""
LONGEST_ANSWER = 30
"""Words of an answer beyond which it is taken for a copy of the document."""
BASE_LENGTHS = (512, 1024)
EFFECTIVE = 0.85


class Input(base.Input):
    """A document and a question."""

    document: str = Field(description="The text to look in.", min_length=1)
    question: str = Field(description="What to find out.", min_length=1)


class Output(base.Output):
    """The answer and where it comes from."""

    answer: str = Field(description="The answer, in a few words.")
    quotation: str = Field(description="The passage of the document that says it, as the model quoted it.")
    quoted: bool = Field(description="Whether the quotation stands in the document word for word.")


class LongContext(base.Answering):
    """Needles at depth by length; the effective length is the finding."""

    title = "Long context"
    description = (
        "Answer a question about a long document, a contract, report, manual, transcript or book, with a literal "
        "quotation of the passage that says so: find the needle in the haystack."
    )
    phrases = (
        "find in this document where it says",
        "answer a question about a long text and quote the passage",
        "what does this contract say about the notice period",
        "search a 100-page report for one fact",
        "needle in a haystack",
        "question answering over a whole book",
        "Finde die Stelle im Dokument und zitiere sie",
        "réponds à une question sur un long document avec citation",
        "busca en este documento largo y cita la frase",
        "trova il passaggio nel testo che risponde",
    )
    input = Input
    output = Output
    text_field = "document"
    metric = "share of questions with the right answer and a literal quotation that holds it"
    binary = True
    baseline = 0.0
    baseline_name = "the first sentence of the document"
    sources = (Source("procedural: prose from lists of words with arbitrary facts hidden in it", "Apache-2.0"),)

    def messages(self, given: Input) -> list[Message]:
        """The document first: its questions share a beginning, which is computed once."""
        return [
            Message(
                "user",
                f"{given.document}\n\nQuestion: {given.question}\n"
                "First copy the sentence of the text that answers the question, then answer it in a few words. "
                "Write two lines:\nQuotation: ...\nAnswer: ...",
            )
        ]

    def parse(self, text: str, given: Input) -> Output:
        """Lines with labels; without them the first line is both, less what is in quotation marks."""
        text = required_text(text, "answer")
        parts = {
            "answer" if found["label"].lower() == "answer" else "quotation": _bare(found["said"])
            for found in LABELLED.finditer(text)
            if _bare(found["said"])
        }
        unlabelled = _bare(LABELLED.sub("", text).strip().partition("\n")[0])
        quotation = parts.get("quotation")
        answer = parts.get("answer") or unlabelled or quotation or text
        if quotation is None:
            quotation = next((found[1] for found in MARKED.finditer(text)), None) or unlabelled or answer
        literal = _literal(quotation, given.document)
        return Output(answer=answer, quotation=literal or quotation, quoted=literal is not None)

    def render(self, output: Output, given: Input) -> str:
        """The two lines."""
        return f"Quotation: {output.quotation}\nAnswer: {output.answer}"

    def longest(self, given: Input) -> int:
        """A sentence and a few words."""
        return 96

    def make_probes(self) -> Iterator[Probe]:
        """Ten questions about each document."""
        source = resources.files("quipu.capabilities") / "probes" / "long_context.toml"
        words = tomllib.loads(source.read_text("utf-8"))
        for length, documents in LENGTHS.items():
            for number in range(documents):
                document, needles = hide(
                    words, length * 7 // 8, QUESTIONS, KINDS[number % 2], random.Random(length + number)
                )
                for needle in needles:
                    others = [each.value for each in needles if each is not needle]
                    yield Probe(
                        given={"document": document, "question": needle.question},
                        expected={"value": needle.value, "others": others, "depth": round(needle.depth, 2)},
                        answer=f"Quotation: {needle.fact}\nAnswer: {needle.value}",
                        group=f"{length}-{number}",
                        difficulty=_difficulty(length, KINDS[number % 2]),
                        part=str(length),
                    )

    @cached_property
    def probes(self) -> tuple[Probe, ...]:
        """As of ``SHARED``; lengths mixed, but the documents beyond 8k tokens come last, one after the other."""
        documents: dict[str, list[Probe]] = defaultdict(list)
        for probe in self.make_probes():
            documents[probe.group].append(probe)
        mixed = sorted(documents.values(), key=lambda probes: digest(probes[0].group))
        mixed.sort(key=lambda probes: max(8192, int(probes[0].part)))
        few = sum(int(probes[0].part) <= 8192 for probes in mixed)
        rounds = [mixed[start : start + SHARED] for start in range(0, few, SHARED)]
        rounds += [[probes] for probes in mixed[few:]]
        return tuple(probe for turns in rounds for asked in zip(*turns, strict=True) for probe in asked)

    def score(self, output: Output, probe: Probe) -> Score:
        """Naming the value of another needle beside the right one is no answer, nor is the whole document."""
        value, others = probe.expected["value"], probe.expected["others"]
        answered = (
            _says(output.answer, value)
            and not any(_says(output.answer, other) for other in others)
            and len(output.answer.split()) <= LONGEST_ANSWER
        )
        quoted = output.quoted and len(output.quotation.split()) <= LONGEST_ANSWER
        holds = quoted and _says(output.quotation, value)
        why = f"{'right' if answered else 'wrong'}, {'quoted' if quoted else 'not quoted'} ({value})"
        return Score(
            float(answered and holds), answered and holds, why, {"answered": float(answered), "quoted": float(quoted)}
        )

    def trivial(self, probe: Probe) -> str:
        """The first sentence."""
        return f"{str(probe.given['document']).partition('.')[0]}."

    def findings(self, scored: Sequence[tuple[Probe, Score]]) -> Mapping[str, Any]:
        """Counts by length and depth, and the effective length: that of NoLiMa (Modarressi et al., 2025, section 4.2).

        It is the longest length up to which each length scores at least 0.85 of the base score, the best of those up
        to 1k; None where the base score is below 0.5, since a model that finds nothing keeps that up at any length.
        """
        by_length = {length: [pair for pair in scored if pair[0].part == str(length)] for length in LENGTHS}
        asked = {length: pairs for length, pairs in by_length.items() if pairs}
        base_score = max((_share(pairs) for length, pairs in asked.items() if length in BASE_LENGTHS), default=0.0)
        effective = None
        for length, pairs in asked.items():
            if base_score < 0.5 or _share(pairs) < EFFECTIVE * base_score:
                break
            effective = length
        depths = {
            f"{low / 5:.1f}-{(low + 1) / 5:.1f}": [p for p in scored if min(4, int(p[0].expected["depth"] * 5)) == low]
            for low in range(5)
        }
        return {
            "effective_length": effective,
            "base_score": round(base_score, 3),
            "by_length": {str(length): _counts(pairs) for length, pairs in asked.items()},
            "by_depth": {depth: _counts(pairs) for depth, pairs in depths.items() if pairs},
        }


LABELLED = re.compile(
    r"^[^\w\n]*(?:the )?(?P<label>answer|quotation|quote)(?:[^\w\n]*?:| is\b:?)(?P<said>[^\n]*)$",
    re.MULTILINE | re.IGNORECASE,
)
MARKED = re.compile(r"[\"“„«]([^\"”“»]{8,}?)[\"”“»]")


def _bare(text: str) -> str:
    """Without the marks around it that say it is a quotation, or bold."""
    return text.strip(' \t\r\n"“”„«»*`>') or text.strip()


def _literal(quotation: str, document: str) -> str | None:
    """``quotation`` as it stands in ``document``, of which white space is one space; None if it does not.

    A stop that closes the quotation may be the model's own.
    """
    wanted = " ".join(quotation.split())
    if wanted and wanted in document:  # at once, where the document is long and the quotation within a line
        return wanted
    flat = " ".join(document.split())
    return next((each for each in (wanted, wanted.rstrip(".…")) if each and each in flat), None)


def _says(text: str, value: str) -> bool:
    """Whether ``value`` stands in ``text`` as words of its own; 4,821 is 4821."""
    plain = re.sub(r"(?<=\d),(?=\d{3})", "", text.casefold())
    return re.search(rf"(?<!\w){re.escape(value.casefold())}(?!\w)", re.sub(r"[\s-]+", " ", plain)) is not None


def _difficulty(length: int, kinds: int) -> Difficulty:
    """By length, and whether there are near misses."""
    return "hard" if length > 4096 else "easy" if length <= 1024 and kinds == QUESTIONS else "medium"


def _share(pairs: Sequence[tuple[Probe, Score]]) -> float:
    return sum(score.passed for _, score in pairs) / len(pairs)


def _counts(pairs: Sequence[tuple[Probe, Score]]) -> dict[str, int]:
    """How many were asked, right, right by answer alone, and quoted literally."""
    return {
        "n": len(pairs),
        "passed": sum(score.passed for _, score in pairs),
        "answered": round(sum(score.measured.get("answered", 0.0) for _, score in pairs)),
        "quoted": round(sum(score.measured.get("quoted", 0.0) for _, score in pairs)),
    }
