"""Look at pictures: describe them, read them, count and find what is in them, compare them, read charts."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from quipu.capabilities import base
from quipu.capabilities.base import Delta, Event, Probe, Score, Source, Typed, required_text, result_of
from quipu.capabilities.parts.calls import Calls
from quipu.capabilities.parts.json_answer import json_in, without_halves
from quipu.capabilities.parts.picture import Picture
from quipu.capabilities.parts.picture_score import (
    COLORS,
    SHAPES,
    f1,
    overlap,
    relative_error,
    text_similarity,
    values_right,
    words_of,
)
from quipu.errors import CannotSee, Unparsed
from quipu.picture import Image
from quipu.types import Constraint, Generator, Message

MATERIAL = Path(__file__).parent / "probes" / "vision.jsonl"
MOST_PICTURES = 64
LONGEST = {"describe": 512, "read_text": 2048, "count": 24, "compare": 512, "locate": 96, "chart": 512, "ask": 512}
"""Tokens of a sensible answer to each task."""

Task = Literal["describe", "read_text", "count", "compare", "locate", "chart", "ask"]
ABOUT = {
    "count": "what to count, such as red apples",
    "locate": "what to find, such as the dog on the left",
    "chart": "a question about the chart",
    "ask": "a question about the pictures",
}
"""Tasks that need a question, and what that says."""
SHARE = {"type": "number", "minimum": 0, "maximum": 1}
SHORT = {"type": "string", "maxLength": 500}


def _schema(**properties: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


FORMS: Mapping[str, dict[str, Any]] = {
    "count": _schema(count={"type": "integer", "minimum": 0, "maximum": 1_000_000}),
    "compare": _schema(differences={"type": "array", "items": SHORT, "maxItems": 50}),
    "locate": _schema(
        box={"anyOf": [_schema(left=SHARE, top=SHARE, right=SHARE, bottom=SHARE), {"type": "null"}]},
    ),
    "chart": _schema(answer=SHORT, values={"type": "array", "items": {"type": "number"}, "maxItems": 200}),
}
"""What an answer must look like, for the tasks whose answer is more than text."""
ASKING: Mapping[str, str] = {
    "describe": "Describe what is in the {pictures}.",
    "read_text": "Read all text in the {pictures}. Answer with that text alone, line by line, in its own language.",
    "count": 'Count in the {pictures}: {question}. Answer with JSON: {{"count": 0}}, the number instead of 0.',
    "compare": (
        "What differs between the {pictures}? Answer with JSON: {{"
        '"differences": ["..."]}}, a short sentence for each difference; the list is empty if there is none.'
    ),
    "locate": (
        "Find in the {pictures}: {question}. Answer with JSON: "
        '{{"box": {{"left": 0.0, "top": 0.0, "right": 1.0, "bottom": 1.0}}}}, its edges as shares of the width and '
        'height from the upper left corner; {{"box": null}} if it is not there.'
    ),
    "chart": (
        'Read the chart. {question} Answer with JSON: {{"answer": "...", "values": [...]}}, the answer in words and '
        "the numbers that it names, in the order asked for."
    ),
    "ask": "{question}",
}


class Input(base.Input):
    """Pictures, and what is wanted of them."""

    images: list[Picture] = Field(
        description="The pictures, in order", min_length=1, max_length=MOST_PICTURES, examples=[["photo.jpg"]]
    )
    task: Task = Field("describe", description="What to do; ask answers any question")
    question: str = Field(
        "",
        description="What to count or to locate, or what to answer for chart and ask; a hint for the other tasks",
        max_length=20_000,
        validate_default=True,
    )

    @field_validator("task")
    @classmethod
    def _enough_pictures(cls, task: Task, info: ValidationInfo) -> Task:
        several = len(info.data.get("images", ())) > 1
        if task == "compare" and "images" in info.data and not several:
            raise ValueError("compare needs at least two images")
        if task == "locate" and several:
            raise ValueError("locate looks at one image; a box says nothing of which")
        return task

    @field_validator("question")
    @classmethod
    def _says_what(cls, question: str, info: ValidationInfo) -> str:
        task = info.data.get("task")
        if task in ABOUT and not question.strip():
            raise ValueError(f"is needed by {task}: {ABOUT[task]}")
        return question


class Box(Typed):
    """A rectangle in a picture, as shares of its width and height from the upper left corner."""

    left: float = Field(description="From 0 to 1", ge=0, le=1)
    top: float = Field(description="From 0 to 1", ge=0, le=1)
    right: float = Field(description="From 0 to 1, not less than left", ge=0, le=1)
    bottom: float = Field(description="From 0 to 1, not less than top", ge=0, le=1)

    @model_validator(mode="after")
    def _ordered(self) -> Box:
        if self.left > self.right or self.top > self.bottom:
            raise ValueError("left must not exceed right, nor top bottom")
        return self

    def edges(self) -> tuple[float, float, float, float]:
        """Left, top, right, bottom."""
        return self.left, self.top, self.right, self.bottom


class Output(base.Output):
    """What is seen, in words, and for some tasks in numbers."""

    text: str = Field(description="The answer in words")
    count: int | None = Field(default=None, description="How many, for count")
    box: Box | None = Field(default=None, description="Where, for locate; null if it is not there")
    differences: list[str] = Field(default=[], description="What differs, for compare; empty if nothing does")
    values: list[float] = Field(default=[], description="The numbers that the answer names, for chart")


class Vision(base.Answering):
    """Says what pictures show."""

    title = "Look at pictures"
    description = (
        "Look at photos, screenshots, scans and diagrams: describe an image, read the text in it (OCR, handwriting), "
        "count or locate objects, compare two pictures, read values off a chart, or answer any question about them. "
        "Image understanding, for multimodal models."
    )
    phrases = (
        "describe this photo",
        "what is in this picture",
        "read the text in an image",
        "OCR of a scanned page",
        "count the objects in a picture",
        "spot the differences between two images",
        "find where something is in a photo",
        "read the values off a chart",
        "image understanding",
        "process text and images together",
        "was ist auf dem Bild zu sehen",
        "décrire une image",
        "leer el texto de una foto",
        "descrivere una fotografia",
        "descrever uma imagem",
    )
    input = Input
    output = Output
    view = "pictures"
    metric = (
        "by task: F1 of the things named or of what changed, ANLS of text, the right word, the exact count, "
        "intersection over union, share of values within 5 %"
    )
    binary = False
    baseline = 0.124
    baseline_name = "the same for every picture: a red circle, everywhere, none of it, no difference, no, 50"
    sources = (
        Source("shapes, print and charts drawn for quipu", "Apache-2.0"),
        Source(
            "Optical Recognition of Handwritten Digits (E. Alpaydin, C. Kaynak), as in scikit-learn",
            "CC-BY-4.0",
            "https://archive.ics.uci.edu/dataset/80",
        ),
    )

    def messages(self, given: Input) -> list[Message]:
        """The pictures, numbered if there are several, then what is wanted of them."""
        several = len(given.images) > 1
        parts: list[str | Image] = []
        for number, url in enumerate(given.images, 1):
            parts += [f"Picture {number}:"] if several else []
            parts.append(Image.of_url(url, "images"))
        question = given.question.strip()
        asked = ASKING[given.task].format(pictures="pictures" if several else "picture", question=question)
        hint = f" {question}" if question and given.task not in ABOUT else ""
        return [Message.showing(*parts, asked + hint)]

    def longest(self, given: Input) -> int:
        """By task."""
        return LONGEST[given.task]

    def events(self, model: Generator, given: Input, sampling: Mapping[str, Any]) -> Iterator[Event]:
        """One answer, held to the task's form if it has one. Raises CannotSee for a model that reads text only."""
        calls = Calls(model, {**self.sampling, **sampling})
        form = FORMS.get(given.task)
        more = {} if form is None else {"constraint": Constraint("json_schema", form)}
        text = ""
        try:
            with closing(calls.chunks(self.messages(given), self.longest(given), **more)) as chunks:
                for chunk in chunks:
                    text += chunk.text
                    if chunk.text and form is None:
                        yield Delta(chunk.text)
        except CannotSee:
            raise CannotSee("images") from None
        yield result_of(calls, self.parse(text, given), text)

    def parse(self, text: str, given: Input) -> Output:
        """The text, or what the JSON in it says."""
        said = required_text(text, "answer")
        if given.task not in FORMS:
            return Output(text=said)
        _, value = json_in(text)
        read = {"count": _count, "compare": _differences, "locate": _box, "chart": _chart}[given.task]
        try:
            return read(without_halves(value))
        except (KeyError, TypeError, ValueError, OverflowError):
            raise Unparsed(
                f"the model's answer, {said[:80]!r}, is not of the form of {given.task}", text=text
            ) from None

    def render(self, output: Output, given: Input) -> str:
        """The text, or the task's JSON."""
        said: Mapping[str, Any] = {
            "count": {"count": output.count},
            "compare": {"differences": output.differences},
            "locate": {"box": output.box and output.box.model_dump()},
            "chart": {"answer": output.text, "values": output.values},
        }
        return json.dumps(said[given.task], ensure_ascii=False) if given.task in said else output.text

    def make_probes(self) -> Iterator[Probe]:
        """What the material asks of each of its pictures."""
        with MATERIAL.open(encoding="utf-8") as file:
            for line in map(json.loads, file):
                images = [f"data:image/png;base64,{image}" for image in line["images"]]
                for question, expected, answer in line["asked"]:
                    yield Probe(
                        given={"images": images, "task": line["task"], "question": question},
                        expected=expected,
                        answer=answer,
                        group=line["group"],
                        difficulty=line["difficulty"],
                        part=line["part"],
                    )

    def score(self, output: Output, probe: Probe) -> Score:
        """By what is expected: see ``metric``."""
        [(kind, wanted)] = probe.expected.items()
        return _SCORES[kind](output, wanted)

    def trivial(self, probe: Probe) -> str:
        """The same for every picture."""
        whole = {"left": 0, "top": 0, "right": 1, "bottom": 1}
        return {
            "count": '{"count": 0}',
            "compare": '{"differences": []}',
            "locate": json.dumps({"box": whole}),
            "chart": '{"answer": "50", "values": [50]}',
            "ask": "no",
        }.get(probe.given["task"], "a red circle")

    def findings(self, scored: Sequence[tuple[Probe, Score]]) -> Mapping[str, Any]:
        """Means of what was measured beside the score, by its name."""
        found = defaultdict(list)
        for _, score in scored:
            for name, value in score.measured.items():
                found[name].append(value)
        return {f"mean_{name}": round(sum(values) / len(values), 3) for name, values in sorted(found.items())}


