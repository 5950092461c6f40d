import shlex

from two_models import HOSTILE, config, snapshot

from quipu.evidence.cards import Card, cards
from quipu.evidence.change import change
from quipu.evidence.compare import compare
from quipu.evidence.flip import flip
from quipu.evidence.gaps import probe_counts
from quipu.evidence.judging import Header
from quipu.evidence.side import Side
from quipu.evidence.workload import workload

SCOUT, SMALL = cards()["llama-4-scout"], cards()["llama-3.2-1b-instruct"]
EMPTY = snapshot({})
NOTHING = compare(EMPTY, "", "", workload(None))


def commands(a, b):
    return change(a, b, NOTHING, None).commands


def test_one_command_measures_both():
    two = [Side(each.name, each) for each in (SCOUT, cards()["llama-4-maverick"])]
    assert commands(*two) == (
        "quipu models add my-llama-4-scout --of llama-4-scout --base-url URL --model THERE && "
        "quipu measure my-llama-4-scout && "
        "quipu models add my-llama-4-maverick --of llama-4-maverick --base-url URL --model THERE && "
        "quipu measure my-llama-4-maverick",
    )
    assert "THERE its name there" in change(*two, NOTHING, None).told[1]


def test_only_who_was_not_measured():
    measured = Side("good", Card(name="good", title="good"), config("good"))
    assert commands(measured, Side(SMALL.name, SMALL)) == ("quipu measure llama-3.2-1b-instruct",)


def test_a_file_is_measured_as_it_was_named_and_an_alias_as_its_card():
    header = Header("/models/one.gguf", SMALL.name, {})
    file = Side("./my models/one.gguf", SMALL, None, header)
    assert commands(file, file) == ("quipu measure './my models/one.gguf'",)
    alias = Side(SMALL.aliases[0] if SMALL.aliases else SMALL.name, SMALL, None, header)
    assert commands(alias, alias) == ("quipu measure llama-3.2-1b-instruct",)


def test_a_hostile_label_is_one_word_of_the_shell():
    of = Side(HOSTILE, Card(name=HOSTILE, title=HOSTILE), config(HOSTILE))
    both = snapshot({HOSTILE: {"reason": 0.5}, "worse": {"reason": 0.45}}, probes=30)
    worse = Side("worse", Card(name="worse", title="worse"), config("worse"))
    judgement = compare(both, config(HOSTILE).id, config("worse").id, workload("reason=1"))
    assert judgement.overall.needed is not None
    found = change(of, worse, judgement, None)
    assert shlex.split(found.commands[0]) == ["quipu", "measure", HOSTILE, "--context", "2048"]
    assert found.told[0].startswith("About ")


def test_the_smallest_change_of_each_kind():
    skills = {"good": {"reason": 0.8, "code": 0.3, "chat": 0.5}, "worse": {"reason": 0.4, "code": 0.6}}
    of = snapshot(skills)
    a, b = (Side(each, Card(name=each, title=each), config(each)) for each in skills)
    weights = workload("reason=3,code=1")
    judgement = compare(of, config("good").id, config("worse").id, weights)
    turned = flip(of, judgement, probe_counts(tuple(weights.weights)))
    found = change(a, b, judgement, turned)
    assert len(found.told) == (turned.shift is not None) + bool(turned.reversals) + bool(turned.purchases)
    assert found.told[0] == f"{turned.shift.told}."


def test_a_verdict_that_nobody_asked_to_turn():
    of = snapshot({"good": {"reason": 0.9}, "worse": {"reason": 0.4}})
    a, b = (Side(each, Card(name=each, title=each), config(each)) for each in ("good", "worse"))
    judgement = compare(of, config("good").id, config("worse").id, workload("reason=1"))
    assert change(a, b, judgement, None).told == ()
