"""A GGUF file (version 3) before its weights are in it: where each goes follows from names, shapes and kinds."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from quipu.model.gguf import TYPE_OF_KIND
from quipu.model.weights import byte_count

ALIGNMENT = 32
_VERSION = 3

_U32, _I32, _F32, _BOOL, _STRING, _ARRAY, _U64, _I64 = 4, 5, 6, 7, 8, 9, 10, 11
_TYPE_OF_DTYPE = {
    "u1": 0, "i1": 1, "u2": 2, "i2": 3, "u4": 4, "i4": 5, "f4": 6, "b1": 7, "u8": 10, "i8": 11, "f8": 12,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Layout:
    """``header``: the file's first bytes. ``places``: where each tensor begins. ``size``: bytes of the whole file."""

    header: bytes = field(repr=False)
    places: Mapping[str, int]
    size: int


def layout(metadata: Mapping[str, Any], tensors: Mapping[str, tuple[tuple[int, ...], str]]) -> Layout:
    """Lay out ``tensors``, shape (numpy order) and kind (of ``weights.KINDS``) by GGUF name, in their order.

    Values of ``metadata`` are what ``GGUFFile.metadata`` holds. A Python int is written in 32 bits if it fits, a float
    in float32, as llama.cpp expects them.
    """
    entries = [b"GGUF", struct.pack("<IQQ", _VERSION, len(tensors), len(metadata))]
    for key, value in metadata.items():
        number, data = _value(value)
        entries += [_text(key), struct.pack("<I", number), data]
    offsets, end = {}, 0
    for name, (shape, kind) in tensors.items():
        offsets[name] = end
        sizes = struct.pack(f"<I{len(shape)}Q", len(shape), *reversed(shape))
        entries += [_text(name), sizes, struct.pack("<IQ", TYPE_OF_KIND[kind], end)]
        end += _aligned(byte_count(shape, kind))
    header = b"".join(entries)
    header += bytes(_aligned(len(header)) - len(header))
    return Layout(header, {name: len(header) + offset for name, offset in offsets.items()}, len(header) + end)


def _aligned(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT


def _text(text: str) -> bytes:
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


def _value(value: Any) -> tuple[int, bytes]:
    """Type and bytes of one value."""
    if isinstance(value, np.ndarray):
        kind = _TYPE_OF_DTYPE[value.dtype.str[1:]]
        return _ARRAY, struct.pack("<IQ", kind, len(value)) + value.astype(value.dtype.newbyteorder("<")).tobytes()
    if isinstance(value, list):
        return _ARRAY, struct.pack("<IQ", _STRING, len(value)) + b"".join(map(_text, value))
    if isinstance(value, str):
        return _STRING, _text(value)
    if isinstance(value, bool):
        return _BOOL, struct.pack("<B", value)
    if isinstance(value, float):
        return _F32, struct.pack("<f", value)
    if 0 <= value < 1 << 32:
        return _U32, struct.pack("<I", value)
    if value >= 0:
        return _U64, struct.pack("<Q", value)
    return (_I32, struct.pack("<i", value)) if value >= -(1 << 31) else (_I64, struct.pack("<q", value))
