from dataclasses import replace

import pytest
from two_models import config, snapshot

from quipu.evidence.cards import Card, Price
from quipu.evidence.columns import columns
from quipu.evidence.side import Side

BOTH = {"good": {"reason": 0.9, "code": 0.6}, "worse": {"reason": 0.5, "code": 0.6}}
CHEAP, DEAR = Price(input=1.0, output=2.0, source="a list", as_of="2026-11-01"), Price(input=10.0, output=20.0)


def of(label, price=None, **changes):
    return Side(label, Card(name=label, title=label, price=price), config(label, **changes))


def by_name(a, b, of):
    return {each.name: each for each in columns(a, b, of)}


def test_speed_is_compared_on_shared_probes():
    found = by_name(of("good"), of("worse"), snapshot(BOTH))["Time per answer"]
    assert (found.a.text, found.b.text) == ("0.50 s", "1.00 s")
    assert found.ratio is not None
    assert found.ratio.value == pytest.approx(0.5)
    assert found.a.n == found.b.n == found.ratio.n == 350


def test_probes_that_only_one_was_asked_count_for_nothing():
    of_both = snapshot({"good": {"reason": 0.9, "code": 0.6}, "worse": {"reason": 0.5}})
    assert by_name(of("good"), of("worse"), of_both)["Time per answer"].a.n == 175


def test_times_on_different_hardware_do_not_compare():
    other = config("worse", hardware="arm64, 8 cores, bfloat16")
    found = by_name(of("good"), of("worse", hardware=other.hardware), snapshot(BOTH, [other]))["Time per answer"]
    assert found.ratio is None
    assert other.hardware in found.b.why


def test_memory_and_throughput():
    found = by_name(of("good"), of("worse"), snapshot(BOTH))
    assert found["Peak memory"].a.text == "400 MiB"
    assert found["Tokens a second"].a.value == pytest.approx(40 * 350 / 120)


def test_prices_are_per_million_tokens_and_per_success():
    found = by_name(of("good", CHEAP), of("worse", DEAR), snapshot(BOTH))
    assert (found["Price of prompts"].a.text, found["Price of answers"].a.text) == ("$1.00", "$2.00")
    assert found["Price of prompts"].a.why == "a list, 2026-11-01"
    of_all = snapshot(BOTH)
    outcomes = [each for cell in of_all.of(config("good").id) for each in cell.outcomes.values()]
    paid = sum(each.prompt_tokens * 1.0 + each.completion_tokens * 2.0 for each in outcomes) / 1e6
    passed = sum(each.passed for each in outcomes)
    cost = found["Price per success"].a
    assert cost.value == pytest.approx(1000 * paid / passed)
    assert cost.low < cost.value < cost.high


def test_a_success_of_whom_nothing_passes_has_no_price():
    of_none = snapshot({"good": {"reason": 0.0}, "worse": {"reason": 0.9}})
    found = by_name(of("good", CHEAP), of("worse", DEAR), of_none)["Price per success"]
    assert (found.a.text, found.a.why) == ("—", "none of 175 answers passed")


def test_what_is_unknown_is_not_zero_and_says_why():
    nobody = Side("nobody", Card(name="nobody", title="nobody"))
    for each in columns(nobody, nobody, snapshot({})):
        for found in (each.a, each.b):
            assert (found.text, found.value) == ("—", None)
            assert found.why in ("never measured here", "no price is published in its card")
        assert each.ratio is None


def test_half_a_price_prices_no_success():
    half = replace(CHEAP, output=None)
    assert by_name(of("good", half), of("worse"), snapshot(BOTH))["Price per success"].a.text == "—"


def test_a_remote_endpoint_does_not_tell_its_memory():
    far = config("good", hardware="unknown")
    of_both = snapshot(BOTH, [far])
    cells = {key: replace(cell, peak_memory=None) for key, cell in of_both.cells.items()}
    found = by_name(of("good", hardware="unknown"), of("worse"), replace(of_both, cells=cells))["Peak memory"]
    assert (found.a.why, found.b.why) == ("a remote endpoint does not tell", "not recorded")
