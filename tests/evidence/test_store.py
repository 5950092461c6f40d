import errno
import json
import multiprocessing
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy
from hypothesis import given, settings
from hypothesis import strategies as st
from made_log import config, config_body, observation, probe_set, run, small, spent

from quipu.errors import DamagedLog, InvalidRequest, StorageFailed
from quipu.evidence import bodies
from quipu.evidence.store import Store, default_url

SET = probe_set()
A, B = config("a"), config("b")


def altering(place: str, *statements: str) -> None:
    """As someone does by hand."""
    engine = sqlalchemy.create_engine(place.replace("postgresql:", "postgresql+psycopg:"))
    with engine.begin() as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)
    engine.dispose()


# ---- what a snapshot says


def test_a_snapshot_is_what_was_observed(place: str) -> None:
    with Store(place) as store:
        small(store, "a", "b")
        found = store.snapshot()
        last = store.last()
    assert last is not None
    assert (found.number, found.hash, found.at) == (last.number, last.hash, last.at)
    assert found.configs == {A.id: A, B.id: B}
    assert list(found.cells) == [
        (of.id, name) for of in (A, B) for name in ("capability://adding@1", "capability://other@2")
    ]
    cell = found.cells[A.id, "capability://adding@1"]
    assert (cell.probe_set, cell.binary, cell.beyond_context) == (SET["probe_set"], True, 0)
    assert (cell.seconds, cell.timed_tokens, cell.peak_memory) == (0.1, 20, 1 << 30)
    assert (cell.baseline, cell.baseline_name) == (0.25, "nothing")
    assert len(cell.outcomes) == 6
    outcome = cell.outcomes[SET["probes"][3][0]]
    assert (outcome.group, outcome.part, outcome.value, outcome.passed) == ("group 1", "part 1", 1.0, True)
    assert (outcome.prompt_tokens, outcome.completion_tokens, outcome.seconds) == (7, 2, 0.3)
    assert (outcome.first_token_seconds, outcome.unparsed) == (0.1, False)
    assert [each.capability for each in found.of(B.id)] == ["capability://adding@1", "capability://other@2"]


def test_an_observation_is_found_by_its_number(place: str) -> None:
    with Store(place) as store:
        small(store, "a")
        outcome = store.snapshot().cells[A.id, SET["capability"]].outcomes[SET["probes"][2][0]]
        record = store.observation(outcome.observation)
        assert record.items() >= observation(A, SET, 2).items()
        assert (record["number"], record["hash"]) == (outcome.observation, store.entry(outcome.observation).hash)
        with pytest.raises(InvalidRequest, match="entry 1 is no observation but a probe_set"):
            store.observation(1)
        for number in (0, -1, 10**6, 10**30):
            with pytest.raises(InvalidRequest, match="the log has no entry"):
                store.observation(number)


def test_of_several_observations_the_last_counts(place: str) -> None:
    with Store(place) as store:
        small(store, "a")
        before = store.snapshot()
        told = {"state": "unparsed", "passed": False, "value": 0.0, "peak_memory": None, "first_token_seconds": None}
        number = store.append("observation", observation(A, SET, 2, **told)).number
        cell = store.snapshot().cells[A.id, SET["capability"]]
        outcome = cell.outcomes[SET["probes"][2][0]]
        assert (outcome.observation, outcome.unparsed, outcome.first_token_seconds) == (number, True, None)
        assert len(cell.outcomes) == 6
        beyond = observation(A, SET, 3, state="beyond context", passed=False, value=0.0)
        store.append("observation", beyond)
        cell = store.snapshot().cells[A.id, SET["capability"]]
        assert (len(cell.outcomes), cell.beyond_context) == (5, 1)
        assert before.cells[A.id, SET["capability"]].outcomes[SET["probes"][2][0]].passed  # a snapshot stays


def test_some_configs_only(place: str) -> None:
    with Store(place) as store:
        small(store, "a", "b", "c")
        found = store.snapshot([B.id, "0" * 64])
        assert list(found.configs) == [B.id]
        assert {owner for owner, _ in found.cells} == {B.id}
        assert found.hash == store.snapshot().hash
        assert store.config(B.id) == B
        with pytest.raises(InvalidRequest, match="no config 'nothing' was ever measured"):
            store.config("nothing")


