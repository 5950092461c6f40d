"""Embeddings of texts: who hears of them from the engine, and their length."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from quipu.engine.request import Score
from quipu.errors import QuipuError
from quipu.types import FinishReason

Embedded = NDArray[np.float32] | QuipuError
"""A vector, float32 [hidden size], or why there is none."""
EMBEDDED_AT_ONCE = 8
"""Inputs of one batch of embeddings that are at the engine together: the queue is there for others, too."""


def normalized(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """``vectors``, float32 [n, size], each divided by its length; a vector of zeros stays one."""
    lengths: NDArray[np.float32] = np.linalg.norm(vectors, axis=-1, keepdims=True).astype(np.float32)
    lengths[lengths == 0] = 1
    return vectors / lengths


class EmbeddingListener:
    """The engine's listener for an embedding, which generates nothing: only a failure is news."""

    def __init__(self, on_done: Callable[[Embedded], None]) -> None:
        self._on_done = on_done

    def prompt_scored(self, index: int, scores: list[Score]) -> None:
        """See ``request.Listener``."""
        raise AssertionError("no scores were asked for")

    def token(self, index: int, token: int, score: Score | None) -> bool:
        """See ``request.Listener``."""
        raise AssertionError("no tokens were asked for")

    def finished(self, index: int, reason: FinishReason, generated: int, cached: int) -> None:
        """See ``request.Listener``."""

    def failed(self, index: int, error: QuipuError) -> None:
        """See ``request.Listener``."""
        self._on_done(error)
