"""The life of one request: what it asks, the sequences it becomes, and who is told what they bring."""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from quipu.engine.kv_cache import ROOT, extend_digest
from quipu.engine.runner import BLOCK_SIZE
from quipu.errors import QuipuError
from quipu.model.image_tokens import PlacedImage
from quipu.types import FinishReason, Sampling

if TYPE_CHECKING:
    from quipu.engine.grammar import Guide


@dataclass(frozen=True, slots=True)
class Score:
    """Natural-log probability of a token and of the best alternatives at its place, best first."""

    token: int
    logprob: float | None
    top: tuple[tuple[int, float], ...] = ()


class Listener(Protocol):
    """Who hears of a request. Called from the engine's thread: be quick, never block, never raise."""

    def prompt_scored(self, index: int, scores: list[Score]) -> None:
        """Scores of every prompt token, in one call before the first token of answer 0; only if they were asked for."""

    def token(self, index: int, token: int, score: Score | None) -> bool:
        """One generated token of answer ``index``; True says that the answer ends here (a stop string)."""
        ...

    def finished(self, index: int, reason: FinishReason, generated: int, cached: int) -> None:
        """Answer ``index`` is over: tokens generated (an end token counts), prompt tokens found in the cache."""

    def failed(self, index: int, error: QuipuError) -> None:
        """Answer ``index`` ended with an error; nothing more follows for it."""


class Status(enum.Enum):
    """Where a sequence is in its life."""

    WAITING = "waiting"
    RUNNING = "running"
    FINISHED = "finished"


@dataclass(eq=False, slots=True)
class Sequence:
    """One answer being generated. ``tokens`` is prompt and answer; the cache holds the first ``computed`` of them.

    ``blocks`` are the cache blocks held, ``chunk_blocks`` those of layers with chunked attention, of which the first
    ``passed`` are not held any more; ``digests`` the names of full ones (see ``names``). ``leader`` is the first
    sequence of a request with n > 1: the others wait until it has computed the prompt and then share its blocks.
    ``embed``, if set, is called with the mean of the prompt's final hidden states, float32 [hidden size]. ``guide``
    says which tokens may come next, if the answer is constrained. ``images`` are the prompt's pictures and ``vectors``
    what they became, None until then; ``ready`` once all have.
    """

    tokens: list[int]
    prompt_length: int
    sampling: Sampling
    listener: Listener
    index: int = 0
    leader: Sequence | None = None
    status: Status = Status.WAITING
    computed: int = 0
    cached: int | None = None
    blocks: list[int] = field(default_factory=list)
    chunk_blocks: list[int] = field(default_factory=list)
    passed: int = 0
    digests: list[bytes] = field(default_factory=list)
    prompt_scores: list[Score] = field(default_factory=list)
    embed: Callable[[NDArray[np.float32]], None] | None = None
    hidden_sum: NDArray[np.float64] | None = None
    guide: Guide | None = None
    images: tuple[PlacedImage, ...] = ()
    vectors: list[NDArray[np.float32] | None] = field(default_factory=list)
    ready: bool = True
    marks: dict[int, bytes] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.images:
            self.vectors, self.ready = [None] * len(self.images), False
            for image in self.images:
                self._mark(image)

    def _mark(self, image: PlacedImage) -> None:
        """Blocks with parts of a picture are named by it and by which parts, for its tokens are those of any other."""
        blocks, parts = np.unique(image.positions // BLOCK_SIZE, return_index=True)
        for block, part in zip(blocks.tolist(), parts.tolist(), strict=True):
            mark = image.tiles.digest + part.to_bytes(8, "little")
            self.marks[block] = self.marks.get(block, b"") + mark

    def seen(self, start: int, end: int) -> tuple[NDArray[np.int64], NDArray[np.float32]] | None:
        """Which of the tokens from ``start`` to ``end`` are parts of pictures, counted from ``start``, and their
        vectors; None if none is."""
        rows, values = [], []
        for image, vectors in zip(self.images, self.vectors, strict=True):
            first, last = np.searchsorted(image.positions, (start, end))
            if first < last and vectors is not None:
                rows.append(image.positions[first:last] - start)
                values.append(vectors[first:last])
        return (np.concatenate(rows), np.concatenate(values)) if rows else None

    def names(self, blocks: int) -> list[bytes]:
        """Digests of its first ``blocks`` full blocks. Hashed once: a long prompt may be looked up at every step."""
        for place in range(len(self.digests), blocks):
            parent = self.digests[-1] if self.digests else ROOT
            tokens = self.tokens[place * BLOCK_SIZE : (place + 1) * BLOCK_SIZE]
            self.digests.append(extend_digest(parent, tokens, self.marks.get(place, b"")))
        return self.digests[:blocks]

    @property
    def remaining(self) -> int:
        """Tokens that must be computed before the next one can be sampled."""
        return len(self.tokens) - self.computed

    @property
    def generated(self) -> int:
        """Tokens of the answer so far."""
        return len(self.tokens) - self.prompt_length

    @property
    def decoding(self) -> bool:
        """The prompt is done and each step brings a token."""
        return self.generated > 0 and self.remaining == 1

    @property
    def computes_prompt(self) -> bool:
        """All of the prompt must go through the network: what the cache holds of it is not enough."""
        return self.scores_prompt or self.embed is not None

    @property
    def scores_prompt(self) -> bool:
        """Log-probabilities of the prompt are still owed, so its logits must be computed, not found in the cache.

        One answer of a request owes them: they are the same for all.
        """
        owed = self.leader is None and self.sampling.prompt_logprobs is not None
        return owed and len(self.prompt_scores) < self.prompt_length