def test_another_name_is_no_other_config(place: str) -> None:
    with Store(place) as store:
        for label in ("one", "two", "one"):
            store.append_once("config", config_body(config("a", label)))
        found = store.snapshot()
        assert found.labels == {A.id: ("one", "two")}
        assert found.configs[A.id].label == "two"
        assert found.number == 2


def test_when_probes_change_what_was_observed_before_does_not_count(place: str) -> None:
    longer = probe_set(probes=8)
    with Store(place) as store:
        small(store, "a")
        store.append("probe_set", longer)
        store.append("run", run(A, longer))
        assert len(store.snapshot().cells[A.id, SET["capability"]].outcomes) == 6  # nothing was asked yet
        store.append("observation", observation(A, longer, 7))
        cell = store.snapshot().cells[A.id, SET["capability"]]
        assert (cell.probe_set, list(cell.outcomes)) == (longer["probe_set"], [longer["probes"][7][0]])
        store.append("observation", observation(A, SET, 0))
        assert len(store.snapshot().cells[A.id, SET["capability"]].outcomes) == 6


def test_what_need_not_be_asked_again(place: str) -> None:
    key = (A.id, SET["capability"], SET["probe_set"])
    with Store(place) as store:
        assert store.asked(*key) == set()
        assert store.records(*key) == []
        assert store.timing(*key) == (0.0, 0)
        small(store, "a")
        assert store.asked(*key) == {row[0] for row in SET["probes"]}
        assert [record["probe"] for record in store.records(*key)] == [row[0] for row in SET["probes"]]
        store.append("run", run(A, SET, fresh=True))
        assert store.asked(*key) == set()
        assert store.timing(*key) == (0.0, 0)
        assert len(store.snapshot().cells[A.id, SET["capability"]].outcomes) == 6
        store.append("observation", observation(A, SET, 1))
        assert store.asked(*key) == {SET["probes"][1][0]}


# ---- pure functions of the log

STEPS = st.lists(
    st.tuples(
        st.sampled_from(["observation", "round", "run", "fresh"]),
        st.sampled_from([0, 1]),
        st.integers(0, 5),
        st.sampled_from(["scored", "unparsed", "beyond context"]),
        st.floats(0, 1),
    ),
    max_size=40,
)


@settings(max_examples=40)
@given(STEPS)
def test_however_it_was_written_it_says_the_same(steps: list[tuple[str, int, int, Any, float]]) -> None:
    """One at a time, imported, rebuilt, looked up warm or cold: as a plain fold over the entries has it."""
    configs, sets = [A, B], [SET, probe_set("capability://other@1")]
    with Store() as store, Store() as copy:
        store.append("probe_set", sets[0])
        outcomes: dict[Any, dict[str, tuple[int, str, float]]] = {}
        times: dict[Any, tuple[float, int]] = {}
        for step, which, place, state, value in steps:
            of, of_set = configs[which], sets[place % 2]
            key = (of.id, of_set["capability"])
            if step == "observation":
                made = observation(of, of_set, place, state=state, value=value)
                number = store.append("observation", made).number
                outcomes.setdefault(key, {})[of_set["probes"][place][0]] = (number, state, value)
            elif step == "round":
                store.append("round", spent(of, of_set, value, place))
                seconds, tokens = times.get(key, (0.0, 0))
                times[key] = (seconds + value, tokens + place)
            else:
                store.append("run", run(of, of_set, fresh=step == "fresh"))
                times |= {key: (0.0, 0)} if step == "fresh" else {}
            store.append_once("config", config_body(of))
            store.snapshot()
        found = store.snapshot()
        assert {
            key: {each.probe: (each.observation, each.value) for each in cell.outcomes.values()}
            for key, cell in found.cells.items()
        } == {
            key: {probe: (number, value) for probe, (number, state, value) in each.items() if state != "beyond context"}
            for key, each in outcomes.items()
        }
        for key, cell in found.cells.items():
            assert (cell.seconds, cell.timed_tokens) == times.get(key, (0.0, 0))
            assert cell.beyond_context == sum(state == "beyond context" for _, state, _ in outcomes[key].values())
        rebuilt = store.rebuild()
        assert rebuilt.differed == ()
        assert store.snapshot() == found
        for entry in store.entries():
            copy.append(entry.kind, entry.body)
        assert copy.rebuild().tables == rebuilt.tables
        assert store.verify() == store.last()


