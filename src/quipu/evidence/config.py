"""What is ranked: not a model's name but a config, one exact way of running it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

from quipu.capabilities.base import digest


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
    """``quipu 0.1.0``, or ``remote https://host/v1``."""
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
