"""Requests, as pydantic models: nothing is converted, nothing unknown is dropped, null means the default."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, PlainValidator, model_validator
from pydantic_core import PydanticCustomError

from quipu.errors import InvalidRequest, did_you_mean
from quipu.serve.openai.response_format import Asked, of_response_format, of_structured_outputs

# What these fields ask for does not exist here and would change the answer, so only the values that ask for nothing
# are accepted (null always is). They stay out of the models, and with that out of the API's own documentation.
NEUTRAL: Mapping[str, tuple[Any, ...]] = {
    "audio": (),
    "chat_template": (),
    "chat_template_kwargs": ({},),
    "function_call": ("none", "auto"),
    "functions": ([],),
    "modalities": (["text"],),
    "moderation": (),
    "prediction": (),
    "reasoning_effort": ("none",),
    "suffix": ("",),
    "tool_choice": ("none", "auto"),
    "tools": ([],),
    "verbosity": (),
    "web_search_options": (),
}


def fault(message: str, field: str = "") -> PydanticCustomError:
    """``message`` as it is. ``field`` is at fault inside of what is validated, if that is an object."""
    return PydanticCustomError("refused", "{message}", {"field": field, "message": message})


def _is_ids(value: Any) -> bool:
    return isinstance(value, list) and set(map(type, value)) == {int}  # not bool, which is an int to isinstance


def _prompts(value: Any, field: str = "prompt") -> list[str | list[int]]:
    """One list of prompts from the four forms of OpenAI's ``prompt`` and ``input``."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, list) and value:
        if _is_ids(value):
            return [value]
        if all(isinstance(prompt, str) for prompt in value) or all(_is_ids(prompt) for prompt in value):
            return value
    raise fault(f"{field} must be a string, a list of strings, a list of token ids or a list of such lists, none empty")


def _inputs(value: Any) -> list[str | list[int]]:
    return _prompts(value, "input")


def _stops(value: Any) -> list[str] | None:
    stops = [value] if isinstance(value, str) else value
    if stops is None:
        return None
    if not isinstance(stops, list) or not all(isinstance(stop, str) for stop in stops):
        raise fault("stop must be a string or a list of strings")
    return stops


def _biases(value: Any) -> dict[int, float] | None:
    """OpenAI writes token ids as JSON keys, which are strings."""
    if value is None:
        return None
    if not isinstance(value, dict) or not all(key.isascii() and key.isdigit() and len(key) < 20 for key in value):
        raise fault("logit_bias must be an object whose keys are token ids, as in {'50256': -100}")
    return {int(key): bias for key, bias in value.items()}


Prompts = Annotated[
    list[str | list[int]],
    PlainValidator(_prompts, json_schema_input_type=str | list[str] | list[int] | list[list[int]]),
]
Inputs = Annotated[
    list[str | list[int]],
    PlainValidator(_inputs, json_schema_input_type=str | list[str] | list[int] | list[list[int]]),
]
Stops = Annotated[list[str] | None, PlainValidator(_stops, json_schema_input_type=str | list[str] | None)]
Biases = Annotated[dict[int, float] | None, PlainValidator(_biases, json_schema_input_type=dict[str, float] | None)]


# One fault is enough: a list of a million wrong elements must not become a million error objects.
Messages = Annotated[list[dict[str, Any]], Field(min_length=1, fail_fast=True)]


