"""The ten rows of the seed's table: same names, same order, and no value without something behind it."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_snapshot import EMPTY, SMALL, cell, config, log

from quipu.evidence.cards import Card, Price, cards
from quipu.evidence.seed_rows import NAMES, UNKNOWN, dollars, price_text, seed_rows


@pytest.fixture(autouse=True)
def nobody(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))


def rows(name, snapshot=EMPTY, **more):
    found = seed_rows(cards()[name], snapshot, **more)
    assert tuple(each.name for each in found) == NAMES
    assert all(each.why and each.value for each in found)
    assert all((each.value == UNKNOWN) == (each.state in ("unknown", "unrated")) for each in found)
    return {each.name: each for each in found}


@pytest.mark.parametrize("name", ["llama-3.2-3b-instruct", "llama-4-scout", "smollm2-135m-instruct"])
def test_an_empty_log_rates_nobody(name):
    found = rows(name)
    for row in ("UnfragileRank", "Adoption", "Quality", "Match Graph", "Times Matched"):
        assert found[row].value == UNKNOWN
    assert found["UnfragileRank"].state == "unrated"
    command = f"--of {name}" if name == "llama-4-scout" else f"quipu measure {name}"
    assert command in found["UnfragileRank"].why


def test_prices_are_per_million_tokens():
    found = rows("llama-4-scout")
    assert found["Starting Price"].value == "$0.08 in, $0.30 out per million tokens"
    assert found["Pricing"].value == "weights free, endpoints paid"
    assert rows("llama-3.2-3b-instruct")["Starting Price"].value.startswith("$0.0509 in, $0.335 out")
    assert rows(SMALL)["Starting Price"].value == UNKNOWN
    assert rows(SMALL)["Pricing"].value == "weights free"


def test_what_was_measured_is_counted():
    of = config()
    snapshot = log(cell(of, "summarize", 90, 10), cell(of, "translate", 2, 98), cell(of, "code", 5, 0), of=of)
    found = rows(SMALL, snapshot, score="61.0 (55.0 to 67.0)")
    assert found["UnfragileRank"].value == "61.0 (55.0 to 67.0)"
    assert found["Quality"].value == "better than trivial in 1 of 2"
    assert found["Capabilities"].value.endswith("2 measured")
    other = config(engine="quipu 0.0.1")
    assert rows(SMALL, snapshot, config=other.id)["Quality"].value == UNKNOWN
    assert rows(SMALL, snapshot, config=of.id)["Quality"].value == found["Quality"].value
    assert rows("llama-4-scout", snapshot)["Quality"].value == UNKNOWN


def test_a_card_with_nothing_in_it_is_unknown_throughout():
    assert {each.value for each in seed_rows(Card("x", "X"), EMPTY)} == {UNKNOWN}


def test_a_free_endpoint_is_not_an_unknown_price():
    assert price_text(Price(0, 0)) == "$0.00 in, $0.00 out"
    assert price_text(Price(None, 0.3)) == "$0.30 out"
    assert price_text(Price()) == price_text(None) == UNKNOWN
    free = {each.name: each.value for each in seed_rows(Card("x", "X", price=Price(0, 0)), EMPTY)}
    assert free["Pricing"] == "endpoint free"


@pytest.mark.parametrize(("amount", "text"), [
    (0, "$0.00"), (0.08, "$0.08"), (0.3, "$0.30"), (0.0509, "$0.0509"), (5.1e-8, "$0.000000051"), (30, "$30.00"),
    (0.335, "$0.335"), (1234.5, "$1234.50"), (0.051, "$0.051"),
])  # fmt: skip
def test_dollars(amount, text):
    assert dollars(amount) == text


@given(st.floats(0, 99999))
def test_no_price_has_an_exponent(amount):
    assert re.fullmatch(r"\$\d+\.\d{2,12}", dollars(amount))
