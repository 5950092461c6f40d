"""The engine's loop over the fake runner, whose answers depend on what the block tables read back."""

import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from quipu.engine.engine import Engine
from quipu.engine.fake import FakeRunner, fake_model
from quipu.engine.kv_cache import blocks_for
from quipu.engine.runner import PoolSize
from quipu.errors import ContextLengthExceeded, EngineStopped, InvalidRequest, Overloaded
from quipu.types import Chunk, Sampling

END = 99


def counting(tokens):
    """The next number, and the end after 50."""
    return END if tokens[-1] >= 50 else tokens[-1] + 1


class Recorder:
    """A listener that writes down what it hears."""

    def __init__(self, stop_at=None):
        self.tokens: dict[int, list[int]] = {}
        self.scores: list = []
        self.prompt = None
        self.ends: dict[int, tuple] = {}
        self.errors: dict[int, Exception] = {}
        self.stop_at = stop_at
        self.done = threading.Event()
        self.expected = 1

    def prompt_scored(self, index, scores):
        self.prompt = scores

    def token(self, index, token, score):
        self.tokens.setdefault(index, []).append(token)
        self.scores.append(score)
        return token == self.stop_at

    def finished(self, index, reason, generated, cached):
        self.ends[index] = (reason, generated, cached)
        self._maybe_done()

    def failed(self, index, error):
        self.errors[index] = error
        self._maybe_done()

    def _maybe_done(self):
        if len(self.ends) + len(self.errors) == self.expected:
            self.done.set()


@pytest.fixture
def make():
    engines = []

    def build(predict=counting, *, blocks=64, context=256, seconds=0.0, **options) -> Engine:
        engines.append(
            Engine(
                FakeRunner(predict, 100, PoolSize(blocks), seconds), context_length=context, end_ids={END}, **options
            )
        )
        return engines[-1]

    yield build
    for engine in engines:
        engine.close()


def run(engine, prompt, **options) -> Recorder:
    recorder = Recorder()
    recorder.expected = options.get("n", 1)
    engine.submit(prompt, Sampling(**{"temperature": 0, **options}), recorder)
    assert recorder.done.wait(10)
    return recorder


def settled(engine):
    """Statistics once nothing runs any more."""
    for _ in range(1000):
        stats = engine.stats()
        if not stats.running and not stats.waiting:
            return stats
        time.sleep(0.005)
    raise AssertionError(f"still busy: {stats}")


def test_an_answer_ends_at_the_end_token_which_counts_but_is_not_shown(make):
    heard = run(make(), [45])
    assert heard.tokens[0] == [46, 47, 48, 49, 50]
    assert heard.ends[0] == ("stop", 6, 0)


def test_an_answer_ends_at_max_tokens(make):
    heard = run(make(), [1], max_tokens=3)
    assert heard.tokens[0] == [2, 3, 4]
    assert heard.ends[0] == ("length", 3, 0)


def test_an_answer_ends_when_the_context_is_full(make):
    heard = run(make(lambda tokens: 7, context=32), [1] * 10)
    assert heard.ends[0] == ("length", 22, 0)


def test_the_listener_can_end_it(make):
    engine, heard = make(), Recorder(stop_at=5)
    engine.submit([1], Sampling(temperature=0), heard)
    assert heard.done.wait(10)
    assert heard.tokens[0] == [2, 3, 4, 5]
    assert heard.ends[0][0] == "stop"


def test_ignore_eos_goes_on_and_min_tokens_forbids_the_end(make):
    assert run(make(), [49], ignore_eos=True, max_tokens=4).tokens[0] == [50, END, END, END]
    heard = run(make(), [50], min_tokens=3, max_tokens=10)
    assert len(heard.tokens[0]) >= 3
    assert END not in heard.tokens[0]


def test_max_tokens_zero_generates_nothing(make):
    heard = run(make(), [1, 2, 3], max_tokens=0, prompt_logprobs=2)
    assert heard.ends[0] == ("length", 0, 0)
    assert heard.tokens == {}
    assert len(heard.prompt) == 3


def test_prompt_scores_are_right_whatever_the_chunks_and_whatever_is_cached(make):
    prompt = [place % 40 for place in range(100)]
    whole = run(make(), prompt, max_tokens=0, prompt_logprobs=3).prompt
    engine = make(prompt_tokens=16, mixed_prompt_tokens=16)
    run(engine, prompt, max_tokens=1)
    chunked = run(engine, prompt, max_tokens=0, prompt_logprobs=3)
    assert chunked.prompt == whole
    assert chunked.ends[0] == ("length", 0, 0), "a cached prefix has no logits, so it is computed"
    assert whole[0].logprob is None
    assert whole[5].token == 5
    assert whole[5].top[0] == (5, whole[5].logprob), "the fake predicts the next number"
    assert whole[40].top[0][0] == 40
    assert whole[40].token == 0


