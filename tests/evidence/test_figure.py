import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quipu.evidence import figure
from quipu.evidence.figure import Figure


@pytest.mark.parametrize(
    ("amount", "text"),
    [(0, "$0"), (0.3, "$0.30"), (0.0509, "$0.0509"), (0.335, "$0.335"), (12.4, "$12.40"), (1234.5, "$1,234.50"),
     (5.1e-8, "$0.000000051")],
)  # fmt: skip
def test_dollars(amount, text):
    assert figure.dollars(amount) == text


@given(st.floats(1e-12, 1e12))
def test_dollars_are_near_and_never_scientific(amount):
    text = figure.dollars(amount)
    assert "e" not in text
    assert float(text[1:].replace(",", "")) == pytest.approx(amount, rel=0.006, abs=0.006 if amount >= 1 else 0)


def test_forms():
    assert figure.percent(0.7123) == "71.2 %"
    assert [figure.signed(each) for each in (0.16, -0.024, 0.0, -0.0001)] == ["+16.0", "-2.4", "0.0", "0.0"]
    assert [figure.seconds(each) for each in (0.423, 13.1, 300)] == ["0.42 s", "13.1 s", "5.0 min"]
    assert [figure.gibibytes(each) for each in (400 << 20, 5 << 29)] == ["400 MiB", "2.50 GiB"]
    assert [figure.factor(each) for each in (0.5, 3.14, 27.4)] == ["0.50", "3.1", "27"]
    assert figure.plural(1, "probe") == "1 probe"
    assert figure.plural(1200, "reply", "replies") == "1,200 replies"
    assert [figure.listed(each) for each in ([], ["a"], ["a", "b"], ["a", "b", "c"])] == [
        "",
        "a",
        "a and b",
        "a, b and c",
    ]


def test_a_figure_shows_its_bounds_in_the_form_of_its_value():
    found = Figure.of(0.5, figure.percent, low=0.4, high=0.6, n=160)
    assert (found.text, found.range, found.details) == ("50.0 %", "40.0 % to 60.0 %", "40.0 % to 60.0 %, n 160")


def test_an_interval_without_a_point_is_shown_as_such():
    found = Figure.of(None, figure.percent, low=0.4, high=0.6, n=12, why="few")
    assert (found.text, found.range, found.value, found.known) == ("40.0 % to 60.0 %", "", None, True)


def test_nothing_is_never_zero():
    found = Figure.unknown("never measured")
    assert (found.text, found.value, found.known, found.details) == ("—", None, False, "")
    assert found.as_dict()["why"] == "never measured"


def test_a_ratio_and_its_interval_by_hand():
    """Cochran's variance for independent observations: the sum of squared residuals over the square of the total."""
    top, bottom = [1.0, 2.0, 3.0, 4.0] * 5, [2.0, 2.0, 4.0, 4.0] * 5
    value, low, high = figure.ratio(top, bottom, [str(n) for n in range(20)])
    assert value == pytest.approx(50 / 60)
    residuals = np.array(top) - value * np.array(bottom)
    error = math.sqrt(20 / 19 * (residuals**2).sum()) / 60
    assert (low, high) == (pytest.approx(value - 1.959964 * error), pytest.approx(value + 1.959964 * error))


def test_few_groups_give_no_interval():
    assert figure.ratio([1.0] * 30, [2.0] * 30, [str(n % 9) for n in range(30)]) == (0.5, None, None)


def test_intervals_of_ratios_cover_the_truth_where_observations_of_a_group_are_alike():
    """The ratio of two lognormal times with a common factor for each group, as of one document: 95 % of the time."""
    draw = np.random.default_rng(3)
    groups = [str(n // 5) for n in range(200)]
    covered = 0
    for _ in range(600):
        common = np.repeat(draw.lognormal(0, 0.6, 40), 5)
        slower = np.repeat(draw.lognormal(0, 0.3, 40), 5)  # how much slower depends on the group, too
        bottom = common * draw.lognormal(0, 0.2, 200)
        top = 2 * bottom * slower * draw.lognormal(0, 0.2, 200)
        _, low, high = figure.ratio(top.tolist(), bottom.tolist(), groups)
        covered += low <= 2 * math.exp(0.3**2 / 2 + 0.2**2 / 2) <= high
    assert 0.90 <= covered / 600 <= 0.98