def _count(value: Any) -> Output:
    return Output(text=str(value["count"]), count=value["count"])


def _differences(value: Any) -> Output:
    said = value["differences"]
    return Output(text="\n".join(said) or "No difference.", differences=said)


def _box(value: Any) -> Output:
    if value["box"] is None:
        return Output(text="It is not there.")
    box = Box.model_validate(value["box"])
    across = _third(box.left + box.right, "left", "middle", "right")
    down = _third(box.top + box.bottom, "top", "middle", "bottom")
    edges = ", ".join(f"{name} {edge:g}" for name, edge in box)
    where = down if down == across else f"{down} {across}"
    return Output(text=f"{where}: {edges}", box=box)


def _third(both: float, first: str, second: str, third: str) -> str:
    """Which third of the picture the middle between two edges is in, of which ``both`` is the sum."""
    return first if both < 2 / 3 else second if both <= 4 / 3 else third


def _chart(value: Any) -> Output:
    return Output(text=value["answer"], values=[float(each) for each in value["values"]])


def _words(output: Output, wanted: Sequence[str]) -> Score:
    value = f1(set(words_of(output.text, (*COLORS, *SHAPES))), wanted)
    return Score(value, value == 1, f"should name {', '.join(wanted)} and nothing else", {"describe_f1": value})


