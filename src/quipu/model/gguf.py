"""GGUF files as metadata and named arrays that are read when they are asked for.

The header is read here and not by gguf.GGUFReader because that one makes a numpy object of every string: 3.3 s for
the 49,152 tokens of SmolLM2 against 0.08 s here. It is the oracle of the tests, and its quants decode the blocks.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from quipu.errors import DamagedCheckpoint, UnsupportedCheckpoint
from quipu.model.files import OpenedFile, Stretch
from quipu.model.weights import KINDS, Tensor, byte_count

VERSIONS = (2, 3)
MOST_STRING_BYTES = 16 << 20
MOST_VALUES = 1 << 23
"""Twenty times the merges of Llama 4. With it, a sparse file cannot make an array that fills the memory."""
WINDOW = 1 << 20
"""Bytes of a header that are read at once."""
MOST_DIMENSIONS = 4

_STRING, _ARRAY, _BOOL = 8, 9, 7
_SCALARS = {
    0: "<u1", 1: "<i1", 2: "<u2", 3: "<i2", 4: "<u4", 5: "<i4", 6: "<f4", 7: "<u1", 10: "<u8", 11: "<i8", 12: "<f8",
}  # fmt: skip
_U32, _U64 = struct.Struct("<I"), struct.Struct("<Q")

_KIND_OF_TYPE = {
    0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 6: "Q5_0", 7: "Q5_1", 8: "Q8_0", 12: "Q4_K", 13: "Q5_K", 14: "Q6_K",
    30: "BF16",
}  # fmt: skip
TYPE_OF_KIND = {kind: number for number, kind in _KIND_OF_TYPE.items()}
"""ggml's number of each of ``weights.KINDS``."""
_OTHER_TYPES = {
    9: "Q8_1", 10: "Q2_K", 11: "Q3_K", 15: "Q8_K", 16: "IQ2_XXS", 17: "IQ2_XS", 18: "IQ3_XXS", 19: "IQ1_S",
    20: "IQ4_NL", 21: "IQ3_S", 22: "IQ2_S", 23: "IQ4_XS", 24: "I8", 25: "I16", 26: "I32", 27: "I64", 28: "F64",
    29: "IQ1_M", 34: "TQ1_0", 35: "TQ2_0", 39: "MXFP4", 40: "NVFP4", 41: "Q1_0",
}  # fmt: skip
"""Types of ggml that are not decoded here, for messages."""


@dataclass(frozen=True, slots=True, eq=False)
class GGUFFile:
    """What one GGUF (all parts, if it is split) holds.

    ``metadata`` values are str, int, float, bool, list[str], or a numpy array for arrays of numbers.
    ``tensors`` go by their GGUF names and keep the order of rows in the file.
    """

    paths: tuple[Path, ...]
    version: int
    metadata: dict[str, Any]
    tensors: dict[str, Tensor]


def read_gguf(path: Path) -> GGUFFile:
    """Read a GGUF version 2 or 3, little-endian; of a split one (``-00001-of-00003.gguf``) all parts.

    Raises DamagedCheckpoint or UnsupportedCheckpoint. Nothing is allocated on the word of the header alone: every
    count is checked against the bytes that are left.
    """
    first = _Part(path).read()
    count = first.metadata.get("split.count", 1)
    if not isinstance(count, int) or count < 2:
        return first
    parts = [part.read() for part in map(_Part, _siblings(path, count))]
    tensors: dict[str, Tensor] = {}
    for part in parts:
        for name, tensor in part.tensors.items():
            if name in tensors:
                raise DamagedCheckpoint(f"{part.paths[0]}: tensor {name} is in an earlier part, too")
            tensors[name] = tensor
    return replace(parts[0], paths=tuple(part.paths[0] for part in parts), tensors=tensors)


