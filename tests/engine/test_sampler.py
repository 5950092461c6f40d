"""The sampler against transformers' logits processors and against the distribution it claims to draw from."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare
from transformers.generation.logits_process import (
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from quipu.engine.sampler import Sampler, score
from quipu.errors import QuipuError
from quipu.types import Sampling


def logits(seed: int, size: int = 1000) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 3, size).astype(np.float32)


def drawn(sampling: Sampling, values: np.ndarray, count: int = 300) -> set[int]:
    """What ``count`` first draws of as many requests bring."""
    return {Sampler(Sampling(**{**vars_of(sampling), "seed": seed}), [], []).sample(values) for seed in range(count)}


def vars_of(sampling: Sampling) -> dict:
    return {name: getattr(sampling, name) for name in Sampling.__slots__}


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 1000),
    temperature=st.sampled_from([0.3, 1.0, 1.7]),
    top_k=st.sampled_from([0, 1, 5, 50, 2000]),
    top_p=st.sampled_from([0.05, 0.5, 0.9, 1.0]),
    min_p=st.sampled_from([0.0, 0.05, 0.5]),
)
def test_the_same_tokens_remain_as_with_transformers(seed, temperature, top_k, top_p, min_p):
    values = logits(seed, 400)
    kept = torch.tensor(values)[None]
    warpers = [TemperatureLogitsWarper(temperature)]
    if top_k:
        warpers.append(TopKLogitsWarper(top_k))
    if top_p < 1:
        warpers.append(TopPLogitsWarper(top_p))
    if min_p:
        warpers.append(MinPLogitsWarper(min_p))
    for warper in warpers:
        kept = warper(None, kept)
    probabilities = torch.softmax(kept[0].double(), -1).numpy()
    ours = drawn(Sampling(temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p), values, 60)
    assert all(probabilities[token] > 0 for token in ours)
    if (probabilities > 0).sum() == 1:
        assert ours == {int(probabilities.argmax())}


def test_equal_logits_are_cut_exactly():
    """Where all are equally likely, k of them stay and not their equals, and no more than top_p asks for."""
    assert drawn(Sampling(top_k=1), np.zeros(5, np.float32), 20) == {0}
    assert drawn(Sampling(top_p=0.5), np.zeros(2, np.float32), 20) == {0}
    assert [token for token, _ in score(np.zeros(5, np.float32), 4, 2).top] == [0, 1]


def test_a_nucleus_may_be_wider_than_the_first_look():
    places = drawn(Sampling(top_p=0.9), np.zeros(2000, np.float32), 200)
    assert 1500 < max(places) < 1800


@pytest.mark.parametrize("options", [{}, {"temperature": 0.5}, {"top_p": 0.8}, {"top_k": 6}, {"min_p": 0.1}])
def test_draws_follow_the_distribution(options):
    values = logits(3, 12)
    scaled = values.astype(np.float64) / options.get("temperature", 1.0)
    expected = np.exp(scaled - scaled.max())
    order = np.argsort(-expected)
    mass = np.cumsum(expected[order]) / expected.sum()
    if "top_p" in options:
        expected[order[np.searchsorted(mass, options["top_p"]) + 1 :]] = 0
    if "top_k" in options:
        expected[order[options["top_k"] :]] = 0
    if "min_p" in options:
        expected[expected < options["min_p"]] = 0
    expected /= expected.sum()
    sampler = Sampler(Sampling(seed=11, **options), [], [])
    counts = np.bincount([sampler.sample(values) for _ in range(20_000)], minlength=12)
    assert counts[expected == 0].sum() == 0
    kept = expected > 1e-3
    observed = np.append(counts[kept], counts[~kept].sum() + 1)
    wanted = np.append(expected[kept], 1 - expected[kept].sum() + 1 / 20_000)
    assert chisquare(observed, wanted / wanted.sum() * observed.sum()).pvalue > 1e-4


def test_temperature_zero_is_greedy_and_needs_no_luck():
    values = logits(1)
    assert drawn(Sampling(temperature=0), values, 5) == {int(values.argmax())}


def test_a_tiny_temperature_neither_overflows_nor_wanders():
    values = logits(1)
    assert drawn(Sampling(temperature=1e-30), values, 5) == {int(values.argmax())}


def test_a_seed_repeats_and_seeds_and_answers_differ():
    values = logits(2)

    def run(seed, index=0):
        sampler = Sampler(Sampling(seed=seed), [], [], index)
        return [sampler.sample(values) for _ in range(20)]

    assert run(5) == run(5)
    assert run(5) != run(6)
    assert run(5, 0) != run(5, 1)
    assert run(0) == run(0), "0 is a seed, not a missing one"
    assert run(-1) == run(-1)
    assert run(None) != run(None)


def test_penalties_follow_their_definitions():
    values = logits(4, 20)
    prompt = [1, 2]
    sampler = Sampler(
        Sampling(
            temperature=0, repetition_penalty=1.3, presence_penalty=0.5, frequency_penalty=0.25, logit_bias={7: 2.5}
        ),
        prompt,
        [],
    )
    for token in (3, 3, 5):
        sampler._generated[token] += 1
    expected = RepetitionPenaltyLogitsProcessor(1.3)(torch.tensor([[1, 2, 3, 3, 5]]), torch.tensor(values)[None])[
        0
    ].numpy()
    expected[3] -= 0.5 + 2 * 0.25
    expected[5] -= 0.5 + 0.25
    expected[7] += 2.5
    np.testing.assert_allclose(sampler._adjust(values), expected, rtol=1e-6)


def test_a_bias_can_force_and_forbid():
    values = logits(6, 50)
    assert drawn(Sampling(logit_bias={9: 100}), values, 20) == {9}
    best = int(values.argmax())
    assert Sampler(Sampling(temperature=0, logit_bias={best: -100}), [], []).sample(values) != best


def test_min_tokens_forbids_the_end_until_then():
    values = np.zeros(10, np.float32)
    values[4] = 50
    sampler = Sampler(Sampling(temperature=0, min_tokens=2), [], [4])
    drawn = []
    for _ in range(3):
        drawn.append(sampler.sample(values) == 4)
        sampler.note(0)
    assert drawn == [False, False, True]


@pytest.mark.parametrize("damage", [np.nan, np.inf])
@pytest.mark.parametrize("temperature", [0, 1])
def test_logits_that_are_no_numbers_are_refused(damage, temperature):
    values = logits(1)
    values[500] = damage
    with pytest.raises(QuipuError, match=f"highest logit is {damage}.*dtype float32"):
        Sampler(Sampling(temperature=temperature), [], []).sample(values)
    with pytest.raises(QuipuError, match="highest logit"):
        score(np.full(5, -np.inf, np.float32), 0, 1)


def test_extremes_of_every_option_leave_the_best_token():
    values = logits(1)
    best = {int(values.argmax())}
    assert drawn(Sampling(top_p=5e-324), values, 20) == best
    assert drawn(Sampling(min_p=1), values, 20) == best
    assert drawn(Sampling(temperature=100, top_k=1), values, 20) == best
    assert drawn(Sampling(top_k=10**30, min_p=5e-324), values, 20) <= set(range(1000))
    everywhere = dict.fromkeys(range(1000), -100)
    assert drawn(Sampling(temperature=0, logit_bias=everywhere), values, 2) == best


def test_sampling_leaves_the_logits_alone():
    values = logits(8)
    before = values.copy()
    Sampler(Sampling(repetition_penalty=2, logit_bias={3: 5}, top_p=0.5), [1, 2, 3], []).sample(values)
    np.testing.assert_array_equal(values, before)


def test_scores_are_log_softmax_best_first():
    values = logits(9)
    expected = torch.log_softmax(torch.tensor(values).double(), -1)
    scored = score(values, 123, 5)
    assert scored.logprob == pytest.approx(float(expected[123]), abs=1e-5)
    best = expected.topk(5)
    assert [token for token, _ in scored.top] == best.indices.tolist()
    assert [value for _, value in scored.top] == pytest.approx(best.values.tolist(), abs=1e-5)
    assert score(values, 123, 0).top == ()
