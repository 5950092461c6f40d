"""What is ranked: not a model's name but a config, one exact way of running it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

from quipu.capabilities.base import digest
from quipu.types import Generator

UNKNOWN = "unknown"


@dataclass(frozen=True)
class Config:
    """A model file, how it is stored, what runs it and how it decodes. Evidence of one says nothing of another.

    ``identity`` is what the id is made of; ``facts`` (types.Facts as a dict) and ``label`` are only told.
    """

    label: str
    """The name it was measured under. Two configs may have the same."""
    model_hash: str
    """SHA-256 of the weights in hex; of a remote endpoint, of its address and the model's name there."""
    quantization: str
    """How weights are stored, most of them first: ``Q4_1``, ``BF16``; ``unknown`` for a remote endpoint."""
    engine: str
    """What runs it, with its version, and whose kernels compute, with theirs: ``quipu 0.1.0, torch 2.13.0+cpu``.

    ``remote https://host/v1`` of an endpoint, which does not tell.
    """
    chat_template: str
    """SHA-256 of the template or the name of the format; ``unknown`` for a remote endpoint."""
    decoding: Mapping[str, Any]
    """Sampling options over each capability's own, with the context length."""
    hardware: str
    """Its class: processor or accelerator, cores, arithmetic; ``unknown`` for a remote endpoint."""
    facts: Mapping[str, Any]

    @property
    def identity(self) -> dict[str, Any]:
        """All that makes it another config when it changes."""
        return {name: value for name, value in asdict(self).items() if name not in ("label", "facts")}

    @cached_property
    def id(self) -> str:
        """SHA-256 of ``identity``, in hex."""
        return digest(self.identity)

    @classmethod
    def of(cls, model: Generator, sampling: Mapping[str, Any]) -> Config:
        """The config that ``model`` is when ``sampling`` goes over each capability's own options.

        Reads the model's files for their hash. ``decoding`` also has what the checkpoint recommends, as ``defaults``,
        where it recommends anything: each capability's own options go over that.
        """
        import quipu
        from quipu.engine.local import LocalModel  # only now: whoever reads the log needs no engine

        facts = model.facts.as_dict()
        decoding = {**sampling, "context_length": model.context_length}
        model_hash, chat_template, hardware, quantization = digest(facts), UNKNOWN, UNKNOWN, UNKNOWN
        engine = f"quipu {quipu.__version__}"
        if isinstance(model, LocalModel):
            engine = f"{engine}, {model.runner}"
            model_hash = model.file_hash or digest(facts)
            chat_template = model.chat_template
            hardware = f"{model.hardware}, {model.facts.dtype}"
            kinds = model.facts.quantization
            quantization = ", ".join(sorted(kinds, key=lambda kind: (-kinds[kind], kind))) or UNKNOWN
            decoding |= {"defaults": model.sampling_defaults} if model.sampling_defaults else {}
        elif "base_url" in facts:
            engine = f"remote {facts['base_url']}"
        return cls(
            label=model.facts.name,
            model_hash=model_hash,
            quantization=quantization,
            engine=engine,
            chat_template=chat_template,
            decoding=_as_json(decoding),
            hardware=hardware,
            facts=_as_json(facts),
        )


def _as_json(value: Mapping[str, Any]) -> Mapping[str, Any]:
    """As it comes back from the log: names of fields are text there, tuples lists."""
    result: Mapping[str, Any] = json.loads(json.dumps(value))
    return result
