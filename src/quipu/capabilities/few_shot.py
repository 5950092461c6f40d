"""A task shown by examples: classify or transform one more input in the same way."""

from __future__ import annotations

import re
import tomllib
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import Field

from quipu.capabilities import base
from quipu.capabilities.base import Probe, Score, Source, required_text
from quipu.errors import InvalidRequest, Unparsed
from quipu.types import Message

MATERIAL = Path(__file__).parent / "probes" / "few_shot.toml"
ONLY = "Reply with the answer only."
SHOTS = (0, 1, 2, 3, 5)
"""How many examples each item is asked with."""

FENCE = re.compile(r"```\w*\n(.*?)\n?```", re.DOTALL)
LEAD_IN = re.compile(r"(?:sure|certainly|of course|okay|ok|here(?:'s| is| are))\b[^\n]*:\s*\n+", re.IGNORECASE)
LABEL = re.compile(r"(?:the )?(?:output|answer|result)(?: is)?\s*:\s*", re.IGNORECASE)
WRAPPERS = (("**", "**"), ('"', '"'), ("'", "'"), ("`", "`"), ("“", "”"))


class Example(base.Typed):
    """One input with its output."""

    input: str = Field(description="An input")
    output: str = Field(description="What should become of it")


class Input(base.Input):
    """One more input, and what shows the task: examples, a sentence, or both."""

    input: str = Field(description="What should be classified or transformed as in the examples")
    examples: list[Example] = Field(
        default=[], description="Inputs with their outputs; three to five are usually enough"
    )
    task: str | None = Field(default=None, description="The task in one sentence; without examples it is needed")


class Output(base.Output):
    """What the input becomes."""

    output: str = Field(description="The output for the input")


class FewShot(base.Answering):
    """Learns a small task from examples in the prompt."""

    title = "Learn from examples"
    description = (
        "Show a few examples of input and output, and the model does the same to a new input: classify into your own "
        "labels, rewrite, convert, pull something out. In-context learning, few-shot prompting, without any training."
    )
    phrases = (
        "learn from examples",
        "few-shot classification",
        "classify text into my own labels",
        "do the same as in these examples",
        "in-context learning",
        "label messages as spam or not",
        "sentiment of a review",
        "follow the pattern of these pairs",
        "aus Beispielen lernen",
        "apprendre à partir d'exemples",
        "clasificar según ejemplos",
        "imparare da esempi",
    )
    input = Input
    output = Output
    text_field = "input"
    metric = "exact match, case ignored where it is not the task, a final full stop ignored"
    binary = True
    baseline = 0.2
    baseline_name = "the commonest label; where there are no labels, the input again"
    sources = (Source("tasks with examples and items apart, written for quipu", "Apache-2.0"),)

    def messages(self, given: Input) -> list[Message]:
        """The examples as turns that were answered, the input as the last one; the task stands in each.

        One prompt with all examples in it makes SmolLM2-135M talk about them: 0.05 right (n = 160) instead of 0.55.
        Raises InvalidRequest when there is neither an example nor a task.
        """
        if not given.input.strip():
            raise InvalidRequest("input is empty; give what should be classified or transformed", param="input")
        if not given.examples and not (given.task or "").strip():
            raise InvalidRequest("there is nothing to learn the task from; give examples, or a task", param="examples")
        task = f"{given.task}\n" if given.task is not None else ""
        if not given.examples:  # which show it
            task = f"{given.task} {ONLY}\n"
        turns = []
        for example in given.examples:
            turns += [Message("user", task + example.input), Message("assistant", example.output)]
        return [*turns, Message("user", task + given.input)]

    def longest(self, given: Input) -> int:
        """As many tokens as the longest text has bytes: a token has at least one."""
        texts = [given.input, *(example.output for example in given.examples)]
        return 16 + max(len(text.encode()) for text in texts)

    def parse(self, text: str, given: Input) -> Output:
        """The output, without what models put around it; one line of it when the outputs of the examples are lines."""
        output = required_text(text, "output")
        if fenced := FENCE.search(output):
            output = fenced[1].strip()
        output = LEAD_IN.sub("", output, count=1) if LEAD_IN.match(output) else output
        label = LABEL.match(output)
        output = output[label.end() :] if label else output
        shown = [example.output.strip() for example in given.examples]
        if shown and not any("\n" in each for each in shown):
            output = output.strip().partition("\n")[0]
        output = _unwrapped(output.strip(), shown)
        if not output:
            raise Unparsed("the model's answer is empty but for what it put around an output", text=text)
        return Output(output=output)

    def render(self, output: Output, given: Input) -> str:
        """The output as it is."""
        return output.output

    def make_probes(self) -> Iterator[Probe]:
        """Each item of each task with 0, 1, 2, 3 and 5 examples; the more include the fewer."""
        with MATERIAL.open("rb") as file:
            tasks = tomllib.load(file)["tasks"]
        for task in tasks:
            labels = task["kind"] == "classify"
            [(commonest, _)] = Counter(output for _, output in task["items"]).most_common(1)
            for place, (text, output) in enumerate(task["items"]):
                pool = task["examples"][place:] + task["examples"][:place]  # no item hangs on one order of examples
                for shots in SHOTS:
                    examples = [{"input": given, "output": answer} for given, answer in pool[:shots]]
                    yield Probe(
                        given={"input": text, "examples": examples, "task": task["task"]},
                        expected={
                            "output": output,
                            "case": task.get("case", False),
                            "trivial": commonest if labels else text,
                        },
                        answer=output,
                        group=task["name"],
                        difficulty=task["difficulty"],
                        part=f"{shots} example" + "s" * (shots != 1),
                    )

    def score(self, output: Output, probe: Probe) -> Score:
        """Right or wrong."""
        case = probe.expected["case"]
        expected, got = (_normal(text, case) for text in (probe.expected["output"], output.output))
        return Score.right(got == expected, "" if got == expected else f"{got[:80]!r} is not {expected!r}")

    def trivial(self, probe: Probe) -> str:
        """What one says who has not looked at the examples."""
        return str(probe.expected["trivial"])

    def findings(self, scored: Sequence[tuple[Probe, Score]]) -> Mapping[str, Any]:
        """The learning curve: accuracy by number of examples, over the same items."""
        values = defaultdict(list)
        for probe, score in scored:
            values[len(probe.given["examples"])].append(score.value)
        return {
            "accuracy_by_examples": {
                str(shots): round(sum(values[shots]) / len(values[shots]), 3) for shots in sorted(values)
            }
        }


def _unwrapped(text: str, shown: Sequence[str]) -> str:
    """``text`` without quotes or bold around it, unless the examples have them, too."""
    for left, right in WRAPPERS:
        inner = text.removeprefix(left).removesuffix(right)
        if len(inner) == len(text) - len(left) - len(right) and not any(each.startswith(left) for each in shown):
            text = inner.strip()
    return text


def _normal(text: str, case: bool) -> str:
    """``text`` as it is compared: single spaces, no full stop at the end."""
    text = " ".join(text.split()).removesuffix(".").rstrip()
    return text if case else text.casefold()
