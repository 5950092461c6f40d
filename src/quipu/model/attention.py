"""Grouped-query attention: over a paged KV cache for serving, over plain tensors for the reference.

Shapes: T new tokens, H query heads, K key/value heads, G = H / K, D head size, L cached positions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from quipu.model.config import ModelConfig


class Attend(Protocol):
    """Attention of one step, with everything but the layer's tensors decided."""

    def __call__(self, layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """query [T, H, D], key and value [T, K, D] of the new tokens, rotated -> [T, H, D]."""
        ...


def whole_sequence(config: ModelConfig) -> Attend:
    """One whole sequence attends to itself; the reference that caching and batching are tested against."""

    def attend(layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        chunk = config.layer_chunk(layer)
        mask = None if chunk is None else _same_chunk(query.shape[0], chunk, query.device)
        query, key, value = (_grouped(heads, config.kv_heads) for heads in (query, key, value))
        key, value = key.expand_as(query), value.expand_as(query)
        return _flat(scaled_dot_product_attention(query, key, value, attn_mask=mask, is_causal=mask is None))

    return attend


def _same_chunk(length: int, chunk: int, device: torch.device) -> Tensor:
    """bool [length, length]: a token sees those before it that are in its own chunk; fixed blocks, no window."""
    places = torch.arange(length, device=device)
    chunks = places // chunk
    return (places[:, None] >= places) & (chunks[:, None] == chunks)


def _grouped(heads: Tensor, kv_heads: int) -> Tensor:
    """[T, H, D] -> [K, H / K, T, D]: a query head beside those that share its key/value head. A view."""
    grouped: Tensor = heads.unflatten(1, (kv_heads, -1))
    return grouped.permute(1, 2, 0, 3)


def _flat(grouped: Tensor) -> Tensor:
    """[K, G, T, D] -> [T, H, D]."""
    return grouped.permute(2, 0, 1, 3).flatten(1, 2)


@dataclass(frozen=True, slots=True)
class Extent:
    """Rows of one sequence in a step: ``count`` tokens from position ``start``, cached in ``blocks``.

    They see no position before ``first``.
    """

    start: int
    count: int
    blocks: Sequence[int]
    first: int = 0

    @property
    def length(self) -> int:
        """Positions up to its last token."""
        return self.start + self.count


def _cut(extents: Sequence[Extent], chunk: int) -> list[Extent]:
    """``extents`` cut where a chunk ends; the parts see their own chunk only."""
    parts = []
    for extent in extents:
        for first in range(extent.start // chunk * chunk, extent.length, chunk):
            start, end = max(first, extent.start), min(first + chunk, extent.length)
            parts.append(Extent(start, end - start, extent.blocks, first))
    return parts


class PagedCache:
    """Keys and values of every layer in blocks of ``block_size`` tokens, [blocks, block_size, K, D] each.

    Layers with chunked attention have ``chunk_blocks`` of them. Memory is taken from the system as zeroed pages on
    first use, so a large cache costs only what it holds.
    """

    def __init__(
        self,
        config: ModelConfig,
        blocks: int,
        block_size: int,
        dtype: torch.dtype,
        device: torch.device,
        chunk_blocks: int = 0,
    ) -> None:
        self.block_size = block_size
        self.dtype, self.device = dtype, device
        self._chunks = [config.layer_chunk(layer) for layer in range(config.layers)]
        shapes = [
            (blocks if chunk is None else chunk_blocks, block_size, config.kv_heads, config.head_size)
            for chunk in self._chunks
        ]
        self.keys = [self._allocate(shape) for shape in shapes]
        self.values = [self._allocate(shape) for shape in shapes]

    def _allocate(self, shape: tuple[int, ...]) -> Tensor:
        if self.device.type != "cpu":
            return torch.zeros(shape, dtype=self.dtype, device=self.device)
        # numpy's zeros are untouched pages; torch's would be written, and so resident, at once.
        size = int(np.prod(shape)) * self.dtype.itemsize
        return torch.from_numpy(np.zeros(size, np.uint8)).view(self.dtype).view(shape)

    def plan(self, extents: Sequence[Extent], chunked: Sequence[Extent] = ()) -> Attend:
        """Decide how one step of ``extents``, whose rows follow one another, reads and writes the cache.

        ``chunked`` are the same rows with the blocks of layers whose attention is chunked.
        """
        chunks = set(self._chunks)
        plans = {chunk: PagedAttention(self, extents if chunk is None else _cut(chunked, chunk)) for chunk in chunks}

        def attend(layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
            return plans[self._chunks[layer]](layer, query, key, value)

        return attend


class PagedAttention:
    """Attention of one step over a PagedCache; an ``Attend``. Index tensors are built once for all layers."""

    def __init__(self, cache: PagedCache, extents: Sequence[Extent]) -> None:
        self._cache = cache
        size = cache.block_size
        slots: list[int] = []
        self._prompts: list[_Prompt] = []
        singles: list[tuple[int, Extent]] = []
        row = 0
        for extent in extents:
            positions = range(extent.start, extent.length)
            slots.extend(extent.blocks[position // size] * size + position % size for position in positions)
            if extent.count == 1:
                singles.append((row, extent))
            else:
                self._prompts.append(_Prompt(row, extent, cache))
            row += extent.count
        self._slots = torch.tensor(slots, device=cache.device)
        self._decodes = [_Decode(bucket, cache) for bucket in _buckets(singles)]

    def __call__(self, layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """See Attend; the new keys and values are written to the cache first."""
        keys, values = self._cache.keys[layer], self._cache.values[layer]
        keys.flatten(0, 1).index_copy_(0, self._slots, key)
        values.flatten(0, 1).index_copy_(0, self._slots, value)
        parts: tuple[_Decode | _Prompt, ...] = (*self._decodes, *self._prompts)
        if len(parts) == 1:
            return parts[0].attend(query, keys, values)
        output = torch.empty_like(query)
        for part in parts:
            output[part.rows] = part.attend(query[part.rows], keys, values)
        return output


def _buckets(singles: list[tuple[int, Extent]]) -> list[list[tuple[int, Extent]]]:
    """Group decoding rows by context length, none more than twice another's: padding then wastes at most half."""
    buckets: dict[int, list[tuple[int, Extent]]] = {}
    for row, extent in singles:
        buckets.setdefault((extent.length - extent.first).bit_length(), []).append((row, extent))
    return list(buckets.values())


class _Blocks:
    """How the blocks of some sequences are read: as a slice where they lie side by side, by index elsewhere."""

    def __init__(self, tables: list[list[int]], device: torch.device) -> None:
        self._sequences = len(tables)
        only = tables[0]
        self._slice = None
        if len(tables) == 1 and all(after == before + 1 for before, after in pairwise(only)):
            self._slice = slice(only[0], only[-1] + 1)
        else:
            self._index = torch.tensor(tables, device=device).flatten()

    @property
    def is_view(self) -> bool:
        """What is read is the pool itself."""
        return self._slice is not None

    def read(self, pool: Tensor) -> Tensor:
        """[blocks, size, K, D] -> [sequences, L, K, D]; a view of the pool in the slice case."""
        found = pool[self._slice] if self._slice is not None else pool.index_select(0, self._index)
        return found.reshape(self._sequences, -1, *pool.shape[2:])


class _Decode:
    """Sequences with one new token each: one batched attention, padded to the longest of them.

    Positions are counted from the first block that a sequence sees anything of.
    """

    def __init__(self, singles: list[tuple[int, Extent]], cache: PagedCache) -> None:
        size = cache.block_size
        self.rows: list[int] | slice = [row for row, _ in singles]
        bases = [extent.first // size for _, extent in singles]
        lengths = [extent.length - base * size for (_, extent), base in zip(singles, bases, strict=True)]
        hidden = [extent.first - base * size for (_, extent), base in zip(singles, bases, strict=True)]
        self._longest = max(lengths)
        width = -(-self._longest // size)
        tables = []
        for (_, extent), base in zip(singles, bases, strict=True):
            table = extent.blocks[base : -(-extent.length // size)]
            tables.append([*table, *[0] * (width - len(table))])
        self._blocks = _Blocks(tables, cache.device)
        self._mask: Tensor | None = None
        if min(lengths) < self._longest or any(hidden):
            firsts, ends = (torch.tensor(each, device=cache.device)[:, None] for each in (hidden, lengths))
            places = torch.arange(width * size, device=cache.device)
            visible = (places >= firsts) & (places < ends)
            self._mask = _additive(visible[:, : self._longest], cache.dtype)[:, None, None, :]
            self._hidden = (~visible).flatten().nonzero()[:, 0]
            self._copied = not self._blocks.is_view

    def attend(self, query: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """query [B, H, D] -> [B, H, D]. The G queries of a key head take the place of a sequence dimension."""
        key, value = (self._read(pool)[:, : self._longest].transpose(1, 2) for pool in (keys, values))
        grouped = query.unflatten(1, (keys.shape[2], -1))
        return scaled_dot_product_attention(grouped, key, value, attn_mask=self._mask).flatten(1, 2)

    def _read(self, pool: Tensor) -> Tensor:
        found = self._blocks.read(pool)
        if self._mask is not None:
            # What another sequence left there. The mask does not hide all of it: NaN and infinity plus -inf, or times
            # 0, are NaN.
            found = found if self._copied else found.clone()
            found.flatten(0, 1).index_fill_(0, self._hidden, 0)
        return found


class _Prompt:
    """A run of new tokens of one sequence: causal among themselves, and all that it sees before them."""

    def __init__(self, row: int, extent: Extent, cache: PagedCache) -> None:
        size = cache.block_size
        base = extent.first // size
        self._seen = slice(extent.first - base * size, extent.length - base * size)
        self.rows: list[int] | slice = slice(row, row + extent.count)
        self._blocks = _Blocks([list(extent.blocks[base : -(-extent.length // size)])], cache.device)
        self._mask: Tensor | None = None
        if extent.start > extent.first:
            before = extent.start - extent.first
            visible = torch.ones(extent.count, before + extent.count, dtype=torch.bool, device=cache.device)
            self._mask = _additive(visible.tril(before), cache.dtype)

    def attend(self, query: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """query [T, H, D] -> [T, H, D]."""
        grouped = _grouped(query, keys.shape[2])
        shape = (*grouped.shape[:2], self._seen.stop - self._seen.start, grouped.shape[3])
        key = _grouped(self._blocks.read(keys)[0, self._seen], keys.shape[2]).expand(shape)
        value = _grouped(self._blocks.read(values)[0, self._seen], keys.shape[2]).expand(shape)
        causal = self._mask is None
        return _flat(scaled_dot_product_attention(grouped, key, value, attn_mask=self._mask, is_causal=causal))


def _additive(visible: Tensor, dtype: torch.dtype) -> Tensor:
    """0 where visible, -inf elsewhere: the form of mask that the fused CPU kernel takes."""
    return torch.zeros(visible.shape, dtype=dtype, device=visible.device).masked_fill_(~visible, float("-inf"))
