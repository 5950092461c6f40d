"""The paged KV cache as bookkeeping: which blocks are whose, and which hold a prefix that can be used again.

No keys or values live here; a Runner owns those. Blocks hold BLOCK_SIZE tokens. A full block is named by the
digest of every token up to its end, so two sequences that begin alike share blocks (after vLLM's automatic
prefix caching). Freed blocks keep their content until they are needed, least recently used first.
"""

from __future__ import annotations

import hashlib
from array import array
from collections import OrderedDict
from collections.abc import Iterable, Sequence

from quipu.engine.runner import BLOCK_SIZE

ROOT = b""
"""Digest of the empty prefix."""


def extend_digest(parent: bytes, tokens: Sequence[int]) -> bytes:
    """Name of the block that holds ``tokens`` (BLOCK_SIZE ids) after the prefix named ``parent``.

    SHA-256, because a collision that a client can construct would serve it another client's cache.
    """
    return hashlib.sha256(parent + array("q", tokens).tobytes()).digest()


def blocks_for(tokens: int) -> int:
    """Blocks that hold ``tokens`` tokens."""
    return -(-tokens // BLOCK_SIZE)


class BlockPool:
    """Owns block numbers 0..size-1. Every block is either referenced (by one or more sequences) or free."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._references = [0] * size
        self._free: OrderedDict[int, None] = OrderedDict.fromkeys(range(size))
        self._block_of: dict[bytes, int] = {}
        self._digest_of: dict[int, bytes] = {}

    @property
    def free(self) -> int:
        """Blocks that nobody references; those that still hold a prefix count, too."""
        return len(self._free)

    def match(self, digests: Iterable[bytes]) -> list[int]:
        """The blocks that hold the longest prefix of the blocks named ``digests``. Takes no reference."""
        blocks: list[int] = []
        for digest in digests:
            block = self._block_of.get(digest)
            if block is None:
                break
            blocks.append(block)
        return blocks

    def available(self, shared: Iterable[int]) -> int:
        """Blocks that ``allocate`` could give after ``share(shared)``."""
        return len(self._free) - sum(block in self._free for block in shared)

    def share(self, blocks: Iterable[int]) -> None:
        """Take one more reference to each of ``blocks``."""
        for block in blocks:
            self._references[block] += 1
            self._free.pop(block, None)

    def allocate(self, count: int) -> list[int]:
        """Take ``count`` blocks, forgetting the least recently used prefixes; raises IndexError if too few are free.

        The caller checks ``free`` or ``available`` first: what to do when memory is short is the scheduler's choice.
        """
        if count > len(self._free):
            raise IndexError(f"{count} blocks asked for, {len(self._free)} free")
        blocks = []
        for _ in range(count):
            block, _ = self._free.popitem(last=False)
            digest = self._digest_of.pop(block, None)
            if digest is not None:
                del self._block_of[digest]
            self._references[block] = 1
            blocks.append(block)
        return blocks

    def release(self, blocks: Sequence[int]) -> None:
        """Drop one reference to each of ``blocks``. The last is free first, so that prefixes outlive their ends."""
        for block in reversed(blocks):
            if self._references[block] == 0:
                raise ValueError(f"block {block} released twice")
            self._references[block] -= 1
            if self._references[block] == 0:
                self._free[block] = None
                if block not in self._digest_of:
                    self._free.move_to_end(block, last=False)

    def register(self, block: int, digest: bytes) -> None:
        """Say that ``block``, referenced and now full, holds the prefix ``digest``; the first to say so keeps it."""
        if digest not in self._block_of:
            self._block_of[digest] = block
            self._digest_of[block] = digest
