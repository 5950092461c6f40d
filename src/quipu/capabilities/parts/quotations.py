"""Where in a text a value stands that was taken from it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import cached_property

UNSPACED = re.compile(r"[\u0e00-\u0e7f\u3040-\u30ff\u4e00-\u9fff]")
"""Letters of scripts that put no space between words: Thai, Japanese, Chinese."""
NUMBER = re.compile(r"[-−]?\d+(?:(?:[.,'’]|[ \u00a0\u202f](?=\d{3}(?!\d)))\d+)*")
LONGEST = 1000
"""Characters of a value that is looked for; what is longer was not quoted but copied."""

Span = tuple[int, int]


class Quotations:
    """The places in ``text``. Of several, a value's is one that no other value has yet, and of those the nearest to the
    place of the value before: so the 1 of "1 x bread" is not taken for that of "1 x milk".
    """

    def __init__(self, text: str) -> None:
        self._text = text
        self._last: Span = (0, 0)
        self._taken: set[Span] = set()

    def find(self, value: str | int | float | bool | None) -> Span | None:
        """Start and end, in characters, of ``value`` where it stands as words of its own; None where it does not.

        Of a text case and white space do not matter; of a number, how thousands and decimals are set apart.
        """
        if value is None or isinstance(value, bool):
            return None
        spans = self._texts(value) if isinstance(value, str) else self._numbers(value)
        best = min(spans, key=lambda span: (span in self._taken, self._distance(span)), default=None)
        if best is not None:
            self._last = best
            self._taken.add(best)
        return best

    def _distance(self, span: Span) -> int:
        """Characters between ``span`` and the last place found."""
        return max(span[0] - self._last[1], self._last[0] - span[1], 0)

    def _texts(self, value: str) -> Iterator[Span]:
        words = value.split()
        if not words or len(value) > LONGEST:
            return
        pattern = r"\s+".join(map(re.escape, words))
        for found in re.finditer(pattern, self._text, re.IGNORECASE):
            if not (self._joined(found.start()) or self._joined(found.end())):
                yield found.span()

    def _joined(self, place: int) -> bool:
        """Whether a word goes on over ``place``."""
        before, after = self._text[place - 1 : place] if place else "", self._text[place : place + 1]
        return before.isalnum() and after.isalnum() and not (UNSPACED.match(before) or UNSPACED.match(after))

    def _numbers(self, value: int | float) -> Iterator[Span]:
        yield from self._by_number.get(value, ())

    @cached_property
    def _by_number(self) -> Mapping[float, list[Span]]:
        """Where each number stands that some of the text may be read as."""
        known: dict[float, list[Span]] = {}
        for found in NUMBER.finditer(self._text):
            for number in readings(found[0]):
                known.setdefault(number, []).append(found.span())
        return known


def readings(written: str) -> set[float]:
    """The numbers that ``written`` may be: "1,250" is 1250 in English and 1.25 in German."""
    plain = re.sub(r"[ \u00a0\u202f'’]", "", written.replace("−", "-"))
    signs = [sign for sign in plain if sign in ".,"]
    if not signs:
        return {float(plain)}
    found = set()
    if len(signs) == 1 or len(set(signs)) == 1 or plain.count(signs[-1]) == 1:
        whole, _, part = plain.rpartition(signs[-1])
        if len(set(signs)) <= 2 and signs[-1] not in whole:
            found.add(float(f"{whole.replace('.', '').replace(',', '')}.{part}"))
    if re.fullmatch(r"-?\d{1,3}(?:([.,])\d{3})(?:\1\d{3})*", plain) or _indian(plain):
        found.add(float(plain.replace(".", "").replace(",", "")))
    return found


def _indian(plain: str) -> bool:
    """Whether it is grouped as in 1,25,000."""
    return re.fullmatch(r"-?\d{1,2}(?:,\d{2})*,\d{3}", plain) is not None
