"""Logits of one sequence -> its next token, on the CPU in numpy. One Sampler per sequence: it owns the random state."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence

import numpy as np
from numpy.typing import NDArray

from quipu.engine.request import Score
from quipu.errors import QuipuError
from quipu.types import Sampling

Logits = NDArray[np.float32]


class Sampler:
    """Draws tokens for one sequence. The same seed gives the same draws whatever else is in the batch.

    Order, as in vLLM: penalties and bias on the logits, then temperature, top_k, top_p, min_p, then the draw.
    ``end_ids`` are the tokens that ``min_tokens`` forbids.
    """

    def __init__(self, sampling: Sampling, prompt: Sequence[int], end_ids: Collection[int], index: int = 0) -> None:
        self.sampling = sampling
        seed = None if sampling.seed is None else [sampling.seed % 2**64, index]
        self._random = np.random.Generator(np.random.Philox(np.random.SeedSequence(seed)))
        self._prompt = np.unique(np.asarray(prompt, dtype=np.int64)) if sampling.repetition_penalty != 1 else None
        self._generated: Counter[int] = Counter()
        self._count = 0
        self._end_ids = list(end_ids)
        self._bias = sampling.logit_bias

    def sample(self, logits: Logits) -> int:
        """The next token id from float32 [vocabulary] (left unchanged); one at -inf is never drawn. See ``note``.

        Raises QuipuError where the logits are not numbers.
        """
        logits = self._adjust(logits)
        best = _best_one(logits)
        return best if self.sampling.temperature == 0 else self._draw(logits, logits[best])

    @property
    def takes_all(self) -> bool:
        """Whether every token has its chance, or only the best one: none are cut off for the company they are in."""
        options = self.sampling
        return options.temperature == 0 or (options.top_k == 0 and options.top_p == 1 and options.min_p == 0)

    def note(self, token: int) -> None:
        """Remember for the penalties that ``token`` is part of the answer, drawn or not."""
        self._generated[token] += 1
        self._count += 1

    def _adjust(self, logits: Logits) -> Logits:
        """Penalties (CTRL's repetition penalty; OpenAI's presence and frequency), bias, forbidden end tokens."""
        options = self.sampling
        penalized = options.presence_penalty != 0 or options.frequency_penalty != 0
        forbidden = self._end_ids if self._count < options.min_tokens else []
        if not (penalized or self._prompt is not None or self._bias or forbidden):
            return logits
        logits = logits.copy()
        seen = np.fromiter(self._generated, dtype=np.int64, count=len(self._generated))
        if self._prompt is not None:
            repeated = np.concatenate((self._prompt, seen))  # a token in both gets the same value twice
            values = logits[repeated]
            penalty = np.float32(options.repetition_penalty)
            logits[repeated] = np.where(values > 0, values / penalty, values * penalty)
        if penalized and len(seen):
            counts = np.fromiter(self._generated.values(), dtype=np.float32, count=len(seen))
            logits[seen] -= options.presence_penalty + options.frequency_penalty * counts
        for token, bias in self._bias.items():
            logits[token] += bias
        logits[forbidden] = -np.inf
        return logits

    def _draw(self, logits: Logits, highest: np.float32) -> int:
        options = self.sampling
        # Shifted first: a tiny temperature must not overflow the quotient.
        scaled = (logits - highest) / np.float32(max(options.temperature, 1e-6))
        candidates = None
        if 0 < options.top_k < len(scaled):
            candidates = _best(scaled, options.top_k)
        if options.top_p < 1:
            candidates = _nucleus(scaled, options.top_p, candidates)
        if candidates is not None:
            scaled = scaled[candidates]
        if options.min_p > 0:
            scaled = np.where(scaled >= np.float32(np.log(options.min_p)), scaled, np.float32(-np.inf))
        cumulative = np.cumsum(np.exp(scaled), dtype=np.float64)
        place = int(np.searchsorted(cumulative, self._random.random() * cumulative[-1], side="right"))
        # Rounded, the draw may be all of the mass: the last that has any is meant, not one that is forbidden.
        place = min(place, int(np.searchsorted(cumulative, cumulative[-1], side="left")))
        return place if candidates is None else int(candidates[place])


def _best_one(logits: Logits) -> int:
    """Place of the highest of ``logits``. One NaN among them is enough to be refused: argmax finds it."""
    best = int(logits.argmax())
    if not np.isfinite(logits[best]):
        raise QuipuError(
            f"the model's highest logit is {logits[best]}: its weights are damaged, its arithmetic overflows (load it "
            "with dtype float32), or the repetition_penalty is extreme"
        )
    return best


def _best(values: Logits, count: int) -> NDArray[np.int64]:
    """Places of the ``count`` largest values, best first; equal values in order of place."""
    count = min(count, len(values))
    if count < len(values):
        # All values above the count-th largest, then enough of its equals: argpartition alone breaks ties at random.
        threshold = np.partition(values, len(values) - count)[len(values) - count]
        above = np.flatnonzero(values > threshold)
        equal = np.flatnonzero(values == threshold)[: count - len(above)]
        places = np.concatenate([above, equal])
    else:
        places = np.arange(len(values))
    return places[np.argsort(-values[places], kind="stable")]


def _nucleus(scaled: Logits, top_p: float, among: NDArray[np.int64] | None) -> NDArray[np.int64]:
    """The fewest best candidates whose mass reaches ``top_p`` of the whole; at least one (Holtzman et al. 2020).

    ``among``, if given, are the candidates, best first.
    """
    weights = np.exp(scaled if among is None else scaled[among])
    whole = weights.sum(dtype=np.float64)
    if among is None:
        # What weighs less than this reaches, all of it together, not 1 - top_p: the fewest best do without it.
        least = (1 - top_p) * whole / len(weights)
        near = np.flatnonzero(weights >= least * (1 - 1e-6))  # sums round, too
        order = near[np.argsort(-scaled[near], kind="stable")]
        weights = weights[order]
    else:
        order = among
    mass = np.cumsum(weights, dtype=np.float64)
    return order[: int(np.searchsorted(mass, top_p * whole, side="left")) + 1]


def score(logits: Logits, token: int, alternatives: int) -> Score:
    """Log-probability of ``token`` and the ``alternatives`` best under softmax of float32 [vocabulary].

    Raises QuipuError where the logits are not numbers.
    """
    shifted = logits - logits[_best_one(logits)]
    normalizer = float(np.log(np.exp(shifted).sum(dtype=np.float64)))
    places = _best(shifted, alternatives) if alternatives else ()
    top = tuple((int(place), float(shifted[place]) - normalizer) for place in places)
    return Score(token, float(shifted[token]) - normalizer, top)
