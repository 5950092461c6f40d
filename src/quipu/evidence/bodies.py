"""What entries of the log say: the form of the body of each kind.

What is derived from the log comes out of these fields only. An entry whose body has another form is refused when it
is written or imported, so that what was written can always be read.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from quipu.capabilities.base import digest
from quipu.errors import InvalidRequest, field_path
from quipu.evidence.config import Config

Hash = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
ProbeId = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{16}$")]
Text = Annotated[str, StringConstraints(pattern=r"^[^\x00]*$", max_length=1000)]
"""PostgreSQL has no columns for zero characters."""
Count = Annotated[int, Field(ge=0, le=2**53)]
Seconds = Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
State = Literal["scored", "unparsed", "beyond context"]
"""``unparsed``: the answer could not be read; it scores 0 and is counted apart. ``beyond context``: never asked."""


class Body(BaseModel):
    """Fields as they are: nothing is converted. Later versions may write more than these."""

    model_config = ConfigDict(frozen=True, strict=True, extra="ignore")


class ConfigBody(Body):
    """kind ``config``: what the following runs measure. See Config."""

    id: Hash
    label: Text
    model_hash: Text
    quantization: Text
    engine: Text
    chat_template: Text
    decoding: Mapping[str, Any]
    hardware: Text
    facts: Mapping[str, Any]

    @property
    def config(self) -> Config:
        """The config that it tells of."""
        return Config(**self.model_dump(exclude={"id"}))

    @model_validator(mode="after")
    def _is_its_own(self) -> Self:
        if self.id != self.config.id:
            raise ValueError("id is not that of what identifies the config")
        return self


class ProbeSetBody(Body):
    """kind ``probe_set``: the probes of a capability, once. ``probes`` are rows of id, group, difficulty and part."""

    capability: Text
    probe_set: Hash
    title: Text
    metric: Text
    binary: bool
    baseline: Share
    baseline_name: Text
    probes: list[Annotated[list[Text], Field(min_length=4, max_length=4)]]

    @model_validator(mode="after")
    def _is_its_own(self) -> Self:
        if self.probe_set != digest(self.probes):
            raise ValueError("probe_set is not the hash of its probes")
        return self


class RunBody(Body):
    """kind ``run``: a measurement begins. ``fresh``: it does not count what was asked before as done."""

    config: Hash
    probe_sets: Mapping[Text, Hash]
    """By capability: what it will ask."""
    fresh: bool
    together: Count
    """Probes at the model at once."""


class ObservationBody(Body):
    """kind ``observation``: one probe asked once. ``seconds`` are from the question on, among others at that time.

    ``sampling``: the options over the capability's own, with the seed. ``token_hash``: SHA-256 of the ids of generated
    tokens; None where the model does not tell them. ``peak_memory``: most bytes that its process held until then.
    """

    run: Count
    config: Hash
    capability: Text
    probe_set: Hash
    probe: ProbeId
    state: State
    value: Share
    passed: bool
    why: str
    measured: Mapping[str, float]
    text: str
    prompt_tokens: Count
    completion_tokens: Count
    first_token_seconds: Seconds | None
    seconds: Seconds
    finish_reason: str
    sampling: Mapping[str, Any]
    token_hash: Hash | None
    peak_memory: Count | None


class RoundBody(Body):
    """kind ``round``: so many tokens were generated in so many seconds on the clock, side by side."""

    run: Count
    config: Hash
    capability: Text
    probe_set: Hash
    seconds: Seconds
    tokens: Count


class ServiceBody(Body):
    """kind ``service``: what a capability without probes saw of the service: ``found`` are the fields of its output."""

    config: Hash
    capability: Text
    found: Mapping[str, Any]


KINDS: Mapping[str, type[Body]] = {
    "config": ConfigBody,
    "probe_set": ProbeSetBody,
    "run": RunBody,
    "observation": ObservationBody,
    "round": RoundBody,
    "service": ServiceBody,
}


def read(kind: str, text: str, where: str) -> Body | None:
    """The body that ``text`` is; None for a kind of a later version. Raises InvalidRequest that says ``where``."""
    form = KINDS.get(kind)
    if form is None:
        return None
    try:
        return form.model_validate_json(text)
    except ValidationError as error:
        fault = error.errors(include_url=False, include_context=False)[0]
        said = fault["msg"].removeprefix("Value error, ").removeprefix("Input ")
        name = field_path(fault["loc"])
        raise InvalidRequest(
            f"{where} is no {kind}: {name + ' ' if name else ''}{said}, got {fault['input']!r:.80}"
        ) from None
