"""Guessing several tokens ahead and verifying them in one step, where that is faster.

A step of one sequence costs little more for several tokens than for one: its time goes into reading the weights. So a
Drafter guesses what follows, the step computes the last token and the guesses, and the sequence's own Sampler draws at
one position after the other from the model's logits (``decoding.py``). A guess that is drawn is kept, and the draw at
the next position counts, too; the first draw that differs replaces its guess, and what was guessed after it is void.

Nothing that a client sees depends on the guesses. Every token is drawn from the model's own logits after the same
tokens, by the same sampler with as many draws behind it: what comes out is token for token what would have come without
guesses, greedy or seeded, on a runner whose rows do not depend on the step that they are in (``Runner.exact``). In the
terms of Leviathan et al. 2023 ("Fast Inference from Transformers via Speculative Decoding", theorem 3.5) the draft is
a point mass at the guess x: accepting it with probability p(x), and drawing from p without x otherwise, is drawing from
p and comparing. On any other runner the distribution is kept as well, up to that runner's rounding.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Protocol

from quipu.engine.request import Sequence

log = logging.getLogger(__name__)

LONGEST = 12
"""Most tokens guessed at once for one sequence."""
VERIFYING = 0.15
"""What one more token in a step costs, as part of a step of one token. Measured: docs/log.md."""
RETRY_AFTER = 16
"""Tokens between two tries where guessing does not pay."""
RETRY = 2
"""Tokens guessed in such a try."""
MEMORY = 0.8
"""What an earlier verification counts beside the next."""


class Drafter(Protocol):
    """Guesses how sequences go on. Not thread-safe: the engine calls it from its thread.

    ``cost`` is the time it takes for a token, as part of a step of the model that it guesses for.
    """

    cost: float

    def propose(self, wanted: Mapping[Sequence, int]) -> dict[Sequence, list[int]]:
        """What may follow each sequence's tokens, at most as many as wanted; without an entry where it has no idea.

        A sequence's tokens only grow between two calls, by guesses that came true and by others.
        """
        ...

    def forget(self, sequence: Sequence) -> None:
        """Free what is held for ``sequence``, which has ended; it may never have been asked for."""
        ...

    def close(self) -> None:
        """Free everything."""
        ...


class Speculation:
    """Decides for how many tokens ahead it asks ``drafter``, and learns from what came of it.

    ``tokens``: a step computes at most so many tokens of decoding sequences, guesses included: beyond, more rows cost
    time in proportion. ``drafted``, ``accepted`` and ``verified`` count guesses, those that came true (each a step
    that its answer did not need), and the verifications of one sequence.
    """

    def __init__(self, drafter: Drafter | None, tokens: int = 32) -> None:
        self.drafted = self.accepted = self.verified = 0
        self._drafter = drafter
        self._tokens = tokens
        self._paces: dict[Sequence, Pace] = {}

    def propose(self, decoding: Mapping[Sequence, int]) -> dict[Sequence, list[int]]:
        """Guesses for the sequences that this step decodes; for each, at most as many as ``decoding`` says."""
        if self._drafter is None or not decoding:
            return {}
        budget = self._tokens - len(decoding)
        # With n sequences in a step, a guess for one of them costs the same and gains an n-th.
        each = VERIFYING + self._drafter.cost
        cost = each * len(decoding) / (1 + VERIFYING * (len(decoding) - 1))
        wanted = {}
        for sequence, most in decoding.items():
            length = min(self._paces.setdefault(sequence, Pace()).length(cost), most, budget)
            if length > 0:
                wanted[sequence] = length
                budget -= length
        try:
            return self._drafter.propose(wanted) if wanted else {}
        except Exception as error:  # an answer must not fail because a guess at it did
            log.error("the drafter failed; answers go on without it", exc_info=error)
            self.close()
            return {}

    def learn(self, sequence: Sequence, drafted: int, accepted: int) -> None:
        """Note that of ``drafted`` guesses for ``sequence`` the first ``accepted`` came true."""
        self.drafted += drafted
        self.accepted += accepted
        self.verified += 1
        if sequence in self._paces:
            self._paces[sequence].learn(drafted, accepted)

    def forget(self, sequence: Sequence) -> None:
        """Drop what is held for a sequence that has ended."""
        self._paces.pop(sequence, None)
        if self._drafter is not None:
            self._drafter.forget(sequence)

    def close(self) -> None:
        """Free the drafter; nothing is guessed any more."""
        if self._drafter is not None:
            self._drafter.close()
        self._drafter = None
        self._paces.clear()


class Pace:
    """How far ahead it pays to guess for one sequence: by the share of guesses that came true lately.

    With guesses that come true independently with probability a, a step of n of them brings
    (1 - a^(n+1)) / (1 - a) tokens and takes 1 + cost n as long (Leviathan et al. 2023, theorem 3.8).
    """

    def __init__(self) -> None:
        self._hits = self._misses = 1.0
        self._waited = 0

    def length(self, cost: float) -> int:
        """Tokens to guess now: the best number, and a small one from time to time where that is 0."""
        rate = self._hits / (self._hits + self._misses)
        best, gain = 0, 1.0
        tokens = power = 1.0
        for count in range(1, LONGEST + 1):
            power *= rate
            tokens += power
            if tokens / (1 + cost * count) > gain:
                best, gain = count, tokens / (1 + cost * count)
        if best:
            return best
        self._waited += 1
        return RETRY if self._waited > RETRY_AFTER else 0

    def learn(self, drafted: int, accepted: int) -> None:
        """Take account of a verification; guesses after the first miss say nothing."""
        self._hits = MEMORY * self._hits + accepted
        self._misses = MEMORY * self._misses + (accepted < drafted)
        self._waited = 0
