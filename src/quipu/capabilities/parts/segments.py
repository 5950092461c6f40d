"""A document as pieces small enough to work on one by one, between what is to stay as it is.

What stays are blank lines, the marks of Markdown (headings, lists, quotations, tables, fenced code) and lines without
a word. Nothing is lost: the pieces, one after the other, are the document.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass

from quipu.capabilities.parts.placeholders import is_bare

WRAPPED = 50
"""Characters from which on a line that is followed by another was broken to fit a width, not to end there."""

_FENCE = re.compile(r"\s{0,3}(```+|~~~+)")
_MARK = re.compile(r"\s*(?:>\s?)*(?:(?:#{1,6}|[-*+•]|\d{1,9}[.)])[ \t]+(?:\[[ xX]\][ \t]+)?)?")
_ROW = re.compile(r"\s*\|.*\|\s*")
_SENTENCE_END = re.compile(r"[.!?…。।॥]+[\"'”’»)\]]*(?=\s)")
_SPACE = re.compile(r"\s+")


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of a document, with the space around it in pieces of their own. ``kept``: it is to stay as it is."""

    text: str
    kept: bool = False


def segments(document: str, most: int) -> Iterator[Piece]:
    """``document`` as pieces of at most ``most`` characters, except those that are kept. Joined, they are ``document``.

    A piece is a paragraph, a line of a list or table cell; a longer one is divided at the ends of sentences, for want
    of these between words, and for want of words anywhere.
    """
    assert most > 0
    pieces = (piece for block in _blocks(document) for piece in _pieces(block, most) if piece.text)
    for kept, group in itertools.groupby(pieces, key=lambda piece: piece.kept):
        if kept:
            yield Piece("".join(piece.text for piece in group), kept=True)
        else:
            yield from group


def _blocks(document: str) -> Iterator[Piece]:
    """Paragraphs and marks, of any length."""
    fence = ""
    paragraph: list[str] = []
    for line in document.splitlines(keepends=True):
        if not fence and _goes_on(paragraph, line):
            paragraph.append(line)
            continue
        if paragraph:
            yield Piece("".join(paragraph))
            paragraph = []
        opened = _FENCE.match(line)
        if fence:
            yield Piece(line, kept=True)
            if opened and opened[1].startswith(fence) and not line[opened.end() :].strip():
                fence = ""
        elif opened:
            yield Piece(line, kept=True)
            fence = opened[1]
        elif _ROW.fullmatch(line):
            yield from (Piece(cell, kept=cell == "|") for cell in re.split(r"(?<!\\)(\|)", line))
        else:
            mark = _mark(line)
            yield Piece(mark, kept=True)
            paragraph = [line[len(mark) :]]
    if paragraph:
        yield Piece("".join(paragraph))


def _mark(line: str) -> str:
    """What Markdown has before the words of a line."""
    found = _MARK.match(line)
    assert found is not None  # it may be empty
    return found[0]


def _goes_on(paragraph: list[str], line: str) -> bool:
    """Whether ``line`` goes on with the paragraph: the line before is as long as lines get, and no break was meant."""
    if not paragraph:
        return False
    last = paragraph[-1].rstrip("\r\n")
    return (
        len(last) >= WRAPPED
        and not last.endswith(("  ", "\\"))
        and bool(line.strip())
        and not _mark(line).strip()
        and not _ROW.fullmatch(line)
        and not _FENCE.match(line)
    )


def _pieces(block: Piece, most: int) -> Iterator[Piece]:
    """A block with the space around it set apart, in pieces that are short enough."""
    body = block.text.strip()
    if block.kept or is_bare(body):
        yield Piece(block.text, kept=True)
        return
    before, after = block.text.split(body, 1)
    yield Piece(before, kept=True)
    for place, stretch in enumerate(_stretches(body, most)):
        yield Piece(stretch, kept=place % 2 == 1 or is_bare(stretch))
    yield Piece(after, kept=True)


def _stretches(text: str, most: int) -> Iterator[str]:
    """Stretches of at most ``most`` characters, and between any two the space (which may be none) that was there."""
    start = 0
    while len(text) - start > most:
        end = _end(text[start : start + most + 1], most)
        yield text[start : start + end]
        space = _SPACE.match(text, start + end)
        after = space.end() if space else start + end
        yield text[start + end : after]
        start = after
    yield text[start:]


def _end(window: str, most: int) -> int:
    """Where to divide: after the last sentence that ends in ``window``, else after a word, else after ``most``."""
    ends = [found.end() for found in _SENTENCE_END.finditer(window)]
    words = [found.start() for found in _SPACE.finditer(window)]
    return next((places[-1] for places in (ends, words) if places and places[-1] > 0), most)
