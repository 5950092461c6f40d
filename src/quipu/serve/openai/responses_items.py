"""What a response is made of: messages and calls, each with the events that tell how it comes to be."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from typing import Any

from quipu.types import ToolCallDelta

Fields = tuple[str, Mapping[str, Any]]
"""The type of an event, without ``response.``, and the fields it has of its own."""


class MessageItem:
    """A text: one item with one part."""

    def __init__(self) -> None:
        self._id = f"msg_{uuid.uuid4().hex}"
        self._texts: list[str] = []

    def opening(self) -> Iterator[Fields]:
        """Before the first text."""
        yield "output_item.added", {"item": self.object("in_progress") | {"content": []}}
        yield "content_part.added", self._place() | {"part": self._part()}

    def more(self, text: str) -> Iterator[Fields]:
        """A piece of the text."""
        self._texts.append(text)
        yield "output_text.delta", self._place() | {"delta": text, "logprobs": []}

    def closing(self, status: str) -> Iterator[Fields]:
        """The text, its part and the item once more, complete."""
        yield "output_text.done", self._place() | {"text": "".join(self._texts), "logprobs": []}
        yield "content_part.done", self._place() | {"part": self._part()}
        yield "output_item.done", {"item": self.object(status)}

    def object(self, status: str) -> dict[str, Any]:
        """The item as it is now."""
        return {"id": self._id, "type": "message", "role": "assistant", "status": status, "content": [self._part()]}

    def _place(self) -> dict[str, Any]:
        return {"item_id": self._id, "content_index": 0}

    def _part(self) -> dict[str, Any]:
        return {"type": "output_text", "text": "".join(self._texts), "annotations": [], "logprobs": []}


class CallItem:
    """A call, from its first piece on."""

    def __init__(self, first: ToolCallDelta) -> None:
        self._id = f"fc_{uuid.uuid4().hex}"
        self._call_id, self._name = first.id, first.name
        self._arguments = ""

    def opening(self) -> Iterator[Fields]:
        """Before the arguments."""
        yield "output_item.added", {"item": self.object("in_progress")}

    def more(self, arguments: str) -> Iterator[Fields]:
        """A piece of the arguments."""
        self._arguments += arguments
        yield "function_call_arguments.delta", {"item_id": self._id, "delta": arguments}

    def closing(self, status: str) -> Iterator[Fields]:
        """The arguments and the item once more, complete."""
        done = {"item_id": self._id, "name": self._name, "arguments": self._arguments}
        yield "function_call_arguments.done", done
        yield "output_item.done", {"item": self.object(status)}

    def object(self, status: str) -> dict[str, Any]:
        """The item as it is now."""
        return {
            "id": self._id,
            "type": "function_call",
            "call_id": self._call_id,
            "name": self._name,
            "arguments": self._arguments,
            "status": status,
        }
