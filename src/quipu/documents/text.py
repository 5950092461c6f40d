"""Plain text in whatever encoding: a byte-order mark, UTF-8, UTF-16, else the likeliest by charset-normalizer."""

from __future__ import annotations

import codecs
import re

from quipu.documents.document import Document, clean, refuse
from quipu.documents.kinds import MEDIA_TYPES, READ

_MARKS = {  # the longer first: that of UTF-32 begins as that of UTF-16
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
_LOOK = 65536
_CONTROLS = re.compile(r"[\x00-\x08\x0e-\x1a\x1c-\x1f]")
_MOST_CONTROLS = 0.01
"""Of the characters; text has hardly any."""


def read_text(data: bytes, name: str) -> Document:
    """A text file. Raises UnreadableDocument for one that is none."""
    text, notes = decode(data, name)
    text = clean(text)
    if not text.strip():
        raise refuse(name, "is empty")
    return Document(text, MEDIA_TYPES["text"], notes=notes)


def decode(data: bytes, name: str, declared: str | None = None) -> tuple[str, tuple[str, ...]]:
    """The text that ``data`` encodes and what had to be guessed. ``declared`` is an encoding that the file names.

    Raises UnreadableDocument for binary data.
    """
    text, notes = _decode(data, name, declared)
    look = text[:_LOOK]
    if "\0" in text or len(_CONTROLS.findall(look)) > _MOST_CONTROLS * len(look):
        raise refuse(name, f"is not text: there are control characters in it; {READ}")
    return text, notes


def _decode(data: bytes, name: str, declared: str | None) -> tuple[str, tuple[str, ...]]:
    for mark, encoding in _MARKS.items():
        if data.startswith(mark):
            return _strictly(data.removeprefix(mark) if encoding == "utf-8" else data, encoding, name)
    if (wide := _wide(data)) is not None:
        text, _ = _strictly(data, wide, name)
        return text, (f"read as {wide}, which its zero bytes suggest",)
    try:
        return data.decode(), ()
    except UnicodeDecodeError:
        pass
    if declared is not None:
        try:
            return data.decode(declared), ()
        except (LookupError, ValueError):
            pass  # an encoding that does not exist, or is not this file's: looked for like any other
    return _mixed(data) or _likeliest(data, name)


def _strictly(data: bytes, encoding: str, name: str) -> tuple[str, tuple[str, ...]]:
    try:
        return data.decode(encoding), ()
    except UnicodeDecodeError as error:
        raise refuse(
            name, f"begins as {encoding.upper()} text and is damaged at byte {error.start} ({error.reason}); "
            "save it again as UTF-8"
        ) from None  # fmt: skip


def _wide(data: bytes) -> str | None:
    """UTF-16 without a mark shows in text of most scripts: every other byte of spaces and line ends is zero."""
    look = data[:_LOOK][: len(data) & ~1]
    even, odd = look[::2].count(0), look[1::2].count(0)
    if (
        len(data) % 2
        or max(even, odd) < 2
        or max(even, odd) * 10 < len(look) // 2
        or min(even, odd) * 10 > max(even, odd)
    ):
        return None
    return "utf-16-le" if odd > even else "utf-16-be"


def _mixed(data: bytes) -> tuple[str, tuple[str, ...]] | None:
    """Text that is UTF-8 for the most part, as when a file was put together from two. None if it is not."""
    text = data.decode(errors="surrogateescape")
    strange = re.findall("[\udc80-\udcff]", text)
    if len(text) - len(text.encode("ascii", "ignore")) <= 2 * len(strange) or b"\0" in data:
        return None
    text = re.sub("[\udc80-\udcff]", _western, text)
    return text, (f"UTF-8 with {len(strange)} bytes of another encoding, which were read as Windows-1252",)


def _western(escaped: re.Match[str]) -> str:
    return bytes([ord(escaped[0]) - 0xDC00]).decode("cp1252", "replace")


def _likeliest(data: bytes, name: str) -> tuple[str, tuple[str, ...]]:
    from charset_normalizer import from_bytes

    # Some of it tells as much as all of it, sooner; the whole file must then be of that encoding.
    best = None if b"\0" in data else from_bytes(data[: 16 * _LOOK]).best()
    if best is not None:
        try:
            return data.decode(best.encoding), (f"read as {best.encoding}, its likeliest encoding; it is not UTF-8",)
        except UnicodeDecodeError:
            pass
    raise refuse(name, f"is not text in an encoding that could be told; {READ}: save it as UTF-8")
