"""A conversation: the next message, and what happens when the conversation outgrows the model's context."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field

from quipu.capabilities import base
from quipu.capabilities.base import Difficulty, Event, Probe, Score, Source, required_text, result_of
from quipu.capabilities.parts.calls import Calls
from quipu.capabilities.parts.conversations import Conversation, conversations, named
from quipu.capabilities.parts.history import Policy, fit
from quipu.errors import InvalidRequest
from quipu.types import Generator, Message

MATERIAL = Path(__file__).parent / "probes" / "chat.toml"
LONGEST = 1024
"""Tokens of one message."""
BRIEFLY = "Answer with one or two words."


class Turn(base.Typed):
    """One turn of a conversation."""

    role: Literal["system", "user", "assistant"] = Field(description="Who says it")
    content: str = Field(description="What is said")


class Input(base.Input):
    """A conversation to go on with."""

    messages: list[Turn] = Field(default=[], description="The conversation so far, oldest turn first")
    message: str | None = Field(default=None, description="What you say now; it comes after the conversation")
    history: Policy = Field(
        default="error",
        description="When the conversation outgrows the context: error, drop_oldest, keep_system (drops the oldest but "
        "no system message) or summarize (a summary takes their place)",
    )


class Output(base.Output):
    """The next message, and what was dropped to make it."""

    message: str = Field(description="The answer")
    dropped_turns: int = Field(default=0, description="How many of the oldest turns the model did not see")
    dropped_tokens: int = Field(default=0, description="How many tokens those turns have")
    summary: str | None = Field(default=None, description="The summary that the model saw in their place")


class Chat(base.Answering):
    """Answers the last message of a conversation; is measured by what it remembers of the turns before."""

    title = "Chat"
    description = (
        "Talk with an assistant over many turns: ask, answer back, correct yourself, and have it remember what was "
        "said before. A conversation too long for the model's context is refused, cut or summarized, as you choose."
    )
    phrases = (
        "chat with me",
        "have a conversation",
        "talk to an assistant",
        "remember what I told you earlier",
        "a chatbot for my website",
        "answer my follow-up question",
        "dialogue over several turns",
        "mit einem Assistenten plaudern",
        "discuter avec un assistant",
        "conversar con un asistente",
        "conversare con un assistente",
        "बातचीत करना",
    )
    input = Input
    output = Output
    sampling: ClassVar[Mapping[str, Any]] = {}  # the model's own: what suits a conversation is for its makers to say
    metric = "share of questions about earlier turns answered with the right value and no other"
    binary = True
    baseline = 0.531
    baseline_name = "the value of the kind in question that the conversation names last"
    sources = (Source("conversations put together from parts written for quipu", "Apache-2.0"),)

    def messages(self, given: Input) -> list[Message]:
        """The conversation. Raises InvalidRequest when there is nothing to answer in it."""
        if given.message is not None and not given.message.strip():
            raise InvalidRequest("message is empty; say something", param="message")
        turns = [Message(turn.role, turn.content) for turn in given.messages]
        if given.message is not None:
            turns.append(Message("user", given.message))
        if not turns:
            raise InvalidRequest("there is nothing to answer; give message, or messages", param="message")
        if turns[-1].role != "user":
            raise InvalidRequest(
                f"the last of messages is the {turns[-1].role}'s; end with a user's turn, or give message",
                param="messages",
            )
        return turns

    def longest(self, given: Input) -> int:
        """The same for every conversation."""
        return LONGEST

    def parse(self, text: str, given: Input) -> Output:
        """All of the answer. Raises Unparsed for an empty one."""
        return Output(message=required_text(text, "message"))

    def render(self, output: Output, given: Input) -> str:
        """The message."""
        return output.message

    def events(self, model: Generator, given: Input, sampling: Mapping[str, Any]) -> Iterator[Event]:
        """The answer; before it, where the policy says so, the steps of a summary."""
        calls = Calls(model, {**self.sampling, **sampling})
        summaries = Calls(model, base.Answering.sampling)
        asked = sampling.get("max_tokens")
        room = asked if isinstance(asked, int) else min(LONGEST, model.context_length // 4)
        fitted = yield from fit(calls, summaries, self.messages(given), given.history, room)
        text = yield from self.ask(calls, fitted.messages, self.longest(given))
        calls.usage += summaries.usage
        output = Output(
            message=self.parse(text, given).message,
            dropped_turns=fitted.dropped_turns,
            dropped_tokens=fitted.dropped_tokens,
            summary=fitted.summary,
        )
        yield result_of(calls, output, text, fitted.notes)

    def make_probes(self) -> Iterator[Probe]:
        """Two conversations of each kind about each fact, 2 to 12 turns long."""
        with MATERIAL.open("rb") as file:
            material = tomllib.load(file)
        for conversation in conversations(material, of_each=2):
            turns = [
                {"role": role, "content": content}
                for turn in conversation.turns
                for role, content in zip(("user", "assistant"), turn, strict=True)
            ]
            yield Probe(
                given={"messages": turns, "message": f"{conversation.question} {BRIEFLY}"},
                expected={
                    "value": conversation.value,
                    "rivals": list(conversation.rivals),
                    "said": list(conversation.said),
                },
                answer=f"{conversation.value}.",
                group=conversation.fact,
                difficulty=_difficulty(conversation),
                part=conversation.kind,
            )

    def score(self, output: Output, probe: Probe) -> Score:
        """Right when the value is named, as whole words, and no other value of its kind is."""
        value = probe.expected["value"]
        if not named(value, output.message):
            return Score.right(False, f"{value} is not in it")
        others = [rival for rival in probe.expected["rivals"] if named(rival, output.message)]
        return Score.right(not others, f"it also names {', '.join(others)}" if others else "")

    def trivial(self, probe: Probe) -> str:
        """A value that the conversation names, whoever's it is and whether or not it still holds."""
        return str(probe.expected["said"][-1])


def _difficulty(conversation: Conversation) -> Difficulty:
    """By the turns to look through, and whether something was corrected."""
    turns = len(conversation.turns) + 1
    if turns > 8:
        return "hard"
    return "easy" if turns <= 4 and conversation.kind != "correction" else "medium"
