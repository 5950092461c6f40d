"""Attention over the paged cache: what one sequence leaves in it is nothing to another."""

from dataclasses import replace

import pytest
import tiny
import torch

from quipu.model.attention import Extent, PagedCache

BLOCK = 4


@pytest.mark.parametrize("left", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("chunk", [None, 6])
def test_what_an_overflow_left_in_recycled_blocks_reaches_nobody(left, dtype, chunk):
    """Slots beyond a sequence's end or before its chunk, and the blocks that pad its table, hold what others wrote."""
    config = replace(tiny.tiny_config(), chunk=chunk)

    def decode(filled):
        generator = torch.Generator().manual_seed(0)
        cache = PagedCache(config, 12, BLOCK, dtype, torch.device("cpu"), 12)
        for pool in (*cache.keys, *cache.values):
            pool.fill_(filled)
        tables = {3: [7], 18: [1, 5, 2, 9, 3], 20: [4, 6, 8, 10, 11]}  # lengths after this step -> blocks

        def drawn(count, heads):
            return torch.randn(count, heads, config.head_size, generator=generator).to(dtype)

        for length, blocks in tables.items():
            prompt = cache.plan(*[[Extent(0, length - 1, blocks)]] * 2)
            prompt(0, *(drawn(length - 1, heads) for heads in (config.heads, config.kv_heads, config.kv_heads)))
        step = cache.plan(*[[Extent(length - 1, 1, blocks) for length, blocks in tables.items()]] * 2)
        return step(0, *(drawn(3, heads) for heads in (config.heads, config.kv_heads, config.kv_heads)))

    found = decode(left)
    assert found.isfinite().all()
    assert torch.equal(found, decode(0))
