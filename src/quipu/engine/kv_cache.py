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
from typing import TYPE_CHECKING

from quipu.engine.runner import BLOCK_SIZE, PoolSize

if TYPE_CHECKING:
    from quipu.engine.request import Sequence as Running

ROOT = b""
"""Digest of the empty prefix."""


def extend_digest(parent: bytes, tokens: Sequence[int], seen: bytes = b"") -> bytes:
    """Name of the block that holds ``tokens`` (BLOCK_SIZE ids) after the prefix named ``parent``.

    ``seen`` says which parts of which pictures some of them stand for.

    SHA-256, because a collision that a client can construct would serve it another client's cache.
    """
    return hashlib.sha256(parent + array("q", tokens).tobytes() + seen).digest()


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


class KVCache:
    """Which blocks each running sequence has: of layers that see everything, and of those with chunked attention.

    The latter, in a pool of their own, keep of a sequence only what can be read again: from the beginning of the chunk
    that it is in. With blocks of one size everywhere, that is all that differs. ``chunk``: positions of one, None where
    a model has no such layers. ``step``: most tokens of a sequence that a step computes.

    Of chunked layers, too, a sequence has blocks for all its tokens, but for no more than a chunk and a step: it takes
    new ones when it passes old ones. Would it take them one by one, another could start in their place, for as long as
    it is at the beginning of a chunk.
    """

    def __init__(self, size: PoolSize, chunk: int | None = None, step: int = 0) -> None:
        if (chunk is None) != (size.chunk_blocks == 0):
            raise ValueError(f"{size.chunk_blocks} blocks of chunks, but a chunk of {chunk} positions")
        self.full = BlockPool(size.blocks)
        self.chunk = chunk
        self.chunked = BlockPool(size.chunk_blocks)
        self._most = 0 if chunk is None else most_chunk_blocks(chunk, step)

    def start(self, sequence: Running, reusable: int) -> bool:
        """Give ``sequence`` what can be used again of its first ``reusable`` blocks, and blocks for the rest.

        False where too few are free. ``sequence.computed`` is then what it need not compute.
        """
        shared, tail = self._found(sequence, reusable)
        total = blocks_for(len(sequence.tokens))
        chunked = 0 if self.chunk is None else min(total - len(shared), self._most - len(tail))
        if self.full.available(shared) < total - len(shared) or self.chunked.available(tail) < chunked:
            return False
        self.full.share(shared)
        self.chunked.share(tail)
        sequence.blocks = shared + self.full.allocate(total - len(shared))
        sequence.computed = len(shared) * BLOCK_SIZE
        if self.chunk is not None:
            sequence.passed = len(shared) - len(tail)
            sequence.chunk_blocks = [0] * sequence.passed + tail + self.chunked.allocate(chunked)
        return True

    def _found(self, sequence: Running, reusable: int) -> tuple[list[int], list[int]]:
        """Blocks of the longest prefix after which all layers can go on: those of full ones, and of chunked ones those
        of its last chunk."""
        shared = self.full.match(sequence.names(reusable))
        if self.chunk is None:
            return shared, []
        names, count = sequence.names(len(shared)), len(shared)
        while count > 0:
            first = self._first_read(count * BLOCK_SIZE)
            tail = self.chunked.match(reversed(names[first:count]))
            if len(tail) == count - first:
                return shared[:count], tail[::-1]
            count -= len(tail) + 1  # all these places read the block that is not there
        return [], []

    def grow(self, sequence: Running, tokens: int) -> bool:
        """See that ``sequence`` has blocks for its first ``tokens`` tokens; False, and nothing changed, if too few are
        free."""
        full = max(0, blocks_for(tokens) - len(sequence.blocks))
        chunked = max(0, blocks_for(tokens) - len(sequence.chunk_blocks)) if self.chunk is not None else 0
        if full > self.full.free or chunked > self.chunked.free:
            return False
        sequence.blocks += self.full.allocate(full)
        sequence.chunk_blocks += self.chunked.allocate(chunked)
        return True

    def extend(self, sequence: Running, tokens: int) -> int:
        """Blocks, as many as are free, for its first ``tokens`` tokens; returns for how many of those there is room."""
        missing = [blocks_for(tokens) - len(sequence.blocks), self.full.free]
        if self.chunk is not None:
            behind = len(sequence.blocks) - len(sequence.chunk_blocks)
            missing.append(self.chunked.free - max(0, behind))
        room = (len(sequence.blocks) + max(0, min(missing))) * BLOCK_SIZE
        if min(missing) > 0:
            self.grow(sequence, room)
        return min(tokens, room)

    def trim(self, sequence: Running) -> None:
        """Free blocks beyond its tokens."""
        kept = blocks_for(len(sequence.tokens))
        self.full.release(sequence.blocks[kept:])
        self.chunked.release(sequence.chunk_blocks[kept:])
        del sequence.blocks[kept:], sequence.chunk_blocks[kept:]

    def advance(self, sequence: Running, count: int) -> None:
        """Note that ``count`` more tokens are computed: name the blocks that are full now, free what no later token of
        a chunked layer reads."""
        before = sequence.computed // BLOCK_SIZE
        sequence.computed += count
        for place, digest in enumerate(sequence.names(sequence.computed // BLOCK_SIZE)[before:], before):
            self.full.register(sequence.blocks[place], digest)
            if self.chunk is not None:
                self.chunked.register(sequence.chunk_blocks[place], digest)
        first = self._first_read(sequence.computed)
        if first > sequence.passed:
            self.chunked.release(sequence.chunk_blocks[sequence.passed : first])
            sequence.passed = first
            wanted = min(blocks_for(len(sequence.tokens)), first + self._most) - len(sequence.chunk_blocks)
            sequence.chunk_blocks += self.chunked.allocate(min(max(0, wanted), self.chunked.free))

    def give_back(self, sequence: Running) -> None:
        """Free all that ``sequence`` has; what the blocks hold may serve another."""
        self.full.release(sequence.blocks)
        self.chunked.release(sequence.chunk_blocks[sequence.passed :])
        sequence.blocks, sequence.chunk_blocks, sequence.passed = [], [], 0

    def _first_read(self, position: int) -> int:
        """The first block that a token at ``position`` reads in chunked layers; 0 where there are none."""
        return 0 if self.chunk is None else position // self.chunk * self.chunk // BLOCK_SIZE


def most_chunk_blocks(chunk: int, step: int) -> int:
    """Most blocks that a sequence has in chunked layers: a chunk, a step, and a block that both begin and end in."""
    return blocks_for(chunk + step) + 1


def chunk_blocks_for(context: int, chunk: int, step: int) -> int:
    """Most blocks that a sequence of ``context`` tokens has in chunked layers, if a step computes ``step`` of them."""
    return min(blocks_for(context), most_chunk_blocks(chunk, step))
