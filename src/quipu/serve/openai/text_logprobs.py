"""The ``logprobs`` object of /v1/completions: tokens as texts, and where in the text of the choice they begin."""

from __future__ import annotations

import codecs
from collections.abc import Callable, Sequence
from typing import Any

from quipu.serve.openai.answer import finite
from quipu.types import TokenLogprob


class TextLogprobs:
    """Writes the tokens of one choice, in one piece or several.

    ``unseen`` tells the ids that have no place in the text: the BOS that a text prompt gets but ``echo`` leaves out.
    """

    def __init__(self, unseen: Callable[[int], bool] | None) -> None:
        self._unseen = unseen
        self._offset = 0
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def write(self, tokens: Sequence[TokenLogprob]) -> dict[str, Any]:
        """``tokens`` as four lists. The first token of a prompt has null for what nothing predicts."""
        return {
            "tokens": [_name(token) for token in tokens],
            "token_logprobs": [None if token.logprob is None else finite(token.logprob) for token in tokens],
            "top_logprobs": [_top(token) for token in tokens],
            "text_offset": [self._place(token) for token in tokens],
        }

    def _place(self, token: TokenLogprob) -> int:
        """Characters before the one that ``token`` begins or continues."""
        place = self._offset
        if self._unseen is None or not self._unseen(token.token_id):
            self._offset += len(self._decoder.decode(token.bytes))
        return place


def _top(token: TokenLogprob) -> dict[str, float] | None:
    """The best alternatives and the token itself, best first, so that ``max`` tells whether it was the best."""
    if token.logprob is None:
        return None
    best: dict[str, float] = {}
    for other in (*token.top, token):
        if other.logprob is not None:
            best.setdefault(_name(other), finite(other.logprob))
    return best


def _name(token: TokenLogprob) -> str:
    """The token's text; for a part of a character its bytes, as the OpenAI API writes them: ``bytes:\\xe2\\x82``."""
    try:
        return token.bytes.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in token.bytes)