def _word(output: Output, wanted: str) -> Score:
    among = next(each for each in (COLORS, SHAPES, ("yes", "no")) if wanted in each)
    said = set(words_of(output.text, among))
    return Score.right(said == {wanted}, f"should say {wanted}")


def _text(output: Output, wanted: str) -> Score:
    value = text_similarity(output.text, wanted)
    return Score(value, value >= 0.9, f"should read {wanted!r}", {"text_anls": value})


def _counted(output: Output, wanted: int) -> Score:
    off = abs((output.count or 0) - wanted)
    return Score.right(off == 0, f"there are {wanted}", {"count_error": float(min(off, 1000))})


def _placed(output: Output, wanted: Sequence[float] | None) -> Score:
    if wanted is None or output.box is None:
        return Score.right(
            wanted is None and output.box is None, "it is not there" if wanted is None else "it is there"
        )
    left, top, right, bottom = wanted
    value = overlap(output.box.edges(), (left, top, right, bottom))
    return Score(value, value >= 0.5, f"its box is {list(wanted)}", {"box_iou": value})


def _changed(output: Output, wanted: Sequence[str]) -> Score:
    """A difference is known by the shape that it names first; one that names none is wrong."""
    named = [next(iter(words_of(each, SHAPES)), "nothing") for each in output.differences]
    value = f1(named, wanted)
    return Score(value, value == 1, f"what differs: {', '.join(wanted) or 'nothing'}", {"compare_f1": value})


def _values(output: Output, wanted: Sequence[float]) -> Score:
    value = values_right(output.values, wanted)
    near = [min(1.0, relative_error(each, right)) for each, right in zip(output.values, wanted, strict=False)]
    measured = {"chart_relative_error": sum(near) / len(near)} if near else {}
    return Score(value, value == 1, f"should be {', '.join(map(str, wanted))}", measured)


def _label(output: Output, wanted: str) -> Score:
    said = re.findall(r"\w+", output.text.casefold())
    return Score.right(wanted.casefold() in said and len(said) < 12, f"should be {wanted}")


_SCORES: Mapping[str, Callable[[Output, Any], Score]] = {
    "words": _words, "word": _word, "text": _text, "count": _counted, "box": _placed, "changed": _changed,
    "values": _values, "label": _label,
}  # fmt: skip
"""By what a probe expects."""
