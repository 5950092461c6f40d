"""A conversation made to fit a context: what is dropped, by which policy, and what is said about it."""

from __future__ import annotations

import bisect
from collections.abc import Generator as Steps
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from quipu.capabilities.base import Progress
from quipu.capabilities.parts.calls import Calls
from quipu.errors import ContextLengthExceeded
from quipu.types import Message

Policy = Literal["error", "drop_oldest", "keep_system", "summarize"]
"""``error``: refuse. ``drop_oldest``: the oldest turns go, a system message first. ``keep_system``: system messages
stay. ``summarize``: they stay, and a summary by the model stands for what went."""

LONGEST_SUMMARY = 256
"""Tokens; an eighth of the context if that is less."""
STEP = "summarizing earlier turns"


@dataclass(frozen=True, slots=True)
class Fitted:
    """What is left of a conversation, and how many turns and tokens of it went."""

    messages: Sequence[Message]
    dropped_turns: int = 0
    dropped_tokens: int = 0
    summary: str | None = None
    notes: tuple[str, ...] = ()


def fit(
    calls: Calls, summaries: Calls, messages: Sequence[Message], policy: Policy, answer: int
) -> Steps[Progress, None, Fitted]:
    """``messages`` with room for ``answer`` tokens; the iterator's value. It yields how far a summary is.

    Turns go in exchanges, so that what is left begins with the user; the last message stays. ``summaries`` are the
    calls that the summary is made by. Raises ContextLengthExceeded under the policy ``error``, and when even the last
    message does not fit.
    """
    room = calls.room(messages)
    if room >= (1 if policy == "error" else answer):
        return Fitted(messages)
    context = calls.model.context_length
    if policy == "error":
        raise ContextLengthExceeded(
            f"the conversation has at least {context - room} tokens; the context of this model, as loaded, is "
            f"{context} tokens. Shorten it, or let history= say what may go: drop_oldest, keep_system or summarize.",
            param="messages",
        )
    longest_summary = min(LONGEST_SUMMARY, context // 8) if policy == "summarize" else 0
    kept, turns = _parted(messages, policy)
    starts = [place for place, turn in enumerate(turns) if turn.role == "user" and place > 0]
    if not starts:
        raise _nothing_to_drop(context - room, context)
    needed = answer + longest_summary
    shape = _with_summary(kept, "") if policy == "summarize" else kept
    fewest = bisect.bisect_left(starts, True, key=lambda start: calls.room([*shape, *turns[start:]]) >= needed)
    first = starts[min(fewest, len(starts) - 1)]
    left = calls.room([*kept, *turns[first:]])
    if left < needed and left <= longest_summary:
        raise _nothing_to_drop(context - left, context)
    dropped = turns[:first]
    note = f"dropped the {len(dropped)} oldest turns ({left - room} tokens) to fit the context of {context} tokens"
    if policy != "summarize":
        return Fitted([*kept, *turns[first:]], len(dropped), left - room, None, (note,))
    summary = yield from _summary(summaries, dropped, longest_summary)
    note += "; a summary of them stands in their place"
    return Fitted([*_with_summary(kept, summary), *turns[first:]], len(dropped), left - room, summary, (note,))


def _parted(messages: Sequence[Message], policy: Policy) -> tuple[list[Message], list[Message]]:
    """What stays in any case, and the turns that may go."""
    if policy == "drop_oldest":
        return [], list(messages)
    systems = [message for message in messages if message.role == "system"]
    return systems, [message for message in messages if message.role != "system"]


def _nothing_to_drop(tokens: int, context: int) -> ContextLengthExceeded:
    return ContextLengthExceeded(
        f"the last message, and what has to stay with it, has at least {tokens} tokens; the context of this model, as "
        f"loaded, is {context} tokens. Shorten the message, or load the model with a larger --context if it allows "
        "one.",
        param="messages",
    )


def _with_summary(kept: Sequence[Message], summary: str) -> list[Message]:
    """One system message, because templates know one: what was there, and the summary."""
    said = [*(message.content for message in kept), f"Summary of the conversation so far: {summary}"]
    return [Message("system", "\n\n".join(said))]


def _summary(calls: Calls, turns: Sequence[Message], longest: int) -> Steps[Progress, None, str]:
    """A summary of ``turns`` of at most ``longest`` tokens: of sections that fit, then of their summaries."""
    text = "\n".join(f"{turn.role}: {turn.content}" for turn in turns)
    while True:
        sections = _sections(calls, text, longest)
        written = [""] * len(sections)
        yield Progress(0, len(sections), STEP)
        for done, (place, summary) in enumerate(calls.answers([_request(each) for each in sections], longest), 1):
            written[place] = summary.strip()
            yield Progress(done, len(sections), STEP)
        text = "\n".join(written)
        if len(sections) == 1:
            return text


def _sections(calls: Calls, text: str, longest: int) -> list[str]:
    """``text`` in equal parts, each small enough to be summarized; parts that are not are halved."""
    room = calls.room(_request("")) - longest
    if room < 2 * longest:  # summaries would not become fewer
        context = calls.model.context_length
        raise ContextLengthExceeded(
            f"a context of {context} tokens is too small to summarize in; use history=keep_system", param="history"
        )
    waiting = [text]
    fitting: list[str] = []
    while waiting:
        part = waiting.pop()
        excess = longest - calls.room(_request(part))
        if excess <= 0 or len(part) < 2:
            fitting.append(part)
            continue
        pieces = 2 + excess // room
        size = -(-len(part) // pieces)
        waiting += [part[start : start + size] for start in range(0, len(part), size)][::-1]
    return fitting


def _request(text: str) -> list[Message]:
    return [
        Message(
            "user",
            f"{text}\n\nSummarize the conversation above in a few sentences. Keep every name, number and decision.",
        )
    ]
