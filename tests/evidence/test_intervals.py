import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.proportion import proportion_confint
from worlds import of_groups

from quipu.evidence.intervals import correlation, design_effect, interval, sample, telling, wilson


@given(n=st.integers(1, 2000), data=st.data())
def test_wilson_is_that_of_statsmodels(n: int, data: st.DataObject) -> None:
    count = data.draw(st.integers(0, n))
    expected = proportion_confint(count, n, alpha=0.05, method="wilson")
    assert wilson(count / n, n) == pytest.approx(expected, abs=1e-9)


def test_of_many_scores_between_it_is_students_interval() -> None:
    values = np.random.default_rng(1).beta(2, 3, 2000)
    expected = stats.t.interval(0.95, len(values) - 1, values.mean(), stats.sem(values))
    found = interval(values.tolist(), [str(place) for place in range(2000)], binary=False)
    assert (found.low, found.high) == pytest.approx(expected, abs=0.001)


def test_groups_widen_it_as_their_means_say() -> None:
    """Each group is one value many times over: the interval is that of the groups, not of the scores."""
    of_groups = np.random.default_rng(3).random(200)
    found = interval(np.repeat(of_groups, 10).tolist(), [str(place // 10) for place in range(2000)], binary=False)
    width = 2 * stats.t.ppf(0.975, 199) * of_groups.std() / np.sqrt(200)
    assert found.high - found.low == pytest.approx(width, rel=0.05)


def test_scores_of_a_group_that_are_the_same_correlate_fully() -> None:
    groups = [str(place // 5) for place in range(200)]
    rights = np.repeat(np.random.default_rng(4).integers(0, 2, 40).astype(float), 5)
    assert correlation(rights, groups) == pytest.approx(1)
    assert design_effect(rights, groups) == pytest.approx(5, rel=0.03)


def test_independent_scores_have_almost_no_design_effect() -> None:
    groups = [str(place // 5) for place in range(20_000)]
    values = np.random.default_rng(5).integers(0, 2, 20_000).astype(float)
    assert 1 <= design_effect(values, groups) < 1.05


def test_that_all_are_right_does_not_show_that_groups_are_independent() -> None:
    groups = [str(place % 10) for place in range(170)]
    found = interval([1.0] * 170, groups, binary=True)
    assert 30 < found.effective < 60
    assert found.low < 0.93


def test_groups_of_one_tell_nothing_of_likeness() -> None:
    assert design_effect(np.arange(9.0), [str(place) for place in range(9)]) == 1


def test_a_single_group_tells_as_much_as_one_probe() -> None:
    found = interval([1.0] * 50, ["only"] * 50, binary=True)
    assert found.effective == 1
    assert (found.low, found.high) == pytest.approx(wilson(1, 1))


def test_how_many_scores_make_up_the_variance() -> None:
    rare = np.zeros(100_000)
    rare[:4] = 1
    assert telling(rare) == pytest.approx(4, rel=0.01)
    assert telling(np.arange(1000) % 2 * 1.0) == pytest.approx(1000)
    assert telling(np.full(7, 0.1)) == 0


@given(st.lists(st.tuples(st.floats(0, 1), st.sampled_from("abcdef")), min_size=1, max_size=60), st.booleans())
def test_an_interval_holds_its_mean_and_stays_in_range(scores: list[tuple[float, str]], binary: bool) -> None:
    values = [float(value > 0.5) if binary else value for value, _ in scores]
    found = interval(values, [group for _, group in scores], binary=binary)
    assert -1e-12 <= found.low <= found.mean + 1e-12
    assert found.mean - 1e-12 <= found.high <= 1 + 1e-12
    assert 0 < found.effective <= found.n == len(values)


@given(st.lists(st.floats(0, 1), min_size=2, max_size=40), st.integers(0, 1000))
def test_order_changes_nothing(values: list[float], seed: int) -> None:
    groups = [str(place % 5) for place in range(len(values))]
    order = np.random.default_rng(seed).permutation(len(values))
    other = interval([values[place] for place in order], [groups[place] for place in order], binary=False)
    found = interval(values, groups, binary=False)
    assert (found.low, found.high) == pytest.approx((other.low, other.high), abs=1e-9)


SHAPES = [(192, 24), (400, 20), (168, 12), (170, 10), (240, 40), (30, 10), (60, 60)]
"""Probes and groups as the capabilities have them, and fewer."""
RATES = np.linspace(0.04, 0.96, 13)


@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize("alike", [0, 0.3])
@pytest.mark.parametrize(("n", "k"), SHAPES)
def test_intervals_cover_the_truth(n: int, k: int, alike: float, binary: bool) -> None:
    """Simulated truth, averaged over the true rate: groups whose rates differ, each drawn anew."""
    random = np.random.default_rng(6)
    places, covered = np.arange(n) % k, []
    groups = [str(place) for place in places]
    for rate in RATES:
        hits = 0
        for _ in range(60):
            rates = of_groups(random, rate, alike, k)[places]
            values = random.random(n) < rates if binary else random.beta(3 * rates + 1e-9, 3 * (1 - rates) + 1e-9)
            found = interval(values.astype(float).tolist(), groups, binary=binary)
            hits += found.low <= rate <= found.high
        covered.append(hits / 60)
    worst = min(zip(covered, RATES, strict=True))
    print(f"covered {np.mean(covered):.3f}; at worst {worst[0]:.3f}, at a rate of {worst[1]:.2f}")
    assert np.mean(covered) >= 0.93


def test_nothing_has_no_interval() -> None:
    with pytest.raises(ValueError, match="there is no score"):
        sample([], [], binary=True)
