"""Attention over the paged cache against numpy in float64, over the keys and values as the cache holds them.

Rotation is tested elsewhere: here every frequency is 0, so that keys are cached as they come.
"""

from itertools import chain

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from native.plans import SETS, Fed, integers

CACHES = ["f32", "f16", "int8"]
GROUPS = [(3, 3), (1, 4), (2, 4), (1, 8), (1, 5), (2, 1), (1, 9), (1, 1)]  # key heads, queries of each
EDGES = [1, 2, 15, 16, 17, 33, 100, 255, 256, 257, 300, 511, 513, 600]
CHUNKS = [0, 0, 16, 48, 64, 256, 7, 20, 300]  # Llama 4's are multiples of 16; nothing says that all must be


class Attending:
    """Sequences in the rows of one table, in scattered blocks of a cache that is full of NaN before."""

    def __init__(self, lengths, kv_heads, group, size, seed, *, kind="f32", chunk=0, isa=SETS[0], threads=1, bad=None):
        random = np.random.default_rng(seed)
        self.lengths, self.kv_heads, self.group, self.size, self.kind, self.chunk = (
            lengths, kv_heads, group, size, kind, chunk,
        )  # fmt: skip
        heads = kv_heads * group
        tokens = sum(lengths)
        self.qkv = random.normal(0, 1, (tokens, heads + 2 * kv_heads, size)).astype(np.float32)
        self.qkv[:, :heads] *= 3  # sharp enough for some keys to matter
        if bad is not None:
            (row, head, place), value = bad
            self.qkv[row, head, place] = value
        self.firsts = np.cumsum([0, *lengths])
        needed = [-(-length // 16) for length in lengths]
        blocks = random.permutation(sum(needed) + 1).tolist()
        self.tables = [[blocks.pop() for _ in range(count)] for count in needed]
        with_nan = np.concatenate([self.qkv.reshape(tokens, -1), np.full((1, self.qkv[0].size), np.nan, np.float32)])
        self.fed = Fed(with_nan, isa, threads, blocks=sum(needed) + 1)
        plan = self.fed.plan
        angles, self.out = plan.buffer(size), plan.buffer(heads * size)
        plan.angles([0.0] * (size // 2), angles)
        cache = plan.cache(kind, kv_heads, size, sum(needed) + 1)
        plan.rotate_append(self.fed.inputs, angles, cache, heads)
        plan.attention(self.fed.inputs, cache, heads, self.out, chunk)
        every = range(sum(needed) + 1)
        self.run([[tokens] * 16 for _ in every], [0 for _ in every], [[block] for block in every])

    def run(self, tokens, starts, tables):
        counts = [len(each) for each in tokens]
        flat = [list(chain.from_iterable(each)) for each in (tokens, tables)]
        lengths = [len(each) for each in tables]
        self.fed.plan.run(*map(integers, (flat[0], counts, starts, flat[1], lengths, [])), 0)
        return np.split(self.fed.plan.read(self.out, sum(counts)), np.cumsum(counts)[:-1])

    def step(self, parts):
        """``parts``: (sequence, start, end) of each span; returns what comes out for each."""
        tokens = [list(range(self.firsts[which] + start, self.firsts[which] + end)) for which, start, end in parts]
        return self.run(tokens, [start for _, start, _ in parts], [self.tables[which] for which, _, _ in parts])

    def cut(self, pieces):
        """All sequences, each in pieces of lengths drawn from ``pieces``, one step a round."""
        random = np.random.default_rng(len(pieces))
        done, outputs = [0] * len(self.lengths), [[] for _ in self.lengths]
        while any(start < length for start, length in zip(done, self.lengths, strict=True)):
            parts = []
            for which, length in enumerate(self.lengths):
                count = min(int(random.choice(pieces)), length - done[which])
                if count:
                    parts.append((which, done[which], done[which] + count))
            if not parts:
                continue
            for (which, _, end), rows in zip(parts, self.step(parts), strict=True):
                outputs[which].append(rows)
                done[which] = end
        return [np.concatenate(rows) for rows in outputs]

    def reference(self, which, cached, rows=slice(None)):
        """float64 [length, heads * size], or only ``rows`` of it."""
        first, length = self.firsts[which], self.lengths[which]
        qkv = self.qkv[first : first + length].swapaxes(0, 1)
        heads = self.kv_heads * self.group
        queries = qkv[:heads].astype(np.float64)
        keys, values = (
            np.repeat(cached(part), self.group, axis=0) for part in np.split(qkv[heads:], [self.kv_heads])
        )  # fmt: skip
        keys_at = np.arange(length)
        places = keys_at[rows]
        begins = places // self.chunk * self.chunk if self.chunk else places * 0
        seen = (keys_at <= places[:, None]) & (keys_at >= begins[:, None])
        scores = queries[:, rows] @ keys.swapaxes(1, 2) / np.sqrt(self.size)
        scores = np.where(seen, scores, -np.inf)
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        weights /= weights.sum(-1, keepdims=True)
        return (weights @ values).swapaxes(0, 1).reshape(len(places), -1)


def as_cached(kind, size):
    def int8(x):
        group = 32 if size % 32 == 0 else size
        parts = x.reshape(*x.shape[:-1], -1, group)
        most = np.abs(parts).max(-1, keepdims=True)
        return (np.rint(parts * (np.float32(127) / most)) * (most / np.float32(127)).astype(np.float64)).reshape(
            x.shape
        )

    return {
        "f32": lambda x: x.astype(np.float64),
        "f16": lambda x: x.astype(np.float16).astype(np.float64),
        "int8": int8,
    }[kind]


@st.composite
def cases(draw):
    kv_heads, group = draw(st.sampled_from(GROUPS))
    # Large heads where there are few of them: the reference takes float64's time.
    size = 2 * draw(st.one_of(st.integers(1, 128 // group), st.sampled_from([1, 4, 8, 16, 32, 64])))
    size = min(size, 128)
    lengths = [draw(st.sampled_from(EDGES)), *draw(st.lists(st.sampled_from(EDGES[:7]), max_size=3))]
    # Some large piece in every round: hundreds of steps of one token each would take the time of all the others.
    pieces = draw(st.lists(st.sampled_from([0, 1, 1, 2, 15, 16, 17, 64]), max_size=4))
    pieces.insert(draw(st.integers(0, len(pieces))), draw(st.sampled_from([100, 255, 256, 257, 600])))
    return (lengths, kv_heads, group, size, draw(st.integers(0, 2**32))), pieces


@pytest.mark.parametrize("isa", SETS)
@pytest.mark.parametrize("kind", CACHES)
@settings(max_examples=15)
@given(case=cases(), chunk=st.sampled_from(CHUNKS))
def test_attention_of_any_shape_cut_anywhere(kind, isa, case, chunk):
    """Prefill and decode in the same steps. Stale NaN fills every slot that is not written yet."""
    shape, pieces = case
    attending = Attending(*shape, kind=kind, chunk=chunk, isa=isa)
    for which, result in enumerate(attending.cut(pieces)):
        # The rows about the edges of blocks, of pieces, and the last: float64 takes its time.
        near = (0, 8, 16, 256, 300, 512, len(result) - 1)
        rows = [row for row in range(len(result)) if any(abs(row - edge) < 10 for edge in near)]
        expected = attending.reference(which, as_cached(kind, shape[3]), rows)
        np.testing.assert_allclose(result[rows], expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("isa", SETS)
@pytest.mark.parametrize("kind", CACHES)
@settings(max_examples=15)
@given(case=cases(), chunk=st.sampled_from(CHUNKS), threads=st.sampled_from([2, 4]))
def test_no_bit_depends_on_cuts_neighbours_or_threads(kind, isa, case, chunk, threads):
    shape, pieces = case
    # Threads in one step only: on a machine that is short of cores they wait for each other in every one.
    whole = Attending(*shape, kind=kind, chunk=chunk, isa=isa).cut([600])
    cut = Attending(*shape, kind=kind, chunk=chunk, isa=isa).cut(pieces)
    alone = Attending(*shape, kind=kind, chunk=chunk, isa=isa, threads=threads)
    [first] = alone.step([(0, 0, shape[0][0])])
    np.testing.assert_array_equal(first.view(np.uint32), whole[0].view(np.uint32))
    for one, other in zip(whole, cut, strict=True):
        np.testing.assert_array_equal(one.view(np.uint32), other.view(np.uint32))


@pytest.mark.parametrize("start", [0, 9, 255, 300])
@pytest.mark.parametrize("chunk", [7, 24, 64, 100])
def test_a_chunk_that_ends_within_a_span(start, chunk):
    """Queries that are computed together see different first keys."""
    attending = Attending([340], 2, 3, 32, start, chunk=chunk)
    parts = [attending.step([(0, first, last)])[0] for first, last in ((0, start), (start, 340)) if last > first]
    expected = attending.reference(0, as_cached("f32", 32))
    np.testing.assert_allclose(np.concatenate(parts), expected, rtol=0, atol=1e-5)


# Relative to the root mean square of what comes out in float32, over normal keys and values; measured: 4.7e-4, 1.14e-2.
@pytest.mark.parametrize(("kind", "limit"), [("f16", 6e-4), ("int8", 1.4e-2)])
def test_what_a_narrow_cache_costs(kind, limit):
    attending = Attending([600], 3, 3, 64, 1, kind=kind)
    exact = attending.reference(0, as_cached("f32", 64))
    lost = attending.cut([600])[0] - exact
    assert np.sqrt((lost**2).mean() / (exact**2).mean()) < limit


@pytest.mark.parametrize("isa", SETS)
@pytest.mark.parametrize("kind", CACHES)
@pytest.mark.parametrize("chunk", [0, 24])
@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("place", ["key", "value"])
@pytest.mark.parametrize("cuts", [[600], [1], [5, 16]])
def test_no_number_reaches_those_that_see_it_and_no_others(kind, isa, chunk, value, place, cuts):
    """Tokens before it, of another chunk and of other sequences keep every bit, however they are cut."""
    shape = ([60, 30], 1, 2, 20, 0)
    clean = Attending(*shape, kind=kind, chunk=chunk, isa=isa).cut([600])
    where = (21, {"key": 2, "value": 3}[place], 4)
    bad = Attending(*shape, kind=kind, chunk=chunk, isa=isa, bad=(where, value)).cut(cuts)
    sees = np.arange(60) >= 21
    if chunk:
        sees &= np.arange(60) < 24
    np.testing.assert_array_equal(bad[0][~sees].view(np.uint32), clean[0][~sees].view(np.uint32))
    np.testing.assert_array_equal(bad[1].view(np.uint32), clean[1].view(np.uint32))
    # An infinite key that points away from a query has the weight 0, rightly.
    if place == "value" or np.isnan(value) or kind == "int8":
        assert (~np.isfinite(bad[0][sees])).any(axis=1).all()
