"""/v1/chat/completions through the official SDK."""

import asyncio
import json
import math

import httpx
import openai
import pytest
from running_server import Running, serving

from quipu.engine.fake import fake_model
from quipu.serve.openai.answer import fingerprint


def test_the_fingerprint_tells_what_computes() -> None:
    with fake_model() as model:
        before = fingerprint(model)
        assert before == fingerprint(model)
        model.runner = "native 1 avx2, KV int8"
        assert fingerprint(model) != before


def test_answer_has_every_field(server: Running) -> None:
    answer = server.ask("hello")
    assert answer.id.startswith("chatcmpl-")
    assert answer.object == "chat.completion"
    assert answer.model == "fake"
    assert answer.created > 1_700_000_000
    assert answer.system_fingerprint.startswith("fp_")
    [choice] = answer.choices
    assert choice.message.content == "You said: hello"
    assert (choice.message.role, choice.message.refusal) == ("assistant", None)
    assert (choice.finish_reason, choice.index, choice.logprobs) == ("stop", 0, None)
    usage = answer.usage
    assert usage.prompt_tokens == server.model.count([{"role": "user", "content": "hello"}])
    assert usage.completion_tokens == len("You said: hello") + 1  # the end token counts
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens


def test_stream(server: Running) -> None:
    chunks = list(server.ask("hello", stream=True))
    first, *middle, last = chunks
    assert (first.choices[0].delta.role, first.choices[0].delta.content) == ("assistant", "")
    assert "".join(chunk.choices[0].delta.content for chunk in middle) == "You said: hello"
    assert all(chunk.choices[0].delta.role is None for chunk in middle)
    assert last.choices[0].finish_reason == "stop"
    assert last.choices[0].delta.content is None
    assert len({chunk.id for chunk in chunks}) == len({chunk.created for chunk in chunks}) == 1
    assert all(chunk.object == "chat.completion.chunk" and chunk.usage is None for chunk in chunks)


def test_stream_with_usage(server: Running) -> None:
    *others, last = server.ask("hello", stream=True, stream_options={"include_usage": True})
    assert last.choices == []
    assert last.usage.completion_tokens == len("You said: hello") + 1
    assert all(chunk.usage is None and chunk.choices for chunk in others)


def test_the_stream_helper_of_the_sdk(server: Running) -> None:
    """It puts the chunks together itself, and looks at fields that a plain stream does not."""
    question = [{"role": "user", "content": "hello"}]
    with server.openai.chat.completions.stream(model="fake", temperature=0, messages=question) as stream:
        pieces = [event.delta for event in stream if event.type == "content.delta"]
        whole = stream.get_final_completion()
    assert len(pieces) > 3
    assert "".join(pieces) == whole.choices[0].message.content == "You said: hello"
    assert whole.choices[0].finish_reason == "stop"


def test_async_client(server: Running) -> None:
    async def talk() -> str:
        async with openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key="none") as client:
            stream = await client.chat.completions.create(
                model="fake", temperature=0, messages=[{"role": "user", "content": "ça va?"}], stream=True
            )
            return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

    assert asyncio.run(talk()) == "You said: ça va?"


def test_part_lists_and_developer_messages(server: Running) -> None:
    parts = [{"type": "text", "text": "hel"}, {"type": "text", "text": "lo"}]
    answer = server.openai.chat.completions.create(
        model="fake",
        temperature=0,
        messages=[{"role": "developer", "content": "Be brief."}, {"role": "user", "content": parts}],
    )
    assert answer.choices[0].message.content == "You said: hello"


def test_an_answer_can_be_sent_back_as_history(server: Running) -> None:
    question = {"role": "user", "content": "one"}
    message = server.openai.chat.completions.create(model="fake", temperature=0, messages=[question]).choices[0].message
    history = [question, message.model_dump(exclude_none=False), {"role": "user", "content": "two"}]
    answer = server.openai.chat.completions.create(model="fake", temperature=0, messages=history)
    assert answer.choices[0].message.content == "You said: two"


