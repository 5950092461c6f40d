"""A capability: one thing people ask of a model, as something one can call, measure and trust.

One file of this folder is one capability: its name is the file's, and everything else of it is in the file. A file
defines one subclass of ``Answering`` (a model's answer is read and scored) or of ``Measured`` (the service itself is
measured). Nothing lists the files; the command line, the HTTP API, the pages and the measurements look here.
"""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Generator as Steps
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from quipu.capabilities.parts.calls import Calls
from quipu.errors import InvalidRequest, Unparsed, did_you_mean, field_path
from quipu.types import FinishReason, Generator, Message, Usage

Difficulty = Literal["easy", "medium", "hard"]


class Typed(BaseModel):
    """Fields that are checked as they are: nothing is converted, nothing unknown is dropped."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Self:
        """``values`` by field name. Raises InvalidRequest that names the field and, for an unknown one, the nearest."""
        try:
            return cls.model_validate(dict(values))
        except ValidationError as error:
            raise _refused(error, cls) from None


class Input(Typed):
    """What a capability is given. Each field has a description, which is its help, label and documentation."""


class Output(Typed):
    """What a capability gives back."""

    def __str__(self) -> str:
        """The field that people read, if it is text; JSON of all otherwise."""
        first = next(iter(self.model_dump().values()), "")
        return first if isinstance(first, str) else self.model_dump_json(indent=2)


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a call of several steps is: ``done`` of ``total``, and what is being done."""

    done: int
    total: int
    what: str


@dataclass(frozen=True, slots=True)
class Delta:
    """A piece of the text that becomes the answer, as it is generated."""

    text: str


@dataclass(frozen=True, slots=True)
class Result:
    """The end of a call. ``text`` is what the model wrote last; ``notes`` say what was done to fit the context."""

    output: Output
    text: str = ""
    usage: Usage = field(default_factory=Usage)
    finish_reason: FinishReason = "stop"
    notes: tuple[str, ...] = ()


Event = Progress | Delta | Result


class Capability(ABC):
    """One thing people ask of a model. Stateless; one instance serves every call."""

    version: ClassVar[int] = 1
    """Raised when messages, probes or scores change: what was measured before no longer compares."""
    title: ClassVar[str]
    description: ClassVar[str]
    """One rich sentence or two, in the words of someone who looks for it."""
    phrases: ClassVar[Sequence[str]]
    """How people ask for it; at least eight, several languages welcome."""
    input: ClassVar[type[Input]]
    output: ClassVar[type[Output]]
    text_field: ClassVar[str | None] = None
    """The field of its input that a file or standard input fills."""
    view: ClassVar[str | None] = None
    """What the page shows above the fields of an output: ``spans``, the input's text with the places of its values
    marked, beside its records; ``pictures``, the input's ``images`` with the output's ``box`` drawn on, above its
    ``text``. Nothing more, if None."""

    @property
    def id(self) -> str:
        """The name of its file."""
        return type(self).__module__.rpartition(".")[2]

    @property
    def uri(self) -> str:
        """``capability://{id}@{version}``."""
        return f"capability://{self.id}@{self.version}"

    @abstractmethod
    def events(self, model: Generator, given: Any, sampling: Mapping[str, Any]) -> Iterator[Event]:
        """Do it; the last event is the only Result. ``sampling`` goes over the capability's own options.

        Raises Unparsed when the answer cannot be read, and what the model raises. Closing the iterator ends the work.
        """

    def settled(self, model: Generator, fields: Mapping[str, Any], sampling: Mapping[str, Any]) -> Mapping[str, Any]:
        """``fields`` of an input that all rows of a batch share, with what ``model`` has to find out about them."""
        return fields

    def rows(self, output: Mapping[str, Any]) -> list[dict[str, Any]]:
        """What a table says of an output's fields, each row as column -> value; several rows where it is a list."""
        return [dict(output)]

    def shows(self, found: Mapping[str, Any]) -> bool | None:
        """Whether a service in which ``found``, an output's fields, was seen does it; None where that does not tell."""
        return None

    def run(self, model: Generator, given: Input, sampling: Mapping[str, Any] | None = None) -> Result:
        """Do it and wait for the result."""
        *_, last = self.events(model, given, sampling or {})
        assert isinstance(last, Result)
        return last


@dataclass(frozen=True, slots=True)
class Probe:
    """One question with a known answer.

    ``given`` are the fields of the capability's input, ``expected`` what ``score`` needs; both JSON. ``group``: probes
    made from one template or one document are not independent, and intervals allow for that. ``part`` names the row
    that a probe counts under in a finer table (a language, a number of examples). ``answer`` is one that is perfect.
    """

    given: Mapping[str, Any]
    expected: Mapping[str, Any]
    answer: str
    group: str
    difficulty: Difficulty
    part: str = ""
    id: str = field(init=False, default="")

    def __post_init__(self) -> None:
        object.__setattr__(self, "id", digest([self.given, self.expected])[:16])


@dataclass(frozen=True, slots=True)
class Source:
    """Where probes come from: what was taken or how they are made, under which licence."""

    name: str
    license: str
    url: str = ""


@dataclass(frozen=True, slots=True)
class Score:
    """What an answer is worth: ``value`` from 0 to 1, and whether that counts as success. ``why`` explains it.

    ``measured`` are the numbers that ``value`` is made of, by name, for ``findings`` to tell of.
    """

    value: float
    passed: bool
    why: str = ""
    measured: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def right(cls, passed: bool, why: str = "", measured: Mapping[str, float] | None = None) -> Score:
        """Right or wrong, nothing between."""
        return cls(float(passed), passed, why, measured or {})


