"""The CPU kernels: a small C++ library. Where it was not built only ``available`` and ``MISSING`` are here."""

try:
    from quipu.native._kernels import (
        ATTENTION_PIECE,
        BLOCK_SIZE,
        Buffer,
        Cache,
        Plan,
        Routing,
        Weight,
        checksum,
        instruction_sets,
        pack,
        packed_bytes,
    )
except ImportError:
    _available = False
else:
    _available = True

__all__ = [
    "ATTENTION_PIECE",
    "BLOCK_SIZE",
    "MISSING",
    "Buffer",
    "Cache",
    "Plan",
    "Routing",
    "Weight",
    "available",
    "checksum",
    "instruction_sets",
    "pack",
    "packed_bytes",
]

# Without --no-cache-dir pip would install again what it built before there was a compiler.
MISSING = (
    "quipu's kernels for the CPU are not built for this Python. Either install a C++ compiler and then quipu again: "
    "pip install --force-reinstall --no-deps --no-cache-dir --no-binary quipu-llama quipu-llama (in a clone of its "
    "repository: pip install --no-deps --editable .); or let PyTorch compute: pip install 'quipu-llama[torch]'"
)


def available() -> bool:
    """Whether the kernels were built and can be loaded; ``MISSING`` says what to do where not."""
    return _available
