"""The CPU kernels: a small C++ library. Importing it raises ImportError where it was not built."""

from quipu.native._kernels import (
    ATTENTION_PIECE,
    BLOCK_SIZE,
    Buffer,
    Cache,
    Plan,
    Weight,
    checksum,
    instruction_sets,
    pack,
    packed_bytes,
)

__all__ = [
    "ATTENTION_PIECE",
    "BLOCK_SIZE",
    "Buffer",
    "Cache",
    "Plan",
    "Weight",
    "checksum",
    "instruction_sets",
    "pack",
    "packed_bytes",
]
