"""A short text in which a pattern is found: a hint for a search that cannot see into patterns."""

from __future__ import annotations

import re
from collections.abc import Iterable
from re import _constants as code  # type: ignore[attr-defined]  # the parser is Python's own; it has no public name
from re import _parser as parser  # type: ignore[attr-defined]
from typing import Any

import jsonschema_rs

LETTERS = "a0 A-_.x1ZéЖ日"
"""What stands for a class of characters: the first that is in it."""
LONGEST = 1_000
"""Characters."""
OTHERWISE = ("[[", "[^[", "--", "&&", "~~", "||")
"""Signs of classes in classes, which others have and of which Python warns."""


def pattern_example(pattern: str) -> str | None:
    """A short text that ``pattern`` finds something in; None where this does not see one.

    It is only a hint: patterns of Rust and JSON Schema mean something else here and there. Python parses the pattern
    and never matches it: ``(aa|a){60}`` would keep it busy for ever, and every thread with it.
    """
    if any(signs in pattern for signs in OTHERWISE):
        return None
    try:
        text = "".join(_example(parser.parse(pattern)))
        return text if len(text) <= LONGEST and _finds(pattern, text) else None
    except (re.error, ValueError, OverflowError, RecursionError):
        return None


def _finds(pattern: str, text: str) -> bool:
    """Whether ``pattern`` is somewhere in ``text``, in linear time."""
    options = jsonschema_rs.RegexOptions()
    return bool(jsonschema_rs.validator_for({"pattern": pattern}, pattern_options=options).is_valid(text))


def _example(parsed: Iterable[tuple[Any, Any]]) -> Iterable[str]:
    for kind, value in parsed:
        if kind is code.LITERAL:
            yield chr(value)
        elif kind in (code.NOT_LITERAL, code.IN, code.ANY):
            yield next(letter for letter in _letters(kind, value) if _fits(kind, value, letter))
        elif kind in (code.MAX_REPEAT, code.MIN_REPEAT, code.POSSESSIVE_REPEAT):
            least, _, inner = value
            once = "".join(_example(inner))
            if least * max(1, len(once)) > LONGEST:
                raise ValueError("too long")
            yield once * least
        elif kind is code.SUBPATTERN:
            yield from _example(value[-1])
        elif kind is code.BRANCH:
            yield min(("".join(_example(branch)) for branch in value[1]), key=len)
        elif kind is not code.AT:
            raise ValueError("look-around, references")


def _letters(kind: Any, value: Any) -> Iterable[str]:
    yield from LETTERS
    for inner, told in value if kind is code.IN else ():
        if inner is code.LITERAL:
            yield chr(told)
        elif inner is code.RANGE:
            yield chr(told[0])
    raise ValueError("no letter fits")


def _fits(kind: Any, value: Any, letter: str) -> bool:
    if kind is code.NOT_LITERAL:
        return letter != chr(value)
    if kind is code.ANY:
        return True
    found, negated = False, False
    for inner, told in value:
        negated = negated or inner is code.NEGATE
        found = found or (inner is code.LITERAL and letter == chr(told))
        found = found or (inner is code.RANGE and told[0] <= ord(letter) <= told[1])
        found = found or (inner is code.CATEGORY and _CATEGORIES[told](letter))
    return found != negated


_CATEGORIES: dict[Any, Any] = {
    code.CATEGORY_DIGIT: lambda letter: letter in "01",
    code.CATEGORY_NOT_DIGIT: lambda letter: letter not in "01",
    code.CATEGORY_SPACE: lambda letter: letter == " ",
    code.CATEGORY_NOT_SPACE: lambda letter: letter != " ",
    code.CATEGORY_WORD: lambda letter: letter.isalnum() or letter == "_",
    code.CATEGORY_NOT_WORD: lambda letter: not (letter.isalnum() or letter == "_"),
}
