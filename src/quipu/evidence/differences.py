"""Probes that one passed and the other did not: what a difference of two scores is made of."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import zip_longest
from typing import Any

from quipu import capabilities
from quipu.capabilities.base import Answering, Probe
from quipu.errors import CapabilityNotFound
from quipu.evidence.snapshot import Cell, Outcome

SHOWN = 3
"""Probes of each kind that a comparison shows."""
LONGEST = 600
"""Characters of a question or an answer that are shown; the observation has all of it."""

Record = Callable[[int], Mapping[str, Any]]
"""The whole record of an observation by its number, as Store.observation gives it."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What one of them answered. ``text`` is empty and ``why`` too until records were looked up."""

    observation: int
    value: float
    passed: bool
    text: str = ""
    why: str = ""


@dataclass(frozen=True, slots=True)
class Difference:
    """One probe that only one of them passed. ``question`` is what was asked, as far as it is known here."""

    capability: str
    probe: str
    question: str
    a: Answer
    b: Answer

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def only_one_passed(a: Cell, b: Cell) -> tuple[tuple[Difference, ...], tuple[Difference, ...]]:
    """The shared probes that only A passed, and those that only B passed; widest apart first, then by probe."""
    shared = [(a.outcomes[probe], b.outcomes[probe]) for probe in a.outcomes if probe in b.outcomes]
    differing = sorted(
        ((ours, theirs) for ours, theirs in shared if ours.passed != theirs.passed),
        key=lambda pair: (-abs(pair[0].value - pair[1].value), pair[0].probe),
    )
    found = [
        Difference(a.capability, ours.probe, "", _answer(ours), _answer(theirs)) for ours, theirs in differing
    ]
    return tuple(each for each in found if each.a.passed), tuple(each for each in found if each.b.passed)


def some(by_capability: Sequence[Sequence[Difference]], count: int = SHOWN) -> tuple[Difference, ...]:
    """``count`` of them, capabilities in turn, so that one with many does not hide the others."""
    turns = (each for turn in zip_longest(*by_capability) for each in turn if each is not None)
    return tuple(each for each, _ in zip(turns, range(count), strict=False))


def told(difference: Difference, record: Record) -> Difference:
    """The same with its question, and with both answers as the log has them."""
    return replace(
        difference,
        question=question(difference.capability, difference.probe),
        a=_told(difference.a, record),
        b=_told(difference.b, record),
    )


def question(uri: str, probe: str) -> str:
    """What a probe asks, field by field; empty where this quipu has no such probe any more."""
    name = uri.removeprefix("capability://").partition("@")[0]
    try:
        capability = capabilities.find(name)
    except CapabilityNotFound:
        return ""
    if not isinstance(capability, Answering) or capability.uri != uri:
        return ""
    return next((_shortened(_fields(each)) for each in capability.probes if each.id == probe), "")


def _told(answer: Answer, record: Record) -> Answer:
    found = record(answer.observation)
    return replace(answer, text=_shortened(str(found["text"])), why=_shortened(str(found["why"])))


def _fields(probe: Probe) -> str:
    return "\n".join(f"{name}: {_text(value)}" for name, value in _known(probe.given))


def _known(given: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    return ((name, value) for name, value in given.items() if value not in (None, "", [], {}))


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _shortened(text: str) -> str:
    """``text``, said to go on where it is cut: its beginning and its end, where the question often is."""
    if len(text) <= LONGEST:
        return text
    half = LONGEST // 2
    return f"{text[:half]} … [{len(text) - 2 * half:,} characters] … {text[-half:]}"


def _answer(outcome: Outcome) -> Answer:
    return Answer(outcome.observation, outcome.value, outcome.passed)
