"""The nouns that rooms exchange and the protocol they meet through. No torch, no I/O, no dependency."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal, Protocol, TypeAlias, cast, get_args

from quipu.errors import InvalidRequest, Unparsed, check_fields, did_you_mean
from quipu.picture import Image

Role = Literal["system", "user", "assistant", "tool"]
FinishReason = Literal["stop", "tool_calls", "length", "abort"]
"""``tool_calls``: it stopped to hear what the tools that it calls have to say."""

MAX_ANSWERS = 128
"""Most answers to one prompt."""
MAX_LOGPROBS = 100
"""Most alternatives reported for one token. The OpenAI API stops at 20; evaluation harnesses ask for more."""


@dataclass(frozen=True, slots=True)
class ToolCall:
    """One function call made by the assistant: a name and its keyword arguments (JSON values)."""

    name: str
    arguments: Mapping[str, Any]
    id: str | None = None


@dataclass(frozen=True, slots=True)
class ToolCallDelta:
    """A piece of a call as it is generated; ``index`` counts the calls of one answer.

    The first piece of a call has its ``name`` and ``id``. The ``arguments`` of its pieces, joined, are a JSON object.
    """

    index: int
    arguments: str = ""
    name: str | None = None
    id: str | None = None


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation.

    ``content`` is plain text; a list of text parts is joined without a separator. Where there are pictures, ``parts``
    has them and the texts in their order, and ``content`` the texts alone. ``stop_reason`` matters only when an
    assistant turn is replayed: ``end_of_message`` says that it stopped to wait for a tool. ``context`` is text that
    Meta's format appends to a user turn after a blank line.
    """

    role: Role
    content: str = ""
    name: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None
    stop_reason: Literal["end_of_turn", "end_of_message"] | None = None
    context: str | None = None
    parts: tuple[str | Image, ...] = ()

    @property
    def images(self) -> tuple[Image, ...]:
        """Its pictures, in order."""
        return tuple(part for part in self.parts if isinstance(part, Image))

    @classmethod
    def showing(cls, *parts: str | Image, role: Role = "user") -> Message:
        """A turn of texts and pictures."""
        return cls(role, "".join(part for part in parts if isinstance(part, str)), parts=parts)

    @classmethod
    def of(cls, value: Message | Mapping[str, Any], where: str = "messages") -> Message:
        """Build from the dict of the OpenAI API; raises InvalidRequest naming the field at fault.

        ``developer`` is OpenAI's newer name for ``system``. A part that is neither text nor a picture is refused, not
        dropped.
        """
        if isinstance(value, Message):
            return value
        if not isinstance(value, Mapping):
            raise InvalidRequest(f"{where} must be an object with role and content, got {value!r:.80}", param=where)
        nulls = {name for name in _REPLAYED_NULLS if value.get(name) is None}
        check_fields({name: each for name, each in value.items() if name not in nulls}, _MESSAGE_FIELDS, where)
        role = "system" if value.get("role") == "developer" else value.get("role")
        if role not in get_args(Role):
            raise InvalidRequest(
                f"{where}.role is {value.get('role')!r}; it must be one of {', '.join(get_args(Role))}",
                param=f"{where}.role",
            )
        for key in ("name", "tool_call_id", "context"):
            if not isinstance(value.get(key), str | None):
                raise InvalidRequest(f"{where}.{key} must be a string, got {value[key]!r:.80}", param=f"{where}.{key}")
        if value.get("stop_reason") not in (None, "end_of_turn", "end_of_message"):
            raise InvalidRequest(
                f"{where}.stop_reason must be end_of_turn or end_of_message, got {value['stop_reason']!r:.80}",
                param=f"{where}.stop_reason",
            )
        called = value.get("tool_calls") or ()
        if not isinstance(called, Sequence):
            raise InvalidRequest(f"{where}.tool_calls must be a list, got {called!r:.80}", param=f"{where}.tool_calls")
        calls = tuple(_tool_call(call, f"{where}.tool_calls[{i}]") for i, call in enumerate(called))
        content = value.get("content")
        parts = _parts(content, f"{where}.content")
        if role != "user" and any(isinstance(part, Image) for part in parts):
            raise InvalidRequest(
                f"{where}.content has a picture; only messages of the user may", param=f"{where}.content"
            )
        if content is None and not calls:
            raise InvalidRequest(
                f"{where}.content is missing; give a string or a list of text parts", param=f"{where}.content"
            )
        return cls(
            role=cast(Role, role),
            content="".join(part for part in parts if isinstance(part, str)),
            parts=tuple(parts) if any(isinstance(part, Image) for part in parts) else (),
            name=value.get("name"),
            tool_calls=calls,
            tool_call_id=value.get("tool_call_id"),
            stop_reason=value.get("stop_reason"),
            context=value.get("context"),
        )


