"""Norms, SwiGLU, angles and rotation against numpy in float64."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from native.plans import SETS, Fed

widths = st.one_of(st.integers(1, 70), st.sampled_from([576, 1536, 2048]))
sizes = st.sampled_from([1e-20, 1e-4, 1.0, 1e4, 1e15])


def normal(rows, cols, seed):
    return np.random.default_rng(seed).normal(0, 1, (rows, cols)).astype(np.float32)


def norm(x, weight, epsilon, isa, threads=1):
    fed = Fed(x, isa, threads)
    out = fed.plan.buffer(x.shape[1])
    fed.plan.rms_norm(fed.inputs, weight, epsilon, out)
    fed.run()
    return fed.plan.read(out, len(x))


@pytest.mark.parametrize("isa", SETS)
@settings(max_examples=25)
@given(cols=widths, tokens=st.integers(1, 20), seed=st.integers(0, 2**32), size=sizes)
def test_rms_norm(isa, cols, tokens, seed, size):
    x, weight = normal(tokens, cols, seed) * np.float32(size), normal(1, cols, seed + 1)[0]
    wide = x.astype(np.float64)
    expected = wide / np.sqrt((wide**2).mean(-1, keepdims=True) + np.float32(1e-5)) * weight
    result = norm(x, weight, 1e-5, isa, 2)
    # A rounding for each of cols / 16 sums of a lane, four of the tree, and of root, quotient and products.
    np.testing.assert_allclose(result, expected, rtol=2.0**-24 * (cols / 16 + 12), atol=1e-37)


@pytest.mark.parametrize("isa", SETS)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_rms_norm_keeps_no_number_in_its_token(value, isa):
    x = normal(5, 39, 0)
    x[2, 38] = value
    result = norm(x, np.ones(39, np.float32), 1e-5, isa)
    assert np.isnan(result[2, 38])
    assert np.isfinite(np.delete(result, 2, axis=0)).all()


def gated(gate, up, isa, threads=1):
    fed = Fed(np.concatenate([gate, up], axis=1), isa, threads)
    out = fed.plan.buffer(gate.shape[1])
    fed.plan.swiglu(fed.inputs, out)
    fed.run()
    return fed.plan.read(out, len(gate))


@pytest.mark.parametrize("isa", SETS)
@settings(max_examples=25)
@given(cols=widths, tokens=st.integers(1, 20), seed=st.integers(0, 2**32), size=st.sampled_from([0.1, 1, 10, 60]))
def test_swiglu(isa, cols, tokens, seed, size):
    gate, up = normal(tokens, cols, seed) * np.float32(size), normal(tokens, cols, seed + 1)
    wide = gate.astype(np.float64)
    with np.errstate(over="ignore"):
        expected = wide / (1 + np.exp(-wide)) * up
    # exp is right to 2e-7 of itself; below e^-87 it ends.
    np.testing.assert_allclose(gated(gate, up, isa, 2), expected, rtol=6e-7, atol=1e-35)


@pytest.mark.parametrize("isa", SETS)
def test_silu_at_every_size(isa):
    gate = np.linspace(-120, 120, 4801, dtype=np.float32)[None]
    wide = gate.astype(np.float64)
    expected = wide / (1 + np.exp(-wide))
    np.testing.assert_allclose(gated(gate, np.ones_like(gate), isa), expected, rtol=6e-7, atol=1e-35)


@pytest.mark.parametrize("isa", SETS)
@pytest.mark.parametrize("half", [0, 1])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_swiglu_keeps_no_number_in_its_token(value, half, isa):
    parts = [normal(5, 39, 0), normal(5, 39, 1)]
    parts[half][2, 38] = value
    result = gated(*parts, isa)
    assert not np.isfinite(result[2, 38])
    assert np.isfinite(np.delete(result.reshape(-1), 2 * 39 + 38)).all()


@settings(max_examples=25)
@given(
    pairs=st.integers(1, 70), start=st.one_of(st.integers(0, 300), st.integers(0, 1 << 20)), count=st.integers(1, 20)
)
def test_angles(pairs, start, count):
    """The product of position and frequency in float32, as transformers has it; its cosine and sine to the last bit."""
    frequencies = (10000.0 ** -(np.arange(pairs) / pairs)).astype(np.float32)
    fed = Fed(np.zeros((count, 1), np.float32), blocks=1)
    out = fed.plan.buffer(2 * pairs)
    fed.plan.angles(frequencies.tolist(), out)
    blocks = np.zeros(-(-(start + count) // 16), np.int32)
    numbers = [np.array(each, np.int32) for each in (range(count), [count], [start])]
    fed.plan.run(*numbers, blocks, np.array([len(blocks)], np.int32), np.array([], np.int32), 0)
    angles = (np.arange(start, start + count, dtype=np.float32)[:, None] * frequencies).astype(np.float64)
    expected = np.concatenate([np.cos(angles), np.sin(angles)], axis=1)
    np.testing.assert_allclose(fed.plan.read(out, count), expected, rtol=2.0**-23, atol=1e-12)


@pytest.mark.parametrize("isa", SETS)
@settings(max_examples=25)
@given(
    pairs=st.integers(1, 70), kv_heads=st.integers(1, 3), group=st.integers(1, 4), seed=st.integers(0, 2**32)
)  # fmt: skip
def test_rotation_of_halves_and_scale_of_queries(isa, pairs, kv_heads, group, seed):
    size, heads, tokens = 2 * pairs, kv_heads * group, 7
    x = normal(tokens, (heads + 2 * kv_heads) * size, seed)
    fed = Fed(x, isa, 2)
    angles = fed.plan.buffer(size)
    frequencies = (100.0 ** -(np.arange(pairs) / pairs)).astype(np.float32)
    fed.plan.angles(frequencies.tolist(), angles)
    fed.plan.rotate_append(fed.inputs, angles, fed.plan.cache("f32", kv_heads, size, 2), heads)
    fed.run()
    turned = x.astype(np.float64).reshape(tokens, -1, size)
    rotated = turned[:, : heads + kv_heads]
    first, second = rotated[..., :pairs], rotated[..., pairs:]
    angle = (np.arange(tokens, dtype=np.float32)[:, None] * frequencies).astype(np.float64)[:, None]
    rotated[:] = np.concatenate(
        [first * np.cos(angle) - second * np.sin(angle), second * np.cos(angle) + first * np.sin(angle)], axis=-1
    )
    turned[:, :heads] /= np.sqrt(size)
    np.testing.assert_allclose(fed.plan.read(fed.inputs, tokens), turned.reshape(tokens, -1), rtol=1e-6, atol=2e-6)


@settings(max_examples=25)
@given(start=st.integers(0, 1 << 24), chunk=st.sampled_from([1, 4, 7, 16, 8192]), count=st.integers(1, 20))
def test_angles_within_a_chunk(start, chunk, count):
    """Those of positions counted from the chunk's start, to the last bit, ten million tokens into a text as well."""
    frequencies = (500000.0 ** -(np.arange(8) / 8)).astype(np.float32)
    fed = Fed(np.zeros((count, 1), np.float32), blocks=1)
    out = fed.plan.buffer(16)
    fed.plan.angles(frequencies.tolist(), out, chunk)
    at(fed, start, count)
    places = (np.arange(start, start + count) % chunk).astype(np.float32)
    angles = (places[:, None] * frequencies).astype(np.float64)
    expected = np.concatenate([np.cos(angles), np.sin(angles)], axis=1)
    np.testing.assert_allclose(fed.plan.read(out, count), expected, rtol=2.0**-23, atol=1e-12)


