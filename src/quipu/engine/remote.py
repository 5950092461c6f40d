"""A model behind an OpenAI-compatible API, as a types.Generator: Ollama, vLLM, llama.cpp, a cloud, or another quipu."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, cast
from urllib.parse import urlsplit

import openai

from quipu.errors import (
    ContextLengthExceeded,
    InvalidRequest,
    ModelNotFound,
    Offline,
    Overloaded,
    QuipuError,
    RemoteFailed,
    WrongKey,
)
from quipu.tools.tool import ToolUse
from quipu.tools.written import message_dict
from quipu.types import (
    Chunk,
    Constraint,
    FinishReason,
    Message,
    Prompt,
    Sampling,
    ToolCallDelta,
    Usage,
    is_conversation,
)

OPENAI_FIELDS = (
    "max_tokens", "temperature", "top_p", "seed", "stop", "n", "presence_penalty", "frequency_penalty", "logit_bias",
)  # fmt: skip
MORE_FIELDS = ("top_k", "min_p", "repetition_penalty", "min_tokens", "ignore_eos")
"""Fields of Sampling that vLLM and quipu know by the same names, and OpenAI does not. Sent when given."""
CONTEXT_FIELDS = ("max_model_len", "context_length", "context_window", "max_context_length")
"""How vLLM and quipu, OpenRouter, Groq and LM Studio call it in their lists of models."""
SECONDS = 600.0
FINISHED: Mapping[str, FinishReason] = {"stop": "stop", "length": "length", "tool_calls": "tool_calls"}


@dataclass(frozen=True, slots=True)
class RemoteFacts:
    """What is known of a model that runs elsewhere: its name and where."""

    name: str
    base_url: str

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


class RemoteModel:
    """A model served at ``base_url``, which ends in /v1 as OpenAI's clients have it. Safe from several threads at once.

    ``model`` None takes the only one that is served. ``context_length`` None asks the endpoint; not all tell. Raises
    Offline when nothing answers, WrongKey, ModelNotFound with the names that there are, and InvalidRequest for an
    address that is none.
    """

    def __init__(
        self,
        base_url: str,
        model: str | None = None,
        *,
        key: str | None = None,
        context_length: int | None = None,
        seconds: float = SECONDS,
    ) -> None:
        if urlsplit(base_url).scheme not in ("http", "https") or not urlsplit(base_url).hostname:
            raise InvalidRequest(
                f"{base_url[:200]!r} is not an address; it looks like http://127.0.0.1:8000/v1", param="base_url"
            )
        self._client = openai.OpenAI(base_url=base_url, api_key=key or "none", timeout=seconds, max_retries=2)
        entry = self._entry(model)
        self.facts = RemoteFacts(entry["id"], _public(base_url))
        self._context_length = context_length or _context(entry)
        self._counts = True

    @property
    def context_length(self) -> int:
        """Most tokens of prompt and answer together. Raises InvalidRequest if neither caller nor endpoint said."""
        if self._context_length is None:
            raise InvalidRequest(
                f"{self.facts.base_url} does not tell the context length of {self.facts.name}; give it with --context",
                param="context",
            )
        return self._context_length

    def count(self, messages: Prompt) -> int:
        """Tokens of the prompt, by the endpoint's /tokenize where it has one (vLLM, quipu); else an estimate.

        The estimate, one token for three bytes, is more than tokenizers of Llama models make of European languages.
        """
        if self._counts:
            body = {"model": self.facts.name, **_prompt_field(messages)}
            try:
                answer: Any = self._root.post("/tokenize", body=body, cast_to=object)
                return int(answer["count"])
            except (openai.APIStatusError, KeyError, TypeError, ValueError):
                self._counts = False
        return math.ceil(sum(len(text.encode()) for text in _texts(messages)) / 3)

    def running(self) -> int | None:
        """Requests at the endpoint's engine now, by its Prometheus metrics; None where it does not tell. quipu does."""
        try:
            metrics = self._root.get("/metrics", cast_to=str)
        except openai.APIStatusError:
            return None
        found = re.findall(r"^quipu_(?:running|waiting)_requests\{[^}]*\} (\S+)$", metrics, re.MULTILINE)
        return sum(int(float(value)) for value in found) if found else None

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
    ) -> RemoteStream:
        """Answer a conversation, or continue text or token ids, chunk by chunk as they arrive.

        A ``constraint`` is asked for in OpenAI's words where those have it, else in vLLM's, which quipu knows, too.
        """
        if sampling is not None:
            options = {**_given(sampling), **options}
        Sampling.of(options)
        body: dict[str, Any] = {name: value for name, value in options.items() if name in OPENAI_FIELDS}
        extra = {name: value for name, value in options.items() if name in MORE_FIELDS}
        for name in options.keys() - body.keys() - extra.keys():
            raise InvalidRequest(f"{name} cannot be asked of a remote model", param=name)
        body = {name: value for name, value in body.items() if value is not None}
        extra |= {} if constraint is None else _constraint_fields(constraint)
        extra |= _tool_fields(ToolUse.of(tools, tool_choice, parallel_tool_calls))
        if tools and not is_conversation(prompt):
            raise InvalidRequest("tools are for conversations, not for a text to continue", param="tools")
        body |= {"model": self.facts.name, "stream": True, "stream_options": {"include_usage": True}}
        with _translated(self.facts.base_url):
            if is_conversation(prompt):
                messages: list[Any] = [message_dict(Message.of(cast(Message, each))) for each in prompt]
                made = self._client.chat.completions.create(messages=messages, extra_body=extra, **body)
            else:
                made = self._client.completions.create(prompt=cast(Any, prompt), extra_body=extra, **body)
        return RemoteStream(made, self.facts.base_url)

    def close(self) -> None:
        """Close the connections. Idempotent."""
        self._client.close()

    def __enter__(self) -> RemoteModel:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def run(self, capability: str, /, *, sampling: Mapping[str, Any] | None = None, **given: Any) -> Any:
        """Call a capability; see LocalModel.run."""
        from quipu import capabilities

        return capabilities.run(self, capability, sampling=sampling, **given)

    @cached_property
    def _root(self) -> openai.OpenAI:
        """For what stands beside the OpenAI routes, one level above /v1."""
        base = str(self._client.base_url).rstrip("/").removesuffix("/v1")
        return self._client.with_options(base_url=base, max_retries=0)

    def _entry(self, model: str | None) -> dict[str, Any]:
        """The endpoint's own description of the model."""
        place = _public(str(self._client.base_url))
        with _translated(place):
            entries = [each.model_dump() for each in self._client.models.list()]
        names = [entry["id"] for entry in entries]
        if model is None and len(names) == 1:
            return entries[0]
        if model in names:
            return entries[names.index(model)]
        asked = "no model was named" if model is None else f"there is no model {model[:200]!r}"
        raise ModelNotFound(f"{asked} at {place}; it serves {', '.join(names[:50])}", param="model")


