"""A compiled Constraint, and a Guide: where one answer is in it, which tokens may come next, and which must.

The guide works on tokens, before the sampler draws, so that it is the same on every runner. Three things make it more
than a mask:

* **What the grammar forces is not drawn.** It is cut into tokens as the model's own tokenizer would cut it, together
  with the token before it: a ``"`` that was drawn where the text goes on with ``, "`` becomes the token ``",``. What
  may still merge with what comes after stays to be drawn. The engine computes these tokens in one step.
* **The way out is reserved.** It always holds a way to end that fits into the tokens that are left. A token after which
  there would be none is not taken; the way is, and the answer is valid and says ``length``. So it does where a grammar
  hides its ends so well that looking for one takes more time than the others can spare.
* **Masks that take long are computed while the runner computes.** ``prepare`` then runs in another thread during the
  step, for the place after what is known and for each place among guesses. Most take less than waking that thread.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import takewhile

import numpy as np
from llguidance import LLMatcher, LLTokenizer
from numpy.typing import NDArray

from quipu.engine.closing import STEERING, Closing
from quipu.engine.lexer_fuel import LexerFuel
from quipu.engine.sampler import Sampler
from quipu.engine.token_mask import Mask, Masking
from quipu.errors import InvalidRequest
from quipu.types import FinishReason, Sampling

RECENT = 0.7
"""What earlier masks count beside the last one for the time that the next may take."""
SEARCHING = 0.1
"""Seconds of computing that an answer may be behind with searches for ways out, which everyone waits for."""
SEARCHING_ON = 0.001
"""Seconds of it that each of its tokens makes up for."""
BEFORE = 8
"""Tokens before forced text with which it is cut, so that words and numbers are not begun anew."""


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """What guides know of a tokenizer: as llguidance has it, the bytes of each token, ids that end an answer, ways out.

    ``steering`` are the special tokens, which are no text. ``masking`` is for the engine's thread only.
    """

    tokens: LLTokenizer
    pieces: Sequence[bytes]
    steering: frozenset[int]
    end_ids: frozenset[int]
    closing: Closing
    masking: Masking


@dataclass(frozen=True, slots=True)
class Grammar:
    """A compiled constraint; any number of answers may be guided by it at once.

    ``matcher`` is where they begin, ``fuel`` what they share. ``shortest`` is an answer of few tokens: fewer than those
    cannot be asked for. ``hints`` help to find others (``closing.py``). ``check`` says what is wrong with a text that
    left the engine, "" for nothing. ``fields`` says, of a text whose first so many characters the model wrote, which
    fields it did not complete.
    """

    vocabulary: Vocabulary
    matcher: LLMatcher
    fuel: LexerFuel
    shortest: tuple[int, ...]
    hints: tuple[tuple[int, ...], ...]
    check: Callable[[str], str]
    fields: Callable[[str, int], tuple[str, ...]]

    def guide(self) -> Guide:
        """For one more answer."""
        return Guide(self)

    def check_sampling(self, sampling: Sampling) -> None:
        """Raise InvalidRequest, by field name, for what cannot be had together with this grammar."""
        for name in ("ignore_eos", "min_tokens"):
            if getattr(sampling, name):
                raise InvalidRequest(
                    f"{name} cannot be kept together with a constraint; leave one of them out", param=name
                )
        least = len(self.shortest)
        if sampling.max_tokens is not None and sampling.max_tokens < least:
            raise InvalidRequest(
                f"max_tokens is {sampling.max_tokens}, and the shortest answer found that keeps to the constraint has "
                f"{least} tokens; ask for at least so many",
                param="max_tokens",
            )


class Guide:
    """One answer's place in its grammar. Used by one thread at a time: the engine's, or its helper's in ``prepare``."""

    def __init__(self, grammar: Grammar) -> None:
        self.grammar = grammar
        self.written: int | None = None
        """Bytes of text that the model wrote before the reserved way out was taken; None if it was not."""
        self.mask_seconds = 0.0
        """How long a mask took lately."""
        self._vocabulary = grammar.vocabulary
        self._matcher = grammar.matcher.deep_copy()
        self._closing = list(grammar.shortest)
        self._bytes = 0
        self._searching = SEARCHING
        self._recent: deque[int] = deque(maxlen=BEFORE)
        self._masks: dict[int, Mask] = {}
        self._taken = 0
        self._queue: deque[int] = deque()
        self._begin()

    @property
    def forced(self) -> Sequence[int]:
        """Tokens that come next for certain."""
        return self._queue

    @property
    def over(self) -> FinishReason | None:
        """Why nothing more can come, once it cannot."""
        if self._queue:
            return None
        if self.written is not None:
            return "length"
        return "stop" if self._matcher.is_stopped() and not self._matcher.is_error() else None

    def fitting(self, guesses: Sequence[int]) -> int:
        """How many of ``guesses`` the grammar allows; 0 where tokens are forced: they are no guess."""
        return 0 if self._queue else self._fitting(guesses)

    def forget_masks(self) -> None:
        """A step begins: masks that were prepared for another are void."""
        self._taken, self._masks = 0, {}

    def prepare(self, draft: Sequence[int]) -> None:
        """Compute the masks of the places after ``draft``, which are forced tokens or guesses that fit."""
        if self.written is not None or len(draft) < len(self._queue):
            return
        first, guesses = len(self._queue), draft[len(self._queue) :]
        # Guesses are read by a copy. Rolled back, a matcher takes the mask of a way not taken for that of another: the
        # one it keeps is known by its place and the state of the lexer, not by what was read (llguidance 1.9).
        matcher = self._matcher.deep_copy() if guesses else self._matcher
        for place, guess in enumerate([*guesses, None], first):
            if matcher.is_stopped():  # also after an error, which ``next`` will tell
                break
            self._masks[place] = self._mask(matcher)
            if guess is None or guess in self._vocabulary.end_ids or not matcher.consume_token(guess):
                break

    def next(self, sampler: Sampler, logits: NDArray[np.float32] | None, room: int) -> int | None:
        """The next token, of at most ``room`` more; None where the answer has to end here.

        ``logits``, float32 [vocabulary], may be None where a token is forced. Raises InvalidRequest when the grammar
        exceeds the limits of a step.
        """
        if not self._queue and self.written is None:
            assert logits is not None
            self._draw(sampler, logits, room)
        if not self._queue:
            return None
        self._taken += 1
        token = self._queue.popleft()
        self._recent.append(token)
        sampler.note(token)
        return token

    def _begin(self) -> None:
        """Queue what every answer begins with."""
        if self._matcher.compute_ff_bytes():
            self._queue.extend(self._consumed(self._matcher.compute_ff_tokens()))
            self._bytes = self._size(self._queue)
            self._closing = self._way_out(list(self._queue)) or []

    def _draw(self, sampler: Sampler, logits: NDArray[np.float32], room: int) -> None:
        """Queue the token that ``sampler`` draws and what it entails, or the way out.

        Where nothing but the grammar rules tokens out, most are drawn without a mask: one that the grammar allows is
        kept, else another is drawn under the mask. With p of a token and P of all that are allowed, that is p + (1 - P)
        p / P = p / P, as under the mask at once; and the best of all, if allowed, is the best of those allowed.
        """
        token = sampler.sample(logits) if sampler.takes_all else None
        if token is None or not self._fitting([token]):
            mask = self._masks.get(self._taken)
            mask = self._mask(self._matcher) if mask is None else mask
            token = sampler.sample(self._vocabulary.masking(logits, mask))
        if token in self._vocabulary.end_ids:
            self._queue.append(token)
            return
        start = time.perf_counter()
        self._searching = min(SEARCHING, self._searching + SEARCHING_ON)
        tokens = self._taken_with(token)
        closing = self._way_out(tokens)
        self.grammar.fuel.use(time.perf_counter() - start)
        if closing is not None and len(tokens) + len(closing) <= room:
            self._closing = closing
            self._queue.extend(tokens)
            self._bytes += self._size(tokens)
        else:
            self._queue.extend(self._closing)
            self.written = self._bytes

    def _fitting(self, tokens: Sequence[int]) -> int:
        """How many of ``tokens`` the grammar allows. An output layer may be padded with ids that are no tokens."""
        size = len(self._vocabulary.pieces)
        known = list(takewhile(lambda token: token < size, tokens))
        start = time.perf_counter()
        fitting = int(self._matcher.validate_tokens(known))
        self.grammar.fuel.use(time.perf_counter() - start)
        return fitting

    def _taken_with(self, token: int) -> list[int]:
        """``token`` and what is forced after it, cut as the tokenizer would. The matcher is then behind them."""
        matcher = self._matcher
        if not matcher.consume_token(token):
            raise _broken(matcher)
        forced = matcher.compute_ff_bytes()
        if not forced:
            return [token]
        if token in self._vocabulary.steering or STEERING in forced:
            return [token, *self._consumed(matcher.compute_ff_tokens())]
        tokens = self._cut(token, forced)
        again = tokens[:1] != [token]
        if again and self._size(tokens) < self._size([token]):
            return [token]
        # Tried on a copy: where text ends without a mark, a lexeme may not go on across what was a token's edge. No
        # mask was computed since ``token``: none can be mistaken when that is rolled back (see ``prepare``).
        other = matcher.deep_copy()
        if again and not other.rollback(1):
            return [token]
        rest = tokens if again else tokens[1:]
        if other.try_consume_tokens(rest) != len(rest):
            return [token]
        self._matcher = other
        return tokens

    def _cut(self, token: int, forced: bytes) -> list[int]:
        """``token`` with ``forced`` after it as the tokenizer cuts them, as far as what follows does not matter."""
        tokens = self._vocabulary.tokens
        text, recent = self._vocabulary.pieces[token] + forced, list(self._recent)
        fork = self._matcher.deep_copy()
        fork.try_consume_tokens(tokens.greedy_tokenize(forced.decode(errors="replace")))
        ends = fork.is_stopped() and not fork.is_error()
        for before in (recent, []):
            whole = b"".join(self._vocabulary.pieces[each] for each in before) + text
            cut = tokens.tokenize_bytes(whole) if ends else tokens.tokenize_partial(whole)[0]
            if cut[: len(before)] == before:
                return list(cut[len(before) :])
        return []

    def _consumed(self, tokens: list[int]) -> list[int]:
        """``tokens``, which the matcher has gone past."""
        if tokens and self._matcher.try_consume_tokens(tokens) != len(tokens):
            raise _broken(self._matcher)
        return tokens

    def _way_out(self, tokens: list[int]) -> list[int] | None:
        """A way to end after ``tokens``: what is left of the one that was known, that one, or a new one."""
        if self._matcher.is_stopped() or self._matcher.is_accepting():
            return []
        known, closing = self._closing, self._vocabulary.closing
        left = known[len(tokens) :] if known[: len(tokens)] == tokens else known
        for way in (left, known[2:], known[1:], known):
            if closing.ends(self._matcher, way):
                return way
        return self._search()

    def _search(self) -> list[int] | None:
        """A new way out, if there is time for it."""
        start = time.thread_time()
        way = self._vocabulary.closing.shortest(self._matcher, self.grammar.hints, self._searching)
        self._searching -= time.thread_time() - start
        return way

    def _mask(self, matcher: LLMatcher) -> Mask:
        """Which tokens may come next."""
        start = time.perf_counter()
        bits = matcher.compute_bitmask()
        self.mask_seconds = RECENT * self.mask_seconds + (1 - RECENT) * (time.perf_counter() - start)
        if matcher.is_error():
            raise _broken(matcher)
        return np.frombuffer(bits, np.uint8)

    def _size(self, tokens: Iterable[int]) -> int:
        return sum(len(self._vocabulary.pieces[token]) for token in tokens if token not in self._vocabulary.steering)


def _broken(matcher: LLMatcher) -> InvalidRequest:
    said = " ".join(matcher.get_error().split())[:300]
    return InvalidRequest(
        f"the grammar of this answer is beyond the limits of a step ({said or 'no token fits'}); make it simpler",
        param="constraint",
    )