def test_scores_come_with_each_token(make):
    heard = run(make(), [1], max_tokens=2, logprobs=2)
    assert [score.token for score in heard.scores] == [2, 3]
    assert all(len(score.top) == 2 and score.top[0] == (score.token, score.logprob) for score in heard.scores)


def test_the_second_turn_finds_the_first_in_the_cache(make):
    engine = make()
    first = run(engine, [3] * 40, max_tokens=20)
    second = run(engine, [3] * 40 + first.tokens[0] + [8], max_tokens=2)
    assert second.ends[0][2] == 48
    stats = engine.stats()
    assert (stats.prompt_tokens, stats.cached_tokens) == (40 + 61, 48)


def test_many_answers_to_one_prompt_share_it(make):
    engine = make()
    heard = run(engine, [4] * 60, n=3, max_tokens=2)
    stats = engine.stats()
    assert (stats.prompt_tokens, stats.cached_tokens, stats.generated_tokens) == (60, 0, 6), "one prompt, computed once"
    assert {index: tuple(tokens) for index, tokens in heard.tokens.items()} == dict.fromkeys(range(3), (5, 6))
    assert heard.ends[0] == ("length", 2, 0)
    assert heard.ends[1] == ("length", 2, 48)


def test_answers_to_one_prompt_differ_under_one_seed(make):
    heard = run(make(), [4], n=3, max_tokens=20, seed=1, temperature=100, ignore_eos=True)
    assert len(set(map(tuple, heard.tokens.values()))) == 3


def test_the_prompt_is_scored_once_however_many_answers_it_gets(make):
    heard = run(make(), [4] * 60, n=3, max_tokens=2, prompt_logprobs=0)
    assert len(heard.prompt) == 60
    assert [heard.ends[index] for index in range(3)] == [("length", 2, 0), ("length", 2, 48), ("length", 2, 48)]


def test_a_crowd_larger_than_the_cache_gets_what_each_would_get_alone(make):
    """More sequences than blocks: they are set aside and computed again, and nobody reads a neighbour's tokens."""

    def digest(tokens):
        return (sum(token * (place + 1) for place, token in enumerate(tokens)) * 31 + len(tokens)) % 97

    engine = make(digest, blocks=16, context=120, concurrency=8, mixed_prompt_tokens=32)
    random = np.random.default_rng(0)
    crowd = []
    for _ in range(40):
        prompt = random.integers(0, 97, random.integers(1, 60)).tolist()
        recorder = Recorder()
        engine.submit(prompt, Sampling(temperature=0, max_tokens=40), recorder)
        crowd.append((prompt, recorder))
    for prompt, recorder in crowd:
        assert recorder.done.wait(30)
        tokens = list(prompt)
        for _ in range(40):
            tokens.append(digest(tokens))
        assert recorder.tokens[0] == tokens[len(prompt) :]
    stats = settled(engine)
    assert stats.blocks_used == 0
    assert stats.preempted > 0, "this test is about running out of blocks"


def test_a_cancelled_request_is_gone_within_a_step(make):
    engine = make(lambda tokens: 7, seconds=0.01)
    heard = Recorder()
    handle = engine.submit([1], Sampling(max_tokens=200), heard)
    while engine.stats().running == 0:
        time.sleep(0.002)
    before = engine.stats().steps
    handle.abort()
    assert heard.done.wait(5)
    assert heard.ends[0][0] == "abort"
    assert engine.stats().steps - before <= 2
    assert settled(engine).blocks_used == 0
    handle.abort()
    run(engine, [1], max_tokens=1)
    assert engine.stats().aborted == 1
    assert not engine._decoding.samplers


def test_a_request_cancelled_while_it_waits_never_runs(make):
    engine = make(lambda tokens: 7, seconds=0.01, concurrency=1)
    running, waiting = Recorder(), Recorder()
    first = engine.submit([1], Sampling(max_tokens=200), running)
    engine.submit([2], Sampling(max_tokens=200), waiting).abort()
    assert waiting.done.wait(5)
    assert waiting.tokens == {}
    first.abort()


