import json

import pytest
from worlds import cell, id_of, snapshot, uri

from quipu.evidence.compare import Judgement, compare
from quipu.evidence.flip import Flip, flip
from quipu.evidence.snapshot import Cell, Snapshot
from quipu.evidence.workload import equal, workload

NAMES = ["read", "write", "talk"]
URIS = [uri(name) for name in NAMES]
COUNTS = dict.fromkeys(URIS, 400)


def both(name: str, wins: int, losses: int, same: int, seconds: float = 0.0) -> list[Cell]:
    rights = [1, 0] * (same // 2)
    return [
        cell("a", uri(name), [1] * wins + [0] * losses + rights, seconds=seconds),
        cell("b", uri(name), [0] * wins + [1] * losses + rights, seconds=seconds),
    ]


def judged(log: Snapshot, text: str | None = None) -> Judgement:
    return compare(log, id_of("a"), id_of("b"), workload(text, URIS))


def turned(log: Snapshot, text: str | None = None) -> Flip:
    return flip(log, judged(log, text), COUNTS)


MIXED = snapshot(*both("read", 60, 0, 140), *both("write", 0, 40, 160), *both("talk", 10, 10, 180))
"""Read: +0.3, write: -0.2, talk: 0."""


def test_the_smallest_change_of_weights_turns_the_lead() -> None:
    found = turned(MIXED, "read=2,write=1,talk=1")
    assert judged(MIXED, "read=2,write=1,talk=1").overall.verdict == "a better"
    assert found.shift is not None
    # A leads by 0.1; whatever moves from read to write takes half its size of that.
    assert found.shift.moved == pytest.approx((0.1 + 0.001) / 0.5, abs=1e-6)
    assert found.shift.told == "with 20.2 % of the workload moved to write: the other one leads"
    after = judged(MIXED, found.shift.text).overall
    assert after.difference is not None
    assert -0.002 < after.difference < 0
    less = dict(found.shift.weights)
    less[URIS[0]] += 0.004
    less[URIS[1]] -= 0.004
    assert sum(less[each] * difference for each, difference in zip(URIS, (0.3, -0.2, 0), strict=True)) > 0


def test_no_weights_turn_what_is_better_everywhere() -> None:
    log = snapshot(*[each for name in NAMES for each in both(name, 60, 5, 135)])
    assert turned(log).shift is None


def test_weights_that_bring_a_verdict_where_there_is_none() -> None:
    log = snapshot(*both("read", 25, 0, 15), *both("write", 8, 20, 12), *both("talk", 10, 12, 18))
    assert judged(log).overall.verdict == "cannot tell"
    found = turned(log)
    assert found.shift is not None
    assert found.shift.verdict == "a better"
    assert judged(log, found.shift.text).overall.verdict == "a better"
    assert found.shift.told.endswith("of the workload moved to read: A better")


def test_a_verdict_hangs_on_so_many_probes() -> None:
    log = snapshot(*both("read", 20, 5, 100))
    [found] = turned(log, "read=1").reversals
    fewer = snapshot(*both("read", 20 - found.probes, 5, 100))
    before = snapshot(*both("read", 20 - found.probes + 1, 5, 100))
    assert judged(before, "read=1").capabilities[0].verdict == "a better"
    assert judged(fewer, "read=1").capabilities[0].verdict != "a better"
    assert found.told == (
        f"read: no longer A better if {found.probes} of the 125 shared probes, which A won, had been draws"
    )


def test_evidence_that_would_tell_has_a_price_and_a_command() -> None:
    log = snapshot(*both("read", 14, 7, 80, seconds=50.0), *both("write", 60, 0, 100))
    found = turned(log, "read=1,write=1")
    [bought] = found.purchases
    assert bought.capability == URIS[0]
    assert bought.available == 299
    assert bought.commands == tuple(f"quipu measure {each} --temperature 0 --capability read" for each in "ab")
    assert bought.minutes == pytest.approx(2 * min(bought.probes, 299) * (50 / 101) / 60)
    assert found.told[-1] == bought.told
    json.dumps(found.as_dict(), allow_nan=False)


def test_what_no_set_holds_cannot_be_bought() -> None:
    log = snapshot(*both("read", 14, 7, 80))
    judgement = compare(log, id_of("a"), id_of("b"), equal(URIS[:1]))
    [bought] = flip(log, judgement, {URIS[0]: 102}).purchases
    assert bought.available == 1
    assert bought.told.endswith("but its set has only 1 more")
    assert bought.minutes is None


def test_an_empty_log_is_bought_from_the_start() -> None:
    judgement = compare(snapshot(), "llama-a", "llama-b", equal(URIS))
    found = flip(snapshot(), judgement, COUNTS)
    assert found.shift is None
    assert found.purchases[0].commands == (
        "quipu measure llama-a --capability read",
        "quipu measure llama-b --capability read",
    )


def test_nothing_may_turn_it() -> None:
    log = snapshot(*both("read", 0, 0, 400))
    judgement = compare(log, id_of("a"), id_of("b"), equal(URIS[:1]))
    assert judgement.overall.verdict == "equal"
    assert flip(log, judgement, COUNTS).told == ("no change of workload turns it, and no more probes",)
