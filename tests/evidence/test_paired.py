from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import optimize, stats
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests
from worlds import of_groups

from quipu.evidence.intervals import Sample, Z, sample
from quipu.evidence.paired import (
    beyond_margin,
    difference_interval,
    group_sums,
    holm,
    inside,
    sign_flip,
    tango,
)


def trinomial(wins: int, losses: int, n: int) -> Sample:
    values = [1.0] * wins + [-1.0] * losses + [0.0] * (n - wins - losses)
    return sample(values, [str(place) for place in range(n)], binary=True)


@given(wins=st.integers(0, 80), losses=st.integers(0, 80), ties=st.integers(0, 80))
def test_groups_of_one_are_mcnemars_exact_test(wins: int, losses: int, ties: int) -> None:
    differences = np.array([1.0] * wins + [-1.0] * losses + [0.0] * ties)
    expected = mcnemar([[ties, wins], [losses, 0]], exact=True).pvalue if wins + losses else 1.0
    assert sign_flip(differences) == pytest.approx(expected, rel=1e-9, abs=1e-300)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("whole", [True, False])
def test_few_groups_are_scipys_permutation_test(seed: int, whole: bool) -> None:
    random = np.random.default_rng(seed)
    sums = random.normal(0.8, 1, 11)
    sums = np.round(4 * sums) if whole else sums
    expected = stats.permutation_test(
        (sums,), np.sum, permutation_type="samples", n_resamples=np.inf, vectorized=False
    ).pvalue
    assert sign_flip(sums) == pytest.approx(expected, rel=0.01, abs=0.001)


@given(st.lists(st.floats(-20, 20), max_size=30))
def test_sides_and_order_change_nothing(sums: list[float]) -> None:
    p = sign_flip(np.array(sums))
    assert 0 <= p <= 1
    assert sign_flip(-np.array(sums)) == pytest.approx(p)
    assert sign_flip(np.array(sums[::-1])) == pytest.approx(p)


def test_many_groups_are_the_normal_distribution() -> None:
    sums = np.random.default_rng(8).normal(0.1, 1, 300)
    expected = 2 * stats.norm.sf(abs(sums.sum()) / np.sqrt((sums**2).sum()))
    assert sign_flip(sums) == pytest.approx(expected, rel=0.05)


def test_differences_are_summed_by_group() -> None:
    assert sorted(group_sums(np.array([1.0, -1.0, 1.0, 1.0]), ["a", "b", "a", "b"])) == [0, 2]


def by_likelihood(wins: int, losses: int, n: int, difference: float) -> float:
    """Tango's score with the constrained estimate found by searching the likelihood, not by its formula."""

    def unlikely(rate: float) -> float:
        shares = np.array([rate + difference, rate, 1 - 2 * rate - difference])
        counts = np.array([wins, losses, n - wins - losses])
        return -float((counts[counts > 0] * np.log(np.maximum(shares[counts > 0], 1e-300))).sum())

    least, most = max(0.0, -difference), (1 - difference) / 2
    rate = optimize.minimize_scalar(unlikely, bounds=(least, most), method="bounded", options={"xatol": 1e-12}).x
    return (wins - losses - n * difference) / np.sqrt(n * (2 * rate + difference - difference**2))


@pytest.mark.parametrize("difference", [-0.3, -0.1, 0.0, 0.05, 0.2])
@pytest.mark.parametrize(("wins", "losses", "n"), [(10, 3, 40), (0, 7, 60), (25, 25, 160), (1, 0, 44)])
def test_tangos_score_is_that_of_the_likeliest_rates(wins: int, losses: int, n: int, difference: float) -> None:
    expected = by_likelihood(wins, losses, n, difference)
    assert tango(trinomial(wins, losses, n), difference) == pytest.approx(expected, abs=2e-3)