def conversation(values: Sequence[Message | Mapping[str, Any]]) -> list[Message]:
    """``values`` as Messages. Raises InvalidRequest by field, also for a result of a call that nobody made."""
    messages = [Message.of(value, f"messages[{place}]") for place, value in enumerate(values)]
    called: set[str | None] = set()
    for place, message in enumerate(messages):
        told = message.tool_call_id
        # Calls without an id, as Ollama has them, may be answered by any.
        if message.role == "tool" and told is not None and told not in called and None not in called:
            raise InvalidRequest(
                f"messages[{place}].tool_call_id is {told!r:.80}, and no earlier message of the assistant has a call "
                "of that id in its tool_calls",
                param=f"messages[{place}].tool_call_id",
            )
        called.update(call.id for call in message.tool_calls)
    return messages


_MESSAGE_FIELDS = ("role", "content", "name", "tool_calls", "tool_call_id", "stop_reason", "context")
_REPLAYED_NULLS = ("refusal", "annotations", "audio", "function_call")
"""Fields of an answer of the OpenAI SDK, null here, that come back when a program replays it as history."""


def _parts(content: Any, where: str) -> list[str | Image]:
    if content is None or isinstance(content, str):
        return [content or ""]
    if not isinstance(content, Sequence):
        raise InvalidRequest(f"{where} must be a string or a list of parts, got {type(content).__name__}", param=where)
    return [_part(part, f"{where}[{place}]") for place, part in enumerate(content)]


def _part(part: Any, where: str) -> str | Image:
    kind = part.get("type") if isinstance(part, Mapping) else None
    if kind in ("image", "image_url"):
        return Image.of_part(part, where)
    if kind != "text" or not isinstance(part.get("text"), str):
        raise InvalidRequest(
            f'{where} is neither a text nor a picture: {{"type": "text", "text": "..."}} or '
            '{"type": "image_url", "image_url": {"url": "data:image/png;base64,..."}}',
            param=where,
        )
    check_fields(part, ("type", "text"), where)
    return str(part["text"])


