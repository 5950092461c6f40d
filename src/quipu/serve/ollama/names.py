"""Names of models as Ollama's tools write them: with a tag, which is ``latest`` where none is meant."""

from __future__ import annotations

from quipu.serve.service import Service

TAG = ":latest"


def served_name(service: Service, name: str) -> str:
    """The name that is served for ``name``: itself, or what it is without ``:latest``."""
    return name if name in service.names else name.removesuffix(TAG)


def tagged(name: str) -> str:
    """``name`` as Ollama lists it."""
    return name if ":" in name else name + TAG