def test_the_same_hashes_in_postgresql_and_in_sqlite(tmp_path: Path, new_database: Callable[[], str]) -> None:
    exported = tmp_path / "log.jsonl"
    with Store(f"sqlite:///{tmp_path}/evidence.sqlite") as here, Store(new_database()) as there:
        small(here, "a", "b", "c")
        assert here.export(exported) == here.last().number
        assert there.import_(exported) == here.last().number
        assert there.last() == here.last()
        assert there.rebuild() == here.rebuild()
        assert there.rebuild().differed == ()
        assert there.snapshot() == here.snapshot()
        again = tmp_path / "again.jsonl"
        there.export(again)
        assert again.read_bytes() == exported.read_bytes()


def test_many_entries_are_taken_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Store() as whole:
        small(whole, "a", "b")
        whole.export(tmp_path / "log")
        expected, entries = whole.rebuild(), list(whole.entries())
    for module in ("store", "tables"):
        monkeypatch.setattr(f"quipu.evidence.{module}.AT_ONCE", 3)
    with Store() as store:
        store.import_(tmp_path / "log")
        assert list(store.entries()) == entries
        assert list(store.entries(after=5)) == entries[5:]
        assert store.rebuild() == expected
        assert store.verify() == expected.last


# ---- what verify finds

ALTERED = [
    (
        "UPDATE entry SET body = replace(body, '\"passed\":true', '\"passed\":false') WHERE number = 6",
        "entry 6 (observation",
    ),
    ("UPDATE entry SET at = '2020-01-01T00:00:00.000+00:00' WHERE number = 6", "entry 6 (observation of 2020-"),
    ("UPDATE entry SET kind = 'round' WHERE number = 6", "entry 6 (round"),
    ("UPDATE entry SET hash = previous WHERE number = 6", "entry 6 (observation"),
    ("UPDATE entry SET number = -5 WHERE number = 6", "entry 1 is missing: entry -5 is in its place"),
    ("DELETE FROM entry WHERE number = 6", "entry 6 is missing: entry 7 is in its place"),
    ("DELETE FROM entry WHERE number > 9", "what was derived from it was altered: cell, outcome"),
    ("UPDATE outcome SET value = 0.5 WHERE observation = 6", "what was derived from it was altered: outcome"),
    ("UPDATE cell SET seconds = 5", "what was derived from it was altered: cell"),
    ("DELETE FROM config", "what was derived from it was altered: config"),
    ("DELETE FROM probe_set", "what was derived from it was altered: probe_set"),
]


@pytest.mark.parametrize(("statement", "said"), ALTERED)
def test_what_was_altered_by_hand_is_found(place: str, tmp_path: Path, statement: str, said: str) -> None:
    with Store(place) as store:
        small(store, "a")
        sound = store.rebuild()
    altering(place, statement)
    with Store(place) as store:
        with pytest.raises(DamagedLog) as raised:
            store.verify()
        assert said in str(raised.value)
        if "UPDATE entry" not in statement and "DELETE FROM entry" not in statement:
            rebuilt = store.rebuild()
            assert rebuilt.differed
            assert rebuilt.tables == sound.tables
            assert store.verify() == sound.last
        elif "number > 9" not in statement:
            with pytest.raises(DamagedLog):
                store.rebuild()
            with pytest.raises(DamagedLog):
                store.export(tmp_path / "log")
            assert not list(tmp_path.glob("log*"))


def test_an_empty_log_is_sound(place: str) -> None:
    with Store(place) as store:
        assert store.verify() is None
        assert store.last() is None
        assert store.rebuild().last is None
        found = store.snapshot()
        assert (found.number, found.hash, found.at, dict(found.cells)) == (0, "", "", {})


# ---- what is refused


