"""The whole runner: the same bits whatever the chunking, the company, the threads; and the rows that are wanted."""

import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from native.models import CONFIG, tiny_weights
from native.plans import KINDS, SETS
from tiny import tiny_tensors

from quipu.engine.footprint import KV_BYTES
from quipu.engine.kv_cache import blocks_for
from quipu.engine.native_runner import NativeRunner
from quipu.engine.runner import PoolSize, Span

WEIGHTS = {kind: tiny_weights(kind) for kind in KINDS}


def make(kind="Q8_0", **options):
    return NativeRunner(CONFIG, WEIGHTS[kind], PoolSize(128), **options)


def bits(rows):
    return np.concatenate(rows).view(np.uint32)


def whole(runner, tokens):
    return runner.step([Span(tokens, 0, range(blocks_for(len(tokens))), "all")])[0].view(np.uint32)


def among_others(runner, sequences, pieces, random):
    """Every sequence's logits, prefilled and decoded in pieces, in scattered blocks."""
    blocks = random.permutation(128).tolist()
    tables = [[blocks.pop() for _ in range(blocks_for(len(each)))] for each in sequences]
    done, rows = [0] * len(sequences), [[] for _ in sequences]
    while any(start < len(each) for start, each in zip(done, sequences, strict=True)):
        spans, which = [], []
        for place in random.permutation(len(sequences)).tolist():
            end = min(done[place] + int(random.choice(pieces)), len(sequences[place]))
            if end > done[place]:
                spans.append(Span(sequences[place][done[place] : end], done[place], tables[place], "all"))
                which.append(place)
                done[place] = end
        for place, logits in zip(which, runner.step(spans) if spans else [], strict=True):
            rows[place].append(logits)
    return [bits(each) for each in rows]


@pytest.mark.parametrize("isa", SETS)
@pytest.mark.parametrize("kv_dtype", KV_BYTES)
@settings(max_examples=10)
@given(
    kind=st.sampled_from(KINDS),
    length=st.sampled_from([1, 2, 16, 17, 40, 257, 270]),
    others=st.sampled_from([0, 1, 3, 16]),
    pieces=st.sampled_from([[300], [1, 60], [0, 1, 2, 17, 100], [5, 16, 33, 100], [1, 255, 256]]),
    threads=st.sampled_from([1, 1, 2, 4]),
    seed=st.integers(0, 2**32),
)
def test_the_same_bits_in_any_chunks_alone_or_among_others(isa, kv_dtype, kind, length, others, pieces, threads, seed):
    random = np.random.default_rng(seed)
    lengths = [length, *random.integers(1, 40, others)]
    sequences = [random.integers(0, CONFIG.vocabulary, count).tolist() for count in lengths]
    options = {"kv_dtype": kv_dtype, "instructions": isa}
    results = among_others(make(kind, threads=threads, **options), sequences, pieces, random)
    alone = make(kind, threads=1, **options)
    for tokens, result in zip(sequences, results, strict=True):
        np.testing.assert_array_equal(result, whole(alone, tokens))


@pytest.mark.skipif(not {"avx512", "avx2"} <= set(SETS), reason="this processor has not both")
@pytest.mark.parametrize("kv_dtype", KV_BYTES)
@pytest.mark.parametrize("kind", ["F32", "Q4_1", "Q8_0"])
def test_instruction_sets_agree(kind, kv_dtype):
    """A log made on one machine can be compared with another's; portable rounds products and sums apart."""
    tokens = np.random.default_rng(0).integers(0, CONFIG.vocabulary, 50).tolist()
    best, second, portable = (
        whole(make(kind, kv_dtype=kv_dtype, instructions=isa), tokens) for isa in ("avx512", "avx2", "portable")
    )
    np.testing.assert_array_equal(best, second)
    difference = np.abs(best.view(np.float32) - portable.view(np.float32))
    if (kind, kv_dtype) == ("F32", "f32"):
        assert difference.max() < 1e-5
    # Elsewhere a last bit makes a rounded activation or cached key fall to the other side now and then, by 1/127 of
    # the largest of its group: far from it for one logit (0.06 measured), little on the whole. Logits are about 1.
    assert difference.mean() < 0.01


def test_only_the_wanted_rows_come_back():
    runner = make("F32", kv_dtype="f32")
    tokens = list(range(17))
    spans = [Span(tokens, 0, [2 * place, 2 * place + 1], want) for place, want in enumerate(WANTS)]
    none, last, every, hidden, again = runner.step(spans)
    shapes = [(0, CONFIG.vocabulary), (1, CONFIG.vocabulary), (17, CONFIG.vocabulary), (17, CONFIG.hidden_size)]
    assert [each.shape for each in (none, last, every, hidden)] == shapes
    np.testing.assert_array_equal(last[0], every[-1])
    np.testing.assert_array_equal(last, again)
    embedding = WEIGHTS["F32"].matrices["model.embed_tokens.weight"]
    assert embedding.rows == CONFIG.vocabulary
    logits = hidden.astype(np.float64) @ tiny_tensors(CONFIG)["model.embed_tokens.weight"].astype(np.float64).T
    np.testing.assert_allclose(every, logits, atol=1e-5)
    assert runner.step([Span(tokens, 0, [0, 1], "none")])[0].shape == (0, CONFIG.vocabulary)
    np.testing.assert_array_equal(runner.step([Span(tokens, 0, [0, 1], "hidden")])[0], hidden)


WANTS = ("none", "last", "all", "hidden", "last")


def test_a_prompt_given_up_in_the_middle_leaves_nothing_behind():
    """Its blocks go to another sequence, whose logits are those that it has alone."""
    runner = make()
    tokens = np.random.default_rng(1).integers(0, CONFIG.vocabulary, 90).tolist()
    runner.step([Span(tokens[:70], 0, range(6), "none")])
    other = tokens[::-1][:50]
    [result] = runner.step([Span(other, 0, [5, 3, 1, 0], "all")])
    np.testing.assert_array_equal(result.view(np.uint32), whole(make(), other))


def test_two_runners_at_once_in_two_threads():
    tokens = np.random.default_rng(2).integers(0, CONFIG.vocabulary, 200).tolist()
    expected = {kind: whole(make(kind, threads=1), tokens) for kind in ("Q4_1", "F32")}
    equal = []

    def work(kind):
        runner = make(kind, threads=2)
        equal.extend(np.array_equal(whole(runner, tokens), expected[kind]) for _ in range(10))

    threads = [threading.Thread(target=work, args=(kind,)) for kind in expected]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert equal == [True] * 20


def test_a_closed_runner_says_so():
    runner = make()
    runner.close()
    with pytest.raises(RuntimeError, match="the runner is closed"):
        runner.step([Span([1], 0, [0])])