class Answering(Capability):
    """A capability whose answer is text that is read: messages there, an output back, and probes that are scored."""

    sampling: ClassVar[Mapping[str, Any]] = {"temperature": 0}
    """Options that suit it; what a caller gives goes over them. ``max_tokens`` is ``longest``'s."""
    metric: ClassVar[str]
    """What the score is, in one line."""
    binary: ClassVar[bool]
    """Whether a score is 0 or 1, or anything between."""
    baseline: ClassVar[float]
    """The score of ``trivial`` over all probes, rounded to three digits."""
    baseline_name: ClassVar[str]
    """What the trivial answer is, in a few words."""
    sources: ClassVar[Sequence[Source]]

    @abstractmethod
    def messages(self, given: Any) -> list[Message]:
        """The conversation that asks for it."""

    @abstractmethod
    def parse(self, text: str, given: Any) -> Any:
        """What ``text`` says, as the output. Raises Unparsed when that cannot be read from it."""

    @abstractmethod
    def render(self, output: Any, given: Any) -> str:
        """An answer that says ``output``: ``parse`` of it is ``output`` again."""

    @abstractmethod
    def longest(self, given: Any) -> int:
        """Most tokens that a sensible answer takes."""

    @abstractmethod
    def make_probes(self) -> Iterator[Probe]:
        """At least 160, the same each time; at most a fifth of them of one group."""

    @abstractmethod
    def score(self, output: Any, probe: Probe) -> Score:
        """What ``output`` is worth as the answer to ``probe``."""

    @abstractmethod
    def trivial(self, probe: Probe) -> str:
        """The answer of someone who understands nothing: the baseline that a score is compared with."""

    def findings(self, scored: Sequence[tuple[Probe, Score]]) -> Mapping[str, Any]:
        """What a measurement shows beside the mean, for JSON: a length up to which it works, a learning curve."""
        return {}

    def events(self, model: Generator, given: Any, sampling: Mapping[str, Any]) -> Iterator[Event]:
        """One call of the model; a capability that needs several says so here."""
        calls = Calls(model, {**self.sampling, **sampling})
        text = yield from self.ask(calls, self.messages(given), self.longest(given))
        output = self.parse(text, given)
        yield result_of(calls, output, text, self.notes(output, given))

    def notes(self, output: Any, given: Any) -> Sequence[str]:
        """What is amiss with ``output`` though it could be read, for people."""
        return ()

    def ask(
        self, calls: Calls, messages: Sequence[Message], longest: int, *, tools: Sequence[Any] = ()
    ) -> Steps[Event, None, str]:
        """One answer, as Deltas; the iterator's value is all of it. What of ``tools`` it calls, ``calls`` knows."""
        pieces = []
        for piece in calls.stream(messages, longest, tools=tools):
            pieces.append(piece)
            yield Delta(piece)
        return "".join(pieces)

    @cached_property
    def probes(self) -> tuple[Probe, ...]:
        """Every probe, in an order that mixes groups, so that the beginning of it is a fair sample."""
        return tuple(sorted(self.make_probes(), key=lambda probe: probe.id))

    @cached_property
    def probe_set(self) -> str:
        """SHA-256 of all probes, in hex."""
        return digest([[probe.id, probe.group, probe.difficulty, probe.part] for probe in self.probes])


class Measured(Capability):
    """A capability of the service itself: it has no right answers, so ``measure`` instead of parse and probes."""

    @abstractmethod
    def measure(self, service: Generator, given: Any, sampling: Mapping[str, Any]) -> Iterator[Event]:
        """Try ``service`` as hard as ``given`` says. The last event is the Result; its output is what was seen."""

    def events(self, model: Generator, given: Any, sampling: Mapping[str, Any]) -> Iterator[Event]:
        """To call it is to measure it."""
        return self.measure(model, given, sampling)


def result_of(calls: Calls, output: Output, text: str, notes: Sequence[str] = ()) -> Result:
    """The Result of what ``calls`` did."""
    return Result(output, text, calls.usage, calls.finish_reason, tuple(notes))


def digest(value: Any) -> str:
    """SHA-256, in hex, of a JSON value in its one canonical form."""
    text = json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def required_text(text: str, what: str) -> str:
    """``text`` without the space around it. Raises Unparsed if nothing is left."""
    if not text.strip():
        raise Unparsed(f"the model's answer is empty; there is no {what} in it", text=text)
    return text.strip()


def _refused(error: ValidationError, cls: type[Typed]) -> InvalidRequest:
    """The first fault, as a sentence; an unknown name before a missing one, which it may have been meant for."""
    faults = error.errors(include_url=False)
    fault = next((each for each in faults if each["type"] == "extra_forbidden"), faults[0])
    path = field_path(fault["loc"])
    if fault["type"] == "extra_forbidden":
        known = cls.model_fields
        hint = did_you_mean(path, known, f"known: {', '.join(known)}")
        return InvalidRequest(f"unknown field {path}; {hint}", param=path)
    if fault["type"] == "missing":
        return InvalidRequest(f"{path} is missing", param=path)
    said = fault["msg"].removeprefix("Input ").removeprefix("Value error, ")
    return InvalidRequest(f"{path} {said}, got {fault['input']!r:.80}", param=path)
