import threading
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from adding import Adding, added, half_right
from oracle import Oracle, saying

from quipu.errors import ContextLengthExceeded, EngineStopped
from quipu.evidence.journal import Journal
from quipu.evidence.measure import about, measure, observe
from quipu.types import Message

ADDING = Adding()


@pytest.fixture
def journal(tmp_path: Path):
    with Journal(tmp_path / "journal", {"journal": 1}) as opened:
        yield opened


def test_a_perfect_model(journal: Journal) -> None:
    [found] = measure(Oracle(added), [ADDING], journal)
    assert found.interval is not None
    assert (found.interval.mean, found.interval.n, found.passed) == (1.0, 160, 160)
    assert (found.unparsed, found.beyond_context) == (0, 0)
    assert found.interval.low > 0.85  # eight groups, whatever their size
    assert found.completion_tokens == 160
    assert found.tokens_per_second is not None
    assert [(part.name, part.n, part.score) for part in found.parts] == [(f"{a} first", 20, 1.0) for a in range(8)]


def test_unparsed_is_counted_apart_from_wrong(journal: Journal) -> None:
    totals = [a + b for a in range(8) for b in range(20, 40)]
    unparsed = sum(total % 6 == 0 for total in totals)
    right = sum(total % 2 == 1 for total in totals)
    [found] = measure(Oracle(half_right), [ADDING], journal)
    assert found.interval is not None
    assert (found.unparsed, found.passed) == (unparsed, right)
    assert found.interval.mean == pytest.approx(right / 160)
    states = [line["state"] for line in journal.lines if "probe" in line]
    assert states.count("unparsed") == unparsed
    assert {line["text"] for line in journal.lines if line.get("state") == "unparsed"} == {"I do not know"}
    assert all(line["completion_tokens"] > 0 for line in journal.lines if "probe" in line)  # unreadable ones cost, too


def test_it_goes_on_where_it_stopped(tmp_path: Path) -> None:
    """A model that fails in the middle: what was answered is not asked again."""
    broken = Oracle(added)
    stream, lock, asked = broken.stream, threading.Lock(), []

    def failing(prompt, sampling=None, **options):
        with lock:
            asked.append(prompt[-1].content)
            if len(asked) > 50:
                raise EngineStopped("the engine stopped")
        return stream(prompt, sampling, **options)

    broken.stream = failing  # type: ignore[method-assign]
    with Journal(tmp_path / "journal", {"journal": 1}) as journal, pytest.raises(EngineStopped):
        measure(broken, [ADDING], journal)
    model = Oracle(added)
    with Journal(tmp_path / "journal", {"journal": 1}) as journal:
        kept = sum("probe" in line for line in journal.lines)
        assert 30 <= kept <= 50
        [found] = measure(model, [ADDING], journal)
        assert found.interval is not None
        assert found.interval.n == 160
        assert len(model.asked) == 160 - kept
        measure(model, [ADDING], journal)
        assert len(model.asked) == 160 - kept


def test_a_time_limit_gives_each_capability_its_share(journal: Journal) -> None:
    class Other(Adding):
        version = 2

    def slowly(messages: Sequence[Message]) -> str:
        time.sleep(0.05)
        return added(messages)

    start = time.monotonic()
    found = measure(Oracle(slowly), [ADDING, Other()], journal, seconds=1.2, together=4)
    assert time.monotonic() - start < 20
    counts = [each.interval.n for each in found if each.interval is not None]
    assert len(counts) == 2
    assert all(0 < count < 160 for count in counts)


def test_nothing_asked_has_no_score(journal: Journal) -> None:
    [found] = measure(Oracle(added), [ADDING], journal, seconds=0)
    assert found.interval is None
    assert found.tokens_per_second is None


def test_what_does_not_fit_the_context_is_not_held_against_the_model(journal: Journal) -> None:
    small = Oracle(added)
    stream = small.stream

    def refusing(prompt, sampling=None, **options):
        if prompt[-1].content.startswith("7"):
            raise ContextLengthExceeded("the prompt is too long")
        return stream(prompt, sampling, **options)

    small.stream = refusing  # type: ignore[method-assign]
    [found] = measure(small, [ADDING], journal)
    assert found.interval is not None
    assert (found.beyond_context, found.interval.n, found.interval.mean) == (20, 140, 1.0)
    assert "7 first" not in [part.name for part in found.parts]


def test_each_probe_has_its_seed_and_the_sampling_that_is_given() -> None:
    model = Oracle(added)
    first, second = ADDING.probes[:2]
    for probe in (first, second, first):
        observe(model, ADDING, probe, {"top_k": 3})
    seeds = [options["seed"] for options in model.options]
    assert seeds[0] == seeds[2] != seeds[1]
    assert all(options["top_k"] == 3 and options["temperature"] == 0 for options in model.options)
    assert all(options["max_tokens"] == 5 for options in model.options)


def test_observations_tell_what_happened() -> None:
    probe = ADDING.probes[0]
    seen = observe(saying("7"), ADDING, probe)
    assert (seen.capability, seen.probe, seen.state, seen.text) == ("capability://adding@1", probe.id, "scored", "7")
    assert (seen.value, seen.passed, seen.measured) == (0.0, False, {"said": 7})
    assert seen.first_token_seconds is not None
    assert 0 <= seen.first_token_seconds <= seen.seconds


def test_progress_ends_at_all(journal: Journal) -> None:
    seen: list[tuple[int, int, str]] = []
    measure(Oracle(added), [ADDING], journal, report=lambda *values: seen.append(values))
    assert seen[0] == (0, 160, "adding")
    assert seen[-1] == (160, 160, "adding")
    assert [done for done, _, _ in seen] == sorted(done for done, _, _ in seen)


def test_about_tells_models_apart() -> None:
    model = saying("x")
    assert about(model, "aa", {}) != about(model, "bb", {})
    assert about(model, "aa", {}) != about(model, "aa", {"temperature": 1})
