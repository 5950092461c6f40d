import numpy as np
import pytest

from quipu.evidence.intervals import Sample
from quipu.evidence.needed import MOST, for_difference, for_equality, planned
from quipu.evidence.paired import sign_flip


def seen(difference: float, discordance: float, n: int = 100, effect: float = 1.0) -> Sample:
    return Sample(difference, discordance - difference**2, True, discordance * n, n, n / effect, None)


def test_the_numbers_of_the_design() -> None:
    """At 20 % discordance: 155 for ten points, 270 when twelve are compared; 310 for equal within 5, 80 within 10."""
    assert for_difference(0.1, 0.2, 0.05) == pytest.approx(155, abs=2)
    assert for_difference(0.1, 0.2, 0.05 / 12) == pytest.approx(270, abs=5)
    assert for_equality(seen(0, 0.2), 0.05, 0.05) == pytest.approx(310, rel=0.05)
    assert for_equality(seen(0, 0.2), 0.1, 0.05) == pytest.approx(80, rel=0.1)
    assert planned(0.1, 0.05) == for_difference(0.1, 0.2, 0.05)


def test_that_many_probes_show_the_difference_four_times_of_five() -> None:
    n = for_difference(0.1, 0.2, 0.05)
    assert n is not None
    random = np.random.default_rng(3)
    drawn = random.choice([1.0, -1.0, 0.0], p=[0.15, 0.05, 0.8], size=(600, n))
    power = np.mean([sign_flip(each) <= 0.05 for each in drawn])
    print(f"power {power:.3f}")
    assert 0.74 < power < 0.86


def test_alike_probes_take_more() -> None:
    assert for_difference(0.1, 0.2, 0.05, 3.0) == pytest.approx(3 * 154.3, abs=3)
    alone, alike = for_equality(seen(0, 0.2), 0.1, 0.05), for_equality(seen(0, 0.2, effect=3), 0.1, 0.05)
    assert alone is not None
    assert alike == pytest.approx(3 * alone, abs=3)


def test_no_number_of_probes_shows_what_is_not_there() -> None:
    assert for_difference(0, 0.2, 0.05) is None
    assert for_difference(1e-6, 0.2, 0.05) is None
    assert for_equality(seen(0.1, 0.2), 0.1, 0.05) is None
    assert planned(1e-5, 0.05) == MOST
