import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from adding import Adding, added, half_right
from oracle import Oracle, saying

from quipu.capabilities.base import Score, result_of
from quipu.capabilities.parts.calls import Calls
from quipu.engine.fake import fake_model
from quipu.errors import ContextLengthExceeded, EngineStopped, InvalidRequest
from quipu.evidence.config import Config
from quipu.evidence.measure import measure
from quipu.evidence.observe import observe
from quipu.evidence.store import Store
from quipu.types import Message

ADDING = Adding()


@pytest.fixture
def store():
    with Store() as opened:
        yield opened


def observations(store: Store) -> list[dict[str, Any]]:
    return [entry.body for entry in store.entries() if entry.kind == "observation"]


def test_a_perfect_model(store: Store) -> None:
    [found] = measure(Oracle(added), [ADDING], store)
    assert found.interval is not None
    assert (found.interval.mean, found.interval.n, found.passed) == (1.0, 160, 160)
    assert (found.unparsed, found.beyond_context) == (0, 0)
    assert found.interval.low > 0.85  # eight groups, whatever their size
    assert found.completion_tokens == 160
    assert found.tokens_per_second is not None
    assert [(part.name, part.n, part.score) for part in found.parts] == [(f"{a} first", 20, 1.0) for a in range(8)]


def test_unparsed_is_counted_apart_from_wrong(store: Store) -> None:
    totals = [a + b for a in range(8) for b in range(20, 40)]
    unparsed = sum(total % 6 == 0 for total in totals)
    right = sum(total % 2 == 1 for total in totals)
    [found] = measure(Oracle(half_right), [ADDING], store)
    assert found.interval is not None
    assert (found.unparsed, found.passed) == (unparsed, right)
    assert found.interval.mean == pytest.approx(right / 160)
    lines = observations(store)
    states = [line["state"] for line in lines]
    assert states.count("unparsed") == unparsed
    assert {line["text"] for line in lines if line["state"] == "unparsed"} == {"I do not know"}
    assert all(line["completion_tokens"] > 0 for line in lines)  # unreadable ones cost, too


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
    place = f"sqlite:///{tmp_path}/evidence.sqlite"
    with Store(place) as store, pytest.raises(EngineStopped):
        measure(broken, [ADDING], store)
    model = Oracle(added)
    with Store(place) as store:
        kept = len(observations(store))
        assert 30 <= kept <= 50
        [found] = measure(model, [ADDING], store)
        assert found.interval is not None
        assert found.interval.n == 160
        assert len(model.asked) == 160 - kept
        measure(model, [ADDING], store)
        assert len(model.asked) == 160 - kept


def test_a_time_limit_gives_each_capability_its_share(store: Store) -> None:
    class Other(Adding):
        version = 2

    def slowly(messages: Sequence[Message]) -> str:
        time.sleep(0.05)
        return added(messages)

    start = time.monotonic()
    found = measure(Oracle(slowly), [ADDING, Other()], store, seconds=1.2, together=4)
    assert time.monotonic() - start < 20
    counts = [each.interval.n for each in found if each.interval is not None]
    assert len(counts) == 2
    assert all(0 < count < 160 for count in counts)


def test_nothing_asked_has_no_score(store: Store) -> None:
    [found] = measure(Oracle(added), [ADDING], store, seconds=0)
    assert found.interval is None
    assert found.tokens_per_second is None


def test_what_does_not_fit_the_context_is_not_held_against_the_model(store: Store) -> None:
    small = Oracle(added)
    stream = small.stream

    def refusing(prompt, sampling=None, **options):
        if prompt[-1].content.startswith("7"):
            raise ContextLengthExceeded("the prompt is too long")
        return stream(prompt, sampling, **options)

    small.stream = refusing  # type: ignore[method-assign]
    [found] = measure(small, [ADDING], store)
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


def test_progress_ends_at_all(store: Store) -> None:
    seen: list[tuple[int, int, str]] = []
    measure(Oracle(added), [ADDING], store, report=lambda *values: seen.append(values))
    assert seen[0] == (0, 160, "adding")
    assert seen[-1] == (160, 160, "adding")
    assert [done for done, _, _ in seen] == sorted(done for done, _, _ in seen)


def test_fresh_asks_again_and_the_last_answer_counts(store: Store) -> None:
    [wrong] = measure(saying("7"), [ADDING], store)
    config = Config.of(saying("7"), {})
    [again] = measure(Oracle(added), [ADDING], store)  # the same config: nothing is left to ask
    assert (wrong.passed, again.passed) == (0, 0)
    [right] = measure(Oracle(added), [ADDING], store, fresh=True)
    assert right.passed == 160
    cell = store.snapshot().cells[config.id, ADDING.uri]
    assert len(cell.outcomes) == 160
    assert min(outcome.observation for outcome in cell.outcomes.values()) > 160
    assert (cell.timed_tokens, right.timed_tokens) == (160, 160)  # times of what counts
    assert len(observations(store)) == 320


def test_fresh_that_was_cut_off_goes_on(store: Store) -> None:
    """What it asked again is not asked a third time; the rest keeps its earlier answer until then."""
    measure(saying("7"), [ADDING], store)
    model, stream = Oracle(added), Oracle(added).stream
    lock, asked = threading.Lock(), []

    def failing(prompt, sampling=None, **options):
        with lock:
            asked.append(prompt)
            if len(asked) > 40:
                raise EngineStopped("the engine stopped")
        return stream(prompt, sampling, **options)

    model.stream = failing  # type: ignore[method-assign]
    with pytest.raises(EngineStopped):
        measure(model, [ADDING], store, fresh=True)
    kept = len(observations(store)) - 160
    assert 20 <= kept <= 40
    rest = Oracle(added)
    [found] = measure(rest, [ADDING], store)
    assert len(rest.asked) == 160 - kept
    assert found.passed == 160


def test_the_token_hash_is_of_all_answers_in_any_order() -> None:
    class Twice(Adding):
        def events(self, model, given, sampling):
            calls = Calls(model, sampling)
            conversations = [[Message("user", given.question)], [Message("user", "1+1")]]
            answers = dict(calls.answers(conversations, 5))
            yield result_of(calls, self.parse(answers[0], given), answers[0])

    model = fake_model(lambda asked: str(eval(asked)))
    with model:
        hashes = {observe(model, Twice(), ADDING.probes[0]).token_hash for _ in range(3)}
        other = observe(model, Twice(), ADDING.probes[1]).token_hash
    assert len(hashes) == 1
    assert hashes != {other}
    assert observe(saying(""), ADDING, ADDING.probes[0]).token_hash is None


def test_shares_that_rounding_took_beyond_their_range_are_kept(store: Store) -> None:
    class Rounded(Adding):
        def score(self, output, probe):
            return Score(sum([0.1] * 3) / 0.3 if output.total % 2 else -1e-17, True)

    assert sum([0.1] * 3) / 0.3 > 1
    [found] = measure(Oracle(added), [Rounded()], store)
    assert found.interval is not None
    assert found.interval.mean == 0.5


def test_what_a_capability_scores_out_of_range_is_refused_by_name(store: Store) -> None:
    class Generous(Adding):
        def score(self, output, probe):
            return Score(7.0, True)

    with pytest.raises(
        InvalidRequest, match="what is to be kept is no observation: value should be less than or equal"
    ):
        measure(Oracle(added), [Generous()], store)
