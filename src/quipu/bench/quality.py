"""Quality beside speed: an engine's predictions against those of float32 arithmetic on the dequantised weights."""

from __future__ import annotations

import importlib.resources
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from quipu.bench.measures import Timed

TOKENS = 2000
QUICK_TOKENS = 250
_AT_ONCE = 250


def text() -> str:
    """A story written for this, so that no model has read it: about 2,000 tokens of English."""
    return importlib.resources.files(__package__).joinpath("text.txt").read_text("utf-8")


def quality(engine: Timed, tokens: Sequence[int], reference: NDArray[np.float32]) -> dict[str, float]:
    """Over ``tokens`` with ``reference`` logits [tokens, vocabulary].

    ``kl``: mean divergence of the next-token distribution from the reference's, in nats a token; ``same_top``: share of
    places with the same likeliest token; ``perplexity_ratio``: perplexity over the reference's.
    """
    engine.reset(1)
    divergence = same = ours_lost = theirs_lost = 0.0
    for start in range(0, len(tokens), _AT_ONCE):
        part = tokens[start : start + _AT_ONCE]
        ours = _log_softmax(engine.step([(0, part, start)], every=True)[0])
        theirs = _log_softmax(reference[start : start + _AT_ONCE])
        divergence += float((np.exp(theirs) * (theirs - ours)).sum())
        same += int((ours.argmax(-1) == theirs.argmax(-1)).sum())
        following = np.array(tokens[start + 1 : start + _AT_ONCE + 1], np.int64)
        places = np.arange(len(following))
        ours_lost -= float(ours[places, following].sum())
        theirs_lost -= float(theirs[places, following].sum())
    count = len(tokens)
    return {
        "kl": divergence / count,
        "same_top": same / count,
        "perplexity": float(np.exp(ours_lost / (count - 1))),
        "perplexity_ratio": float(np.exp((ours_lost - theirs_lost) / (count - 1))),
    }


def _log_softmax(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    values = logits.astype(np.float64)
    values -= values.max(-1, keepdims=True)
    values -= np.log(np.exp(values).sum(-1, keepdims=True))
    return values
