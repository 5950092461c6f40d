"""Keeps text from a user from turning into special tokens while a template turns a conversation into one string."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Collection
from itertools import chain

from quipu.errors import InvalidRequest
from quipu.model.vocabulary import finder

_PRIVATE = (range(0xE000, 0xF900), range(0xF0000, 0xFFFFE), range(0x100000, 0x10FFFE))


class SpecialTexts:
    """The texts of a vocabulary's special tokens, prepared for looking them up, whole or in part."""

    def __init__(self, texts: Collection[str]) -> None:
        pattern = finder(texts)
        # Zero-width, so that overlapping ones are all found; in any case of letters, as a template may change it.
        self._starts = re.compile(f"(?={pattern.pattern})", re.IGNORECASE) if pattern else None
        self._forward, self._backward = sorted(texts), sorted(text[::-1] for text in texts)
        self._longest = max(map(len, texts), default=0)

    def exposed(self, text: str) -> set[int]:
        """Positions in ``text`` at which one character, changed, keeps it from being or completing a special text.

        Where a special text starts; and where ``text`` begins with the end or ends with the beginning of one, which
        a template's own words beside it could complete (after trimming).
        """
        found = {match.start() for match in self._starts.finditer(text)} if self._starts else set()
        start, end = len(text) - len(text.lstrip()), len(text.rstrip())
        for size in range(1, min(self._longest, end - start + 1)):
            if _begins_one(self._forward, text[end - size : end]):
                found.add(end - size)
            if _begins_one(self._backward, text[start : start + size][::-1]):
                found.add(start)
        return found


def _begins_one(texts: list[str], part: str) -> bool:
    place = bisect_left(texts, part)
    return place < len(texts) and texts[place].startswith(part)


class Shield:
    """Stand-ins for one conversation: exposed characters become private-use ones that occur in no text of it.

    ``see`` every text first. Then ``hide`` what a user wrote (lengths do not change), render, cut at the special
    tokens that remain, all of them the template's own, and ``reveal`` the ordinary text between them.
    """

    def __init__(self, specials: SpecialTexts, template: str) -> None:
        self._specials = specials
        self._used = set(template)
        self._unused = (mark for mark in map(chr, chain(*_PRIVATE)) if mark not in self._used)
        self._stand_ins: dict[str, str] = {}

    def see(self, text: str) -> str:
        """Take note of the characters in ``text``; returns it as it is."""
        self._used.update(text)
        return text

    def hide(self, text: str) -> str:
        """``text`` without special texts. Raises InvalidRequest if the conversation uses all private characters."""
        exposed = self._specials.exposed(text)
        if not exposed:
            return text
        characters = list(text)
        for position in exposed:
            characters[position] = self._stand_in(characters[position])
        return "".join(characters)

    def reveal(self, text: str) -> str:
        """The inverse of ``hide`` on any part of what was rendered."""
        return text.translate({ord(mark): character for character, mark in self._stand_ins.items()})

    def _stand_in(self, character: str) -> str:
        if character not in self._stand_ins:
            mark = next(self._unused, None)
            if mark is None:
                raise InvalidRequest("the conversation uses every private-use character of Unicode", param="messages")
            self._stand_ins[character] = mark
        return self._stand_ins[character]
