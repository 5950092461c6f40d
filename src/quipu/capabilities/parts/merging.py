"""Records of several sections of a text put together: what is twice is joined, what one lacks another gives."""

from __future__ import annotations

from collections.abc import Sequence

from quipu.capabilities.parts.evidence import Found
from quipu.capabilities.parts.overlapping import is_part, normal, stitched


def joined(found: Sequence[Found], key: Sequence[str] = ()) -> list[Found]:
    """``found`` without duplicates: records that are alike, or agree in all fields of ``key``, are one.

    Case and white space make no difference. A record in which a field of ``key`` is null or missing is like no other.
    """
    kept: dict[str, Found] = {}
    for number, each in enumerate(found):
        about = [each.record.get(name) for name in key] if key else each.record
        name = normal(about) if not key or None not in (about or ()) else f"the {number}th"
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
    better = _better(_field(one, name), _field(other, name), name)
    result.record[name] = better.record.get(name)
    result.evidence |= better.evidence


def _field(found: Found, name: str) -> Found:
    evidence = {path: each for path, each in found.evidence.items() if path[0] == name}
    return Found({name: found.record.get(name)}, evidence)


def _better(one: Found, other: Found, name: str) -> Found:
    """The whole, of a value and what a section that was cut has of it; else the one with more evidence."""
    if is_part(one, other) != is_part(other, one):
        return other if is_part(one, other) else one
    return other if _weight(other, name) > _weight(one, name) else one


def _weight(found: Found, name: str) -> tuple[bool, bool, float]:
    """Null counts least; of an object, the best of its values."""
    weights = [each.weight for each in found.evidence.values()]
    return (found.record.get(name) is not None, *max(weights, default=(False, 0.0)))


def _union(result: Found, name: str, one: Found, other: Found) -> None:
    """The items of both, each once, as if each were a record of its own."""
    result.record[name] = []
    for place, item in enumerate(joined(stitched([_items(one, name), _items(other, name)]))):
        result.record[name].append(item.record[name])
        result.evidence |= {(name, place, *path[1:]): each for path, each in item.evidence.items()}


def _items(found: Found, name: str) -> list[Found]:
    items = [Found({name: item}) for item in found.record[name]]
    for path, each in found.evidence.items():
        if len(path) > 1 and path[0] == name:
            items[int(path[1])].evidence[(name, *path[2:])] = each
    return items