def _tool_call(value: Any, where: str) -> ToolCall:
    if isinstance(value, ToolCall):
        return value
    function = value.get("function") if isinstance(value, Mapping) else None
    if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
        raise InvalidRequest(f"{where} needs function.name and function.arguments", param=where)
    check_fields(value, ("id", "type", "index", "function"), where)
    check_fields(function, ("name", "arguments"), f"{where}.function")
    arguments = function.get("arguments") or "{}"
    try:
        parsed = json.loads(arguments) if isinstance(arguments, str) else arguments
    except (ValueError, RecursionError) as error:  # not JSON, an integer of thousands of digits, nested too deep
        raise InvalidRequest(f"{where}.function.arguments is not JSON: {error}", param=where) from None
    if not isinstance(parsed, Mapping):
        raise InvalidRequest(f"{where}.function.arguments must be a JSON object", param=where)
    if not isinstance(value.get("id"), str | None):
        raise InvalidRequest(f"{where}.id must be a string, got {value['id']!r:.80}", param=where)
    return ToolCall(function["name"], parsed, value.get("id"))


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the next token is chosen and when to stop; names and meaning follow the OpenAI API and vLLM.

    ``temperature`` 0 is greedy. ``top_k`` 0 and ``top_p`` 1 and ``min_p`` 0 are off. ``max_tokens`` None means
    "until the context is full"; 0 generates nothing (useful with ``prompt_logprobs``). ``logprobs`` and
    ``prompt_logprobs``: None is off, k >= 0 reports each token and its k best alternatives, from the
    distribution of the model before temperature, penalties and truncation. Raises InvalidRequest by field name.
    """

    max_tokens: int | None = None
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    n: int = 1
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    logprobs: int | None = None
    prompt_logprobs: int | None = None
    min_tokens: int = 0
    ignore_eos: bool = False

    def __post_init__(self) -> None:
        stop = (self.stop,) if isinstance(self.stop, str) else self.stop
        if not isinstance(stop, Sequence) or not all(isinstance(text, str) and text for text in stop):
            raise InvalidRequest(
                f"stop must be a non-empty string or a list of them, got {self.stop!r:.80}", param="stop"
            )
        object.__setattr__(self, "stop", tuple(stop))
        _integer("max_tokens", self.max_tokens, 0, None, optional=True)
        _number("temperature", self.temperature, 0, 100)
        _number("top_p", self.top_p, 0, 1, above_low=True)
        _integer("top_k", self.top_k, 0, None)
        _number("min_p", self.min_p, 0, 1)
        _integer("seed", self.seed, -(2**63), 2**64 - 1, optional=True)
        _integer("n", self.n, 1, MAX_ANSWERS)
        _number("presence_penalty", self.presence_penalty, -2, 2)
        _number("frequency_penalty", self.frequency_penalty, -2, 2)
        _number("repetition_penalty", self.repetition_penalty, 0, 100, above_low=True)
        _integer("logprobs", self.logprobs, 0, MAX_LOGPROBS, optional=True)
        _integer("prompt_logprobs", self.prompt_logprobs, 0, MAX_LOGPROBS, optional=True)
        _integer("min_tokens", self.min_tokens, 0, None)
        if not isinstance(self.ignore_eos, bool):
            raise InvalidRequest(f"ignore_eos must be true or false, got {self.ignore_eos!r}", param="ignore_eos")
        if self.max_tokens is not None and self.min_tokens > self.max_tokens:
            raise InvalidRequest(
                f"min_tokens {self.min_tokens} is more than max_tokens {self.max_tokens}", param="min_tokens"
            )
        if not isinstance(self.logit_bias, Mapping):
            raise InvalidRequest(
                f"logit_bias must map token ids to numbers, got {self.logit_bias!r:.80}", param="logit_bias"
            )
        for token, bias in self.logit_bias.items():
            _integer("logit_bias", token, 0, None)
            _number("logit_bias", bias, -100, 100)

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> Sampling:
        """Build from keyword arguments; an unknown name is an InvalidRequest that says which is nearest."""
        known = [f.name for f in fields(cls)]
        for name in options:
            if name not in known:
                hint = did_you_mean(name, known, f"known: {', '.join(known)}")
                raise InvalidRequest(f"unknown sampling option {name!r}; {hint}", param=name)
        return cls(**options)


def _integer(name: str, value: Any, low: int, high: int | None, *, optional: bool = False) -> None:
    if value is None and optional:
        return
    if isinstance(value, bool) or not isinstance(value, int):
        raise InvalidRequest(f"{name} must be an integer, got {value!r:.80}", param=name)
    if value < low or (high is not None and value > high):
        bounds = f"at least {low}" if high is None else f"between {low} and {high}"
        raise InvalidRequest(f"{name} must be {bounds}, got {value}", param=name)


def _number(name: str, value: Any, low: float, high: float, *, above_low: bool = False) -> None:
    # math.isnan would raise for an integer too large for a float.
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value:
        raise InvalidRequest(f"{name} must be a number, got {value!r:.80}", param=name)
    if value < low or value > high or (above_low and value == low):
        bounds = f"above {low} and at most {high}" if above_low else f"between {low} and {high}"
        raise InvalidRequest(f"{name} must be {bounds}, got {value}", param=name)


ConstraintKind = Literal["json_schema", "json_object", "regex", "choice", "grammar"]
COMPACT_JSON: Mapping[str, Any] = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
"""How constrained JSON is spaced: as Python writes it on one line, so that no answer is endless white space and what a
schema forces needs no thought. A grammar that inlines ``%json {...}`` has it as the schema's ``x-guidance``."""


@dataclass(frozen=True, slots=True)
class Constraint:
    """What an answer must look like, whole: it does, or the request is refused before it runs.

    ``kind`` says what ``value`` is:

    * ``json_schema``: a JSON Schema. The answer is a JSON text that validates against it.
    * ``json_object``: nothing. The answer is any JSON object.
    * ``regex``: a pattern that the whole answer matches; no look-around, no back-references.
    * ``choice``: the texts of which the answer is one.
    * ``grammar``: a grammar in llguidance's dialect of Lark, from its rule ``start`` on. It may inline JSON Schemas
      (``%json {...}``), name special tokens (``<|python_tag|>``) and mix free text with either.

    Only the type of ``value`` is checked here (InvalidRequest); the model compiles it, and refuses what cannot be kept.
    """

    kind: ConstraintKind
    value: Mapping[str, Any] | bool | str | tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if self.kind not in get_args(ConstraintKind):
            raise InvalidRequest(
                f"a constraint is one of {', '.join(get_args(ConstraintKind))}, not {self.kind!r:.80}",
                param="constraint",
            )
        if self.kind == "choice" and isinstance(self.value, Sequence) and not isinstance(self.value, str):
            object.__setattr__(self, "value", tuple(self.value))
        if not _CONSTRAINT_VALUES[self.kind][0](self.value):
            needed = _CONSTRAINT_VALUES[self.kind][1]
            raise InvalidRequest(f"{self.kind} must be {needed}, got {self.value!r:.80}", param=self.kind)


