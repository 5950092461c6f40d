import time
from collections.abc import Iterator

import pytest
from oracle import Oracle, saying
from running_server import serving

from quipu import capabilities
from quipu.capabilities.base import Measured, Progress, Result
from quipu.engine.fake import fake_model
from quipu.engine.remote import RemoteModel
from quipu.errors import InvalidRequest
from quipu.types import Chunk


def measured(model, **given):
    events = list(capabilities.stream(model, "streaming", **given))
    [result] = [event for event in events if isinstance(event, Result)]
    assert events[-1] is result
    progress = [event for event in events if isinstance(event, Progress)]
    assert [event.done for event in progress] == list(range(1, len(progress) + 1))
    assert progress[-1].done == progress[-1].total
    return result.output


def test_a_service_over_http() -> None:
    with serving({"fake": fake_model(seconds=0.0005)}) as server, RemoteModel(f"{server.url}/v1") as remote:
        output = measured(remote, requests=6, together=2, tokens=8)
        assert (output.complete, output.ordered, output.requests) == (1.0, 1.0, 6)
        assert 0 < output.first_token_p50 <= output.first_token_p99
        assert output.inter_token_p50 is not None
        assert output.cancel_p50 is not None
        assert output.cancel_p50 < 5000
        assert output.tokens_per_second > 0
        assert server.stats().aborted == 5


class Slow(Oracle):
    """Two pieces, 50 ms before each."""

    def stream(self, prompt, sampling=None, **options) -> Iterator[Chunk]:
        for chunk in super().stream(prompt, sampling, **options):
            time.sleep(0.05)
            yield chunk


def test_times_are_those_of_the_answers() -> None:
    output = measured(Slow(lambda _: "seven letters"), requests=3, together=1)
    assert 50 <= output.first_token_p50 < 200
    assert 50 <= output.inter_token_p50 < 200
    assert output.cancel_p50 is None  # it does not tell what it works on


@pytest.mark.parametrize(
    ("chunks", "complete", "ordered"),
    [
        ([Chunk("a", finish_reason="stop")], 0.0, 1.0),  # no counts
        ([Chunk("a")], 0.0, 1.0),  # no end
    ],
)
def test_what_is_missing_shows(chunks: list[Chunk], complete: float, ordered: float) -> None:
    model = saying("x")
    model.stream = lambda *_, **__: (chunk for chunk in chunks)  # type: ignore[method-assign, assignment]
    output = measured(model, requests=2)
    assert (output.complete, output.ordered) == (complete, ordered)


def test_text_after_the_end_shows() -> None:
    model = saying("x")
    chunks = [Chunk("a"), Chunk(finish_reason="stop"), Chunk("b")]
    model.stream = lambda *_, **__: (chunk for chunk in chunks)  # type: ignore[method-assign, assignment]
    assert measured(model, requests=2).ordered == 0.0


def test_limits_are_named() -> None:
    for field, value in {"requests": 0, "together": 65, "tokens": 1, "prompt": ""}.items():
        with pytest.raises(InvalidRequest, match=field):
            capabilities.stream(saying("x"), "streaming", **{field: value})


def test_measuring_and_calling_it_are_one() -> None:
    streaming = capabilities.find("streaming")
    assert isinstance(streaming, Measured)
    *steps, last = streaming.measure(saying("x"), streaming.input.of({"requests": 2}), {})
    assert all(isinstance(step, Progress) for step in steps)
    assert isinstance(last, Result)
    assert last.output.model_fields_set == measured(saying("x"), requests=2).model_fields_set