def test_second_turn_finds_the_first_in_the_cache(server: Running) -> None:
    history = [{"role": "user", "content": "a long and winding first question" * 3}]
    first = server.openai.chat.completions.create(model="fake", temperature=0, messages=history)
    history += [{"role": "assistant", "content": first.choices[0].message.content}, {"role": "user", "content": "more"}]
    usage = server.openai.chat.completions.create(model="fake", temperature=0, messages=history).usage
    assert usage.prompt_tokens_details.cached_tokens > first.usage.prompt_tokens
    assert usage.prompt_tokens_details.cached_tokens < usage.prompt_tokens


def test_n_answers(server: Running) -> None:
    answer = server.ask("hi", n=3, temperature=1.5, seed=3)
    assert [choice.index for choice in answer.choices] == [0, 1, 2]
    assert all(choice.message.content for choice in answer.choices)


def test_n_answers_streamed(server: Running) -> None:
    whole = server.ask("hi", n=3, temperature=1.5, seed=3)
    texts, roles, reasons = ["", "", ""], [0, 0, 0], {}
    for chunk in server.ask("hi", n=3, temperature=1.5, seed=3, stream=True):
        [choice] = chunk.choices
        texts[choice.index] += choice.delta.content or ""
        roles[choice.index] += choice.delta.role == "assistant"
        if choice.finish_reason:
            reasons[choice.index] = choice.finish_reason
    assert texts == [choice.message.content for choice in whole.choices]
    assert roles == [1, 1, 1]
    assert reasons == {choice.index: choice.finish_reason for choice in whole.choices}


def test_a_seed_repeats_and_another_does_not(server: Running) -> None:
    def draw(seed: int) -> str:
        return server.ask("hi", seed=seed, temperature=4, max_tokens=40, ignore_eos=True).choices[0].message.content

    assert draw(0) == draw(0)
    assert draw(0) != draw(1)


@pytest.mark.parametrize("stream", [False, True])
def test_logprobs(server: Running, stream: bool) -> None:
    answer = server.ask("hi", logprobs=True, top_logprobs=3, temperature=0, stream=stream)
    if stream:
        tokens = [t for chunk in answer if (found := chunk.choices[0].logprobs) for t in found.content]
    else:
        tokens = answer.choices[0].logprobs.content
    assert bytes(byte for token in tokens for byte in token.bytes).decode() == "You said: hi"
    for token in tokens:
        assert len(token.top_logprobs) == 3
        assert token.top_logprobs[0].token == token.token  # greedy
        assert token.top_logprobs[0].logprob == token.logprob
        values = [other.logprob for other in token.top_logprobs]
        assert values == sorted(values, reverse=True)
        assert sum(map(math.exp, values)) <= 1 + 1e-6


def test_probabilities_of_the_most_likely_tokens_sum_to_one(server: Running) -> None:
    # 20 of 258 tokens with one 10 above the rest: nearly all of the mass, and never more than 1.
    [token] = server.ask("hi", logprobs=True, top_logprobs=20, max_tokens=1).choices[0].logprobs.content
    assert 0.9 < sum(math.exp(other.logprob) for other in token.top_logprobs) <= 1 + 1e-6


def test_logprobs_without_alternatives(server: Running) -> None:
    tokens = server.ask("hi", logprobs=True, max_tokens=2).choices[0].logprobs.content
    assert [token.top_logprobs for token in tokens] == [[], []]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("stop", ["said", ["never", "said"]])
def test_stop_strings_span_tokens_and_are_cut(server: Running, stop: str | list[str], stream: bool) -> None:
    answer = server.ask("hi", stop=stop, stream=stream)
    if stream:
        chunks = list(answer)
        assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "You "
        assert chunks[-1].choices[0].finish_reason == "stop"
    else:
        assert answer.choices[0].message.content == "You "
        assert answer.choices[0].finish_reason == "stop"


@pytest.mark.parametrize("field", ["max_tokens", "max_completion_tokens"])
def test_length_limit(server: Running, field: str) -> None:
    choice = server.ask("hi", **{field: 3}).choices[0]
    assert (choice.message.content, choice.finish_reason) == ("You", "length")


def test_no_tokens_is_a_valid_wish(server: Running) -> None:
    answer = server.ask("hi", max_tokens=0)
    assert (answer.choices[0].message.content, answer.choices[0].finish_reason) == ("", "length")
    assert answer.usage.completion_tokens == 0