def at(fed, start, count):
    """One step of ``count`` tokens from position ``start`` on, all of them in block 0, which is read by nobody."""
    count_of = -(-(start + count) // 16)
    blocks = np.zeros(count_of, np.int32)
    numbers = [np.array(each, np.int32) for each in (range(count), [count], [start])]
    fed.plan.run(*numbers, blocks, np.array([count_of], np.int32), np.array([], np.int32), 0)


@pytest.mark.parametrize("isa", SETS)
@pytest.mark.parametrize("epsilon", [None, 0.0, 1e-5, 0.5])
@settings(max_examples=25)
@given(
    pairs=st.integers(1, 70), kv_heads=st.integers(1, 3), group=st.integers(1, 4), seed=st.integers(0, 2**32)
)  # fmt: skip
def test_rotation_of_pairs_then_a_norm_of_each_head(isa, epsilon, pairs, kv_heads, group, seed):
    """As complex numbers (Meta's layout); the root mean square is of one head, and queries are scaled after it."""
    size, heads, tokens = 2 * pairs, kv_heads * group, 7
    x = normal(tokens, (heads + 2 * kv_heads) * size, seed)
    fed = Fed(x, isa, 2)
    angles = fed.plan.buffer(size)
    frequencies = (100.0 ** -(np.arange(pairs) / pairs)).astype(np.float32)
    fed.plan.angles(frequencies.tolist(), angles)
    cache = fed.plan.cache("f32", kv_heads, size, 2)
    fed.plan.rotate_append(fed.inputs, angles, cache, heads, pairs=True, norm_epsilon=epsilon)
    fed.run()
    expected = x.astype(np.float64).reshape(tokens, -1, size)
    turned = expected[:, : heads + kv_heads]
    angle = (np.arange(tokens, dtype=np.float32)[:, None] * frequencies).astype(np.float64)[:, None]
    complex_ = (turned[..., ::2] + 1j * turned[..., 1::2]) * np.exp(1j * angle)
    turned[..., ::2], turned[..., 1::2] = complex_.real, complex_.imag
    if epsilon is not None:
        turned /= np.sqrt((turned**2).mean(-1, keepdims=True) + np.float32(epsilon))
    expected[:, :heads] /= np.sqrt(size)
    np.testing.assert_allclose(fed.plan.read(fed.inputs, tokens), expected.reshape(tokens, -1), rtol=2e-6, atol=4e-6)


# What Llama 4's layers without rotation multiply queries by (floor 8192, scale 0.1), in mpmath to ten digits.
@pytest.mark.parametrize(
    ("position", "factor"),
    [(0, 1), (8190, 1), (8191, 1.0693147181), (16383, 1.1098612289), (1048575, 1.4859812404), (10485759, 1.7155396164)],
)
def test_temperature_at_published_positions(position, factor):
    x = normal(1, 6 * 8, 0)
    fed = Fed(x, blocks=1)
    fed.plan.append(fed.inputs, fed.plan.cache("f32", 2, 8, 1), 2, 8192, 0.1)
    at(fed, position, 1)
    expected = x.reshape(1, 6, 8).astype(np.float64)
    expected[:, :2] *= factor / np.sqrt(8)
    np.testing.assert_allclose(fed.plan.read(fed.inputs, 1), expected.reshape(1, -1), rtol=2e-7)


@settings(max_examples=50)
@given(step=st.integers(1, 1 << 20), floor=st.integers(1, 1 << 20), beside=st.sampled_from([-2, -1, 0]))
def test_temperature_steps_exactly_where_it_should(step, floor, beside):
    near = max(0, min(step, (1 << 24) // floor) * floor + beside)
    fed = Fed(np.ones((1, 6), np.float32), blocks=1)
    fed.plan.append(fed.inputs, fed.plan.cache("f32", 1, 2, 1), 1, floor, 10)
    at(fed, near, 1)
    expected = (1 + 10 * np.log(1 + (near + 1) // floor)) / np.sqrt(2)
    np.testing.assert_allclose(fed.plan.read(fed.inputs, 1)[0], [expected] * 2 + [1] * 4, rtol=2e-7)
