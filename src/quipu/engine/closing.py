"""The shortest way to end an answer from where it is: what is kept in reserve so that it can be ended.

A grammar says which tokens may come next, not which way is short. So a way is found greedily: what a grammar newly
allows is progress; quotation marks and brackets close, an empty value is shorter than another. Then whatever can be
left out of it is. Any way that is found is a way: that it is not the shortest costs tokens, never validity.
"""

from __future__ import annotations

import random
import time
from collections.abc import Sequence

import numpy as np
from llguidance import LLMatcher, LLTokenizer
from numpy.typing import NDArray

LONGEST = 4_096
"""Most tokens of a way; where there is none of them, there is none."""
BRIEF = 512
"""Most tokens of the first tries, which may be led in circles: no more of the time is theirs."""
TRIES = ((0, True, BRIEF), (0, False, BRIEF), *((number, True, LONGEST) for number in range(4)))
"""With other preferences each, in tokens at most. False: places that look alike are one, also where a forced text is in
between, so that what a grammar repeats ("a line, any number of times, then the total") comes to an end."""
STEERING = b"\xff"
"""What llguidance writes a special token with; no text has this byte."""
SHORTENINGS = 64
"""Tries to leave something out of a way."""
CLOSERS = b'"}])>0n,:. -1atfu'
"""Bytes in the order in which they are tried."""
CLOSING = 5
"""How many of them close something."""
DEEPEST = 64
"""Brackets that close in a row before another choice is tried."""
OPENERS = b"([{<"


class Closing:
    """Finds ways to end for answers of one tokenizer. Stateless, so any thread may ask."""

    def __init__(self, tokens: LLTokenizer, pieces: Sequence[bytes]) -> None:
        self._tokens = tokens
        self._end = tokens.eos_token
        singles = {piece[0]: token for token, piece in reversed(list(enumerate(pieces))) if len(piece) == 1}
        self._tilde = singles.get(ord("~"))
        self._brackets = {singles[byte] for byte in CLOSERS[1:CLOSING] if byte in singles}
        self._quote = singles[CLOSERS[0]]
        self._closers = {singles[byte] for byte in CLOSERS[:CLOSING] if byte in singles}
        rest = [byte for byte in (*range(32, 127), *range(128, 256), *range(32)) if byte not in CLOSERS]
        rest.sort(key=lambda byte: byte in OPENERS)  # what opens comes last
        self._order = [singles[byte] for byte in (*CLOSERS, *rest) if byte in singles]

    def ends(self, matcher: LLMatcher, way: Sequence[int]) -> bool:
        """Whether the answer is whole after ``way``."""
        return int(matcher.validate_tokens([*way, self._end])) == len(way) + 1

    def shortest(self, matcher: LLMatcher, hints: Sequence[Sequence[int]], seconds: float) -> list[int] | None:
        """A short way, [] where the answer may end now; None where none of LONGEST tokens was found.

        ``hints`` are tokens of texts that may help: examples of patterns. ``seconds`` of this thread's computing are
        spent on it at most, and one step: not of the clock, which goes faster on a machine that others use.
        """
        deadline = time.thread_time() + seconds
        for attempt, apart, longest in TRIES:
            way = self._walk(matcher.deep_copy(), hints, attempt, apart, longest, deadline)
            if way is not None:
                return self._shortened(matcher, way, deadline)
        return None

    def _walk(
        self,
        fork: LLMatcher,
        hints: Sequence[Sequence[int]],
        attempt: int,
        apart: bool,
        longest: int,
        deadline: float,
    ) -> list[int] | None:
        order = self._order
        if attempt > 1:
            order = random.Random(attempt).sample(order, len(order))
        way: list[int] = []
        tried: dict[bytes, int] = {}
        before: NDArray[np.bool_] | None = None
        left = list(hints)
        while len(way) <= longest and time.thread_time() < deadline:
            if fork.is_accepting():
                return way
            forced = self._forced(fork)
            if forced:
                before, left = None, list(hints)
                if apart:
                    tried.clear()
            else:
                mask = fork.compute_bitmask()
                if fork.is_error():
                    return None
                allowed = np.unpackbits(np.frombuffer(mask, np.uint8), bitorder="little").view(np.bool_)
                hinted = self._hinted(fork, left) if attempt or not allowed[self._quote] else []
                forced = hinted or self._choose(allowed, before, order, tried.get(mask, 0))
                tried[mask] = tried.get(mask, 0) + 1
                before = allowed
            way += forced
            if not forced or fork.try_consume_tokens(forced) != len(forced):
                return None
        return None

    def _forced(self, fork: LLMatcher) -> list[int]:
        text = fork.compute_ff_bytes()
        return list(fork.compute_ff_tokens() if STEERING in text else self._tokens.tokenize_bytes(text))

    def _hinted(self, fork: LLMatcher, left: list[Sequence[int]]) -> list[int]:
        """One of the hints that are ``left``, if it fits."""
        for hint in left:
            if fork.validate_tokens(list(hint)) == len(hint):
                left.remove(hint)
                return list(hint)
        return []

    def _choose(
        self, allowed: NDArray[np.bool_], before: NDArray[np.bool_] | None, order: Sequence[int], turn: int
    ) -> list[int]:
        """What closes, or was not allowed before, else in turn: the same choice in the same place leads in circles."""
        options = [token for token in order if allowed[token]]
        if self._tilde is not None and not allowed[self._tilde]:  # outside of strings: a bracket that closes is shorter
            options.sort(key=lambda token: token not in self._brackets)
            if turn < DEEPEST and options and options[0] in self._brackets:
                return [options[0]]  # the next one that is open looks the same, and closes, too
        if before is not None and not turn and options and options[0] not in self._closers:
            options = [token for token in options if not before[token]] or options
        if options:
            return [options[turn % len(options)]]
        others = np.flatnonzero(allowed)  # no single byte: a special token, or a vocabulary without bytes
        return [int(others[turn % len(others)])] if len(others) else []

    def _shortened(self, matcher: LLMatcher, way: list[int], deadline: float) -> list[int]:
        """``way`` without what can be left out, and in fewer tokens where the same text has them."""
        size, tries = len(way) // 2, SHORTENINGS
        while size and tries:
            start = 0
            while start < len(way) and tries and time.thread_time() < deadline:
                shorter, tries = way[:start] + way[start + size :], tries - 1
                if self.ends(matcher, shorter):
                    way = shorter
                else:
                    start += size
            size //= 2
        written = self._tokens.tokenize_bytes(self._tokens.decode_bytes(way))
        return written if len(written) < len(way) and self.ends(matcher, written) else way
