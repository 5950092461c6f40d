"""Records that were found in a text, and why each of their values is believed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from quipu.capabilities.parts.confidence import Probabilities
from quipu.capabilities.parts.json_answer import json_in, without_halves
from quipu.capabilities.parts.json_places import Path, places
from quipu.capabilities.parts.quotations import Quotations, Span
from quipu.capabilities.parts.record_schema import RECORDS, RecordSchema
from quipu.types import TokenLogprob


@dataclass(slots=True)
class Evidence:
    """Why a value is believed: where the text says it, and how probable it was to the model."""

    span: Span | None = None
    probability: float | None = None

    @property
    def weight(self) -> tuple[bool, float]:
        """What stands in the text counts before what does not, then what is more probable."""
        return self.span is not None, self.probability or 0.0


@dataclass(slots=True)
class Found:
    """A record, and of each of its values, by path, the evidence."""

    record: dict[str, Any]
    evidence: dict[Path, Evidence] = field(default_factory=dict)


def found_in(
    answer: str, tokens: Sequence[TokenLogprob], shape: RecordSchema, text: str, start: int = 0
) -> list[Found]:
    """The records of an ``answer`` about ``text``, which begins at ``start`` of all text, with their evidence.

    Raises Unparsed for an answer without JSON, or with some that is not to the schema.
    """
    begin, value = json_in(answer)
    found = [Found(without_halves(record)) for record in shape.records(value, answer)]
    quotations = Quotations(text)
    probabilities = Probabilities(answer, tokens)
    listed = isinstance(value, dict) and shape.many and set(value) == {RECORDS}
    for place in places(answer, begin):
        path = place.path[1:] if listed else place.path if isinstance(value, list) else (0, *place.path)
        if len(path) > 1:
            each = found[int(path[0])]
            inner = tuple(map(without_halves, path[1:]))
            span = quotations.find(_at(each.record, inner))
            each.evidence[inner] = Evidence(
                span and (span[0] + start, span[1] + start), probabilities.of(place.start, place.end)
            )
    return found


def _at(value: Any, path: Path) -> Any:
    """The text or number there; None for anything else."""
    for part in path:
        try:
            value = value[part]
        except (LookupError, TypeError):  # two names became one without halves of surrogate pairs
            return None
    return value if isinstance(value, str | int | float) else None
