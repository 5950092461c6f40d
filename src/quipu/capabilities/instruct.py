"""An instruction, and a text that follows it to the letter."""

from __future__ import annotations

import tomllib
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import Field

from quipu.capabilities import base
from quipu.capabilities.base import Difficulty, Probe, Score, Source, required_text
from quipu.capabilities.parts.instructions import instructions
from quipu.capabilities.parts.verifiable import followed, no_answer
from quipu.errors import InvalidRequest
from quipu.types import Message

MATERIAL = Path(__file__).parent / "probes" / "instruct.toml"
LONGEST = 2048
"""Tokens of an answer whose length nobody limits."""
TOKENS_PER_WORD = 3
ROOM = 60
"""Words that probes leave for an answer; half of it is enough for every one of them."""
DIFFICULTIES: Sequence[Difficulty] = ("easy", "medium", "hard")


class Input(base.Input):
    """What to write."""

    instruction: str = Field(description="What should be written, and how")
    text: str | None = Field(default=None, description="The text that the instruction is about, if there is one")
    words: int | None = Field(default=None, ge=1, description="Most words that the answer should have")


class Output(base.Output):
    """What was written."""

    text: str = Field(description="The answer")


class Instruct(base.Answering):
    """Follows instructions about form as well as content."""

    title = "Follow an instruction"
    description = (
        "Write what an instruction asks for, exactly as asked: so many sentences, words or bullets, as JSON, in "
        "capital letters, in another language, with or without certain words. For rewriting, drafting, formatting."
    )
    phrases = (
        "follow my instructions exactly",
        "write exactly three sentences",
        "write it as a bulleted list",
        "answer without using certain words",
        "rewrite this text in capital letters",
        "draft an email for me",
        "format the answer as I say",
        "do what the instruction says",
        "eine Anweisung genau befolgen",
        "suivre une consigne",
        "seguir instrucciones al pie de la letra",
        "seguire un'istruzione",
    )
    input = Input
    output = Output
    text_field = "text"
    metric = "share of checkable instructions followed; 0 for an answer that is not prose about the subject"
    binary = False
    baseline = 0.214
    baseline_name = "a polite sentence that names the subject"
    sources = (
        Source("instructions put together from checks, written for quipu after IFEval's idea", "Apache-2.0"),
        Source("IFEval (Zhou et al., 2023): the idea", "none of its prompts used", "https://arxiv.org/abs/2311.07911"),
    )

    def messages(self, given: Input) -> list[Message]:
        """The text, if there is one, and then the instruction. Raises InvalidRequest for an empty instruction."""
        if not given.instruction.strip():
            raise InvalidRequest("instruction is empty; say what should be written", param="instruction")
        limit = "" if given.words is None else f" Use no more than {given.words} words in all."
        text = "" if given.text is None else f"{given.text}\n\n"
        return [Message("user", f"{text}{given.instruction}{limit}")]

    def longest(self, given: Input) -> int:
        """What ``words`` words take, generously; much, where nothing is said."""
        return LONGEST if given.words is None else 16 + TOKENS_PER_WORD * given.words

    def parse(self, text: str, given: Input) -> Output:
        """All of it: an introduction that was not asked for is part of how the instruction was followed."""
        return Output(text=required_text(text, "text"))

    def render(self, output: Output, given: Input) -> str:
        """The text."""
        return output.text

    def make_probes(self) -> Iterator[Probe]:
        """One to three instructions at a time, for every kind of check."""
        with MATERIAL.open("rb") as file:
            material = tomllib.load(file)
        for made in instructions(material, of_each=9):
            yield Probe(
                given={"instruction": made.text, "text": made.material, "words": ROOM},
                expected={"subject": made.subject, "about": list(made.about), "checks": list(made.checks)},
                answer=made.answer,
                group=made.checks[0]["kind"],
                difficulty=DIFFICULTIES[len(made.checks) - 1],
                part=made.family,
            )

    def score(self, output: Output, probe: Probe) -> Score:
        """The share of checks followed, if there is an answer at all; a success when all are."""
        if why := no_answer(output.text, probe.expected["about"], probe.given["instruction"]):
            return Score(0.0, False, why)
        checks = probe.expected["checks"]
        missed = [check["kind"] for check in checks if not followed(output.text, check)]
        return Score(1 - len(missed) / len(checks), not missed, f"not followed: {', '.join(missed)}" if missed else "")

    def trivial(self, probe: Probe) -> str:
        """One sentence that fits every instruction that limits, and none that demands."""
        return f"I would be glad to tell you something about {probe.expected['subject']}."

    def findings(self, scored: Sequence[tuple[Probe, Score]]) -> Mapping[str, Any]:
        """The share of answers that follow all of their instructions (IFEval's strict accuracy), by how many."""
        passed = defaultdict(list)
        for probe, score in scored:
            passed[len(probe.expected["checks"])].append(score.passed)
        return {
            "all_followed_by_instructions": {
                str(count): round(sum(passed[count]) / len(passed[count]), 3) for count in sorted(passed)
            }
        }
