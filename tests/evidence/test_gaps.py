from dataclasses import replace

import pytest
from worlds import cell, config, id_of, snapshot, uri

from quipu.evidence.gaps import command, gaps, probe_counts
from quipu.evidence.workload import equal, workload

READ, WRITE, TALK = (uri(name) for name in ("read", "write", "talk"))
COUNTS = {READ: 100, WRITE: 60, TALK: 30}
LOG = snapshot(
    cell("my model", READ, [1, 0] * 20, seconds=20.0),
    cell("my model", WRITE, [1] * 10),
    cell("other", READ, [1, 0] * 50),
    labels=["new"],
)


def test_holes_come_first_then_what_is_cheap() -> None:
    found = gaps(LOG, equal([READ, WRITE, TALK]), COUNTS, [id_of("my model")])
    assert [(each.capability, each.standing.state, each.missing) for each in found] == [
        (TALK, "unmeasured", 30),
        (WRITE, "thin", 50),
        (READ, "measured", 60),
    ]
    assert [each.minutes for each in found] == pytest.approx([0.25, 50 * 0.5 / 60, 0.5])
    assert [each.basis for each in found] == [
        *["other capabilities of this config"] * 2,
        "this capability",
    ]
    assert found[0].command == "quipu measure 'my model' --temperature 0 --capability talk"
    assert found[0].as_dict()["label"] == "my model"


def test_a_config_without_any_time_costs_nobody_knows_what() -> None:
    found = gaps(LOG, equal([READ, TALK]), COUNTS)
    unknown = [each for each in found if each.label == "new"]
    assert [(each.minutes, each.basis) for each in unknown] == [(None, "unknown")] * 2
    assert not [each for each in found if each.label == "other" and each.capability == READ]


def test_what_weighs_nothing_or_does_not_fit_is_no_gap() -> None:
    assert {each.capability for each in gaps(LOG, workload("talk=1", [READ, TALK]), COUNTS)} == {TALK}
    short = replace(LOG.cells[id_of("my model"), READ], beyond_context=60)
    log = replace(LOG, cells={(id_of("my model"), READ): short})
    assert gaps(log, equal([READ]), COUNTS, [id_of("my model")]) == ()


def test_commands_are_for_a_shell() -> None:
    hostile = replace(config("a; rm -rf b"), engine="remote http://host/v1")
    log = replace(LOG, configs={hostile.id: hostile})
    assert command(log, hostile.id, READ, WRITE) == (
        "quipu measure 'a; rm -rf b' --base-url http://host/v1 --temperature 0 --capability read --capability write"
    )
    assert command(log, "llama-4-scout", READ) == "quipu measure llama-4-scout --capability read"


def test_probes_are_counted() -> None:
    assert probe_counts(["capability://reason@1", "capability://nothing@1"]) == {"capability://reason@1": 175}
