"""How many fields of records are right: F1 over their values, as extraction is scored everywhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Values = Mapping[tuple[Any, ...], Any]


def right_fields(found: Sequence[Mapping[str, Any]], expected: Sequence[Mapping[str, Any]]) -> list[tuple[int, str]]:
    """(record, field) of each field in ``found`` whose value is that of the record of ``expected`` it belongs to.

    A record belongs to the one, not taken yet, with which it shares most values; the first of several.
    """
    free = dict(enumerate(expected))
    right = []
    for number, record in enumerate(found):
        if not free:
            break
        best = max(free, key=lambda place: len(_same(record, free[place])))
        right += [(number, name) for name in _same(record, free[best])]
        if _same(record, free[best]):
            del free[best]
    return right


def f1(found: Sequence[Mapping[str, Any]], expected: Sequence[Mapping[str, Any]]) -> float:
    """From 0 to 1. A null counts as no value: where one is expected, any value is too many; where none is, none is due.

    Both without values are 1.
    """
    right = sum(found[number][name] is not None for number, name in right_fields(found, expected))
    values = _values(found) + _values(expected)
    return 2 * right / values if values else 1.0


def _values(records: Sequence[Mapping[str, Any]]) -> int:
    return sum(value is not None for record in records for value in record.values())


def _same(record: Mapping[str, Any], expected: Mapping[str, Any]) -> list[str]:
    return [name for name, value in expected.items() if name in record and alike(record[name], value)]


def alike(one: Any, other: Any) -> bool:
    """Whether two values are the same: of texts, but for case, white space and a sign at their ends."""
    if isinstance(one, str) and isinstance(other, str):
        return _plain(one) == _plain(other)
    if isinstance(one, bool) or isinstance(other, bool) or one is None or other is None:
        return one is other
    if isinstance(one, int | float) and isinstance(other, int | float):
        return abs(one - other) < 1e-6
    return bool(one == other)


def _plain(text: str) -> str:
    return " ".join(text.casefold().split()).strip(" .,;:!?")
