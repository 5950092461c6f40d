"""The Drafter that needs no model: what followed the same tokens earlier in the sequence, prompt or answer.

Answers copy names, quotations and code from their prompts, and repeat themselves (Saxena 2023, "Prompt Lookup
Decoding"). The earlier place is found as deflate (RFC 1951) finds its matches: a table of pairs, and from each place a
link to the one before it with the same pair.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping
from collections.abc import Sequence as Tokens
from itertools import islice

from quipu.engine.request import Sequence

LOOKS = 16
"""Places compared for one draft, the latest first: a text of one pair repeated must not take longer than another."""
LONG = 16
"""Tokens after which a match is as good as any longer one."""


class PromptLookup:
    """See ``speculate.Drafter``. Holds about 150 bytes for each token of a sequence that it was asked for."""

    cost = 0.0

    def __init__(self) -> None:
        self._matches: dict[Sequence, Matches] = {}

    def propose(self, wanted: Mapping[Sequence, int]) -> dict[Sequence, list[int]]:
        """What followed the longest match, where at least the last two tokens stood before."""
        drafts = {}
        for sequence, most in wanted.items():
            matches = self._matches.setdefault(sequence, Matches())
            if draft := matches.continuation(sequence.tokens, most):
                drafts[sequence] = draft
        return drafts

    def forget(self, sequence: Sequence) -> None:
        """Drop its table."""
        self._matches.pop(sequence, None)

    def close(self) -> None:
        """Drop all tables."""
        self._matches.clear()


class Matches:
    """Where the end of a growing list of tokens stood before in it. Takes constant time for each token."""

    def __init__(self) -> None:
        self._latest: dict[int, int] = {}  # pair of tokens -> the place after it
        self._earlier = array("q")  # place -> the one before it that follows the same pair; 0 is none
        self._source = 0  # where the last continuation came from,
        self._length = 0  # and the number of tokens then

    def continuation(self, tokens: Tokens[int], most: int) -> list[int]:
        """``most`` tokens that may follow ``tokens``, which begin with those of the last call; [] without a match."""
        self._grow(tokens)
        place, longest = 0, 1
        for candidate in self._candidates(tokens):
            length = _agreement(tokens, candidate)
            if length > longest:
                place, longest = candidate, length
            if length >= LONG:
                break
        self._source, self._length = place, len(tokens)
        draft: list[int] = []
        for at in range(place, place + most if place else 0):
            # Past the end the draft itself goes on, so that a short cycle is drafted to any length.
            draft.append(tokens[at] if at < len(tokens) else draft[at - len(tokens)])
        return draft

    def _grow(self, tokens: Tokens[int]) -> None:
        for place in range(len(self._earlier), len(tokens)):
            if place < 2:
                self._earlier.append(0)
                continue
            pair = tokens[place - 2] << 32 | tokens[place - 1]
            self._earlier.append(self._latest.get(pair, 0))
            self._latest[pair] = place

    def _candidates(self, tokens: Tokens[int]) -> Iterator[int]:
        if self._source:  # first where the last one was going: common pairs may hide it among later places
            yield self._source + len(tokens) - self._length
        yield from islice(self._places(tokens), LOOKS)

    def _places(self, tokens: Tokens[int]) -> Iterator[int]:
        place = self._latest.get(tokens[-2] << 32 | tokens[-1], 0) if len(tokens) > 1 else 0
        while place:
            yield place
            place = self._earlier[place]


def _agreement(tokens: Tokens[int], place: int) -> int:
    """How many tokens before ``place``, up to LONG, are those at the end."""
    most = min(LONG, place)
    return next((back for back in range(most) if tokens[place - 1 - back] != tokens[-1 - back]), most)
