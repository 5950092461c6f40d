"""A whole model that sees, small enough for tests: the golden Llama 4 with a tokenizer of bytes and Meta's marks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from quipu.engine.load import load
from quipu.engine.local import LocalModel
from quipu.model.chat_format import ChatFormat
from quipu.model.tokenizer import Tokenizer

GOLDEN = Path(__file__).parent / "golden" / "llama4-tiny-step1"
MARKS = {
    500: "<|image_start|>", 501: "<|image_end|>", 502: "<|tile_x_separator|>", 503: "<|tile_y_separator|>",
    504: "<|image|>", 505: "<|patch|>", 506: "<|begin_of_text|>", 507: "<|header_start|>", 508: "<|header_end|>",
    509: "<|eot|>", 510: "<|eom|>", 511: "<|python_start|>",
}  # fmt: skip
"""By the ids that the golden model's configuration gives those of pictures."""


def seeing_tokenizer() -> Tokenizer:
    """Of what ``tokenizer_metadata`` says."""
    return Tokenizer.from_gguf(tokenizer_metadata())


def tokenizer_metadata() -> dict[str, Any]:
    """As a GGUF says it: 256 bytes, fillers that stand for nothing, and Meta's marks."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    other = [byte for byte in range(256) if byte not in printable]
    names = {byte: chr(byte) for byte in printable} | {byte: chr(256 + place) for place, byte in enumerate(other)}
    tokens = [*(names[byte] for byte in range(256)), *(f"<|filler_{place}|>" for place in range(256, 500))]
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "gpt-2",
        "tokenizer.ggml.tokens": [*tokens, *(MARKS[token] for token in range(500, 512))],
        "tokenizer.ggml.token_type": np.repeat(np.array([1, 3], np.int32), 256),
        "tokenizer.ggml.merges": [],
        "tokenizer.ggml.bos_token_id": 506,
        "tokenizer.ggml.eos_token_id": 509,
    }


def seeing_model(**options: Any) -> LocalModel:
    """The golden model of the first interleaving with words; ``options`` are of quipu.load."""
    loaded = load(GOLDEN, **{"context": 1024, "concurrency": 4, "threads": 1, "name": "seeing", **options})
    tokenizer = seeing_tokenizer()
    chat_format = ChatFormat(tokenizer, family="llama4", vision=loaded.vision)
    loaded._tokenizer, loaded._chat_format = tokenizer, chat_format
    return loaded