def test_min_tokens_and_ignore_eos(server: Running) -> None:
    assert server.ask("hi", min_tokens=30, max_tokens=40).usage.completion_tokens >= 30
    choice = server.ask("hi", ignore_eos=True, max_tokens=40)
    assert (choice.usage.completion_tokens, choice.choices[0].finish_reason) == (40, "length")


def test_logit_bias_and_the_other_sampling_fields(server: Running) -> None:
    answer = server.ask(
        "hi",
        logit_bias={str(ord("Z")): 100},
        temperature=0,
        top_p=0.9,
        top_k=-1,
        min_p=0.1,
        presence_penalty=0.1,
        frequency_penalty=0.1,
        repetition_penalty=1.01,
        max_tokens=3,
    )
    assert answer.choices[0].message.content == "ZZZ"


def test_fields_without_effect_are_accepted(server: Running) -> None:
    answer = server.ask(
        "hi",
        user="me",
        metadata={"k": "v"},
        store=False,
        service_tier="auto",
        parallel_tool_calls=True,
        safety_identifier="s",
        prompt_cache_key="k",
        prompt_cache_options={},
        prompt_cache_retention="24h",
        response_format={"type": "text"},
        modalities=["text"],
        tool_choice="none",
        tools=[],
    )
    assert answer.choices[0].message.content == "You said: hi"


def test_null_is_the_default_and_zero_is_a_value(server: Running) -> None:
    nulls = dict.fromkeys(["top_p", "max_tokens", "stop", "tools", "stream", "seed", "logit_bias", "n"])
    body = server.post(
        "/v1/chat/completions", temperature=0, messages=[{"role": "user", "content": "hi"}], **nulls
    ).json()
    assert body["choices"][0]["message"]["content"] == "You said: hi"
    assert server.ask("hi", temperature=0, seed=0, top_k=0).choices[0].message.content == "You said: hi"


def test_64_streams_at_once_complete_and_none_is_mixed_up() -> None:
    async def talk(client: openai.AsyncOpenAI, number: int) -> str:
        question = f"{number:02d} " * (1 + number % 20)
        stream = await client.chat.completions.create(
            model="fake", temperature=0, messages=[{"role": "user", "content": question}], stream=True, n=1 + number % 2
        )
        texts: dict[int, str] = {}
        async for chunk in stream:
            [choice] = chunk.choices
            texts[choice.index] = texts.get(choice.index, "") + (choice.delta.content or "")
        assert texts == dict.fromkeys(range(1 + number % 2), f"You said: {question}")
        return question

    async def all_at_once(url: str) -> list[str]:
        limits = httpx.Limits(max_connections=64)
        async with openai.AsyncOpenAI(
            base_url=f"{url}/v1", api_key="none", http_client=httpx.AsyncClient(limits=limits, timeout=30)
        ) as client:
            return await asyncio.gather(*(talk(client, number) for number in range(64)))

    with serving() as server:
        assert len(asyncio.run(all_at_once(server.url))) == 64
        stats = server.stats()
        assert (stats.finished, stats.running, stats.waiting, stats.blocks_used) == (96, 0, 0, 0)


def test_two_models_are_told_apart() -> None:
    with serving({"fake": fake_model(), "org/other": fake_model(lambda asked: "other")}) as server:
        assert server.ask("x").choices[0].message.content == "You said: x"
        answer = server.openai.chat.completions.create(
            model="org/other", temperature=0, messages=[{"role": "user", "content": "x"}]
        )
        assert (answer.model, answer.choices[0].message.content) == ("org/other", "other")
        assert [model.id for model in server.openai.models.list()] == ["fake", "org/other"]
        assert server.openai.models.retrieve("org/other").id == "org/other"


def test_unicode_is_sent_as_it_is(server: Running) -> None:
    raw = server.post("/v1/chat/completions", temperature=0, messages=[{"role": "user", "content": "🦙"}]).content
    assert "You said: 🦙".encode() in raw
    assert json.loads(raw)["choices"][0]["message"]["content"] == "You said: 🦙"
