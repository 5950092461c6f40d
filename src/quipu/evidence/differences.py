"""Probes that one passed and the other did not: what a difference of two scores is made of."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import chain, islice, zip_longest
from typing import Any

from quipu import capabilities
from quipu.capabilities.base import Answering, Probe
from quipu.errors import CapabilityNotFound
from quipu.evidence.compare import Compared, Differing

SHOWN = 3
"""Probes of each kind that a comparison shows."""
LONGEST = 600
"""Characters of a question or an answer that are shown; the observation has all of it."""

Record = Callable[[int], Mapping[str, Any]]
"""The whole record of an observation by its number, as Store.observation gives it."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What one of them answered. ``text`` and ``why``, which explains the score, are empty until looked up."""

    observation: int
    value: float
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


def some(compared: Sequence[Compared], found: Callable[[Compared], Sequence[Differing]]) -> tuple[Difference, ...]:
    """SHOWN of those probes: widest apart first, capabilities in turn, so that one with many does not hide others."""
    rows = [
        [_difference(each.capability, differing) for differing in sorted(found(each), key=_widest_first)[:SHOWN]]
        for each in compared
    ]
    turns = chain.from_iterable(zip_longest(*rows))
    return tuple(islice((each for each in turns if each is not None), SHOWN))


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
    try:
        capability = capabilities.find(uri.removeprefix("capability://").partition("@")[0])
    except CapabilityNotFound:
        return ""
    if not isinstance(capability, Answering) or capability.uri != uri:
        return ""
    return next((_fields(each) for each in capability.probes if each.id == probe), "")


def shortened(text: str) -> str:
    """``text``, said to go on where it is cut: its beginning and its end, where the question often is."""
    if len(text) <= LONGEST:
        return text
    half = LONGEST // 2
    return f"{text[:half]} … [{len(text) - 2 * half:,} characters] … {text[-half:]}"


def _widest_first(each: Differing) -> tuple[float, str]:
    return -abs(each.a_value - each.b_value), each.probe


def _difference(capability: str, each: Differing) -> Difference:
    return Difference(capability, each.probe, "", Answer(each.a, each.a_value), Answer(each.b, each.b_value))


def _told(answer: Answer, record: Record) -> Answer:
    found = record(answer.observation)
    return replace(answer, text=shortened(str(found["text"])), why=shortened(str(found["why"])))


def _fields(probe: Probe) -> str:
    return "\n".join(f"{name}: {shortened(_text(value))}" for name, value in _given(probe))


def _given(probe: Probe) -> Iterator[tuple[str, Any]]:
    return ((name, value) for name, value in probe.given.items() if value not in (None, "", [], {}))


def _text(value: Any) -> str:
    """A value for people: texts as they are, lists line by line, fields by name."""
    if isinstance(value, str):
        return value
    if isinstance(value, Mapping):
        return ", ".join(f"{name}: {_text(each)}" for name, each in value.items())
    if isinstance(value, Sequence):
        return "".join(f"\n- {_text(each)}" for each in value)
    return json.dumps(value)
