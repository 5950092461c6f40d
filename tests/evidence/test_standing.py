import pytest
from worlds import cell, id_of, snapshot, uri

from quipu.evidence.intervals import interval
from quipu.evidence.standing import standing, standings

READ = uri("read")


@pytest.mark.parametrize(
    ("n", "state"), [(0, "unmeasured"), (1, "thin"), (19, "thin"), (20, "measured"), (160, "solid")]
)
def test_states_follow_the_number_and_the_width(n: int, state: str) -> None:
    log = snapshot(cell("a", READ, [1, 1, 1, 0] * 40)) if n == 160 else snapshot(cell("a", READ, [1.0] * n))
    found = standing(log, id_of("a"), READ)
    assert (found.state, found.n) == (state, n)
    assert (found.mean is None) == (n < 20)


def test_nothing_is_unknown_not_zero() -> None:
    found = standing(snapshot(labels=["a"]), id_of("a"), READ)
    assert (found.mean, found.low, found.high) == (None, 0, 1)
    assert found.seconds_per_probe is None
    assert found.tokens_per_second is None
    assert standing(snapshot(), "nobody", READ).state == "unmeasured"


def test_it_is_the_interval_of_a_measurement() -> None:
    values, groups = [1.0, 0.0, 1.0] * 20, [str(place % 6) for place in range(60)]
    log = snapshot(cell("a", READ, values, groups, seconds=30.0))
    [found] = standings(log, id_of("a"), [READ])
    expected = interval(values, groups, binary=True)
    assert (found.mean, found.low, found.high, found.effective) == (
        expected.mean,
        expected.low,
        expected.high,
        expected.effective,
    )
    assert (found.passed, found.seconds_per_probe, found.tokens_per_second) == (40, 0.5, 6.0)
    assert found.as_dict()["state"] == "measured"