@pytest.mark.parametrize(
    ("kind", "body", "said"),
    [
        ("query", {}, "no entries of the kind 'query'; it has config, probe_set, run, observation, round, service"),
        ("round", {}, "what is to be kept is no round: run Field required"),
        ("observation", observation(A, SET, 0, value=1.5), "no observation: value should be less than or equal to 1"),
        ("observation", observation(A, SET, 0, passed="yes"), "no observation: passed should be a valid boolean"),
        ("observation", observation(A, SET, 0, seconds=-1.0), "no observation: seconds should be greater"),
        ("observation", observation(A, SET, 0, probe="../x"), "no observation: probe String should match pattern"),
        ("observation", observation(A, SET, 0, state="guessed"), "no observation: state should be 'scored'"),
        ("observation", observation(A, SET, 0, capability="a\x00"), "no observation: capability String should match"),
        ("observation", observation(A, SET, 0, measured={"a": float("nan")}), "this cannot be kept in the log"),
        ("config", config_body(A) | {"id": "0" * 64}, "no config: id is not that of what identifies the config"),
        ("config", config_body(A) | {"label": "x" * 2000}, "no config: label String should have at most 1000"),
        ("probe_set", SET | {"probe_set": "0" * 64}, "no probe_set: probe_set is not the hash of its probes"),
    ],
)
def test_a_body_of_another_form_is_refused(kind: str, body: dict[str, Any], said: str) -> None:
    with Store() as store:
        with pytest.raises(InvalidRequest) as raised:
            store.append(kind, body)
        assert said in str(raised.value)
        assert store.last() is None


def test_halves_of_characters_do_not_stop_a_measurement(place: str) -> None:
    with Store(place) as store:
        store.append("config", config_body(config("a", "na\udcffme")))
        number = store.append("observation", observation(A, SET, 0, text="a\ud800\x00b")).number
        assert store.observation(number)["text"] == "a?\x00b"
        assert store.snapshot().configs[A.id].label == "na?me"
        store.verify()


def test_kinds_of_a_later_version_are_kept_and_say_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Store() as store:
        monkeypatch.setattr(bodies, "KINDS", {**bodies.KINDS, "query": bodies.Body})
        store.append("query", {"hash": "x"})
        small(store, "a")
        store.export(tmp_path / "log")
        before = store.snapshot()
    monkeypatch.undo()
    with Store() as store:
        store.import_(tmp_path / "log")
        store.verify()
        assert store.snapshot() == before


# ---- export and import


def lines(path: Path) -> list[str]:
    return [f"{line}\n" for line in path.read_text("utf-8").split("\n")[:-1]]


def test_an_import_continues_a_log(place: str, tmp_path: Path) -> None:
    with Store() as origin, Store(place) as store:
        small(origin, "a")
        origin.export(tmp_path / "first")
        small(origin, "b")
        origin.export(tmp_path / "second")
        assert store.import_(tmp_path / "first") == 15
        assert store.import_(tmp_path / "first") == 0
        assert store.import_(tmp_path / "second") == origin.last().number - 15
        assert store.import_(tmp_path / "first") == 0  # its beginning
        assert store.snapshot() == origin.snapshot()
        store.append("round", spent(A, SET, 1.0, 1))
        store.verify()


def test_another_log_is_refused_whole(tmp_path: Path) -> None:
    with Store() as one, Store() as other:
        small(one, "a")
        small(other, "b")
        one.export(tmp_path / "one")
        with pytest.raises(
            InvalidRequest, match=r"one is of another log: its entry 1 is not the one here; import it into"
        ):
            other.import_(tmp_path / "one")
        assert {of.label for of in other.snapshot().configs.values()} == {"b"}


@pytest.mark.parametrize("place", ["sqlite"], indirect=True)
def test_a_file_with_a_fault_is_refused_whole(place: str, tmp_path: Path) -> None:
    path = tmp_path / "log"
    with Store() as origin:
        small(origin, "a")
        origin.export(path)
    sound = lines(path)
    record = json.loads(sound[5])
    forged = made_log_of({**record["body"], "value": 7.0})
    for faulty, error, said in (
        ([*sound[:9], "nonsense\n"], InvalidRequest, "log, line 10: this is no entry of a log"),
        ([*sound[:9], sound[9][:40]], InvalidRequest, "log, line 10: this is no entry of a log"),
        ([*sound[:9], *sound[10:]], DamagedLog, "entry 10 is missing"),
        ([sound[0].replace("adding", "adding2"), *sound[1:]], DamagedLog, "entry 1 (probe_set"),
        (forged, InvalidRequest, "entry 1 is no observation: value should be less than or equal to 1"),
        (["\xff"], InvalidRequest, "line 1: this is no entry of a log"),
    ):
        path.write_bytes("".join(faulty).encode("latin-1" if faulty == ["\xff"] else "utf-8"))
        with Store(place) as store:
            with pytest.raises(error) as raised:
                store.import_(path)
            assert said in str(raised.value)
            assert store.last() is None
            assert store.snapshot().cells == {}


