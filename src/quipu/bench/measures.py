"""What is timed. An engine is asked for steps only: no sampling, no tokenizing, no HTTP.

pp512   prompt tokens a second: 512 tokens into an empty cache, logits of the last one
tg128   tokens a second of one sequence: 128 steps of one token, after a prompt of 64
deep    the same after 4,000 tokens, or as many as the context allows; they are computed once, for all rounds
x16     tokens a second of 16 sequences together: 32 steps of 16 tokens, after prompts of 64
ttft    seconds to the first token of a prompt of 512, the likeliest
memory  most bytes of the process, while loading or after pp512 and tg128; those of mapped files count
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from quipu.engine.memory import peak_memory

PROMPT = 512
BEFORE = 64
STEPS = 128
TOGETHER = 16
STEPS_TOGETHER = 32
DEEP = 4000
ROOM_EACH = 128
"""Tokens of cache that each of 16 sequences has."""

Part = tuple[int, Sequence[int], int]
"""Number of a sequence, its next tokens, and the position of the first."""


class Timed(Protocol):
    """An engine that can be measured. ``variants``: ways it can compute, of which the fastest counts."""

    vocabulary: int
    depth: int
    variants: Sequence[str]

    def use(self, variant: str) -> None:
        """Compute that way from now on."""
        ...

    def reset(self, sequences: int) -> None:
        """Forget all tokens; up to so many sequences follow."""
        ...

    def recall(self) -> bool:
        """Go on after the first ``depth`` tokens of a sequence that is kept apart; False if they are yet to come."""
        ...

    def step(self, parts: Sequence[Part], *, every: bool = False) -> list[NDArray[np.float32]]:
        """Logits of the last token of each part, or of all: float32 [rows, vocabulary]."""
        ...


def random_tokens(engine: Timed, count: int, seed: int = 0) -> list[int]:
    """The same for every engine."""
    found: list[int] = np.random.default_rng(seed).integers(0, engine.vocabulary, count).tolist()
    return found


def fill(engine: Timed, sequence: int, count: int) -> None:
    """A prompt of ``count`` tokens, 512 at a time."""
    tokens = random_tokens(engine, count, sequence)
    for start in range(0, count, PROMPT):
        engine.step([(sequence, tokens[start : start + PROMPT], start)])


def prompt_rate(engine: Timed) -> float:
    """pp512."""
    return PROMPT / first_token(engine)


def first_token(engine: Timed) -> float:
    """ttft."""
    engine.reset(1)
    tokens = random_tokens(engine, PROMPT)
    start = time.perf_counter()
    int(engine.step([(0, tokens, 0)])[0][-1].argmax())
    return time.perf_counter() - start


def decode_rate(engine: Timed, sequences: int, before: int, steps: int) -> float:
    """Tokens a second, all sequences together."""
    engine.reset(sequences)
    for sequence in range(sequences):
        fill(engine, sequence, before)
    return _rate_of_steps(engine, sequences, before, steps)


def deep_rate(engine: Timed) -> float:
    """deep."""
    if not engine.recall():
        fill(engine, 0, engine.depth)
    return _rate_of_steps(engine, 1, engine.depth, STEPS)


def _rate_of_steps(engine: Timed, sequences: int, before: int, steps: int) -> float:
    tokens = random_tokens(engine, sequences * steps, 1000)
    start = time.perf_counter()
    for step in range(steps):
        engine.step([(each, [tokens[step * sequences + each]], before + step) for each in range(sequences)])
    return sequences * steps / (time.perf_counter() - start)


def memory(engine: Timed) -> float:
    """Asked before any measure that some engines keep a cache of its own for: 16 sequences, a long context."""
    with suppress(OSError):  # where it cannot be forgotten, variants that were only tried count, too
        Path("/proc/self/clear_refs").write_text("5")
    first_token(engine)
    decode_rate(engine, 1, BEFORE, 8)
    return float(peak_memory())


MEASURES: dict[str, Callable[[Timed], float]] = {
    "pp512": prompt_rate,
    "ttft": first_token,
    "tg128": lambda engine: decode_rate(engine, 1, BEFORE, STEPS),
    "memory": memory,
    "x16": lambda engine: decode_rate(engine, TOGETHER, BEFORE, STEPS_TOGETHER),
    "deep": deep_rate,
}
