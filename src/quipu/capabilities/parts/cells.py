"""Texts as cells of a table that a spreadsheet may open."""

from __future__ import annotations

COMPUTED = tuple("=+-@\t\r")
"""How cells begin that a spreadsheet computes (OWASP, CSV injection). Who wrote a text may have steered an answer."""


def guarded(text: str) -> str:
    """``text`` with an apostrophe in front, if a spreadsheet would compute it."""
    return f"'{text}" if text.startswith(COMPUTED) and not _is_number(text) else text


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
