from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from two_models import config, snapshot

from quipu.evidence.cards import Card, Price
from quipu.evidence.columns import columns
from quipu.evidence.compare import compare
from quipu.evidence.headline import headline, spans, verdict_sentence
from quipu.evidence.side import Side
from quipu.evidence.workload import workload


def of(label, **changes):
    return Side(label, Card(name=label, title=label, **changes), config(label))


def told(skills, weights, a=None, b=None, of_all=None):
    first, second = list(skills)
    of_all = of_all or snapshot(skills)
    a, b = a or of(first), b or of(second)
    judgement = compare(of_all, config(first).id, config(second).id, workload(weights))
    return headline(a, b, of_all, judgement, columns(a, b, of_all), ((), ())), judgement, of_all


def test_the_better_one_is_named_and_what_it_loses_too():
    found, judgement, _ = told(
        {"good": {"reason": 0.9, "code": 0.3}, "worse": {"reason": 0.4, "code": 0.6}}, "reason=3,code=1"
    )
    assert judgement.overall.verdict == "a better"
    assert found.sentence.startswith("good is better than worse for this workload, by ")
    assert "good is better on reason (by " in found.sentence
    assert "worse is better on code (by " in found.sentence
    assert "good answers 2.0 times faster (2.0 to 2.0)" in found.sentence


def test_the_sentence_follows_the_winner_to_the_other_side():
    found, judgement, _ = told({"worse": {"reason": 0.4}, "good": {"reason": 0.9}}, "reason=1")
    assert judgement.overall.verdict == "b better"
    assert found.sentence.startswith("good is better than worse for this workload, by ")
    low, high = found.clauses[0].text.partition("(")[2].rstrip(")").split(" to ")
    assert 0 < float(low) < float(high)


def test_equals_are_equal():
    found, judgement, _ = told({"one": {"few_shot": 0.6}, "two": {"few_shot": 0.6}}, "few_shot=1")
    assert judgement.overall.verdict == "equal"
    assert found.sentence.startswith("one and two are equal for this workload within 10 points")


def test_each_clause_rests_on_observations_of_both():
    found, judgement, of_all = told({"good": {"reason": 0.9, "code": 0.5}, "worse": {"reason": 0.4}}, "reason=1")
    shared = {
        outcome.observation
        for owner in (judgement.a, judgement.b)
        for outcome in of_all.cells[owner, "capability://reason@1"].outcomes.values()
    }
    for clause in found.clauses:
        assert {number for low, high in clause.observations for number in range(low, high + 1)} == shared
        assert clause.n == len(shared) == 350


def test_the_cheaper_success_is_named_where_the_intervals_lie_apart():
    skills = {"good": {"reason": 0.9}, "worse": {"reason": 0.4}}
    cheap, dear = of("good", price=Price(1.0, 1.0)), of("worse", price=Price(10.0, 10.0))
    found, _, of_all = told(skills, "reason=1", cheap, dear)
    price = {each.name: each for each in columns(cheap, dear, of_all)}["Price per success"]
    assert found.clauses[-1].text == f"a success of good costs {price.b.value / price.a.value:.0f} times less"
    same = of("worse", price=Price(1.0, 1.0))
    twins = {"good": {"reason": 0.5}, "worse": {"reason": 0.5}}
    assert "costs" not in told(twins, "reason=1", cheap, same)[0].sentence


@pytest.mark.parametrize(
    ("skills", "start"),
    [
        ({}, "Neither was ever measured here"),
        ({"good": {"reason": 0.5}}, "Only good was measured here"),
        ({"good": {"reason": 0.5}, "worse": {"code": 0.5}}, "No probe was asked of both"),
    ],
)
def test_without_shared_probes_nothing_is_said_of_quality(skills, start):
    of_all = snapshot(skills)
    a, b = (of(each) if each in skills else Side(each, Card(name=each, title=each)) for each in ("good", "worse"))
    judgement = compare(of_all, config("good").id, config("worse").id, workload(None))
    found = headline(a, b, of_all, judgement, columns(a, b, of_all), ((), ()))
    assert found.sentence == f"{start}, so nothing says which is better."
    assert not found.clauses[0].observations
    assert verdict_sentence(a, b, judgement).startswith("Which is better for this workload cannot be told yet. ")


@given(st.sets(st.integers(1, 60)))
def test_spans_are_the_same_numbers(numbers):
    found = spans(numbers)
    assert [number for low, high in found for number in range(low, high + 1)] == sorted(numbers)
    assert all(before[1] + 1 < after[0] for before, after in pairwise(found))
