"""What a step brings for a sequence: scores of its prompt, a mean of its states, or tokens. Verifies guesses."""

from __future__ import annotations

from collections.abc import Collection
from collections.abc import Sequence as Tokens

import numpy as np
from numpy.typing import NDArray

from quipu.engine.request import Score, Sequence
from quipu.engine.sampler import Sampler, score
from quipu.types import FinishReason


class Decoding:
    """Owns the samplers of the sequences that run. For the arguments see ``engine.Engine``."""

    def __init__(self, context_length: int, end_ids: Collection[int], vocabulary: int) -> None:
        self.samplers: dict[Sequence, Sampler] = {}
        self._context_length, self._end_ids, self._vocabulary = context_length, end_ids, vocabulary

    def absorb(
        self, sequence: Sequence, first: int, rows: NDArray[np.float32], drafts: Tokens[int] = ()
    ) -> FinishReason | None:
        """Use what a step computed of ``sequence`` from position ``first`` on; why it ends, if it does.

        ``rows`` are logits, or hidden states where it wants those. ``drafts`` are guesses that the last rows follow.
        """
        if sequence.embed is not None:
            return self._pool_hidden(sequence, first, rows)
        rows = rows[:, : self._vocabulary]
        if sequence.scores_prompt:
            _score_prompt(sequence, first, rows)
        if sequence.remaining:
            return None
        if sequence.sampling.max_tokens == 0:
            return "length"
        return self._draw(sequence, rows, drafts)

    def forget(self, sequence: Sequence) -> None:
        """Drop the sampler of a sequence that has ended."""
        self.samplers.pop(sequence, None)

    @staticmethod
    def _pool_hidden(sequence: Sequence, first: int, hidden: NDArray[np.float32]) -> FinishReason | None:
        """Add up the hidden states of positions ``first`` on; at the end of the prompt, tell their mean."""
        earlier = sequence.hidden_sum if first else None  # preempted, it is computed from the start again
        part: NDArray[np.float64] = hidden.sum(axis=0, dtype=np.float64)
        sequence.hidden_sum = part if earlier is None else earlier + part
        if sequence.remaining or sequence.embed is None:
            return None
        sequence.embed((sequence.hidden_sum / sequence.prompt_length).astype(np.float32))
        return "length"

    def _draw(self, sequence: Sequence, rows: NDArray[np.float32], drafts: Tokens[int]) -> FinishReason | None:
        """Draw the next token, and from each later row as long as the token before it is the one that was guessed.

        Nothing is drawn after a token that ends the answer: its draws are those of a run without guesses. Rows may
        miss at places whose tokens a grammar forces.
        """
        sampler = self.samplers.get(sequence)
        if sampler is None:
            prompt = sequence.tokens[: sequence.prompt_length]
            sampler = self.samplers[sequence] = Sampler(sequence.sampling, prompt, self._end_ids, sequence.index)
        for place in range(len(drafts) + 1):
            row = len(rows) - 1 - len(drafts) + place
            logits = rows[row] if row >= 0 else None
            token = self._next(sequence, sampler, logits)
            if token is None:
                return "length"
            reason = self._tell(sequence, token, logits)
            if reason is not None or place == len(drafts) or token != drafts[place]:
                return reason
        return None

    def _next(self, sequence: Sequence, sampler: Sampler, logits: NDArray[np.float32] | None) -> int | None:
        """The token that follows; None where a grammar ends the answer before it is too late."""
        if sequence.guide is not None:
            return sequence.guide.next(sampler, logits, self._room(sequence))
        assert logits is not None
        token = sampler.sample(logits)
        sampler.note(token)
        return token

    def _room(self, sequence: Sequence) -> int:
        """Tokens that may still be appended."""
        room, wanted = self._context_length - len(sequence.tokens), sequence.sampling.max_tokens
        return room if wanted is None else min(room, wanted - sequence.generated)

    def _tell(self, sequence: Sequence, token: int, logits: NDArray[np.float32] | None) -> FinishReason | None:
        sampling, guide = sequence.sampling, sequence.guide
        sequence.tokens.append(token)
        if token in self._end_ids and not sampling.ignore_eos:
            return "stop"
        scored = None if sampling.logprobs is None or logits is None else score(logits, token, sampling.logprobs)
        if sequence.listener.token(sequence.index, token, scored):
            return "stop"
        if guide is not None and (over := guide.over) is not None:
            return over
        full = len(sequence.tokens) >= self._context_length
        return "length" if full or sequence.generated == sampling.max_tokens else None


def _score_prompt(sequence: Sequence, first: int, logits: NDArray[np.float32]) -> None:
    alternatives = sequence.sampling.prompt_logprobs or 0
    scores = sequence.prompt_scores
    if not scores:
        scores.append(Score(sequence.tokens[0], None))
    for row, values in enumerate(logits):
        place = first + row + 1  # the logits at a position predict the token after it
        if place < sequence.prompt_length and place == len(scores):
            scores.append(score(values, sequence.tokens[place], alternatives))
    if len(scores) == sequence.prompt_length:
        sequence.listener.prompt_scored(sequence.index, scores)