class Schema(BaseModel):
    """Strict: "0.5" is no number, true is no integer, and an unknown field is refused with the nearest known one."""

    model_config = ConfigDict(extra="forbid", strict=True, protected_namespaces=())
    neutral: ClassVar[Mapping[str, tuple[Any, ...]]] = NEUTRAL

    @model_validator(mode="before")
    @classmethod
    def _known(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value  # pydantic says what it should have been
        known, neutral = cls.model_fields, cls.neutral
        for name, given in value.items():
            if name in known or (name in neutral and (given is None or given in neutral[name])):
                continue
            if name in neutral:
                raise fault(f"{name} is not supported by this server and would change the answer; leave it out", name)
            hint = did_you_mean(name[:80], known, f"known: {', '.join(known)}")
            raise fault(f"unknown field {name[:80]!r}; {hint}", name[:80])
        return {name: given for name, given in value.items() if name in known}


class ErrorObject(BaseModel):
    """What went wrong: ``param`` is the path of the field at fault, ``code`` a name for programs."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorAnswer(BaseModel):
    """The body of every answer that is not a success."""

    error: ErrorObject


class StreamOptions(Schema):
    """What a stream carries beside the answer."""

    include_usage: bool | None = None
    include_obfuscation: bool | None = None

    @model_validator(mode="after")
    def _no_padding(self) -> StreamOptions:
        if self.include_obfuscation:
            raise fault("stream_options.include_obfuscation is not supported", "include_obfuscation")
        return self


class SamplingFields(Schema):
    """What both kinds of generation take. Ranges are checked where sampling is done: ``types.Sampling``."""

    PASSED_ON: ClassVar[tuple[str, ...]] = (
        "temperature", "top_p", "min_p", "seed", "stop", "n", "presence_penalty", "frequency_penalty",
        "repetition_penalty", "logit_bias", "min_tokens", "ignore_eos",
    )  # fmt: skip

    model: str
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    seed: int | None = None
    stop: Stops = None
    n: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    repetition_penalty: float | None = None
    logit_bias: Biases = None
    min_tokens: int | None = None
    ignore_eos: bool | None = None
    response_format: dict[str, Any] | None = None
    structured_outputs: dict[str, Any] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    # Accepted because programs send them; nothing here depends on them.
    user: str | None = None
    metadata: dict[str, Any] | None = None
    store: bool | None = None
    service_tier: str | None = None
    parallel_tool_calls: bool | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    prompt_cache_options: dict[str, Any] | None = None
    prompt_cache_retention: str | None = None

    @model_validator(mode="after")
    def _options_need_a_stream(self) -> SamplingFields:
        if self.stream_options is not None and not self.stream:
            raise fault("stream_options is only allowed when stream is true", "stream_options")
        return self

    @property
    def include_usage(self) -> bool:
        """The stream ends with a chunk that has the token counts."""
        return self.stream_options is not None and bool(self.stream_options.include_usage)

    def sampling(self) -> dict[str, Any]:
        """Fields of ``types.Sampling`` that the request sets; the rest is the model's default."""
        given = {name: value for name in self.PASSED_ON if (value := getattr(self, name)) is not None}
        if self.top_k is not None:
            given["top_k"] = 0 if self.top_k == -1 else self.top_k  # vLLM's way to say "off"
        return given

    def constraint(self) -> Asked | None:
        """What the answer must look like, and the field that says so. Raises InvalidRequest by field name."""
        asked = of_response_format(self.response_format)
        outputs = of_structured_outputs(self.structured_outputs)
        if asked is not None and outputs is not None:
            raise InvalidRequest("give response_format or structured_outputs, not both", param="structured_outputs")
        return asked or outputs


class ChatCompletionRequest(SamplingFields):
    """Answer a conversation. ``max_tokens`` defaults to what is left of the context."""

    messages: Messages
    max_completion_tokens: int | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None

    @model_validator(mode="after")
    def _agree(self) -> ChatCompletionRequest:
        if self.max_tokens is not None and self.max_completion_tokens not in (None, self.max_tokens):
            raise fault(
                f"max_tokens is {self.max_tokens} and max_completion_tokens is {self.max_completion_tokens}; give one",
                "max_tokens",
            )
        if self.top_logprobs is not None and not self.logprobs:
            raise fault("top_logprobs is only allowed when logprobs is true", "top_logprobs")
        if self.top_logprobs is not None and not 0 <= self.top_logprobs <= 20:
            raise fault(f"top_logprobs must be between 0 and 20, got {self.top_logprobs}", "top_logprobs")
        return self

    def sampling(self) -> dict[str, Any]:
        """Fields of ``types.Sampling`` that the request sets."""
        given = super().sampling()
        limit = self.max_completion_tokens if self.max_tokens is None else self.max_tokens
        if limit is not None:
            given["max_tokens"] = limit
        if self.logprobs:
            given["logprobs"] = self.top_logprobs or 0
        return given


class CompletionRequest(SamplingFields):
    """Continue one or more texts or lists of token ids. ``max_tokens`` defaults to 16, as in the OpenAI API."""

    prompt: Prompts
    echo: bool | None = None
    logprobs: int | None = None
    best_of: int | None = None

    @model_validator(mode="after")
    def _no_search(self) -> CompletionRequest:
        n = 1 if self.n is None else self.n
        if self.best_of not in (None, n):
            raise fault(f"best_of {self.best_of} is not supported; leave it out or make it n, which is {n}", "best_of")
        return self

    def sampling(self) -> dict[str, Any]:
        """Fields of ``types.Sampling`` that the request sets."""
        given = super().sampling() | {"max_tokens": 16 if self.max_tokens is None else self.max_tokens}
        if self.logprobs is not None:
            given["logprobs"] = self.logprobs
            if self.echo:
                given["prompt_logprobs"] = self.logprobs
        return given


class EmbeddingRequest(Schema):
    """One vector for each text or list of token ids. ``dimensions`` may only be the model's own size."""

    model: str
    input: Inputs
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: int | None = None
    user: str | None = None


class TokenizeRequest(Schema):
    """vLLM's: the token ids of a ``prompt``, or of ``messages`` in the model's chat format."""

    model: str | None = None
    prompt: str | None = None
    messages: Messages | None = None
    add_special_tokens: bool | None = None
    return_token_strs: bool | None = None

    @model_validator(mode="after")
    def _one_of_two(self) -> TokenizeRequest:
        if (self.prompt is None) == (self.messages is None):
            raise fault("give either prompt or messages", "prompt")
        if self.messages is not None and self.add_special_tokens:
            raise fault(
                "add_special_tokens is for prompts: the chat format says what messages get", "add_special_tokens"
            )
        return self


class DetokenizeRequest(Schema):
    """vLLM's: the text of token ids, special tokens included."""

    model: str | None = None
    tokens: Annotated[list[int], Field(fail_fast=True)]
