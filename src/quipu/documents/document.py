"""A document as text."""

from __future__ import annotations

import re
from dataclasses import dataclass

from quipu.errors import UnreadableDocument

_UNWANTED = re.compile("[\x00-\x08\x0b\x0e-\x1f\x7f\ufeff]")
_SURROGATES = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Document:
    """What was read. ``pages`` and ``title`` where the format has them; ``notes`` say what had to be guessed or is not
    in the text, for people.
    """

    text: str
    media_type: str
    pages: int | None = None
    title: str | None = None
    notes: tuple[str, ...] = ()


def clean(text: str) -> str:
    """``text`` with lines that end in a newline, without control characters, and such that it can be encoded."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    return _SURROGATES.sub("\ufffd", _UNWANTED.sub("", text))


def title_of(text: str | None) -> str | None:
    """A title on one line, None if there is nothing in it."""
    return " ".join(clean(text or "").split())[:500] or None


def refuse(name: str, why: str) -> UnreadableDocument:
    """The error to raise for the file ``name``."""
    return UnreadableDocument(f"{name} {why}", param="file")
