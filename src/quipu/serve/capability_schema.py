"""What a request for a capability looks like: the fields of its input, and around them what every request has."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from functools import cache
from typing import Any, ClassVar, Literal, cast

from pydantic import BaseModel, Field, create_model

from quipu.capabilities.base import Answering, Capability, Input
from quipu.errors import InvalidConfiguration, InvalidRequest
from quipu.serve.openai.schemas import Biases, Schema, Stops
from quipu.types import Sampling


class SamplingOptions(Schema):
    """Over the capability's own options. What is left out stays as it suits the capability."""

    neutral: ClassVar[Mapping[str, tuple[Any, ...]]] = {}

    max_tokens: int | None = Field(None, description="Longest answer of each call of the model, in tokens")
    min_tokens: int | None = Field(None, description="End tokens are forbidden before this many")
    temperature: float | None = Field(None, description="0 is greedy")
    top_p: float | None = Field(None, description="The fewest likeliest tokens whose mass reaches it; 1 is off")
    top_k: int | None = Field(None, description="The likeliest tokens; 0 is off")
    min_p: float | None = Field(None, description="Tokens at least this times as likely as the best; 0 is off")
    seed: int | None = Field(None, description="The same draws again")
    stop: Stops = Field(None, description="Strings before which an answer ends")
    presence_penalty: float | None = Field(None, description="Against tokens generated before, -2 to 2")
    frequency_penalty: float | None = Field(None, description="By how often they were, -2 to 2")
    repetition_penalty: float | None = Field(None, description="Above 1 against tokens of prompt and answer")
    logit_bias: Biases = Field(None, description="Object of token id to number, -100 to 100")


class CapabilityFields(Schema):
    """What every request has beside the input."""

    neutral: ClassVar[Mapping[str, tuple[Any, ...]]] = {}

    model: str | None = Field(None, description="A name that /v1/models lists; may be left out where one is served")
    stream: bool | None = Field(None, description="Server-sent events: progress, text as it is written, the result")
    sampling: SamplingOptions | None = Field(None, description="How tokens are chosen")

    def options(self) -> dict[str, Any]:
        """Fields of ``types.Sampling`` that the request sets. Raises InvalidRequest by the path of the field."""
        given = {} if self.sampling is None else self.sampling.model_dump(exclude_none=True)
        try:
            Sampling.of(given)
        except InvalidRequest as error:
            raise InvalidRequest(f"sampling.{error}", param=f"sampling.{error.param}") from None
        return given


class TokenDetails(BaseModel):
    """Of the prompts' tokens."""

    cached_tokens: int


class TokenCounts(BaseModel):
    """Tokens of all calls of the model together; OpenAI's ``usage``."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: TokenDetails


class CapabilityResult(BaseModel):
    """The answer. ``text`` is what the model wrote last; ``notes`` say what was done to make it fit."""

    id: str
    object: Literal["capability.result"]
    created: int
    capability: str
    model: str
    text: str
    finish_reason: Literal["stop", "length"]
    notes: list[str]
    usage: TokenCounts


@cache
def request_of(capability: Capability) -> type[CapabilityFields]:
    """The body that a call takes. Raises InvalidConfiguration if the input has a field that means something else."""
    taken = sorted(set(CapabilityFields.model_fields) & set(capability.input.model_fields))
    if taken:
        raise InvalidConfiguration(
            f"the input of the capability {capability.id} has the field {', '.join(taken)}, which every request has "
            "with a meaning of its own; call it something else"
        )
    name = "".join(part.capitalize() for part in capability.id.split("_"))
    # Of both, so that the input's own validators are the request's.
    bases = (CapabilityFields, capability.input)
    made = create_model(f"{name}Request", __base__=bases, __doc__=capability.description)
    return cast("type[CapabilityFields]", made)


@cache
def result_of(capability: Capability) -> type[CapabilityResult]:
    """The answer that a call gives, for the documentation."""
    name = "".join(part.capitalize() for part in capability.id.split("_"))
    output: Any = (capability.output, Field(description=capability.output.__doc__))
    return create_model(f"{name}Result", __base__=CapabilityResult, __doc__=CapabilityResult.__doc__, output=output)


def input_of(capability: Capability, body: CapabilityFields) -> Input:
    """The input in the request: what was not given stays not given."""
    fields = capability.input.model_fields
    return capability.input.of({name: getattr(body, name) for name in fields if name in body.model_fields_set})


def card(capability: Capability) -> dict[str, Any]:
    """What is told of a capability: enough to call it, and to draw a form for it."""
    measured = capability if isinstance(capability, Answering) else None
    return {
        "id": capability.id,
        "object": "capability",
        "uri": capability.uri,
        "version": capability.version,
        "title": capability.title,
        "description": capability.description,
        "phrases": list(capability.phrases),
        "text_field": capability.text_field,
        "view": capability.view,
        "input": capability.input.model_json_schema(),
        "output": capability.output.model_json_schema(),
        "metric": measured and measured.metric,
        "baseline": measured and measured.baseline,
        "baseline_name": measured and measured.baseline_name,
        "sources": measured and [asdict(source) for source in measured.sources],
    }
