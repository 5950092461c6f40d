"""Records of several sections of a text put together: what is twice is joined, what one lacks another gives."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from quipu.capabilities.parts.evidence import Evidence, Found
from quipu.capabilities.parts.json_places import Path


def joined(found: Sequence[Found], key: Sequence[str] = ()) -> list[Found]:
    """``found`` without duplicates: records that are alike, or agree in all fields of ``key``, are one.

    Case and white space make no difference. A record in which a field of ``key`` is null or missing is like no other.
    """
    kept: dict[str, Found] = {}
    for number, each in enumerate(found):
        about = [each.record.get(name) for name in key] if key else each.record
        name = _normal(about) if not key or None not in (about or ()) else f"the {number}th"
        kept[name] = merged(kept[name], each) if name in kept else each
    return list(kept.values())


def merged(one: Found, other: Found) -> Found:
    """One record of both: of two values the one with more evidence, of two lists the items of both, each once."""
    result = Found({}, {})
    for name in [*one.record, *(name for name in other.record if name not in one.record)]:
        _merge(result, name, one, other)
    return result


def _merge(result: Found, name: str, one: Found, other: Found) -> None:
    mine, theirs = one.record.get(name), other.record.get(name)
    if isinstance(mine, list) and isinstance(theirs, list):
        _union(result, name, one, other)
        return
    better = other if _weight(other, name) > _weight(one, name) else one
    result.record[name] = better.record.get(name)
    result.evidence |= {path: each for path, each in better.evidence.items() if path[0] == name}


def _weight(found: Found, name: str) -> tuple[bool, bool, float]:
    """Null counts least; of an object, the best of its values."""
    weights = [each.weight for path, each in found.evidence.items() if path[0] == name]
    return (found.record.get(name) is not None, *max(weights, default=(False, 0.0)))


def _union(result: Found, name: str, one: Found, other: Found) -> None:
    items: list[Any] = []
    known: set[str] = set()
    for found in (one, other):
        below = _below(found.evidence, name)
        for place, item in enumerate(found.record[name]):
            if (normal := _normal(item)) in known:
                continue
            known.add(normal)
            for path, evidence in below.get(place, ()):
                result.evidence[(name, len(items), *path)] = evidence
            items.append(item)
    result.record[name] = items


def _below(evidence: Mapping[Path, Evidence], name: str) -> Mapping[int | str, list[tuple[Path, Evidence]]]:
    """The evidence of each item of the list ``name``, with its paths in the item."""
    found: dict[int | str, list[tuple[Path, Evidence]]] = {}
    for path, each in evidence.items():
        if len(path) > 1 and path[0] == name:
            found.setdefault(path[1], []).append((path[2:], each))
    return found


def _normal(value: Any) -> str:
    """What is compared."""
    return json.dumps(_plain(value), ensure_ascii=False, sort_keys=True)


def _plain(value: Any) -> Any:
    if isinstance(value, str):
        return " ".join(value.casefold().split())
    if isinstance(value, dict):
        return {name: _plain(each) for name, each in value.items()}
    return [_plain(each) for each in value] if isinstance(value, list) else value
