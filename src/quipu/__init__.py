"""quipu: run, serve, tune and compare Llama models on your own machine, capability by capability, from evidence.

>>> import quipu
>>> m = quipu.load("smollm2-135m-instruct")
>>> m.chat([{"role": "user", "content": "What is the capital of Japan?"}], temperature=0)
'The capital of Japan is Tokyo.'
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from quipu.engine.load import load
    from quipu.engine.local import LocalModel
    from quipu.errors import QuipuError
    from quipu.types import Chunk, Completion, Constraint, Message, Sampling

__all__ = ["Chunk", "Completion", "Constraint", "LocalModel", "Message", "QuipuError", "Sampling", "load"]
__version__ = "0.1.0"

# Imported when first used: the command line answers --help without paying for numpy.
_HOMES = {
    "load": "quipu.engine.load",
    "LocalModel": "quipu.engine.local",
    "QuipuError": "quipu.errors",
} | dict.fromkeys(("Chunk", "Completion", "Constraint", "Message", "Sampling"), "quipu.types")


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'quipu' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