def test_a_full_queue_is_refused_at_the_door(make):
    engine = make(lambda tokens: 7, seconds=0.05, concurrency=1, queue=2)
    first = engine.submit([1], Sampling(), Recorder())
    while not engine.stats().running:
        time.sleep(0.002)
    others = [engine.submit([1], Sampling(), Recorder()) for _ in range(2)]
    with pytest.raises(Overloaded, match="the queue holds 2"):
        engine.submit([1], Sampling(), Recorder())
    for handle in (first, *others):
        handle.abort()


@pytest.mark.parametrize(
    ("prompt", "options", "error", "says"),
    [
        ([], {}, InvalidRequest, "prompt is empty"),
        ([100], {}, InvalidRequest, "token id 100 is not in the vocabulary of 100"),
        ([-1], {}, InvalidRequest, "token id -1"),
        ([1], {"logit_bias": {5000: 1}}, InvalidRequest, "token id 5000"),
        ([1] * 300, {}, ContextLengthExceeded, "300 tokens.*256 tokens"),
        ([1] * 256, {}, ContextLengthExceeded, "256 tokens"),
        ([1] * 200, {"max_tokens": 57}, ContextLengthExceeded, "200 tokens and max_tokens asks for 57.*256"),
    ],
)
def test_what_cannot_run_is_refused_with_numbers(make, prompt, options, error, says):
    with pytest.raises(error, match=says):
        make().submit(prompt, Sampling(**options), Recorder())


def test_a_context_that_is_exactly_full_runs(make):
    assert run(make(), [1] * 200, max_tokens=56, ignore_eos=True).ends[0] == ("length", 56, 0)
    assert run(make(), [1] * 256, max_tokens=0).ends[0] == ("length", 0, 0)


def test_a_cache_smaller_than_one_context_is_refused(make):
    with pytest.raises(InvalidRequest, match="holds 160 tokens, less than one context of 161"):
        make(blocks=10, context=161)


def test_too_few_blocks_for_a_chunk_are_refused():
    """A chunk of 128, a step of 64, and a block that both begin and end in: 13 blocks."""
    with pytest.raises(InvalidRequest, match=r"room for 192 tokens .* context of 256 may take 208 there; give it more"):
        Engine(FakeRunner(counting, 100, PoolSize(16, 12), chunk=128), context_length=256, prompt_tokens=64, chunk=128)
    Engine(
        FakeRunner(counting, 100, PoolSize(16, 13), chunk=128), context_length=256, prompt_tokens=64, chunk=128
    ).close()


def test_a_failing_step_fails_its_requests_and_nothing_else(make, caplog):
    def explode(tokens):
        if 13 in tokens:
            raise ArithmeticError("bad luck")
        return counting(tokens)

    engine = make(explode)
    heard = run(engine, [11])
    assert "the step that computed this request failed: bad luck" in str(heard.errors[0])
    assert isinstance(heard.errors[0], EngineStopped)
    assert settled(engine).blocks_used == 0
    assert run(engine, [45]).ends[0][0] == "stop"


def test_a_listener_that_raises_loses_only_its_own_request(make, caplog):
    class Broken(Recorder):
        def token(self, index, token, score):
            raise ValueError("my mistake")

    engine, broken, sound = make(), Broken(), Recorder()
    engine.submit([1], Sampling(temperature=0), broken)
    engine.submit([45], Sampling(temperature=0), sound)
    assert broken.done.wait(5)
    assert "my mistake" in str(broken.errors[0])
    assert sound.done.wait(5)
    assert sound.ends[0][0] == "stop"


@pytest.mark.parametrize("how", ["abort", "fail", "close"])
def test_a_listener_that_raises_when_told_of_the_end_stops_nobody_else(make, caplog, how):
    class Broken(Recorder):
        def finished(self, index, reason, generated, cached):
            raise ValueError("finished badly")

        def failed(self, index, error):
            super().failed(index, error)
            raise ValueError("failed badly")

    def explode(tokens):
        if how == "fail" and 13 in tokens:
            raise ArithmeticError
        return 7

    engine, broken, sound = make(explode, seconds=0.001), Broken(), Recorder()
    handle = engine.submit([13], Sampling(), broken)
    if how == "abort":
        handle.abort()
    if how == "close":
        engine.submit([1], Sampling(), sound)
        engine.close()
        assert "closed" in str(sound.errors[0])
        assert engine._runner.closed
    assert broken.done.wait(5)
    if how == "fail":
        assert "failed: ArithmeticError" in str(broken.errors[0]), "an error without words is named"
    if how != "close":
        assert run(engine, [1], max_tokens=2).ends[0][0] == "length"
        assert settled(engine).blocks_used == 0


