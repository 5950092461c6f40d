"""Matrix products against numpy in float64: of the decoded weights and of the activations as the products read them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from native.plans import FLOATS, K_KINDS, KINDS, SETS, Fed, decoded, quantised, stored_rows

tokens_up_to_64 = st.one_of(st.integers(1, 9), st.integers(1, 64))


@st.composite
def shapes(draw, kind):
    cols = draw(st.integers(1, 200)) if kind in FLOATS else 32 * draw(st.integers(1, 18))
    return draw(st.lists(st.integers(1, 70), min_size=1, max_size=3)), cols, draw(tokens_up_to_64)


def matrices(kind, rows, cols, seed):
    random = np.random.default_rng(seed)
    return [stored_rows(kind, random.normal(0, cols**-0.5, (count, cols)).astype(np.float32)) for count in rows]


def activations(tokens, cols, seed):
    """Of many sizes: a token's and a group's scale must be its own."""
    random = np.random.default_rng(seed + 1)
    sizes = np.exp(random.normal(0, 2, (tokens, 1)))
    return (random.normal(0, 1, (tokens, cols)) * sizes).astype(np.float32)


def reference(kind, weight, x):
    """Products in float64, and how far from them sums in float32 may be: a rounding for each term and its size."""
    terms = weight.shape[1]
    if kind not in FLOATS:
        terms = 2 * weight.shape[1] // 32
        quanta, scales = quantised(x)
        x = (quanta * scales[..., None].astype(np.float64)).reshape(len(x), -1)
    magnitude = np.abs(weight).astype(np.float64)
    if kind not in FLOATS:  # a weight near 0 is scale * quantum + minimum, each of the size of the block's largest
        largest = magnitude.reshape(len(weight), -1, 32).max(-1, keepdims=True)
        magnitude = 2 * np.broadcast_to(largest, (*largest.shape[:2], 32)).reshape(weight.shape)
    return x.astype(np.float64) @ weight.T.astype(np.float64), 2.0**-23 * (terms + 4) * (np.abs(x) @ magnitude.T)


@pytest.mark.parametrize("isa", SETS)
@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=10)
@given(data=st.data(), seed=st.integers(0, 2**32), threads=st.sampled_from([1, 2, 4]))
def test_products_of_every_kind_and_shape(kind, isa, data, seed, threads):
    rows, cols, tokens = data.draw(shapes(kind))
    stored = matrices(kind, rows, cols, seed)
    x = activations(tokens, cols, seed)
    fed = Fed(x, isa, threads)
    out = fed.plan.buffer(sum(rows))
    fed.plan.linear([fed.weight(kind, each, cols) for each in stored], fed.inputs, out)
    fed.run()
    weight = np.concatenate([decoded(kind, each) for each in stored])
    expected, limit = reference(kind, weight, x)
    assert (np.abs(fed.plan.read(out, tokens) - expected) <= limit).all()


@pytest.mark.parametrize("kind", K_KINDS)
def test_k_kinds_lose_no_more_than_their_scales(kind):
    random = np.random.default_rng(3)
    size = {"Q4_K": 144, "Q5_K": 176, "Q6_K": 210}[kind]
    blocks = random.integers(0, 256, (40, 2, size), dtype=np.uint8)
    for place in (208,) if kind == "Q6_K" else (0, 2):
        blocks[..., place : place + 2] = random.uniform(1e-4, 1e-3, (40, 2, 1)).astype(np.float16).view(np.uint8)
    stored = blocks.reshape(40, -1)
    x = activations(5, 512, 3)
    fed = Fed(x)
    out = fed.plan.buffer(40)
    fed.plan.linear([fed.weight(kind, stored, 512)], fed.inputs, out)
    fed.run()
    expected, _ = reference("Q8_0", decoded(kind, stored), x)
    assert np.linalg.norm(fed.plan.read(out, 5) - expected) < 6e-3 * np.linalg.norm(expected)


@pytest.mark.parametrize("isa", SETS)
@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=5)
@given(data=st.data(), seed=st.integers(0, 2**32))
def test_kinds_side_by_side_are_added_to_what_is_there(kind, isa, data, seed):
    """A file's layers mix kinds: q and k in one, v in another."""
    rows, cols, tokens = [33, 7], 64, data.draw(tokens_up_to_64)
    other = data.draw(st.sampled_from(KINDS))
    kinds = [kind, other]
    stored = [matrices(each, [count], cols, seed + count)[0] for each, count in zip(kinds, rows, strict=True)]
    x = activations(tokens, cols, seed)
    fed = Fed(x, isa, 2)
    out = fed.plan.buffer(40)
    weights = [fed.weight(each, bytes_, cols) for each, bytes_ in zip(kinds, stored, strict=True)]
    fed.plan.linear(weights, fed.inputs, out)
    fed.run()
    once = fed.plan.read(out, tokens)
    fed.plan.linear(weights, fed.inputs, out, add=True)
    fed.run()
    np.testing.assert_array_equal(fed.plan.read(out, tokens), once + once)
    first, first_limit = reference(kind, decoded(kind, stored[0]), x)
    assert (np.abs(once[:, :33] - first) <= first_limit).all()
    second, second_limit = reference(other, decoded(other, stored[1]), x)
    assert (np.abs(once[:, 33:] - second) <= second_limit).all()


