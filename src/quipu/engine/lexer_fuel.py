"""What all answers of one grammar share: llguidance's lexer, which grows as they are read, and its fuel.

A copy of a matcher has its place to itself, and the lexer together with the original. Each new state of the lexer
costs fuel, and only a mask that is computed fills it up: answers that are drawn without masks would run dry, and once
one has, no matcher of this lexer goes on. So the time that matchers take is counted, and a mask computed before it is
too much.
"""

from __future__ import annotations

from llguidance import LLMatcher

REFILL_SECONDS = 0.001
"""Of work without a mask. Fuel lasts for about ten times that (``grammar_text.LIMITS``); a mask takes a tenth of it."""


class LexerFuel:
    """The fuel of the lexer that ``fresh`` and its copies share. For the engine's thread only, but ``empty``.

    ``fresh`` must not have computed a mask: one that is kept would be given again, and fill nothing up.
    """

    def __init__(self, fresh: LLMatcher) -> None:
        self._fresh = fresh.deep_copy()
        self._used = 0.0
        # Where bytes are forced, a mask is those bytes and asks no lexer.
        while forced := self._fresh.compute_ff_tokens():
            if self._fresh.try_consume_tokens(forced) != len(forced):
                break

    def use(self, seconds: float) -> None:
        """Count ``seconds`` that a matcher took for anything but a mask."""
        self._used += seconds
        if self._used > REFILL_SECONDS:
            self._used = 0.0
            self._fresh.deep_copy().compute_bitmask()

    @property
    def empty(self) -> bool:
        """Whether it has run dry, or its lexer is full: no more answers can be guided."""
        probe = self._fresh.deep_copy()
        probe.compute_bitmask()
        return bool(probe.is_error())
