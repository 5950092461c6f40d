"""Answers that may or must call tools keep what every answer has: seeds, neighbours, prefixes, an end at any time."""

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

import quipu
from quipu.engine.fake import fake_model
from quipu.types import Constraint

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
OTHERS = 16
ASKED = [{"role": "user", "content": "What is the weather in Paris, and what time is it in Rome?"}]
WEATHER = {
    "name": "get_weather",
    "description": "The weather in a city",
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string", "maxLength": 30}, "days": {"type": "integer", "maximum": 14}},
        "required": ["city", "days"],
    },
}
TIME = {
    "name": "get_time",
    "description": "The time in a city",
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string", "maxLength": 30}, "zone": {"enum": ["CET", "UTC"]}},
        "required": ["city"],
    },
}
TOOLS = [WEATHER, TIME]
SAMPLED = {"temperature": 1, "max_tokens": 100, "logprobs": 1}


@pytest.fixture(scope="module")
def real(smollm2_file):
    with quipu.load(smollm2_file, context=1024, kv_memory=1, concurrency=OTHERS + 1) as model:
        yield model


def call(model, seed, choice="required", **options):
    """Tokens, their log-probabilities, and the calls: all of an answer but the ids, which nobody else's are."""
    answer = model.chat(ASKED, tools=TOOLS, tool_choice=choice, seed=seed, **{**SAMPLED, **options}).choices[0]
    made = [(each.name, each.arguments) for each in answer.tool_calls]
    return answer.token_ids, answer.logprobs, answer.text, made


@pytest.mark.parametrize("choice", ["required", "auto", "get_time"])
def test_a_seed_brings_the_same_calls_again_and_another_seed_others(real, choice):
    first = call(real, 5, choice)
    assert call(real, 5, choice) == first
    assert any(call(real, other, choice)[0] != first[0] for other in (6, 8, 9))
    if choice != "auto":
        assert first[3], "it calls"


@pytest.mark.parametrize("choice", ["required", pytest.param("auto", marks=pytest.mark.slow)])
def test_the_same_tokens_alone_and_among_sixteen_others(real, choice):
    alone = call(real, 7, choice)

    def other(place):
        match place % 4:
            case 0:
                return real.chat(f"Count from {place}.", seed=place, **SAMPLED)
            case 1:
                return call(real, place, "get_weather", parallel_tool_calls=False)
            case 2:
                return call(real, place, "auto")
        return real.chat(ASKED, constraint=Constraint("json_object"), seed=place, **SAMPLED)

    with ThreadPoolExecutor(OTHERS + 1) as pool:
        crowd = [pool.submit(other, place) for place in range(OTHERS // 2)]
        among = pool.submit(call, real, 7, choice)
        crowd += [pool.submit(other, place) for place in range(OTHERS // 2, OTHERS)]
        for each in crowd:
            each.result()
        assert among.result() == alone


def test_the_prompt_with_its_tools_is_computed_once(real):
    real.chat(ASKED, tools=TOOLS, tool_choice="required", max_tokens=60)
    again = real.chat(ASKED, tools=TOOLS, tool_choice="get_time", max_tokens=60)
    assert again.usage.prompt_tokens - again.usage.cached_tokens <= 16, "all but the last, unfinished block"


@pytest.mark.parametrize("choice", ["required", "auto"])
def test_leaving_within_a_call_frees_its_blocks(choice):
    said = '{"name": "get_weather", "parameters": {"city": "' + "x" * 900
    tool = {"name": "get_weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}}
    with fake_model(lambda asked: said, context_length=4096, seconds=0.002) as model:
        with model.stream(ASKED, tools=[tool], tool_choice=choice, temperature=0) as chunks:
            written = 0
            for chunk in chunks:
                written += sum(len(delta.arguments) for delta in chunk.tool_calls)
                if written > 30:
                    break
            assert model.engine.stats().blocks_used, "in the middle of it"
        deadline = time.monotonic() + 5
        while model.engine.stats().running or model.engine.stats().blocks_used:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert model.engine.stats().aborted == 1
