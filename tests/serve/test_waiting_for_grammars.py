"""Several clients wait for one grammar to be compiled: one that leaves, or whose time is over, takes it from nobody."""

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import httpx
import jsonschema
import pytest
from running_server import serving, until

from quipu.engine.fake import fake_model
from quipu.engine.local import LocalModel
from quipu.serve.limits import Limits
from quipu.serve.openai.answer import _grammar
from quipu.tools.tool import ToolUse
from quipu.types import Constraint

pytestmark = pytest.mark.alone

PARAMETERS = {"type": "object", "properties": {"city": {"type": "string", "maxLength": 5}}, "required": ["city"]}
TOOL = {"type": "function", "function": {"name": "f", "parameters": PARAMETERS}}
FORM = {"type": "json_schema", "json_schema": {"name": "x", "schema": PARAMETERS}}
WAYS = [{"tools": [TOOL], "tool_choice": "required"}, {"response_format": FORM}]


@contextmanager
def busy(model: LocalModel) -> Iterator[threading.Event]:
    """The thread that compiles is kept from it until the event is set."""
    free = threading.Event()
    model._compiler._plain.submit(free.wait, 30)
    try:
        yield free
    finally:
        free.set()


def body(fields: dict) -> dict:
    asked = {"model": "fake", "temperature": 0, "max_tokens": 100, "messages": [{"role": "user", "content": "x"}]}
    return {**asked, **fields}


def valid(answer: httpx.Response) -> None:
    assert answer.status_code == 200, answer.text
    message = answer.json()["choices"][0]["message"]
    for call in message.get("tool_calls") or ():
        jsonschema.validate(json.loads(call["function"]["arguments"]), PARAMETERS)
    if message["content"] is not None:
        jsonschema.validate(json.loads(message["content"]), PARAMETERS)


@pytest.mark.parametrize(
    ("asked", "use"),
    [((Constraint("json_schema", PARAMETERS), "response_format"), None), (None, ToolUse.of([TOOL], "required"))],
)
def test_cancelling_one_who_waits_cancels_nothing_for_the_others(asked, use) -> None:
    async def two(model: LocalModel):
        with busy(model) as free:
            waiting = [asyncio.create_task(_grammar(model, asked, use, 20)) for _ in range(3)]
            while len(model._compiler._kept) < 1:
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.1)
            for leaving in waiting[::2]:
                leaving.cancel()
            await asyncio.wait(waiting[::2])
            assert [each.cancelled() for each in waiting[::2]] == [True, True]
            free.set()
            return await waiting[1], await _grammar(model, asked, use, 20)

    with fake_model() as model:
        one, another = asyncio.run(two(model))
        assert one is another, "compiled once"


@pytest.mark.parametrize("fields", WAYS)
def test_a_client_that_hangs_up_takes_no_grammar_from_another(fields: dict) -> None:
    with fake_model() as model, serving({"fake": model}) as server, busy(model) as free, ThreadPoolExecutor(1) as pool:
        with httpx.Client(base_url=server.url, timeout=0.3) as leaving, pytest.raises(httpx.ReadTimeout):
            leaving.post("/v1/chat/completions", json=body(fields))
        staying = pool.submit(server.http.post, "/v1/chat/completions", json=body(fields))
        time.sleep(0.2)
        [compiling] = model._compiler._kept.values()
        free.set()
        valid(staying.result())
        assert [compiling] == list(model._compiler._kept.values()), "compiled once"
        until(lambda: server.stats().running == server.stats().blocks_used == 0)


@pytest.mark.parametrize("fields", WAYS)
def test_the_time_of_one_is_not_over_for_the_others(fields: dict) -> None:
    limits = Limits(request_seconds=1.5)
    with (
        fake_model() as model,
        serving({"fake": model}, limits=limits) as server,
        busy(model) as free,
        ThreadPoolExecutor(2) as pool,
    ):
        early = pool.submit(server.http.post, "/v1/chat/completions", json=body(fields))
        time.sleep(0.8)
        late = pool.submit(server.http.post, "/v1/chat/completions", json=body(fields))
        over = early.result()
        free.set()
        assert over.status_code == 503
        assert over.json()["error"]["code"] == "time_limit"
        assert "compiling" in over.json()["error"]["message"]
        valid(late.result())
