"""Where each value of a JSON text stands in it."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

Path = tuple[str | int, ...]
SPACE = re.compile(r"[ \t\n\r]*")
_decode = json.JSONDecoder().raw_decode


@dataclass(frozen=True, slots=True)
class Place:
    """A value that is no object and no list with anything in it, from ``start`` to before ``end``, in characters."""

    path: Path
    start: int
    end: int


def places(text: str, start: int = 0) -> list[Place]:
    """Of each value in the JSON that ``text`` has at ``start``, in order. What follows it does not matter.

    Raises ValueError where that is no JSON, RecursionError where it is nested too deep. Of a name that an object has
    twice the last value counts, as for Python's parser.
    """
    found: list[Place | None] = []
    _walk(text, _skip(text, start), (), found)
    return [place for place in found if place is not None]


def _walk(text: str, place: int, path: Path, found: list[Place | None]) -> int:
    """Add the places in the value at ``place`` to ``found``, None for what does not count; where that value ends."""
    opening = text[place : place + 1]
    if opening not in ("{", "["):
        _, end = _decode(text, place)
        found.append(Place(path, place, end))
        return end
    closing = "}" if opening == "{" else "]"
    at = _skip(text, place + 1)
    if text[at : at + 1] == closing:
        found.append(Place(path, place, at + 1))
        return at + 1
    number = 0
    known: dict[str | int, range] = {}
    while True:
        key: str | int = number
        if opening == "{":
            key, at = _decode(text, at)
            at = _after(text, at, ":")
        for earlier in known.get(key, ()):
            found[earlier] = None
        first = len(found)
        at = _skip(text, _walk(text, at, (*path, key), found))
        known[key] = range(first, len(found))
        if text[at : at + 1] == closing:
            return at + 1
        at = _after(text, at, ",")
        number += 1


def _skip(text: str, place: int) -> int:
    found = SPACE.match(text, place)
    assert found is not None
    return found.end()


def _after(text: str, place: int, sign: str) -> int:
    """Behind ``sign`` and the white space after it."""
    place = _skip(text, place)
    if text[place : place + 1] != sign:
        raise ValueError(f"there is no {sign} at character {place}")
    return _skip(text, place + 1)
