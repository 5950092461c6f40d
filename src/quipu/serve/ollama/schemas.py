"""Requests of Ollama's API, as strict as those of the OpenAI API; see ``openai.schemas``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

from pydantic import Field, model_validator

from quipu.errors import InvalidRequest
from quipu.serve.openai.response_format import Asked, of_format
from quipu.serve.openai.schemas import Inputs, Schema, Stops, Tools, fault
from quipu.tools.tool import ToolUse

# Not supported; the values given here ask for nothing. See ``openai.schemas.NEUTRAL``.
NEUTRAL_OPTIONS: Mapping[str, tuple[Any, ...]] = {
    "mirostat": (0,),
    "mirostat_eta": (),
    "mirostat_tau": (),
    "penalize_newline": (True,),
    "repeat_last_n": (-1,),  # our repetition penalty looks at everything
    "tfs_z": (1,),
    "typical_p": (1,),
}
NEUTRAL_FIELDS: Mapping[str, tuple[Any, ...]] = {
    "context": ([],),
    "logprobs": (False,),
    "suffix": ("",),
    "template": ("",),
    "think": (False,),
    "tools": ([],),
    "top_logprobs": (0,),
}
MAY_BE_EMPTY = ("images", "thinking", "tool_calls", "tool_name")
RENAMED: Mapping[str, str] = {"tool_name": "name"}
PASSED_ON: Mapping[str, str] = {
    "temperature": "temperature",
    "top_p": "top_p",
    "top_k": "top_k",
    "min_p": "min_p",
    "seed": "seed",
    "stop": "stop",
    "repeat_penalty": "repetition_penalty",
    "presence_penalty": "presence_penalty",
    "frequency_penalty": "frequency_penalty",
}
"""Ollama's name -> the field of ``types.Sampling``."""


class Options(Schema):
    """How to generate, by Ollama's names. ``num_predict`` -1 and -2 go on until the context is full."""

    neutral: ClassVar[Mapping[str, tuple[Any, ...]]] = NEUTRAL_OPTIONS

    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    seed: int | None = None
    num_predict: int | None = None
    num_ctx: Annotated[int, Field(ge=1)] | None = None
    stop: Stops = None
    repeat_penalty: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    # How the machine is used, which was decided when the model was loaded. The answer does not depend on them.
    low_vram: bool | None = None
    main_gpu: int | None = None
    num_batch: int | None = None
    num_gpu: int | None = None
    num_keep: int | None = None  # what stays when a context is cut, which never happens here
    num_thread: int | None = None
    numa: bool | None = None
    use_mlock: bool | None = None
    use_mmap: bool | None = None

    def sampling(self) -> dict[str, Any]:
        """Fields of ``types.Sampling`` that are set."""
        given = {ours: value for name, ours in PASSED_ON.items() if (value := getattr(self, name)) is not None}
        if self.num_predict not in (None, -1, -2):
            given["max_tokens"] = self.num_predict
        return given


class GenerationFields(Schema):
    """What both kinds of generation take. ``keep_alive`` is accepted; the server's own --keep-alive decides."""

    neutral: ClassVar[Mapping[str, tuple[Any, ...]]] = NEUTRAL_FIELDS

    model: str
    stream: bool | None = None
    options: Options | None = None
    format: str | dict[str, Any] | None = None
    keep_alive: float | str | None = None

    @property
    def streams(self) -> bool:
        """Streaming is the default here."""
        return self.stream is not False

    def sampling(self) -> dict[str, Any]:
        """Fields of ``types.Sampling`` that the request sets."""
        return {} if self.options is None else self.options.sampling()

    def constraint(self) -> Asked | None:
        """What the answer must look like, and the field that says so. Raises InvalidRequest."""
        return of_format(self.format)


def with_images(message: dict[str, Any], where: str) -> dict[str, Any]:
    """``message`` with its ``images``, texts in base64, as parts before its text. Raises InvalidRequest."""
    images = message.pop("images", None)
    if images is None:
        return message
    if not isinstance(images, list) or not all(isinstance(each, str) for each in images):
        raise InvalidRequest(f"{where} must be a list of pictures in base64, got {images!r:.80}", param=where)
    # A data URL names a type that nobody looks at: what a picture is, its first bytes tell.
    parts = [{"type": "image_url", "image_url": {"url": f"data:image;base64,{each}"}} for each in images]
    return {**message, "content": [*parts, {"type": "text", "text": message.get("content") or ""}]}


class ChatRequest(GenerationFields):
    """Answer a conversation; without messages, only load the model."""

    messages: Annotated[list[dict[str, Any]], Field(fail_fast=True)] | None = None
    tools: Tools = None

    def turns(self) -> list[dict[str, Any]]:
        """The messages without fields that ask for nothing: tools write ``images`` where there are none.

        Raises InvalidRequest for pictures that are not a list of texts in base64.
        """
        return [
            with_images(
                {
                    RENAMED.get(name, name): value
                    for name, value in message.items()
                    if name not in MAY_BE_EMPTY or value not in (None, [], "")
                },
                f"messages[{place}].images",
            )
            for place, message in enumerate(self.messages or [])
        ]

    def tool_use(self) -> ToolUse | None:
        """What the answer may call. Raises InvalidRequest by field name."""
        return ToolUse.of(self.tools)


class GenerateRequest(GenerationFields):
    """Answer one prompt in the model's chat format, or with ``raw`` continue it as it is."""

    prompt: str | None = None
    system: str | None = None
    images: list[str] | None = None
    raw: bool | None = None

    @model_validator(mode="after")
    def _raw_is_all(self) -> GenerateRequest:
        if self.raw and self.system:
            raise fault("system is not used when raw is true; write it into the prompt", "system")
        if self.raw and self.images:
            raise fault("images are shown in a chat; raw has none", "images")
        return self


class EmbedRequest(Schema):
    """One vector for each text. ``truncate`` and ``keep_alive`` are accepted, without effect: nothing is ever cut."""

    neutral: ClassVar[Mapping[str, tuple[Any, ...]]] = {}

    model: str
    input: Inputs
    truncate: bool | None = None
    options: Options | None = None
    keep_alive: float | str | None = None
    dimensions: int | None = None


class ShowRequest(Schema):
    """Which model to describe; ``name`` is its older name, ``verbose`` has nothing to add here."""

    model: str | None = None
    name: str | None = None
    verbose: bool | None = None

    @model_validator(mode="after")
    def _named(self) -> ShowRequest:
        if not (self.model or self.name):
            raise fault("model is missing", "model")
        return self
