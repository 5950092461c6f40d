"""Which fields of a JSON text a model did not complete, because its limit of tokens ended it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from json import JSONDecoder
from typing import Any, cast

from quipu.errors import field_path

Path = tuple[str | int, ...]
_DECODER = JSONDecoder()
_SPACE = re.compile(r"[ \t\r\n]*")
_SCALAR = re.compile(r"[^\s,\]}]+")
MAX_REFERENCES = 32
"""One $ref that leads to the next."""


def incomplete_fields(text: str, written: int, schema: Mapping[str, Any] | bool) -> tuple[str, ...]:
    """Paths (as in ``items[2].name``) of what ends after the first ``written`` characters of the valid ``text``.

    They are values that are cut or were filled in, lists that may have had more elements, and properties that
    ``schema`` knows and an unfinished object has not. A number that ends there counts: it may have had more digits.
    "" is the whole text, where that is no object.
    """
    found, _ = _Reader(text, written, schema).value(0, (), schema)
    return tuple(field_path(path) for path in found)


class _Reader:
    def __init__(self, text: str, written: int, root: Any) -> None:
        self._text, self._written, self._root = text, written, root

    def value(self, start: int, path: Path, schema: Any) -> tuple[list[Path], int]:
        """The unfinished paths in the value at ``start``, and where it ends."""
        start = self._after_space(start)
        schema = self._resolved(schema)
        match self._text[start]:
            case "{":
                return self._object(start, path, schema)
            case "[":
                return self._list(start, path, schema)
            case '"':
                _, end = self._string(start)
                return ([path] if end > self._written else []), end
        scalar = _SCALAR.match(self._text, start)
        assert scalar is not None
        cut = scalar.end() > self._written or (scalar.end() == self._written and scalar[0][-1] not in "el")
        return ([path] if cut else []), scalar.end()

    def _object(self, start: int, path: Path, schema: Any) -> tuple[list[Path], int]:
        found: list[Path] = []
        named, names = _mapping(schema.get("properties")), set()
        at = self._after_space(start + 1)
        while self._text[at] != "}":
            name, at = self._string(self._after_space(at))
            names.add(name)
            inner, at = self.value(self._after_space(at) + 1, (*path, name), named.get(name))
            found += inner
            at = self._after_space(at)
            at += self._text[at] == ","
            at = self._after_space(at)
        if at + 1 > self._written:
            found += [(*path, name) for name in named if name not in names]
        return found, at + 1

    def _list(self, start: int, path: Path, schema: Any) -> tuple[list[Path], int]:
        found: list[Path] = []
        count, at = 0, self._after_space(start + 1)
        while self._text[at] != "]":
            inner, at = self.value(at, (*path, count), schema.get("items"))
            found += inner
            count, at = count + 1, self._after_space(at)
            at += self._text[at] == ","
            at = self._after_space(at)
        return ([*found, path] if at + 1 > self._written else found), at + 1

    def _string(self, start: int) -> tuple[str, int]:
        return cast("tuple[str, int]", _DECODER.raw_decode(self._text, start))

    def _resolved(self, schema: Any) -> Mapping[str, Any]:
        """``schema`` behind its references within the document, as far as they are pointers."""
        found = _mapping(schema)
        for _ in range(MAX_REFERENCES):
            reference = found.get("$ref")
            if not isinstance(reference, str) or "properties" in found:
                break
            found = _mapping(_pointed(self._root, reference))
        return found

    def _after_space(self, at: int) -> int:
        space = _SPACE.match(self._text, at)
        return space.end() if space else at


def _pointed(root: Any, reference: str) -> Any:
    target = root
    for part in _parts(reference):
        target = _mapping(target).get(part)
    return target


def _parts(reference: str) -> Iterator[str]:
    for part in reference.removeprefix("#").split("/")[1:]:
        yield part.replace("~1", "/").replace("~0", "~")


def _mapping(value: Any) -> Mapping[str, Any]:
    return cast("Mapping[str, Any]", value) if isinstance(value, Mapping) else {}
