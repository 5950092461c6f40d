"""A model without arithmetic: the real engine over a runner that predicts by rule. For tests of everything above.

Its cache holds token ids where a real one holds keys and values, and predictions are made from what is read back
through the block tables. A block given to two sequences by mistake therefore shows as a wrong answer. Keys and values
depend on all tokens before theirs, so a digest of those is kept beside each: a block that is read after another prefix
than it was written after fails the step, even if its own tokens are right.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

from quipu.engine.engine import Engine
from quipu.engine.kv_cache import blocks_for
from quipu.engine.local import LocalModel
from quipu.engine.prompt_lookup import PromptLookup
from quipu.engine.runner import BLOCK_SIZE, Encoder, PoolSize, Span
from quipu.model.chat_format import ChatFormat
from quipu.model.config import VisionConfig
from quipu.model.image_tokens import MARKS, PATCH
from quipu.model.tokenizer import Tokenizer
from quipu.types import Facts

Predict = Callable[[Sequence[int]], int]
"""All tokens so far -> the id of the next one."""

HIDDEN_SIZE = 8
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|start|>' + message.role + '\n' }}"
    "{% if message.content is string %}{{ message.content }}{% else %}{% for part in message.content %}"
    "{{ '<|image|>' if part.type == 'image' else part.text }}{% endfor %}{% endif %}{{ '<|end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start|>assistant\n' }}{% endif %}"
)

TILE_TOKENS = 9
"""Of a picture's tile, for a fake that takes pictures."""


class FakeEncoder:
    """See ``runner.Encoder``: vectors of nothing but how bright a tile is. The answers are not about them."""

    def encode(self, pixels: NDArray[np.float32]) -> Iterator[NDArray[np.float32] | None]:
        """A piece of work for each tile."""
        yield from [None] * len(pixels)
        yield np.repeat(pixels.mean((1, 2, 3)), TILE_TOKENS)[:, None] * np.ones(HIDDEN_SIZE, np.float32)


