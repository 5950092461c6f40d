"""Headings in what a model writes: where one section of an outline ends and another begins."""

from __future__ import annotations

import re
from collections.abc import Sequence

NUMBERING = re.compile(r"^(?:(?:section|chapter|part)\s+)?\d{1,3}(?:\.\d{1,3})*\s*[.):–—-]\W*", re.IGNORECASE)
BEGINNING = re.compile(r"^\W*(?:(?:section|chapter|part)\b\s*)?[\d.]{0,12}\W*$", re.IGNORECASE)
WORDS_BEFORE = ("section", "chapter", "part")


def key(line: str) -> str:
    """A title without case, numbering, marks and spaces around it: that of "## 2. The Bridge:" is "the bridge".

    A title that is nothing but numbering, "Part 2", is kept.
    """
    bare = re.sub(r"^\W+|\W+$", "", line)
    return " ".join((NUMBERING.sub("", bare) or bare).casefold().split())


class Headings:
    """The titles of an outline, to be recognized as lines of their own."""

    def __init__(self, titles: Sequence[str]) -> None:
        self.titles = {key(title): title for title in titles}

    def of(self, line: str) -> str | None:
        """The title that ``line`` is, if any."""
        return self.titles.get(key(line))

    def may_begin(self, line: str) -> bool:
        """Whether ``line`` may become a heading when it goes on."""
        begun = key(line)
        return (
            BEGINNING.match(line) is not None
            or any(title.startswith(begun) for title in self.titles)
            or any(word.startswith(line.strip(" #*").casefold()) for word in WORDS_BEFORE)
        )


class SectionStream:
    """What a model writes for the section ``title``, as it comes: without its heading, and up to that of another.

    An answer that begins with the heading of another section is searched for ``title``; if that does not come, all of
    it is taken. Held back is only the beginning of a line that may become a heading.
    """

    def __init__(self, title: str, headings: Headings) -> None:
        self.over = False
        """Whether the next section has begun: nothing more will come."""
        self._title, self._headings = title, headings
        self._line = ""
        self._inside = False  # in a line that is known to be text
        self._taking = True
        self._said = False
        self._passed: list[str] = []  # what stood under other headings

    def push(self, piece: str) -> str:
        """What of ``piece``, and of what was held back, is text of the section."""
        taken = []
        for part in re.findall(r"[^\n]*\n|[^\n]+", piece):
            if self._inside:
                taken.append(self._text(part))
                self._inside = not part.endswith("\n")
                continue
            self._line += part
            if part.endswith("\n") or not self._headings.may_begin(self._line):
                taken.append(self._whole())
        return "".join(taken)

    def end(self) -> str:
        """The rest."""
        rest = self._whole()
        return rest if self._said else "".join(self._passed).lstrip()

    def _whole(self) -> str:
        """Decide on the line that was held back."""
        line, self._line = self._line, ""
        self._inside = bool(line) and not line.endswith("\n")
        title = self._headings.of(line)
        if title is None:
            return self._text(line)
        self.over = self.over or (self._said and title != self._title)
        self._taking = title == self._title and not self.over
        return ""

    def _text(self, text: str) -> str:
        if not self._taking:
            self._passed.append(text)
            return ""
        text = text if self._said else text.lstrip()
        self._said = self._said or bool(text)
        return text