@pytest.mark.parametrize("kind", ["F32", "Q4_1", "Q8_0"])
@pytest.mark.parametrize("extent", ["gathered", "scored"])
@given(rows=st.lists(st.integers(0, 19), max_size=40), share=st.floats(0, 1))
@settings(max_examples=20)
def test_only_the_rows_of_its_extent(kind, extent, rows, share):
    """Gathered rows may repeat, come in any order, and be more than there are tokens."""
    x = activations(20, 64, 0)
    [stored] = matrices(kind, [24], 64, 0)
    fed = Fed(x, blocks=4)
    gathered, out, whole = fed.plan.buffer(64), fed.plan.buffer(24), fed.plan.buffer(24)
    weight = fed.weight(kind, stored, 64)
    fed.plan.gather(fed.inputs, gathered)
    fed.plan.linear([weight], gathered, out, extent=extent)
    fed.plan.linear([weight], fed.inputs, whole)
    count = round(share * len(rows))
    fed.run(rows=rows, scored=count)
    if extent == "gathered":
        count = len(rows)
    expected = fed.plan.read(whole, 20)[rows[:count]]
    np.testing.assert_array_equal(fed.plan.read(out, count), expected.reshape(count, 24))


def chain(x, isa, threads, kind):
    """A product of a product, which is quantised between: as activations of every producer are."""
    fed = Fed(x, isa, threads)
    first, second = fed.plan.buffer(96), fed.plan.buffer(20)
    fed.plan.linear([fed.weight(kind, matrices(kind, [96], 64, 1)[0], 64)], fed.inputs, first)
    fed.plan.linear([fed.weight(kind, matrices(kind, [20], 96, 2)[0], 96)], first, second)
    fed.run()
    return fed.plan.read(first, len(x)), fed.plan.read(second, len(x))


@pytest.mark.parametrize("threads", [1, 2, 4])
@pytest.mark.parametrize("kind", ["F16", "Q4_0", "Q5_1"])
def test_a_product_of_a_product(kind, threads):
    first, second = chain(activations(33, 64, 4), SETS[0], threads, kind)
    expected, limit = reference(kind, decoded(kind, matrices(kind, [20], 96, 2)[0]), first)
    assert (np.abs(second - expected) <= limit).all()


@pytest.mark.skipif(not {"avx512", "avx2"} <= set(SETS), reason="this processor has not both")
@pytest.mark.parametrize("kind", KINDS)
def test_instruction_sets_agree(kind):
    """The two that fuse products and sums to the bit; portable rounds twice, so within rounding."""
    x = activations(33, 64, 4)
    ours = chain(x, "avx512", 2, kind)
    theirs = chain(x, "avx2", 2, kind)
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(one.view(np.uint32), other.view(np.uint32))
    portable = chain(x, "portable", 2, kind)
    np.testing.assert_allclose(portable[0], ours[0], rtol=1e-5, atol=1e-5 * np.abs(ours[0]).max())


@pytest.mark.parametrize("isa", SETS)
@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=8)
@given(data=st.data(), seed=st.integers(0, 2**32))
def test_a_row_is_the_same_bits_alone_and_among_others(kind, isa, data, seed):
    rows, cols, tokens = data.draw(shapes(kind))
    fed = Fed(activations(tokens, cols, seed), isa, data.draw(st.sampled_from([1, 2, 4])))
    out = fed.plan.buffer(sum(rows))
    fed.plan.linear([fed.weight(kind, each, cols) for each in matrices(kind, rows, cols, seed)], fed.inputs, out)
    fed.run()
    together = fed.plan.read(out, tokens).view(np.uint32)
    for token in {0, tokens // 2, tokens - 1}:
        fed.run([token])
        np.testing.assert_array_equal(fed.plan.read(out, 1).view(np.uint32)[0], together[token])
    some = data.draw(st.lists(st.integers(0, tokens - 1), min_size=1, max_size=64))
    fed.run(some)
    np.testing.assert_array_equal(fed.plan.read(out, len(some)).view(np.uint32), together[some])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("isa", SETS)
def test_no_number_stays_in_its_token_and_is_seen_there(kind, value, isa):
    x = np.ones((9, 64), np.float32)
    x[4, 37] = value
    fed = Fed(x, isa)
    out = fed.plan.buffer(17)
    fed.plan.linear([fed.weight(kind, matrices(kind, [17], 64, 0)[0], 64)], fed.inputs, out)
    fed.run()
    bad = ~np.isfinite(fed.plan.read(out, 9))
    assert bad[4].all()
    assert not np.delete(bad, 4, axis=0).any()
