import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from quipu.evidence.student import quantile, within


@given(t=st.floats(0, 50), freedom=st.integers(1, 400))
def test_the_distribution_is_that_of_scipy(t: float, freedom: int) -> None:
    assert within(t, freedom) == pytest.approx(stats.t.cdf(t, freedom) - stats.t.cdf(-t, freedom), abs=1e-8)


@pytest.mark.parametrize("freedom", [1, 2, 3, 4, 5, 9, 10, 39, 200])
@pytest.mark.parametrize("probability", [0.9, 0.975, 0.9999])
def test_the_quantile_is_that_of_scipy(probability: float, freedom: int) -> None:
    assert quantile(probability, freedom) == pytest.approx(stats.t.ppf(probability, freedom), rel=1e-8)
