"""A tokenizer as llguidance sees it: the bytes of every token, which of them are special, and how text is cut."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING

from llguidance import LLTokenizer, TokenizerWrapper

if TYPE_CHECKING:
    from quipu.model.tokenizer import Tokenizer


class _Tokens:
    """What llguidance's TokenizerWrapper asks for. Special tokens are never matched as text."""

    bos_token_id = None

    def __init__(
        self, pieces: Sequence[bytes], special: Sequence[int], end: int, encode: Callable[[str], list[int]]
    ) -> None:
        self.tokens, self.special_token_ids, self.eos_token_id = pieces, special, end
        self._encode = encode

    def __call__(self, text: str) -> list[int]:
        if not isinstance(text, str):
            raise TypeError("text only")  # how the wrapper finds out that bytes are not taken
        return self._encode(text)


def grammar_tokens(tokenizer: Tokenizer, end_ids: Collection[int]) -> LLTokenizer:
    """``tokenizer`` for llguidance; ``end_ids`` end an answer. Takes about half a second for 200,000 tokens."""
    ends = sorted(end for end in end_ids if end < tokenizer.vocabulary) or [tokenizer.vocabulary - 1]
    pieces = [tokenizer.token_bytes(token) for token in range(tokenizer.vocabulary)]
    special = sorted({*tokenizer.specials.values(), *ends})
    # Behind another token, so that SentencePiece puts no space before it.
    encode = lambda text: tokenizer.encode_parts([ends[0], text])[1:]  # noqa: E731
    return LLTokenizer(TokenizerWrapper(_Tokens(pieces, special, ends[0], encode)), eos_token=ends)


def bytes_only() -> LLTokenizer:
    """One token a byte, and an end."""
    pieces = [bytes([byte]) for byte in range(256)] + [b"<|end|>"]
    return LLTokenizer(TokenizerWrapper(_Tokens(pieces, [256], 256, lambda text: list(text.encode()))), eos_token=256)
