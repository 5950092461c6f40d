"""Whether a text is one of a choice, or matches a pattern: found out without llguidance, which made it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import regex

SECONDS = 0.1
"""For a match: patterns that backtrack may take for ever, and other answers wait to be checked."""
Check = Callable[[str], str | None]
"""What is wrong with a text, "" for nothing; None where this cannot tell."""


def choice_check(texts: Sequence[str]) -> Check:
    """The check of an answer that is one of ``texts``."""
    known = frozenset(texts)
    return lambda text: "" if text in known else "it is none of the choices"


def pattern_check(pattern: str) -> Check:
    """The check of an answer that all of ``pattern`` matches; it cannot tell where Python reads patterns otherwise."""
    try:
        compiled = regex.compile(pattern, regex.VERSION1)
    except (regex.error, ValueError, OverflowError, RecursionError):
        return lambda text: None

    def check(text: str) -> str | None:
        try:
            found = compiled.fullmatch(text, timeout=SECONDS, concurrent=True)
        except (TimeoutError, MemoryError):
            return None
        return "" if found else "it does not match the pattern"

    return check
