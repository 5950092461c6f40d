"""/v1/completions through the official SDK."""

import json
import math
from typing import Any

import pytest
from running_server import Running


def complete(server: Running, **options: Any) -> Any:
    return server.openai.completions.create(model="fake", **{"temperature": 0, **options})


CHAT = "<|start|>user\nhi<|end|><|start|>assistant\n"


def test_answer_has_every_field(server: Running) -> None:
    answer = complete(server, prompt="abc")
    assert answer.id.startswith("cmpl-")
    assert (answer.object, answer.model) == ("text_completion", "fake")
    assert answer.system_fingerprint.startswith("fp_")
    [choice] = answer.choices
    assert (choice.index, choice.logprobs) == (0, None)
    assert answer.usage.prompt_tokens == 3


def test_max_tokens_defaults_to_16(server: Running) -> None:
    answer = complete(server, prompt="abc", extra_body={"ignore_eos": True})
    assert (answer.usage.completion_tokens, answer.choices[0].finish_reason) == (16, "length")


def test_a_list_of_prompts_with_n_keeps_its_order(server: Running) -> None:
    ids = [server.model.prompt_ids([{"role": "user", "content": text}]) for text in ("one", "two")]
    answer = complete(server, prompt=ids, n=2, max_tokens=40)
    assert [choice.index for choice in answer.choices] == [0, 1, 2, 3]
    assert [choice.text for choice in answer.choices] == ["You said: one"] * 2 + ["You said: two"] * 2
    assert answer.usage.prompt_tokens == sum(map(len, ids))
    assert answer.usage.completion_tokens == 4 * (len("You said: one") + 1)


def test_a_list_of_prompts_streams(server: Running) -> None:
    ids = [server.model.prompt_ids([{"role": "user", "content": text}]) for text in ("one", "two")]
    texts = ["", ""]
    *chunks, last = complete(server, prompt=ids, max_tokens=40, stream=True, stream_options={"include_usage": True})
    for chunk in chunks:
        texts[chunk.choices[0].index] += chunk.choices[0].text
    assert texts == ["You said: one", "You said: two"]
    assert last.usage.prompt_tokens == sum(map(len, ids))
    assert [chunk.choices[0].finish_reason for chunk in chunks].count("stop") == 2


def test_text_that_looks_special_stays_text(server: Running) -> None:
    assert complete(server, prompt=CHAT).usage.prompt_tokens == len(CHAT)


def test_prompts_as_strings_and_as_ids_are_the_same(server: Running) -> None:
    texts = ["ab", "cd"]
    strings = complete(server, prompt=texts, max_tokens=4)
    ids = complete(server, prompt=[list(text.encode()) for text in texts], max_tokens=4)
    assert [choice.text for choice in strings.choices] == [choice.text for choice in ids.choices]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("prompt", ["hé", list("hé".encode())])
def test_echo(server: Running, prompt: str | list[int], stream: bool) -> None:
    plain = complete(server, prompt=prompt, max_tokens=5).choices[0].text
    answer = complete(server, prompt=prompt, max_tokens=5, echo=True, stream=stream, n=2)
    texts = ["", ""]
    for piece in answer if stream else [answer]:
        for choice in piece.choices:
            texts[choice.index] += choice.text
    assert texts == ["hé" + plain] * 2


@pytest.mark.parametrize("stream", [False, True])
def test_echo_with_logprobs_scores_the_prompt(server: Running, stream: bool) -> None:
    answer = complete(server, prompt="a€b", max_tokens=2, echo=True, logprobs=2, stream=stream)
    tokens, values, top, offsets, text = [], [], [], [], ""
    for piece in answer if stream else [answer]:
        text += piece.choices[0].text
        if (found := piece.choices[0].logprobs) is not None:
            tokens += found.tokens
            values += found.token_logprobs
            top += found.top_logprobs
            offsets += found.text_offset
    assert tokens[:5] == ["a", "bytes:\\xe2", "bytes:\\x82", "bytes:\\xac", "b"]
    assert offsets[:5] == [0, 1, 1, 1, 2]
    assert len(tokens) == len(values) == len(top) == len(offsets) == 7
    assert [text[offset] for offset in offsets[4:]] == [token[0] for token in tokens[4:]]
    assert (values[0], top[0]) == (None, None)
    for token, value, best in zip(tokens[1:], values[1:], top[1:], strict=True):
        assert best[token] == value
        assert len(best) in (2, 3)
        assert sum(map(math.exp, best.values())) <= 1 + 1e-6
    reference = server.model.generate("a€b", max_tokens=2, logprobs=2, prompt_logprobs=2, temperature=0)
    scored = (*reference.prompt_logprobs, *reference.choices[0].logprobs)
    assert values == pytest.approx([token.logprob for token in scored], abs=1e-5)


def test_scoring_a_prompt_without_generating(server: Running) -> None:
    """What an evaluation harness does to rank given answers."""
    answer = complete(server, prompt=list(b"score me"), max_tokens=0, echo=True, logprobs=1)
    [choice] = answer.choices
    assert (choice.text, choice.finish_reason) == ("score me", "length")
    assert len(choice.logprobs.tokens) == 8
    assert all(value < 0 for value in choice.logprobs.token_logprobs[1:])
    assert answer.usage.completion_tokens == 0


def test_logprobs_zero_reports_the_tokens_alone(server: Running) -> None:
    found = complete(server, prompt="abc", logprobs=0, max_tokens=3, echo=False).choices[0].logprobs
    assert [list(best) for best in found.top_logprobs] == [[token] for token in found.tokens]
    assert found.text_offset == [0, 1, 2]


def test_stream_is_like_the_whole(server: Running) -> None:
    whole = complete(server, prompt="abc", max_tokens=9, seed=1, temperature=1).choices[0]
    chunks = list(complete(server, prompt="abc", max_tokens=9, seed=1, temperature=1, stream=True))
    assert "".join(chunk.choices[0].text for chunk in chunks) == whole.text
    assert chunks[-1].choices[0].finish_reason == whole.finish_reason
    assert {chunk.object for chunk in chunks} == {"text_completion"}


def test_best_of_as_large_as_n_is_accepted(server: Running) -> None:
    assert len(complete(server, prompt="a", n=2, best_of=2, max_tokens=1).choices) == 2


def test_one_bad_prompt_refuses_all_and_leaves_nothing_behind(server: Running) -> None:
    before = server.stats().finished
    answer = server.post("/v1/completions", prompt=["fine", "x" * 5000])
    assert answer.status_code == 400
    assert json.loads(answer.content)["error"]["code"] == "context_length_exceeded"
    stats = server.stats()
    assert (stats.running, stats.waiting, stats.blocks_used) == (0, 0, 0) or stats.finished == before