def test_an_engine_that_breaks_tells_everyone_and_takes_no_more(make, caplog):
    engine = make(lambda tokens: 7, seconds=0.001, concurrency=1)
    running, waiting = Recorder(), Recorder()
    engine.submit([1], Sampling(), running)
    engine.submit([1], Sampling(), waiting)

    def broken():
        raise IndexError("3 blocks asked for, 2 free")

    engine._scheduler.schedule = broken
    for heard in (running, waiting):
        assert heard.done.wait(5)
        assert "the engine failed and stopped: 3 blocks asked for" in str(heard.errors[0])
    with pytest.raises(EngineStopped):
        engine.submit([1], Sampling(), Recorder())
    engine._thread.join(5)
    assert engine._runner.closed


def test_logits_that_are_no_numbers_fail_the_request_instead_of_inventing_tokens(make, caplog):
    class Damaged(FakeRunner):
        def step(self, spans):
            return [np.full_like(rows, np.nan) for rows in super().step(spans)]

    engine = make()
    engine._runner = Damaged(counting, 100, PoolSize(64))
    for options in ({}, {"max_tokens": 0, "prompt_logprobs": 1}):
        assert "highest logit is nan" in str(run(engine, [1, 2], **options).errors[0])


def test_a_program_may_end_while_an_answer_is_generated():
    """A thread still inside the arithmetic when the interpreter goes would end the process with SIGABRT."""
    program = (
        "from quipu.engine.fake import fake_model\n"
        "model = fake_model(seconds=0.001)\n"
        "model.engine._runner.close = lambda: print('freed')\n"
        "stream = model.stream('hello', ignore_eos=True)\n"
        "next(stream)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (0, "freed\n"), done.stderr


def test_closing_fails_what_runs_and_waits_and_frees_the_runner(make):
    engine = make(lambda tokens: 7, seconds=0.01, concurrency=1)
    crowd = [Recorder() for _ in range(3)]
    for recorder in crowd:
        engine.submit([1], Sampling(), recorder)
    engine.close()
    engine.close()
    for recorder in crowd:
        assert recorder.done.wait(5)
        assert "closed" in str(recorder.errors[0])
    assert engine._runner.closed
    with pytest.raises(EngineStopped, match="closed"):
        engine.submit([1], Sampling(), Recorder())


def test_a_long_prompt_does_not_stall_an_answer():
    """While 1,000 prompt tokens are computed in pieces, the answer beside them gets a token with every piece."""
    with fake_model(lambda asked: "x" * 300, context_length=2048) as model:
        order: list[str] = []
        done = threading.Event()
        first = model.submit(
            model.prompt_ids([{"role": "user", "content": "hi"}]), Sampling(), lambda e: order.append("answer")
        )
        while len(order) < 5:
            time.sleep(0.002)
        start = len(order)

        def second(event):
            order.append("prompt")
            done.set()

        model.submit(model.prompt_ids("y" * 1000), Sampling(max_tokens=1), second)
        assert done.wait(20)
        between = order[start : order.index("prompt")]
        first.abort()
        assert len(between) >= 1000 // 128 - 1


def test_threads_share_one_engine_and_get_their_own_answers():
    with fake_model(lambda asked: f"<{asked}>", concurrency=4) as model:
        answers: dict[int, str] = {}

        def ask(number):
            answers[number] = model.chat([{"role": "user", "content": f"question {number}"}])

        threads = [threading.Thread(target=ask, args=(number,)) for number in range(24)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
        assert answers == {number: f"<question {number}>" for number in range(24)}
        assert settled(model.engine).blocks_used == 0


def test_blocks_for_context_is_what_a_request_can_take(make):
    engine = make(blocks=blocks_for(64), context=64)
    assert run(engine, [1], ignore_eos=True).ends[0] == ("length", 63, 0)


def test_padding_of_the_output_layer_is_never_drawn(make):
    heard = run(make(lambda tokens: 95, vocabulary=90), [1], max_tokens=3, logprobs=5)
    assert all(token < 90 for token in heard.tokens[0])
    assert all(other < 90 for score in heard.scores for other, _ in score.top)


def test_chunks_join_to_the_completion():
    with fake_model() as model:
        chunks = list(model.stream([{"role": "user", "content": "ä€😀"}]))
        assert all(isinstance(chunk, Chunk) for chunk in chunks)
        assert "".join(map(str, chunks)) == "You said: ä€😀"
        assert chunks[-1].finish_reason == "stop"
        assert chunks[-1].usage is not None