def _siblings(path: Path, count: int) -> list[Path]:
    match = re.fullmatch(r"(.*)-(\d{5})-of-(\d{5})\.gguf", path.name)
    if match is None or int(match[3]) != count:
        raise DamagedCheckpoint(
            f"{path} is one of {count} parts, but is not named like one (…-00001-of-{count:05}.gguf); "
            "give the parts their original names"
        )
    siblings = []
    for i in range(1, count + 1):
        sibling = path.with_name(f"{match[1]}-{i:05}-of-{count:05}.gguf")
        if not sibling.exists():
            raise DamagedCheckpoint(f"{sibling} is missing: the model is split into {count} parts; download it")
        siblings.append(sibling)
    return siblings


class _Part:
    """A cursor over one file's header."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.file = OpenedFile(path)
        self.at = 0
        self.window, self.start = memoryview(b""), 0  # a part of the file, and where it begins

    def read(self) -> GGUFFile:
        version = self.version()
        tensor_count, field_count = self.u64(), self.u64()
        self.room(field_count, 13, "metadata fields")  # an empty key, its type, one byte
        metadata: dict[str, Any] = {}
        for _ in range(field_count):
            key = self.text("a metadata key")
            if key in metadata:
                self.damaged(f"metadata key {key!r:.80} occurs twice")
            metadata[key] = self.value(self.u32(), key)
        self.room(tensor_count, 32, "tensors")
        entries = [self.entry() for _ in range(tensor_count)]
        tensors = self.tensors(entries, self.alignment(metadata))
        return GGUFFile((self.path,), version, metadata, tensors)

    def version(self) -> int:
        magic = self.file.read(0, min(4, self.file.size)).tobytes()
        if magic != b"GGUF":
            self.damaged(f"it starts with {magic!r}, not with b'GGUF': not a GGUF file")
        self.at = 4
        version = self.u32()
        if version and version & 0xFFFF == 0:
            raise UnsupportedCheckpoint(f"{self.path} is a big-endian GGUF; use the little-endian file of the model")
        if version not in VERSIONS:
            raise UnsupportedCheckpoint(
                f"{self.path} is GGUF version {version}; supported are 2 and 3. Convert the model again"
            )
        return version

    def damaged(self, problem: str) -> NoReturn:
        raise DamagedCheckpoint(f"{self.path}: {problem} (near byte {self.at}); download the file again")

    def room(self, count: int, each: int, what: str) -> None:
        """Refuse ``count`` things of at least ``each`` bytes where fewer bytes are left."""
        left = self.file.size - self.at
        if count * each > left:
            self.damaged(f"{count} {what} announced, but only {left} bytes are left: the file is truncated")

    def read_on(self, at: int, size: int) -> tuple[memoryview, int]:
        """A window that holds ``size`` bytes from ``at`` on, if the file does; and where it begins."""
        if not self.start <= at <= at + size <= self.start + len(self.window):
            length = max(0, min(max(size, WINDOW), self.file.size - at))
            self.window, self.start = self.file.read(at, length).data, at
        return self.window, self.start

    def u32(self) -> int:
        return self.number(_U32)

    def u64(self) -> int:
        return self.number(_U64)

    def number(self, kind: struct.Struct) -> int:
        self.room(1, kind.size, "number")
        window, start = self.read_on(self.at, kind.size)
        value: int = kind.unpack_from(window, self.at - start)[0]
        self.at += kind.size
        return value

    def text(self, what: str) -> str:
        return next(self.texts(1, what))

    def texts(self, count: int, what: str) -> Iterator[str]:
        # The hot loop, 430,000 rounds for Llama 3: local names and one unpack each.
        at, end, unpack = self.at, self.file.size, _U64.unpack_from
        window, start = self.read_on(at, 0)
        known = start + len(window)
        for _ in range(count):
            if at + 8 > known:
                window, start = self.read_on(at, 8)
                known = start + len(window)
            size = unpack(window, at - start)[0] if at + 8 <= end else end
            at += 8
            if size > end - at or size > MOST_STRING_BYTES:
                self.at = at
                self.damaged(f"{what} has {size} bytes, but only {max(end - at, 0)} are left: the file is truncated")
            if at + size > known:
                window, start = self.read_on(at, size)
                known = start + len(window)
            try:
                text = str(window[at - start : at - start + size], "utf-8")
            except UnicodeDecodeError:
                self.damaged(f"{what} is not UTF-8 text")
            at += size
            self.at = at
            yield text

    def value(self, kind: int, key: str) -> Any:
        if kind == _STRING:
            return self.text(key)
        if kind == _ARRAY:
            return self.array(key)
        number = self.numbers(kind, 1, key)[0].item()
        return bool(number) if kind == _BOOL else number

    def array(self, key: str) -> Any:
        kind, count = self.u32(), self.u64()
        if kind == _ARRAY:
            raise UnsupportedCheckpoint(f"{self.path}: {key} is an array of arrays, which no Llama file has")
        if kind != _STRING:
            return self.numbers(kind, count, key)
        self.room(count, 8, f"strings in {key}")
        self.plausible(count, key)
        return list(self.texts(count, key))

    def plausible(self, count: int, key: str) -> None:
        if count > MOST_VALUES:
            self.damaged(f"{key} has {count} values; more than {MOST_VALUES} are not plausible")

    def numbers(self, kind: int, count: int, key: str) -> NDArray[Any]:
        if kind not in _SCALARS:
            self.damaged(f"{key} has type {kind}, which GGUF does not define")
        dtype = np.dtype(_SCALARS[kind])
        self.room(count, dtype.itemsize, f"values in {key}")
        self.plausible(count, key)
        values = self.file.read(self.at, count * dtype.itemsize).view(dtype)
        self.at += count * dtype.itemsize
        return values != 0 if kind == _BOOL else values

    def alignment(self, metadata: dict[str, Any]) -> int:
        value = metadata.get("general.alignment", 32)
        if not isinstance(value, int) or value < 1 or value & (value - 1):
            self.damaged(f"general.alignment is {value!r:.60}, not a power of two")
        return int(value)

    def entry(self) -> tuple[str, tuple[int, ...], str, int]:
        """Name, shape (numpy order), kind and offset of one tensor."""
        name = self.text("a tensor name")
        count = self.u32()
        if not 1 <= count <= MOST_DIMENSIONS:
            self.damaged(f"tensor {name:.80} has {count} dimensions, not 1 to {MOST_DIMENSIONS}")
        shape = tuple(self.u64() for _ in range(count))[::-1]
        kind, offset = self.u32(), self.u64()
        if kind not in _KIND_OF_TYPE:
            raise UnsupportedCheckpoint(
                f"{self.path}: tensor {name:.80} is stored as {_OTHER_TYPES.get(kind, f'ggml type {kind}')}; supported "
                f"are {', '.join(KINDS)}. Use a file quantised that way, such as Q4_K_M or Q8_0"
            )
        if 0 in shape:
            self.damaged(f"tensor {name:.80} has a dimension of zero: {list(shape)}")
        return name, shape, _KIND_OF_TYPE[kind], offset

    def tensors(self, entries: list[tuple[str, tuple[int, ...], str, int]], alignment: int) -> dict[str, Tensor]:
        base = -(-self.at // alignment) * alignment
        room = self.file.size - base
        tensors: dict[str, Tensor] = {}
        free, before = 0, ""
        for name, shape, kind, offset in sorted(entries, key=lambda entry: entry[3]):
            block, _ = KINDS[kind]
            size = byte_count(shape, kind)
            if name in tensors:
                self.damaged(f"tensor {name:.80} occurs twice")
            if shape[-1] % block:
                self.damaged(f"tensor {name:.80} has rows of {shape[-1]}, but {kind} comes in blocks of {block}")
            if offset % alignment:
                self.damaged(f"tensor {name:.80} is at offset {offset}, not a multiple of {alignment}")
            if offset < free:
                self.damaged(f"tensor {name:.80} overlaps {before:.80}")
            if offset + size > room:
                self.damaged(f"tensor {name:.80} ends {offset + size - room} bytes past the end: the file is truncated")
            tensors[name] = Tensor(name, shape, kind, Stretch(self.file, base + offset, size))
            free, before = offset + size, name
        return tensors