_CONSTRAINT_VALUES: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "json_schema": (lambda value: isinstance(value, Mapping | bool), "a JSON Schema: an object, true or false"),
    "json_object": (lambda value: value is None, "without a value"),
    "regex": (lambda value: isinstance(value, str) and bool(value), "a pattern that is not empty"),
    "choice": (
        lambda value: (
            isinstance(value, tuple) and bool(value) and all(isinstance(text, str) and text for text in value)
        ),
        "a list of one or more texts, none empty",
    ),
    "grammar": (lambda value: isinstance(value, str) and bool(value), "a Lark grammar that is not empty"),
}


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """One token with its natural-log probability. ``bytes`` may be part of a character; ``text`` then shows U+FFFD.

    ``top`` holds the most likely tokens at this place, best first, as TokenLogprob without ``top``. ``logprob``
    is None only for the first token of a prompt, which nothing predicts.
    """

    token_id: int
    text: str
    bytes: bytes
    logprob: float | None
    top: tuple[TokenLogprob, ...] = ()


@dataclass(frozen=True, slots=True)
class Usage:
    """Token counts of one request. ``cached_tokens`` of the prompt were found in the prefix cache, not computed.

    ``image_tokens`` of it stand for parts of pictures; ``encoded_images`` of those had to be encoded: others were
    known.
    """

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    image_tokens: int = 0
    encoded_images: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(*(getattr(self, each.name) + getattr(other, each.name) for each in fields(Usage)))


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of one answer, as it is generated. ``str(chunk)`` is its text.

    ``index`` tells the answers of ``n`` > 1 apart. ``finish_reason`` is set on the last chunk of an answer and
    ``usage`` on the last chunk of the request. ``prompt_logprobs`` comes once, before the first text.
    ``incomplete``, on the last chunk of an answer that is constrained to JSON and was ended by its limit of tokens:
    the paths of the fields (as in ``items[2].name``) whose values the model did not write to their end. They are cut,
    filled with the shortest value that the schema takes, or, if they may be, absent. The text is valid all the same.
    ``tool_calls`` are pieces of the calls that an answer with tools makes; they are no part of ``text``.
    """

    text: str = ""
    index: int = 0
    token_ids: tuple[int, ...] = ()
    logprobs: tuple[TokenLogprob, ...] = ()
    prompt_logprobs: tuple[TokenLogprob, ...] | None = None
    finish_reason: FinishReason | None = None
    usage: Usage | None = None
    incomplete: tuple[str, ...] = ()
    tool_calls: tuple[ToolCallDelta, ...] = ()

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True)
class Choice:
    """One finished answer; for ``incomplete`` see Chunk."""

    text: str
    finish_reason: FinishReason
    token_ids: tuple[int, ...]
    logprobs: tuple[TokenLogprob, ...] = ()
    incomplete: tuple[str, ...] = ()
    tool_calls: tuple[ToolCall, ...] = ()


class Completion(str):
    """The answer of a request: a string (the first choice's text) that carries the rest of what is known."""

    choices: tuple[Choice, ...]
    usage: Usage
    prompt_logprobs: tuple[TokenLogprob, ...] | None

    __slots__ = ("choices", "prompt_logprobs", "usage")

    @classmethod
    def of(cls, chunks: Iterator[Chunk]) -> Completion:
        """Drain ``chunks`` and join them by choice. Raises Unparsed for a call whose arguments are no JSON object."""
        texts: dict[int, list[str]] = {}
        tokens: dict[int, list[int]] = {}
        logprobs: dict[int, list[TokenLogprob]] = {}
        reasons: dict[int, FinishReason] = {}
        incomplete: dict[int, tuple[str, ...]] = {}
        deltas: dict[int, list[ToolCallDelta]] = {}
        usage, prompt_logprobs = Usage(), None
        for chunk in chunks:
            texts.setdefault(chunk.index, []).append(chunk.text)
            tokens.setdefault(chunk.index, []).extend(chunk.token_ids)
            logprobs.setdefault(chunk.index, []).extend(chunk.logprobs)
            deltas.setdefault(chunk.index, []).extend(chunk.tool_calls)
            if chunk.prompt_logprobs is not None:
                prompt_logprobs = chunk.prompt_logprobs
            if chunk.finish_reason is not None:
                reasons[chunk.index] = chunk.finish_reason
                incomplete[chunk.index] = chunk.incomplete
            if chunk.usage is not None:
                usage = chunk.usage
        choices = tuple(
            Choice(
                "".join(texts[i]),
                reasons.get(i, "abort"),
                tuple(tokens[i]),
                tuple(logprobs[i]),
                incomplete.get(i, ()),
                joined_calls(deltas[i]),
            )
            for i in sorted(texts)
        )
        self = cls(choices[0].text if choices else "")
        self.choices, self.usage, self.prompt_logprobs = choices, usage, prompt_logprobs
        return self

    @property
    def text(self) -> str:
        """The first choice's text, as a plain string."""
        return str.__str__(self)

    @property
    def finish_reason(self) -> FinishReason:
        """Why the first choice ended."""
        return self.choices[0].finish_reason

    @property
    def tool_calls(self) -> tuple[ToolCall, ...]:
        """The calls that the first choice makes."""
        return self.choices[0].tool_calls


def json_object(text: str) -> dict[str, Any] | None:
    """The object that ``text`` is in JSON; None if it is none. A number beyond all floats becomes the largest one."""
    try:
        value = json.loads(text, parse_float=finite, parse_constant=no_constant)
    except (ValueError, RecursionError):  # not JSON, an integer of thousands of digits, nested too deep
        return None
    return value if isinstance(value, dict) else None


def finite(number: str | float) -> float:
    """As a float that JSON can say again."""
    return max(-sys.float_info.max, min(float(number), sys.float_info.max))


def no_constant(name: str) -> Any:
    """What a parser is given for NaN and infinities, which Python reads and JSON does not have. Raises ValueError."""
    raise ValueError(f"{name} is no number of JSON")


def joined_calls(deltas: Iterable[ToolCallDelta]) -> tuple[ToolCall, ...]:
    """The calls that ``deltas`` are the pieces of. Raises Unparsed if the arguments of one are no JSON object."""
    pieces: dict[int, list[ToolCallDelta]] = {}
    for delta in deltas:
        pieces.setdefault(delta.index, []).append(delta)
    calls = []
    for parts in pieces.values():
        text = "".join(part.arguments for part in parts)
        name, arguments = parts[0].name, json_object(text or "{}")
        if name is None or arguments is None:
            raise Unparsed("the model called a tool with arguments that are no JSON object", text=text)
        calls.append(ToolCall(name, arguments, parts[0].id))
    return tuple(calls)


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of a loaded model from its own files, never from its name."""

    name: str
    architecture: str
    parameters: int
    layers: int
    hidden_size: int
    heads: int
    kv_heads: int
    head_size: int
    vocabulary: int
    context_length: int
    quantization: Mapping[str, int]
    dtype: str
    file: str
    license: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


Prompt: TypeAlias = str | Sequence[int] | Sequence[Message | Mapping[str, Any]]
"""Text to continue, token ids to continue, or a conversation to answer."""


def is_conversation(prompt: Prompt) -> bool:
    """Whether ``prompt`` is a conversation to answer, not text or token ids to continue."""
    return not isinstance(prompt, str) and not {int}.issuperset(map(type, prompt))


class About(Protocol):
    """What is known of any model, wherever it runs."""

    @property
    def name(self) -> str:
        """What it is called."""
        ...

    def as_dict(self) -> dict[str, Any]:
        """All that is known, for JSON."""
        ...


class Chunks(Protocol):
    """An answer as it comes. Closing it ends the work for it."""

    def __iter__(self) -> Iterator[Chunk]: ...

    def __next__(self) -> Chunk: ...

    def close(self) -> None:
        """End it; idempotent."""
        ...


class Generator(Protocol):
    """All that capabilities and evidence know of a model: a local engine, a remote endpoint, a fake, an oracle."""

    @property
    def facts(self) -> About:
        """What is known of the model, from its own files or from its endpoint."""
        ...

    @property
    def context_length(self) -> int:
        """Most tokens of prompt and answer together."""
        ...

    def count(self, messages: Prompt) -> int:
        """Tokens of the prompt after chat formatting."""
        ...

    def stream(
        self,
        prompt: Prompt,
        sampling: Sampling | None = None,
        *,
        constraint: Constraint | None = None,
        tools: Sequence[Any] | None = None,
        tool_choice: Any = None,
        parallel_tool_calls: bool | None = None,
        **options: Any,
    ) -> Chunks:
        """Answer or continue ``prompt``; ``options`` are the fields of Sampling by name.

        ``tools`` are what an answer to a conversation may call; see ``tools.tool.ToolUse.of``.

        With a ``constraint`` the whole answer is what it says, also where ``max_tokens`` ends it; what cannot be kept
        (a keyword of JSON Schema that is not supported, too few tokens for any such answer) is an InvalidRequest.
        """
        ...
