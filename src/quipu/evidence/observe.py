"""Ask a model one probe: what it said, what that is worth, and what it took."""

from __future__ import annotations

import threading
import time
from collections.abc import Generator as Steps
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from quipu.capabilities.base import Answering, Probe, Score, digest
from quipu.engine.local import LocalModel
from quipu.errors import CannotSee, ContextLengthExceeded, Unparsed
from quipu.evidence.bodies import State
from quipu.types import Chunk, Chunks, Generator, Prompt, Sampling, Usage

KEPT = 20_000
"""Characters of an answer that are kept."""


@dataclass(frozen=True, slots=True)
class Observation:
    """One probe asked once; see bodies.ObservationBody, which this and where it belongs become."""

    capability: str
    probe: str
    state: State
    value: float
    passed: bool
    why: str
    measured: Mapping[str, float]
    text: str
    prompt_tokens: int
    completion_tokens: int
    first_token_seconds: float | None
    seconds: float
    finish_reason: str
    sampling: Mapping[str, Any]
    token_hash: str | None
    peak_memory: int | None


def observe(
    model: Generator, capability: Answering, probe: Probe, sampling: Mapping[str, Any] | None = None
) -> Observation:
    """Ask one probe and score the answer. Raises what the model raises, unless the probe does not fit its context.

    A model that reads text only fails every probe with a picture: it is not of use where one has to see.
    """
    watched = _Watched(model)
    options = {"seed": int(probe.id[:8], 16), **(sampling or {})}
    text, reason = "", "stop"
    state: State = "scored"
    try:
        result = capability.run(watched, capability.input.of(probe.given), options)
    except ContextLengthExceeded as error:
        state, score = "beyond context", Score.right(False, str(error))
    except CannotSee as error:
        score = Score.right(False, str(error))
    except Unparsed as error:
        state, score, text = "unparsed", Score.right(False, str(error)), error.text
    else:
        score, text, reason = capability.score(result.output, probe), result.text, result.finish_reason
    return Observation(
        capability=capability.uri,
        probe=probe.id,
        state=state,
        value=_unrounded(score.value),
        passed=score.passed,
        why=score.why,
        measured=score.measured,
        text=text[:KEPT],
        prompt_tokens=watched.usage.prompt_tokens,
        completion_tokens=watched.usage.completion_tokens,
        first_token_seconds=watched.first_token_seconds,
        seconds=time.monotonic() - watched.start,
        finish_reason=reason,
        sampling=options,
        token_hash=watched.token_hash,
        peak_memory=model.peak_memory() if isinstance(model, LocalModel) else None,
    )


def _unrounded(value: float) -> float:
    """``value`` without what adding up shares in floating point left beyond 0 or 1."""
    nearest = min(1.0, max(0.0, value))
    return nearest if abs(value - nearest) < 1e-9 else value


class _Watched:
    """A Generator that counts what is asked of another, whatever becomes of the answers."""

    def __init__(self, model: Generator) -> None:
        self.facts = model.facts
        self.context_length = model.context_length
        self.count = model.count
        self.start = time.monotonic()
        self.usage = Usage()
        self.first_token_seconds: float | None = None
        self._answers: list[list[int]] = []
        self._model = model
        self._lock = threading.Lock()

    @property
    def token_hash(self) -> str | None:
        """SHA-256, in hex, of the token ids of all answers, sorted, as JSON; None where the model tells none.

        Sorted, because answers to several questions at once come in any order.
        """
        return digest(sorted(self._answers)) if any(self._answers) else None

    def stream(self, prompt: Prompt, sampling: Sampling | None = None, **options: Any) -> Chunks:
        """The other's chunks."""
        return self._watch(self._model.stream(prompt, sampling, **options))

    def _watch(self, chunks: Chunks) -> Steps[Chunk, None, None]:
        ids: list[int] = []
        self._answers.append(ids)
        with closing(chunks):
            for chunk in chunks:
                ids.extend(chunk.token_ids)
                with self._lock:
                    if self.first_token_seconds is None and chunk.text:
                        self.first_token_seconds = time.monotonic() - self.start
                    if chunk.usage is not None:
                        self.usage += chunk.usage
                yield chunk
