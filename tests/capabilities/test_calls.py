import threading
import time
from contextlib import closing

import pytest
from oracle import Oracle, saying
from running_server import until

from quipu.capabilities.parts.calls import Calls
from quipu.engine.fake import fake_model
from quipu.errors import Unparsed
from quipu.types import Message

QUESTIONS = [[Message("user", f"question {number}")] for number in range(40)]


def test_answers_come_with_their_places_and_are_counted() -> None:
    calls = Calls(Oracle(lambda messages: messages[-1].content.upper()), {})
    assert dict(calls.answers(QUESTIONS, 5)) == {n: f"QUESTION {n}" for n in range(40)}
    assert calls.usage.completion_tokens == 80


def test_hanging_up_in_the_middle_ends_every_answer_at_once() -> None:
    """The prompts take long, so that no answer has a next piece at which it could notice."""
    with fake_model(lambda asked: "word " * 100, context_length=4096, seconds=0.002) as model:
        calls = Calls(model, {"temperature": 0})
        long = [[Message("user", f"{number} " + "x" * (1 + 900 * (number > 0)))] for number in range(30)]
        with closing(calls.answers(long, 4)) as answers:
            next(answers)
            start = time.perf_counter()
        assert time.perf_counter() - start < 2
        until(lambda: model.running() == 0)
        stats = model.engine.stats()
        assert stats.blocks_used == 0
        assert stats.aborted > 0
        assert stats.finished < 10


def test_closing_from_another_thread_ends_a_stream() -> None:
    with fake_model(lambda asked: "word " * 500, context_length=4096, seconds=0.002) as model:
        calls = Calls(model, {"temperature": 0})
        pieces = []
        thread = threading.Thread(target=lambda: pieces.extend(calls.stream(QUESTIONS[0], 2000)))
        thread.start()
        until(lambda: model.running() == 1)
        calls.close()
        calls.close()
        thread.join(5)
        assert not thread.is_alive()
        assert len(pieces) < 2000
        assert list(calls.stream(QUESTIONS[1], 5)) == []  # after the end nothing begins


def test_a_running_python_generator_ends_at_its_next_chunk() -> None:
    calls = Calls(saying("a text of several pieces"), {})
    pieces = []
    for piece in calls.stream(QUESTIONS[0], 5):
        pieces.append(piece)
        calls.close()
    assert len(pieces) == 1


def test_an_error_of_one_ends_all() -> None:
    def answer(messages: list[Message]) -> str:
        if messages[-1].content == "question 3":
            raise Unparsed("no", text="")
        return "yes"

    model = Oracle(answer)
    with pytest.raises(Unparsed):
        list(Calls(model, {}).answers(QUESTIONS, 5))
    assert len(model.asked) < len(QUESTIONS) + 1