class RemoteStream(Iterator[Chunk]):
    """An answer as it arrives. Closing it hangs up, which ends the work at the endpoint."""

    def __init__(self, events: Any, base_url: str) -> None:
        self._events = events
        self._base_url = base_url
        self._chunks = self._read()

    def __iter__(self) -> RemoteStream:
        return self

    def __next__(self) -> Chunk:
        return cast(Chunk, next(self._chunks))

    def close(self) -> None:
        """Hang up; iterating ends. Idempotent."""
        self._events.close()
        self._chunks.close()

    def __enter__(self) -> RemoteStream:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _read(self) -> Any:
        with _translated(self._base_url, begun=True):
            for event in self._events:
                usage = None if event.usage is None else _usage(event.usage)
                if not event.choices and usage is not None:
                    yield Chunk(usage=usage)
                for choice in event.choices:
                    text = choice.delta.content if hasattr(choice, "delta") else choice.text
                    reason = choice.finish_reason and FINISHED.get(choice.finish_reason, "abort")
                    called = getattr(choice, "delta", None) and choice.delta.tool_calls
                    incomplete = tuple(getattr(choice, "incomplete", None) or ())  # quipu tells it
                    yield Chunk(
                        text or "",
                        choice.index,
                        finish_reason=reason,
                        usage=usage,
                        incomplete=incomplete,
                        tool_calls=tuple(map(_delta, called or ())),
                    )


