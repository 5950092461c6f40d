"""How many tokens a prompt has at least, told by the length of its texts alone: tokenizing long ones takes long."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from quipu.model.tokenizer import Tokenizer
from quipu.types import Prompt

TRIMMED = 16
"""A conversation may be so many times longer than the context, if its template leaves out the rest."""


def least_tokens(prompt: Prompt, tokenizer: Tokenizer, context_length: int) -> int:
    """Tokens that ``prompt``, a text or a conversation, cannot have fewer of; more than ``context_length`` cannot fit.

    What a template may trim or drop is not held against a prompt, unless there is far too much of it.
    """
    if isinstance(prompt, str):
        return tokenizer.least_tokens(prompt)
    least = sum(tokenizer.least_tokens(_said(message)) for message in prompt)
    if least > context_length:
        return least
    return sum(tokenizer.least_tokens(_content(message)) for message in prompt) // TRIMMED


def _said(message: Any) -> str:
    """What a user says in ``message``, without the spaces that a template may trim; templates drop other texts."""
    role = message.get("role") if isinstance(message, Mapping) else getattr(message, "role", None)
    return _content(message).strip() if role == "user" else ""


def _content(message: Any) -> str:
    """The text of ``message``, a Message or a mapping; of one in parts, that of all of them."""
    content = message.get("content") if isinstance(message, Mapping) else getattr(message, "content", None)
    if isinstance(content, list | tuple):
        parts = [part.get("text") for part in content if isinstance(part, Mapping)]
        return "".join(part for part in parts if isinstance(part, str))
    return content if isinstance(content, str) else ""
