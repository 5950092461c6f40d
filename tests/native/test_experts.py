"""Routing and the products of experts against numpy: whose rows go where, and whose weights are read."""

import ctypes
import mmap

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from native.plans import SETS, Fed, decoded, stored_rows

from quipu import native

KINDS = ["F32", "BF16", "Q4_0", "Q8_0"]
PAGE = mmap.PAGESIZE


def normal(seed, *shape):
    return np.random.default_rng(seed).normal(0, 1, shape).astype(np.float32)


class Mixed:
    """Tokens [x | logits], and experts that give one row each of a matrix [rows, cols]."""

    def __init__(self, x, logits, matrices, *, kind="F32", isa=SETS[0], threads=1):
        self.count, self.cols, self.experts = len(x), x.shape[1], logits.shape[1]
        self.fed = Fed(np.concatenate([x, logits], axis=1), isa, threads)
        plan = self.fed.plan
        self.stored = [stored_rows(kind, each) for each in matrices]
        source, self.routed, self.out = plan.buffer(self.cols), plan.buffer(self.cols), plan.buffer(len(matrices[0]))
        pick = np.eye(self.cols, x.shape[1] + self.experts, dtype=np.float32)
        plan.linear([self.fed.weight("F32", stored_rows("F32", pick), pick.shape[1])], self.fed.inputs, source)
        self.routing = plan.routing(self.experts)
        plan.route(self.fed.inputs, source, self.routing, self.routed)
        # Two matrices, one below the other: the first row and the rest.
        parts = [[each[:1], each[1:]] for each in self.stored]
        weights = [[self.fed.weight(kind, part, self.cols) for part in pair] for pair in parts]
        plan.expert_linear(weights, self.routing, self.routed, self.out)
        self.total = plan.buffer(len(matrices[0]))
        zero = np.zeros((len(matrices[0]), self.cols), np.float32)
        plan.linear([self.fed.weight("F32", stored_rows("F32", zero), self.cols)], source, self.total)
        plan.add_routed(self.routing, self.out, self.total)

    def run(self, tokens=None):
        self.fed.run(tokens)
        return self.fed.plan.read(self.total, self.count if tokens is None else len(tokens))


@pytest.mark.parametrize("isa", SETS)
@settings(max_examples=40)
@given(
    tokens=st.sampled_from([1, 2, 3, 7, 16, 17, 40, 130]),
    experts=st.sampled_from([1, 2, 3, 16, 128]),
    rows=st.sampled_from([2, 16, 17, 40, 300]),
    kind=st.sampled_from(KINDS),
    threads=st.sampled_from([1, 2, 4]),
    seed=st.integers(0, 2**32),
    skew=st.sampled_from([0, 3]),
)
def test_each_token_has_its_best_expert_of_its_scaled_row(isa, tokens, experts, rows, kind, threads, seed, skew):
    x, logits = normal(seed, tokens, 64), normal(seed + 1, tokens, experts)
    logits[:, 0] += skew  # most go to one
    matrices = normal(seed + 2, experts, rows, 64) / 8
    mixed = Mixed(x, logits, matrices, kind=kind, isa=isa, threads=threads)
    result = mixed.run()
    chosen = logits.argmax(-1)
    scores = 1 / (1 + np.exp(-logits.max(-1).astype(np.float64)))
    values = [decoded(kind, each).astype(np.float64) for each in mixed.stored]
    expected = np.stack([values[e] @ (score * row) for e, score, row in zip(chosen, scores, x, strict=True)])
    # Where weights are quantised, rows are, too, to 1 / 254 of the largest of 16 (test_linear has that exactly).
    np.testing.assert_allclose(result, expected, rtol=0, atol=2e-5 if kind in ("F32", "BF16") else 0.15)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("threads", [1, 3])
def test_no_bit_depends_on_the_company(kind, threads):
    x, logits, matrices = normal(0, 70, 64), normal(1, 70, 5), normal(2, 5, 40, 64)
    mixed = Mixed(x, logits, matrices, kind=kind, threads=threads)
    whole = mixed.run().view(np.uint32)
    for tokens in ([3], [69, 0], list(range(20, 60)), list(range(69, -1, -1))):
        np.testing.assert_array_equal(mixed.run(tokens).view(np.uint32), whole[tokens])


def test_the_first_of_equal_logits():
    matrices = np.arange(4, dtype=np.float32)[:, None, None] * np.ones((4, 2, 3), np.float32)
    logits = np.array([[0, 2, 2, 2], [1, 1, 1, 1], [-80] * 4, [0, 0, 0, 0.0001]], np.float32)
    result = Mixed(np.ones((4, 3), np.float32), logits, matrices).run()
    scores = 1 / (1 + np.exp(-logits.max(-1)))
    np.testing.assert_allclose(result[:, 0], [3 * scores[0], 0, 0, 9 * scores[3]], rtol=1e-6)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("where", [0, 3])
def test_no_number_stays_in_its_token(where, value):
    x, logits, matrices = normal(0, 9, 64), normal(1, 9, 4), normal(2, 4, 8, 64)
    clean = Mixed(x, logits, matrices).run()
    logits[5, where] = value
    x[5, 0] = value
    result = Mixed(x, logits, matrices).run()
    assert np.isnan(result[5]).all() or not np.isfinite(result[5]).all()
    np.testing.assert_array_equal(np.delete(result, 5, 0), np.delete(clean, 5, 0))


def test_experts_that_nobody_chose_are_not_touched():
    """Their pages are never mapped in, so that a model may be larger than the memory."""
    x, logits = normal(0, 40, 64), np.zeros((40, 8), np.float32)
    logits[::2, 2], logits[1::2, 5] = 1, 1
    fed = Fed(np.concatenate([x, logits], axis=1), threads=2)
    plan, size = fed.plan, native.packed_bytes("Q8_0", 512, 72)
    memories = [mmap.mmap(-1, size) for _ in range(8)]
    weights = [[plan.weight("Q8_0", 512, 72, np.frombuffer(each, np.uint8))] for each in memories]
    routing, routed, out = plan.routing(8), plan.buffer(72), plan.buffer(512)
    plan.route(fed.inputs, fed.inputs, routing, routed)
    plan.expert_linear(weights, routing, routed, out)
    fed.run()
    assert [resident(each) for each in memories] == [0, 0, size // PAGE, 0, 0, size // PAGE, 0, 0]


def resident(memory):
    """Pages of it that are in memory."""
    array = np.frombuffer(memory, np.uint8)
    pages = (ctypes.c_ubyte * -(-array.nbytes // PAGE))()
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.mincore(ctypes.c_void_p(array.ctypes.data), ctypes.c_size_t(array.nbytes), pages) == 0
    return sum(page & 1 for page in pages)
