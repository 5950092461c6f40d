"""What sections of a text that overlap both have, found once: the halves at a border, too, where one has the whole."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from quipu.capabilities.parts.evidence import Found
from quipu.capabilities.parts.json_places import Path


def stitched(sections: Iterable[Sequence[Found]]) -> list[Found]:
    """The records of all ``sections``, in order, without those of one that another read from the same place.

    Of two such the fuller stays: a record that lacks what the other has, or half of it where the text was cut. Two of
    one section are never one, nor are two that contradict each other. In time linear in the records, but for those of
    one place.
    """
    kept: list[Found] = []
    by_place: dict[tuple[str, int], list[int]] = {}
    for section in sections:
        added: list[int] = []
        for each in section:
            number = _same(each, kept, by_place)
            if number is None:
                number = len(kept)
                kept.append(each)
            elif not is_part(each, kept[number]):
                kept[number] = each
            added.append(number)
        for number in dict.fromkeys(added):
            for place in _places(kept[number]):
                by_place.setdefault(place, []).append(number)
    return kept


def _same(found: Found, kept: Sequence[Found], by_place: dict[tuple[str, int], list[int]]) -> int | None:
    """Which of the earlier sections' records is a part of ``found``, or it of that."""
    for number in dict.fromkeys(number for place in _places(found) for number in by_place.get(place, ())):
        if is_part(found, kept[number]) or is_part(kept[number], found):
            return number
    return None


def _places(found: Found) -> Iterable[tuple[str, int]]:
    """Where its quotations begin and end: one that is cut still has one of these."""
    for each in found.evidence.values():
        if each.span is not None:
            yield "begins", each.span[0]
            yield "ends", each.span[1]


def is_part(part: Found, whole: Found) -> bool:
    """Whether ``whole`` has all that ``part`` says."""
    return _is_part(part, (), part.record, whole, (), whole.record)


def _is_part(part: Found, path: Path, value: Any, whole: Found, other_path: Path, other: Any) -> bool:
    if value is None:
        return True
    if isinstance(value, dict) and isinstance(other, dict):
        named = ((name, each, other.get(name)) for name, each in value.items())
        return all(_is_part(part, (*path, name), each, whole, (*other_path, name), its) for name, each, its in named)
    if isinstance(value, list) and isinstance(other, list):
        return all(
            any(_is_part(part, (*path, place), each, whole, (*other_path, at), item) for at, item in enumerate(other))
            for place, each in enumerate(value)
        )
    return normal(value) == normal(other) or _is_cut(part, path, whole, other_path)


def _is_cut(part: Found, path: Path, whole: Found, other_path: Path) -> bool:
    """Whether a quotation is the beginning or the end of the other one."""
    inner, outer = (found.evidence.get(at) for found, at in ((part, path), (whole, other_path)))
    if inner is None or outer is None or inner.span is None or outer.span is None:
        return False
    (start, end), (begin, finish) = inner.span, outer.span
    return begin <= start and end <= finish and (begin == start or end == finish)


def normal(value: Any) -> str:
    """What is compared: the same for values that differ in case and white space only."""
    return json.dumps(_plain(value), ensure_ascii=False, sort_keys=True)


def _plain(value: Any) -> Any:
    if isinstance(value, str):
        return " ".join(value.casefold().split())
    if isinstance(value, dict):
        return {name: _plain(each) for name, each in value.items()}
    return [_plain(each) for each in value] if isinstance(value, list) else value
