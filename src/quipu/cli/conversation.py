"""A conversation: what was said, what the next answer is drawn with, and the file that keeps it. No terminal here."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from quipu.cli.options import checked
from quipu.errors import InvalidRequest
from quipu.picture import Image
from quipu.tools.tool import ToolUse
from quipu.tools.written import message_dict
from quipu.types import Message, Sampling, ToolCall, conversation

BY_TURNS = (
    "messages must be user and assistant by turns, with calls of tools and their results in between, after at most one "
    "system message"
)


@dataclass(frozen=True, slots=True)
class Turn:
    """A question, with the pictures shown with it, and its answer; ``stopped``: the user cut the answer short.

    ``steps`` are what was said in between: messages that call tools, each with the results. ``calls``: what the answer
    itself calls, of which no results were given.
    """

    question: str
    answer: str
    stopped: bool = False
    images: tuple[Image, ...] = ()
    steps: tuple[Message, ...] = ()
    calls: tuple[ToolCall, ...] = ()

    @property
    def messages(self) -> list[Message]:
        """All of it, as the model is given it."""
        answered = Message("assistant", self.answer, tool_calls=self.calls)
        return [_asked(self.question, self.images), *self.steps, answered]


@dataclass
class Conversation:
    """Turns under one system message. ``options`` are sampling options by name, those that differ from the model's.

    ``tools`` are definitions of what answers may call, as the OpenAI API has them, checked. ``showing`` are pictures
    for the next question. ``file`` is where it was last saved or loaded; only that file is overwritten.
    """

    system: str | None = None
    options: dict[str, Any] = field(default_factory=dict)
    turns: list[Turn] = field(default_factory=list)
    showing: tuple[Image, ...] = ()
    tools: list[Any] = field(default_factory=list)
    file: Path | None = None

    def messages(self, question: str, steps: Sequence[Message] = ()) -> list[Message]:
        """What the model is given to answer ``question``, after ``steps`` (see Turn) if there were any."""
        said = [message for turn in self.turns for message in turn.messages]
        system = [] if self.system is None else [Message("system", self.system)]
        return [*system, *said, _asked(question, self.showing), *steps]

    def undo(self) -> Turn:
        """Take back the last question and its answer. Raises InvalidRequest when there is none."""
        if not self.turns:
            raise InvalidRequest("nothing has been said yet; ask something first")
        return self.turns.pop()

    def set(self, name: str, text: str) -> None:
        """Set a sampling option from what was typed; empty text goes back to the model's own value.

        Raises InvalidRequest for a name or value that Sampling refuses.
        """
        name = name.replace("-", "_")
        options = checked({**self.options, name: _value(name, text)})
        if not text:
            del options[name]
        self.options = options

    def save(self, path: Path) -> None:
        """Write everything to ``path`` as JSON, messages as the OpenAI API has them. Raises InvalidRequest."""
        if path.exists() and path != self.file:
            raise InvalidRequest(f"{path} exists already; give a name that is free")
        system = [] if self.system is None else [{"role": "system", "content": self.system}]
        said: list[dict[str, Any]] = []
        for turn in self.turns:
            said += map(message_dict, turn.messages)
            if turn.stopped:
                said[-1]["stopped"] = True
        tools = {"tools": self.tools} if self.tools else {}
        document = {"messages": [*system, *said], "options": self.options, **tools}
        try:
            path.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n", "utf-8")
        except OSError as error:
            raise InvalidRequest(f"{path} cannot be written: {error.strerror or error}; give another name") from None
        self.file = path

    @classmethod
    def load(cls, path: Path) -> Conversation:
        """Read what ``save`` wrote, or a plain list of messages. Raises InvalidRequest naming the place at fault."""
        try:
            document = json.loads(path.read_text("utf-8"))
        except OSError as error:
            raise InvalidRequest(f"{path} cannot be read: {error.strerror or error}") from None
        except (ValueError, RecursionError) as error:
            raise InvalidRequest(f"{path} is not a saved conversation: {error}") from None
        if isinstance(document, list):
            document = {"messages": document}
        if not isinstance(document, dict) or not isinstance(document.get("messages"), list):
            raise InvalidRequest(f"{path} is not a saved conversation: it has no list of messages")
        options = document.get("options", {})
        if not isinstance(options, dict):
            raise InvalidRequest(f"{path}: options must be an object, got {options!r:.80}")
        given = document["messages"]
        said = [_message(value, f"{path}: messages[{place}]") for place, value in enumerate(given)]
        system = said.pop(0)[0].content if said and said[0][0].role == "system" else None
        tools = document.get("tools", [])
        try:
            ToolUse.of(tools)
            turns = list(_turns(said))
        except InvalidRequest as error:
            raise InvalidRequest(f"{path}: {error}") from None
        return cls(system, checked(options), turns, tools=tools, file=path)


def _turns(said: Sequence[tuple[Message, bool]]) -> Iterator[Turn]:
    """What is said after the system message. Raises InvalidRequest where it is not by turns."""
    messages = [message for message, _ in said]
    conversation(messages)  # each result is that of a call
    starts = [place for place, message in enumerate(messages) if message.role == "user"]
    if messages and starts[:1] != [0]:
        raise InvalidRequest(BY_TURNS)
    for start, end in pairwise([*starts, len(messages)]):
        asked, *steps = messages[start:end]
        if not steps or steps[-1].role != "assistant" or not _are_steps(steps[:-1]):
            raise InvalidRequest(BY_TURNS)
        last = steps.pop()
        yield Turn(asked.content, last.content, said[end - 1][1], asked.images, tuple(steps), last.tool_calls)


def _are_steps(messages: Sequence[Message]) -> bool:
    """Whether each calls tools or is a result, and the first one and no last one calls."""
    roles = [message.role for message in messages]
    calling = all(message.tool_calls for message in messages if message.role == "assistant")
    return not roles or (calling and roles[0] == "assistant" and roles[-1] == "tool" and "system" not in roles)


def _asked(question: str, images: tuple[Image, ...]) -> Message:
    return Message.showing(*images, question) if images else Message("user", question)


def _value(name: str, text: str) -> Any:
    """What ``text`` means for an option; without text the neutral value, so that a wrong name is still refused."""
    if not text:
        return {} if name == "logit_bias" else getattr(Sampling(), name, None)
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return text
    return text if name == "stop" and not isinstance(value, list) else value  # a stop string needs no quotes


def _message(value: Any, where: str) -> tuple[Message, bool]:
    """One message of a file and whether it was stopped, which is our mark and not a field of the API."""
    if not isinstance(value, Mapping):
        return Message.of(value, where), False
    message = Message.of({name: each for name, each in value.items() if name != "stopped"}, where)
    return message, value.get("stopped") is True
