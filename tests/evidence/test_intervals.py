import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.proportion import proportion_confint

from quipu.evidence.intervals import bootstrap, design_effect, interval, wilson


@given(n=st.integers(1, 2000), data=st.data())
def test_wilson_is_that_of_statsmodels(n: int, data: st.DataObject) -> None:
    count = data.draw(st.integers(0, n))
    expected = proportion_confint(count, n, alpha=0.05, method="wilson")
    assert wilson(count / n, n) == pytest.approx(expected, abs=1e-9)


def test_a_bootstrap_of_groups_of_one_is_that_of_scipy() -> None:
    values = np.random.default_rng(1).beta(2, 3, 200)
    expected = stats.bootstrap((values,), np.mean, n_resamples=20_000, method="percentile", rng=2).confidence_interval
    found = bootstrap(values, [str(place) for place in range(200)])
    assert found == pytest.approx((expected.low, expected.high), abs=0.004)


def test_groups_widen_a_bootstrap_as_their_means_say() -> None:
    """Each group is one value many times over: the interval is that of the groups, not of the scores."""
    of_groups = np.random.default_rng(3).random(40)
    values = np.repeat(of_groups, 10)
    groups = [str(place) for place in np.repeat(np.arange(40), 10)]
    low, high = bootstrap(values, groups)
    width = 2 * stats.norm.ppf(0.975) * of_groups.std() / np.sqrt(40)
    assert high - low == pytest.approx(width, rel=0.1)


def test_the_design_effect_of_equal_scores_in_a_group_is_its_size() -> None:
    groups = [str(place // 5) for place in range(200)]
    rights = np.random.default_rng(4).integers(0, 2, 40).astype(float)
    assert design_effect(np.repeat(rights, 5), groups) == pytest.approx(5)


def test_independent_scores_have_almost_no_design_effect() -> None:
    groups = [str(place // 5) for place in range(20_000)]
    values = np.random.default_rng(5).integers(0, 2, 20_000).astype(float)
    assert 1 <= design_effect(values, groups) < 1.05


@pytest.mark.parametrize("groups", [["a"] * 9, [str(place) for place in range(9)]])
def test_one_group_or_groups_of_one_tell_nothing_of_likeness(groups: list[str]) -> None:
    assert design_effect(np.arange(9.0), groups) == 1


@given(st.lists(st.tuples(st.floats(0, 1), st.sampled_from("abcdef")), min_size=1, max_size=60), st.booleans())
def test_an_interval_holds_its_mean_and_stays_in_range(scores: list[tuple[float, str]], binary: bool) -> None:
    values = [float(value > 0.5) if binary else value for value, _ in scores]
    found = interval(values, [group for _, group in scores], binary=binary)
    assert -1e-12 <= found.low <= found.mean + 1e-12
    assert found.mean - 1e-12 <= found.high <= 1 + 1e-12
    assert 0 < found.effective <= found.n == len(values)


def test_intervals_cover_the_truth() -> None:
    """Simulated truth, averaged over the true rate: groups of 5 whose rates differ."""
    random = np.random.default_rng(6)
    covered = []
    for rate in np.linspace(0.05, 0.95, 19):
        for _ in range(40):
            of_groups = random.beta(4 * rate, 4 * (1 - rate), 40)
            values = (random.random((40, 5)) < of_groups[:, None]).astype(float).ravel()
            found = interval(values, [str(place // 5) for place in range(200)], binary=True)
            covered.append(found.low <= rate <= found.high)
    assert np.mean(covered) >= 0.93


def test_nothing_has_no_interval() -> None:
    with pytest.raises(ValueError, match="there is no score"):
        interval([], [], binary=True)