def made_log_of(body: dict[str, Any]) -> list[str]:
    """A chain that is sound, of one entry that is none."""
    from quipu.evidence.log import Entry, canonical

    return [Entry.following(None, "2026-01-01", "observation", canonical(body)).line]


def test_what_is_no_plain_file_is_written_to_and_not_replaced(tmp_path: Path) -> None:
    with Store() as store:
        small(store, "a")
        store.export(tmp_path / "log")
        (tmp_path / "link").symlink_to(tmp_path / "target")
        for path in (tmp_path / "link", Path("/dev/null")):
            assert store.export(path) == 15
        assert (tmp_path / "link").is_symlink()
        assert (tmp_path / "target").read_bytes() == (tmp_path / "log").read_bytes()
        assert Path("/dev/null").is_char_device()
        (tmp_path / "log").write_text("before")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("os.fsync", refuse)
            with pytest.raises(StorageFailed, match="log cannot be written: No space left on device"):
                store.export(tmp_path / "log")
    assert (tmp_path / "log").read_text() == "before"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "log", "target"]


def refuse(_: int) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_an_entry_altered_to_nonsense_is_named_where_it_is_read(place: str) -> None:
    with Store(place) as store:
        small(store, "a")
    altering(place, "UPDATE entry SET body = 'nonsense' WHERE number = 6")
    with Store(place) as store, pytest.raises(DamagedLog, match=r"entry 6 \(observation of .*\) was altered: it is no"):
        store.observation(6)


def test_files_that_are_not_there_or_too_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Store() as store:
        with pytest.raises(InvalidRequest, match="nowhere cannot be read: No such file"):
            store.import_(tmp_path / "nowhere")
        with pytest.raises(StorageFailed, match="log cannot be written: No such file"):
            store.export(tmp_path / "nowhere" / "log")
        monkeypatch.setattr("quipu.evidence.store.LONGEST_LINE", 1000)
        (tmp_path / "long").write_text("x" * 2000)
        with pytest.raises(InvalidRequest, match="long, line 1: it is longer than any entry"):
            store.import_(tmp_path / "long")


# ---- several at once


def test_threads_share_a_store(place: str) -> None:
    with Store(place) as store:
        small(store, "a")
        before = store.last().number

        def work(number: int) -> None:
            for place in range(6):
                store.append("observation", observation(A, SET, place, seconds=float(number)))
                assert len(store.snapshot().cells[A.id, SET["capability"]].outcomes) == 6

        threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
        assert store.last().number == before + 24
        store.verify()


def writer(place: str, name: str, count: int) -> None:
    """One of several processes; each opens the log itself, which the first one makes."""
    with Store(place) as store:
        of = config(name)
        store.append_once("config", config_body(of))
        for number in range(count):
            store.append("observation", observation(of, SET, number % 6))


def test_processes_write_into_one_chain(place: str) -> None:
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=writer, args=(place, name, 25)) for name in ("a", "b", "c")]
    for each in processes:
        each.start()
    for each in processes:
        each.join(120)
        assert each.exitcode == 0
    with Store(place) as store:
        assert store.verify().number == 3 * 26
        assert [len(each.outcomes) for each in store.snapshot().cells.values()] == [6, 6, 6]


# ---- where it is


def test_the_default_place_and_one_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "a #? b%20"))
    file = tmp_path / "a #? b%20" / "quipu" / "evidence.sqlite"
    assert default_url().database == str(file)
    with Store.at(create=False) as store:
        assert store.snapshot().number == 0
    assert not file.parent.exists()
    with Store.at() as store:
        small(store, "a")
        assert store.name == str(file)
    assert file.exists()
    with Store.at(create=False) as store:
        assert len(store.snapshot().cells) == 2


@pytest.mark.parametrize("url", [f"sqlite:///{Path('/nonexistent')}/no", "nonsense"])
def test_reading_elsewhere(url: str, tmp_path: Path) -> None:
    if url == "nonsense":
        with pytest.raises(InvalidRequest, match="the address of the evidence is none"):
            Store.at(url, create=False)
    else:
        with Store.at(url, create=False) as store:
            assert store.last() is None