class FakeRunner:
    """See ``runner.Runner``. The predicted token is 30 above the other logits, which vary a little with the context.

    ``seconds`` is how long a step takes, per token computed. ``closed`` tells tests that the engine let go of it.
    """

    exact = True

    def __init__(
        self, predict: Predict, vocabulary: int, pool: PoolSize, seconds: float = 0.0, chunk: int | None = None
    ) -> None:
        self.pool = pool
        self.encoder: Encoder | None = None
        self.vocabulary = vocabulary
        self.closed = False
        self._predict = predict
        self._seconds = seconds
        self._cache = np.full(pool.blocks * BLOCK_SIZE, -1, np.int64)
        self._prefixes = np.zeros(pool.blocks * BLOCK_SIZE, np.int64)
        self._chunk = chunk
        self._chunk_prefixes = np.zeros(pool.chunk_blocks * BLOCK_SIZE, np.int64)

    def step(self, spans: Sequence[Span]) -> list[NDArray[np.float32]]:
        """Write each span's tokens to the cache and predict from what the cache then holds."""
        time.sleep(self._seconds * sum(len(span.tokens) for span in spans))
        return [self._compute(span) for span in spans]

    def close(self) -> None:
        """Nothing to free."""
        self.closed = True

    def _compute(self, span: Span) -> NDArray[np.float32]:
        end = span.start + len(span.tokens)
        slots = [span.blocks[place // BLOCK_SIZE] * BLOCK_SIZE + place % BLOCK_SIZE for place in range(end)]
        self._cache[slots[span.start :]] = span.tokens
        history = self._cache[slots].tolist()
        prefixes = list(accumulate(history, lambda prefix, token: hash((prefix, token)), initial=0))[1:]
        if self._prefixes[slots[: span.start]].tolist() != prefixes[: span.start]:
            raise AssertionError("the cache holds keys and values of another prefix")
        self._prefixes[slots[span.start :]] = prefixes[span.start :]
        if self._chunk is not None:
            self._see_chunk(span, prefixes, self._chunk)
        if span.want == "hidden":
            return np.cos(np.outer(np.add(history[span.start :], 1), np.arange(HIDDEN_SIZE)), dtype=np.float32)
        first = {"all": span.start, "last": end - 1, "none": end}[span.want]
        rows = np.empty((end - first, self.vocabulary), np.float32)
        for place in range(first, end):
            rows[place - first] = self._logits(history[: place + 1])
        return rows

    def _see_chunk(self, span: Span, prefixes: list[int], chunk: int) -> None:
        """What layers with chunked attention do: write the span's tokens, read those of its chunk before them."""
        first = span.start // chunk * chunk
        slots = [
            span.chunk_blocks[place // BLOCK_SIZE] * BLOCK_SIZE + place % BLOCK_SIZE
            for place in range(first, len(prefixes))
        ]
        before = span.start - first
        if self._chunk_prefixes[slots[:before]].tolist() != prefixes[first : span.start]:
            raise AssertionError("the chunk's cache holds keys and values of another prefix")
        self._chunk_prefixes[slots[before:]] = prefixes[span.start :]

    def _logits(self, history: list[int]) -> NDArray[np.float32]:
        seed = sum(history[-8:]) + len(history)
        logits = np.sin(np.arange(self.vocabulary, dtype=np.float32) * (seed % 97 + 1))
        logits[self._predict(history)] += 30
        return logits


def byte_tokenizer(*more: str) -> Tokenizer:
    """One token a byte, ids 0 to 255, and the special tokens <|start|> 256 and <|end|> 257, which ends answers.

    ``more`` are special tokens after those.
    """
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    other = [byte for byte in range(256) if byte not in printable]
    names = {byte: chr(byte) for byte in printable} | {byte: chr(256 + place) for place, byte in enumerate(other)}
    return Tokenizer.from_gguf(
        {
            "tokenizer.ggml.model": "gpt2",
            "tokenizer.ggml.pre": "gpt-2",
            "tokenizer.ggml.tokens": [*(names[byte] for byte in range(256)), "<|start|>", "<|end|>", *more],
            "tokenizer.ggml.token_type": [1] * 256 + [3] * (2 + len(more)),
            "tokenizer.ggml.merges": [],
            "tokenizer.ggml.eos_token_id": 257,
        }
    )


_TURN = re.compile(r"<\|start\|>(?:user|tool)\n")


def replying(answer: Callable[[str], str], tokenizer: Tokenizer) -> Predict:
    """Predict so that the last message of the user or a tool is answered with ``answer`` of it, then <|end|>."""
    start, end = tokenizer.specials["<|start|>"], tokenizer.specials["<|end|>"]
    [newline] = tokenizer.encode("\n")

    def predict(tokens: Sequence[int]) -> int:
        said = list(tokens[max((place for place, token in enumerate(tokens) if token == start), default=-1) + 1 :])
        # Counted in tokens: decoded, half a character would count as the three bytes of U+FFFD.
        place = len(said) - said.index(newline) - 1 if newline in said else 0
        asked = _TURN.split(tokenizer.decode(list(tokens)))[-1].split("<|end|>")[0]
        reply = tokenizer.encode(answer(asked))
        return reply[place] if place < len(reply) else end

    return predict


def fake_model(
    answer: Callable[[str], str] = lambda asked: f"You said: {asked}",
    *,
    name: str = "fake",
    context_length: int = 1024,
    concurrency: int = 16,
    queue: int = 256,
    blocks: int | None = None,
    seconds: float = 0.0,
    chunk: int | None = None,
    sees: bool = False,
) -> LocalModel:
    """A LocalModel whose answers are ``answer`` to the last message of the user or a tool; all but the network is real.

    ``chunk``: as if it had layers with attention in chunks of so many positions, too. ``sees``: it takes pictures, of
    which ``answer`` is told only that they are there.
    """
    tokenizer = byte_tokenizer(*(MARKS if sees else ()))
    blocks = blocks_for(context_length) * concurrency if blocks is None else blocks
    pool = PoolSize(blocks, 0 if chunk is None else blocks)
    runner = FakeRunner(replying(answer, tokenizer), tokenizer.vocabulary, pool, seconds, chunk)
    runner.encoder = FakeEncoder() if sees else None
    engine = Engine(
        runner,
        context_length=context_length,
        end_ids=tokenizer.eos_ids,
        concurrency=concurrency,
        queue=queue,
        drafter=PromptLookup(),
        chunk=chunk,
    )
    facts = Facts(
        name=name,
        architecture="fake",
        parameters=0,
        layers=0,
        hidden_size=HIDDEN_SIZE,
        heads=0,
        kv_heads=0,
        head_size=0,
        vocabulary=tokenizer.vocabulary,
        context_length=context_length,
        quantization={},
        dtype="none",
        file="",
    )
    vision = _vision(tokenizer) if sees else None
    return LocalModel(engine, facts, tokenizer, ChatFormat(tokenizer, CHAT_TEMPLATE, vision=vision), vision=vision)


def _vision(tokenizer: Tokenizer) -> VisionConfig:
    """Tiles of Llama 4's size, of which each takes TILE_TOKENS."""
    return VisionConfig(
        hidden_size=HIDDEN_SIZE,
        intermediate_size=HIDDEN_SIZE,
        layers=1,
        heads=1,
        tile_size=336,
        patch_size=112,
        adapter_size=HIDDEN_SIZE,
        shuffle=1,
        rope_theta=10_000.0,
        patch_token=tokenizer.specials[PATCH],
    )
