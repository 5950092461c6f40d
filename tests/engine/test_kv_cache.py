"""The block pool: prefixes are found again, never mixed up, and forgotten in the right order."""

import pytest

from quipu.engine.kv_cache import ROOT, BlockPool, KVCache, blocks_for, chunk_blocks_for, extend_digest
from quipu.engine.request import Sequence
from quipu.engine.runner import BLOCK_SIZE, PoolSize
from quipu.types import Sampling


def fill(pool: BlockPool, tokens: list[int]) -> list[int]:
    """Compute ``tokens`` as a sequence would: allocate, register full blocks."""
    blocks = pool.allocate(blocks_for(len(tokens)))
    for block, digest in zip(blocks, names(tokens), strict=False):
        pool.register(block, digest)
    return blocks


def names(tokens: list[int]) -> list[bytes]:
    """Digests of the full blocks of ``tokens``."""
    digests = [ROOT]
    for start in range(0, len(tokens) - BLOCK_SIZE + 1, BLOCK_SIZE):
        digests.append(extend_digest(digests[-1], tokens[start : start + BLOCK_SIZE]))
    return digests[1:]


def test_a_released_prefix_is_found_again_block_by_block():
    pool = BlockPool(8)
    tokens = list(range(3 * BLOCK_SIZE + 5))
    blocks = fill(pool, tokens)
    pool.release(blocks)
    assert pool.free == 8
    assert pool.match(names(tokens)) == blocks[:3]
    assert pool.match(names(tokens[: 2 * BLOCK_SIZE + 1])) == blocks[:2]
    assert pool.match(names([*tokens[:BLOCK_SIZE], 999, *tokens[BLOCK_SIZE + 1 :]])) == blocks[:1]
    assert pool.match(names([999, *tokens[1:]])) == []


def test_the_same_tokens_after_another_prefix_are_another_block():
    pool = BlockPool(8)
    middle = [7] * BLOCK_SIZE
    fill(pool, [1] * BLOCK_SIZE + middle)
    assert len(pool.match(names([2] * BLOCK_SIZE + middle))) == 0


def test_allocation_forgets_the_least_recently_used_prefix_and_its_end_before_its_beginning():
    pool = BlockPool(4)
    old, new = [1] * (2 * BLOCK_SIZE), [2] * (2 * BLOCK_SIZE)
    pool.release(fill(pool, old))
    pool.release(fill(pool, new))
    pool.allocate(1)
    assert len(pool.match(names(old))) == 1
    assert len(pool.match(names(new))) == 2
    pool.allocate(1)
    assert len(pool.match(names(old))) == 0
    assert len(pool.match(names(new))) == 2


def test_blocks_without_a_prefix_are_used_before_any_prefix_is_forgotten():
    pool = BlockPool(3)
    pool.release(fill(pool, [1] * (2 * BLOCK_SIZE)))
    partial = fill(pool, [5])
    pool.release(partial)
    assert pool.allocate(1) == partial
    assert len(pool.match(names([1] * (2 * BLOCK_SIZE)))) == 2


def test_a_shared_block_stays_until_its_last_user_releases_it():
    pool = BlockPool(2)
    blocks = fill(pool, [1] * BLOCK_SIZE)
    pool.share(blocks)
    pool.release(blocks)
    assert pool.free == 1
    pool.release(blocks)
    assert pool.free == 2
    with pytest.raises(ValueError, match="released twice"):
        pool.release(blocks)


def test_available_does_not_count_what_sharing_will_take():
    pool = BlockPool(4)
    blocks = fill(pool, [1] * (2 * BLOCK_SIZE))
    pool.release(blocks)
    assert pool.available(blocks) == 2
    pool.share(blocks)
    assert pool.available(blocks) == 2


def test_asking_for_more_than_is_free_takes_nothing():
    pool = BlockPool(2)
    with pytest.raises(IndexError, match="3 blocks asked for, 2 free"):
        pool.allocate(3)
    assert pool.free == 2


def sequence(tokens: list[int]) -> Sequence:
    return Sequence(tokens, len(tokens), Sampling(), None)


@pytest.mark.parametrize("chunk", [1, 4, 16, 31, 40, 64])
@pytest.mark.parametrize("step", [1, 16, 64])
def test_most_blocks_of_chunked_layers_are_enough_and_few(chunk, step):
    """Wherever a step begins: from the beginning of its chunk to its end."""
    needed = max(blocks_for(start + step) - start // chunk * chunk // BLOCK_SIZE for start in range(40 * chunk))
    assert needed <= chunk_blocks_for(1 << 30, chunk, step) <= needed + 2
    assert chunk_blocks_for(40, chunk, step) <= blocks_for(40)


@pytest.mark.parametrize(("size", "chunk"), [(PoolSize(8), 16), (PoolSize(8, 8), None)])
def test_blocks_of_chunks_without_chunks_are_a_mistake(size, chunk):
    with pytest.raises(ValueError, match="blocks of chunks, but a chunk of"):
        KVCache(size, chunk)


def test_a_chunk_that_another_still_reads_is_passed_without_blocks_for_the_next():
    """It has released four blocks, three of which another still reads: it takes what is free, and more as it grows."""
    cache = KVCache(PoolSize(40, 9), 64, 16)
    first, second = sequence(list(range(200))), sequence(list(range(150)))
    assert cache.start(first, 12)
    cache.advance(first, 48)
    assert cache.start(second, 9)
    assert (second.computed, second.chunk_blocks[:3], cache.chunked.free) == (48, first.chunk_blocks[:3], 0)
    cache.advance(first, 16)
    assert (first.passed, len(first.chunk_blocks), cache.chunked.free) == (4, 7, 0)
    assert cache.grow(first, 112)
    assert not cache.grow(first, 113)
    cache.give_back(second)
    assert cache.grow(first, 113)
