"""The Drafter that is a model: a smaller one with the same vocabulary, on a runner and a KV cache of its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from quipu.engine.kv_cache import BlockPool, blocks_for
from quipu.engine.request import Sequence
from quipu.engine.runner import BLOCK_SIZE, Runner, Span
from quipu.errors import InvalidRequest
from quipu.model.tokenizer import Tokenizer


@dataclass(slots=True)
class _Cached:
    """What the small model's cache holds of a sequence: its first ``computed`` tokens, then ``guesses``.

    The first ``registered`` of its blocks have names by which others find them.
    """

    blocks: list[int] = field(default_factory=list)
    computed: int = 0
    registered: int = 0
    guesses: list[int] = field(default_factory=list)

    def settle(self, tokens: list[int]) -> None:
        """Keep the guesses that came true; the last token is computed in any case, for what follows it."""
        for guess in self.guesses:
            if self.computed == len(tokens) - 1 or guess != tokens[self.computed]:
                break
            self.computed += 1
        self.guesses = []


class DraftModel:
    """See ``speculate.Drafter``. Guesses the likeliest tokens of the model on ``runner``.

    ``vocabulary``: ids from it on are never guessed; ``context_length``: beyond, nothing is. ``cost``: a step's time as
    part of one of the model that it guesses for. ``catch_up``: most tokens of prompts that a call computes, so that a
    long one does not hold up the answers of others; until it is through, there are no guesses for its answer.
    """

    def __init__(
        self, runner: Runner, *, context_length: int, vocabulary: int, cost: float, catch_up: int = 256
    ) -> None:
        self.cost = cost
        self._runner = runner
        self._pool = BlockPool(runner.pool.blocks)
        self._context_length, self._vocabulary, self._catch_up = context_length, vocabulary, catch_up
        self._cached: dict[Sequence, _Cached] = {}

    def propose(self, wanted: Mapping[Sequence, int]) -> dict[Sequence, list[int]]:
        """Greedy continuations, all sequences together in each step of the small model."""
        drafts = self._read(wanted)
        while going := [sequence for sequence in drafts if len(drafts[sequence]) < wanted[sequence]]:
            spans = [
                self._span(each, drafts[each][-1:], len(each.tokens) + len(drafts[each]) - 1, "last") for each in going
            ]
            for sequence, logits in zip(going, self._runner.step(spans), strict=True):
                drafts[sequence].append(self._likeliest(logits))
        for sequence, draft in drafts.items():
            self._cached[sequence].guesses = draft[:-1]  # the last one was not computed
        return drafts

    def forget(self, sequence: Sequence) -> None:
        """Free its blocks; what they hold may serve a sequence that begins alike."""
        if sequence in self._cached:
            self._pool.release(self._cached.pop(sequence).blocks)

    def close(self) -> None:
        """Free the small model."""
        self._cached.clear()
        self._runner.close()

    def _read(self, wanted: Mapping[Sequence, int]) -> dict[Sequence, list[int]]:
        """Compute what the small model has not seen yet; the first guess for each sequence that is through."""
        budget = self._catch_up
        spans: dict[Sequence, Span] = {}
        for sequence, most in wanted.items():
            if budget and self._make_room(sequence, most):
                cached = self._cached[sequence]
                tokens = sequence.tokens[cached.computed :][:budget]
                budget -= len(tokens)
                through = cached.computed + len(tokens) == len(sequence.tokens)
                spans[sequence] = self._span(sequence, tokens, cached.computed, "last" if through else "none")
        results = self._runner.step(list(spans.values())) if spans else []
        for sequence, span in spans.items():
            self._advance(sequence, len(span.tokens))
        return {
            sequence: [self._likeliest(logits)] for sequence, logits in zip(spans, results, strict=True) if len(logits)
        }

    def _span(self, sequence: Sequence, tokens: list[int], start: int, want: str) -> Span:
        # Small models are not worth a second table: chunked layers keep everything, in blocks of the same numbers.
        blocks = self._cached[sequence].blocks
        return Span(tokens, start, blocks, want, blocks if self._runner.pool.chunk_blocks else ())

    def _make_room(self, sequence: Sequence, most: int) -> bool:
        """Bring its cached tokens up to date and see that the rest and the guesses have blocks, if there are any."""
        if len(sequence.tokens) + most > self._context_length:
            return False
        cached = self._cached.get(sequence)
        if cached is None:
            shared = self._pool.match(sequence.names((len(sequence.tokens) - 1) // BLOCK_SIZE))
            self._pool.share(shared)
            cached = self._cached[sequence] = _Cached(shared, len(shared) * BLOCK_SIZE, len(shared))
        cached.settle(sequence.tokens)
        missing = blocks_for(len(sequence.tokens) + most) - len(cached.blocks)
        if missing > self._pool.free:
            return False
        cached.blocks += self._pool.allocate(max(0, missing))
        return True

    def _advance(self, sequence: Sequence, count: int) -> None:
        cached = self._cached[sequence]
        cached.computed += count
        names = sequence.names(cached.computed // BLOCK_SIZE)
        for place in range(cached.registered, len(names)):
            self._pool.register(cached.blocks[place], names[place])
        cached.registered = len(names)

    def _likeliest(self, logits: NDArray[np.float32]) -> int:
        return int(logits[-1, : self._vocabulary].argmax())


def check_vocabulary(target: Tokenizer, draft: Tokenizer, target_name: str, draft_name: str) -> None:
    """Raise InvalidRequest where an id means one token to one model and another to the other."""
    if (differs := _difference(target, draft)) is not None:
        raise InvalidRequest(
            f"{draft_name} cannot draft for {target_name}: {differs}. A draft model must have the same vocabulary, as "
            "a smaller model of the same family has",
            param="draft",
        )


def _difference(target: Tokenizer, draft: Tokenizer) -> str | None:
    if target.vocabulary != draft.vocabulary:
        return f"it has {draft.vocabulary} tokens, the other {target.vocabulary}"
    for token in range(target.vocabulary):
        one, other = draft.token_bytes(token), target.token_bytes(token)
        if one != other:
            return f"its token {token} is {one!r}, the other's {other!r}"
    if draft.specials != target.specials:
        names = sorted({name for name, _ in draft.specials.items() ^ target.specials.items()})
        return f"they differ in their special tokens {', '.join(names)[:200]}"
    return None
