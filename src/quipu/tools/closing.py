"""Calls that a model writes at the end of an answer though it was told of no tools, for who shows them to people."""

from __future__ import annotations

import json
from typing import Any

from quipu.tools.reader import CallReader, read
from quipu.types import ToolCall, ToolCallDelta

FENCE = "```"
TAG = "<|python_tag|>"
"""What Llama 3 writes before a call. As a token it is in no text; a remote model may spell it out."""


class ClosingCalls:
    """Holds back, from the beginning of a line on, what may be calls, and nothing but calls, up to an answer's end.

    What text follows is no call but an example of one, as is what stands in a block of code: it is text. Never raises.
    """

    def __init__(self) -> None:
        self._text = ""
        """What is held back."""
        self._at_line = True
        self._fenced = False
        self._reader: CallReader | None = None
        self._fed = 0
        self._found = False

    def push(self, text: str) -> str:
        """Take more text; returns what is certain to be no call."""
        self._text += text
        said = ""
        while self._text and not self._may_be_calls():
            line, end, self._text = self._text.partition("\n")
            said += line + end
            self._at_line = bool(end)
        return said

    def finish(self) -> tuple[str, tuple[ToolCall, ...]]:
        """The answer is over: the rest of its text, and the calls that end it."""
        said = ""
        while self._reader is not None:
            if not self._is_text(self._reader.finish()) and self._found:
                calls = read(_untagged(self._text))[1]
                self._text = ""
                return said, calls
            said += self._let_go() + self.push("")
        said += self._text
        self._text = ""
        return said, ()

    def _may_be_calls(self) -> bool:
        """Whether to wait for more: what is held is a call so far, or a line of which too little came to tell."""
        if self._reader is None and self._at_line:
            begun = self._text.lstrip(" \t")
            if any(sign.startswith(begun) and begun != sign for sign in (FENCE, TAG)):
                return True
            if begun.startswith(FENCE):
                self._fenced = not self._fenced
            elif not self._fenced and begun.startswith(("[", "{", TAG)):
                self._reader, self._found = CallReader(), False
                self._fed = len(self._text) - len(_untagged(self._text))
        if self._reader is None:
            return False
        pieces = self._reader.push(self._text[self._fed :])
        self._fed = len(self._text)
        if self._is_text(pieces):
            self._reader = None
        return self._reader is not None

    def _is_text(self, pieces: list[str | ToolCallDelta]) -> bool:
        self._found = self._found or any(isinstance(piece, ToolCallDelta) for piece in pieces)
        return any(isinstance(piece, str) and piece.strip() for piece in pieces)

    def _let_go(self) -> str:
        """The first line that was held: what begins there was no call."""
        line, end, self._text = self._text.partition("\n")
        self._reader, self._at_line = None, bool(end)
        return line + end


def _untagged(text: str) -> str:
    begun = text.lstrip(" \t")
    return begun.removeprefix(TAG) if begun.startswith(TAG) else text


def shown(call: ToolCall) -> str:
    """``call`` for people: ``get_weather(city: Paris, days: 3)``."""
    return f"{call.name}({', '.join(f'{name}: {_plain(value)}' for name, value in call.arguments.items())})"


def _plain(value: Any) -> str:
    """Text without quotation marks where it cannot be taken for anything else."""
    if isinstance(value, str) and value and value == value.strip() and not set(value) & set('"(),:[]{}\n'):
        try:
            json.loads(value)
        except ValueError:
            return value
    return json.dumps(value, ensure_ascii=False)