@given(n=st.integers(2, 300), data=st.data(), margin=st.floats(0.01, 0.5))
def test_the_interval_is_where_the_score_says(n: int, data: st.DataObject, margin: float) -> None:
    wins = data.draw(st.integers(0, n))
    losses = data.draw(st.integers(0, n - wins))
    found = trinomial(wins, losses, n)
    low, high = difference_interval(found)
    assert -1 <= low <= found.mean <= high <= 1
    for end in (low, high):
        assert abs(end) == 1 or abs(tango(found, end)) == pytest.approx(Z, abs=1e-6)
    if min(abs(margin - high), abs(margin + low)) > 1e-9:
        assert inside(found, margin, Z) == (-margin <= low and high <= margin)
        assert (beyond_margin(found, margin) <= 0.05 + 1e-9) == inside(found, margin, Z)


def test_agreement_of_a_few_is_not_equality() -> None:
    assert not inside(trinomial(0, 0, 30), 0.1, Z)
    assert inside(trinomial(0, 0, 40), 0.1, Z)
    assert difference_interval(trinomial(0, 0, 20)) == pytest.approx((-(Z**2) / (20 + Z**2), Z**2 / (20 + Z**2)))


@pytest.mark.parametrize("count", [1, 2, 3, 9, 12])
def test_holm_is_that_of_statsmodels(count: int) -> None:
    chances = (np.random.default_rng(count).random(count) ** 4).tolist()
    assert holm(chances) == pytest.approx(list(multipletests(chances, method="holm")[1]))
    assert holm([]) == []


SHAPES = [(192, 24), (180, 19), (170, 10), (240, 40), (60, 60)]


def differences(
    random: np.random.Generator, n: int, k: int, alike: float, binary: bool, gap: float
) -> tuple[np.ndarray, Sequence[str]]:
    """Of two models whose true rates are 0.6 and less by ``gap``; each has strong groups of its own."""
    places = np.arange(n) % k
    first, second = (of_groups(random, rate, alike, k)[places] for rate in (0.6, 0.6 - gap))
    if not binary:
        drawn = [random.beta(3 * rates + 1e-9, 3 * (1 - rates) + 1e-9) for rates in (first, second)]
        return drawn[0] - drawn[1], [str(place) for place in places]
    luck, same = random.random(n), random.random(n) < 0.6
    lucks = [np.where(same, luck, random.random(n)) for _ in range(2)]
    return (lucks[0] < first) * 1.0 - (lucks[1] < second) * 1.0, [str(place) for place in places]


@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize("alike", [0, 0.3])
@pytest.mark.parametrize(("n", "k"), SHAPES)
def test_twins_are_seldom_told_apart(n: int, k: int, alike: float, binary: bool) -> None:
    """Two models with the same abilities: at most alpha, within what 400 worlds can tell."""
    random = np.random.default_rng(9)
    worlds = [differences(random, n, k, alike, binary, 0) for _ in range(400)]
    told = sum(sign_flip(group_sums(values, groups)) <= 0.05 for values, groups in worlds)
    covered = 0
    for values, groups in worlds:
        low, high = difference_interval(sample(values.tolist(), groups, binary=binary))
        covered += low <= 0 <= high
    print(f"told apart {told / 400:.3f}, interval covers {covered / 400:.3f}")
    assert told <= stats.binom.ppf(0.999, 400, 0.05)
    assert covered >= stats.binom.ppf(0.001, 400, 0.95)


@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize("alike", [0, 0.3])
def test_models_that_differ_by_the_margin_are_seldom_equal(alike: float, binary: bool) -> None:
    random = np.random.default_rng(10)
    equal = covered = 0
    for _ in range(400):
        values, groups = differences(random, 240, 40, alike, binary, 0.1)
        found = sample(values.tolist(), groups, binary=binary)
        low, high = difference_interval(found)
        equal += beyond_margin(found, 0.1) <= 0.05
        covered += low <= 0.1 <= high
    print(f"equal {equal / 400:.3f}, interval covers {covered / 400:.3f}")
    assert equal <= stats.binom.ppf(0.999, 400, 0.025)
    assert covered >= stats.binom.ppf(0.001, 400, 0.95)