def _given(sampling: Sampling) -> dict[str, Any]:
    """The fields that differ from the defaults: an endpoint may not know the others."""
    default = Sampling()
    names = (*OPENAI_FIELDS, *MORE_FIELDS, "logprobs", "prompt_logprobs")
    return {name: getattr(sampling, name) for name in names if getattr(sampling, name) != getattr(default, name)}


def _constraint_fields(constraint: Constraint) -> dict[str, Any]:
    """``response_format`` for JSON, which most endpoints know; for the rest vLLM's ``structured_outputs``."""
    if constraint.kind == "json_object":
        return {"response_format": {"type": "json_object"}}
    if constraint.kind == "json_schema":
        schema = {"name": "answer", "schema": constraint.value, "strict": True}
        return {"response_format": {"type": "json_schema", "json_schema": schema}}
    return {"structured_outputs": {constraint.kind: constraint.value}}


def _tool_fields(use: ToolUse | None) -> dict[str, Any]:
    if use is None:
        return {}
    named = {"type": "function", "function": {"name": use.named}}
    fields: dict[str, Any] = {"tools": [tool.as_dict() for tool in use.tools]}
    if use.required:
        fields["tool_choice"] = "required" if use.named is None else named
    usual = use.named is None
    return fields if use.parallel == usual else fields | {"parallel_tool_calls": use.parallel}


def _delta(call: Any) -> ToolCallDelta:
    return ToolCallDelta(call.index, call.function.arguments or "", call.function.name or None, call.id or None)


def _public(base_url: str) -> str:
    """The address without a name and password, or a query that may hold a key."""
    parts = urlsplit(base_url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()


def _context(entry: Mapping[str, Any]) -> int | None:
    """The context length in the description of a model; llama.cpp has the one it was trained for, in ``meta``."""
    meta = entry.get("meta") or {}
    values = [*(entry.get(name) for name in CONTEXT_FIELDS), meta.get("n_ctx"), meta.get("n_ctx_train")]
    return next((value for value in values if isinstance(value, int) and value > 0), None)


def _prompt_field(prompt: Prompt) -> dict[str, Any]:
    if isinstance(prompt, str):
        return {"prompt": prompt}
    return {"messages": [message_dict(Message.of(cast(Message, each))) for each in prompt]}


def _texts(prompt: Prompt) -> Sequence[str]:
    return [prompt] if isinstance(prompt, str) else [Message.of(cast(Message, each)).content for each in prompt]


def _usage(usage: Any) -> Usage:
    details = getattr(usage, "prompt_tokens_details", None)
    return Usage(usage.prompt_tokens, usage.completion_tokens, getattr(details, "cached_tokens", None) or 0)


@contextmanager
def _translated(base_url: str, *, begun: bool = False) -> Iterator[None]:
    """Errors of the client as errors of ours. ``begun``: the answer has."""
    try:
        yield
    except openai.APITimeoutError:
        raise RemoteFailed(f"{base_url} did not answer in time; it may be overloaded") from None
    except openai.APIConnectionError as error:
        cause = error.__cause__ or error
        if begun:
            raise RemoteFailed(f"the answer of {base_url} broke off: {cause}") from None
        raise Offline(f"{base_url} cannot be reached ({cause}); is a server running there?") from None
    except openai.APIStatusError as error:
        raise _of_status(error, base_url) from None
    except (openai.APIError, ValueError) as error:  # an error in the stream; what is no JSON
        raise RemoteFailed(f"the answer of {base_url} broke off: {error}") from None


def _of_status(error: openai.APIStatusError, base_url: str) -> QuipuError:
    said = f"{base_url} refused: {error.message}"[:1000]
    if error.code == ContextLengthExceeded.code or "context length" in error.message:
        return ContextLengthExceeded(said, param="messages")
    if error.status_code in (401, 403):
        return WrongKey(f"{said}; give its key with --key-variable NAME")
    if error.status_code in (429, 503):
        return Overloaded(said, retry_after=5)
    return InvalidRequest(said) if error.status_code < 500 else RemoteFailed(said)
