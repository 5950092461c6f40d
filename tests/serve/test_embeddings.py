"""/v1/embeddings through the official SDK."""

import base64

import httpx
import numpy as np
import pytest
from running_server import Running, serving, until

from quipu.engine.fake import HIDDEN_SIZE, fake_model


def expected(text: str) -> np.ndarray:
    """The fake model's hidden states are cosines of the token, its tokens are bytes."""
    rows = np.cos(np.outer(np.frombuffer(text.encode(), np.uint8).astype(int) + 1, np.arange(HIDDEN_SIZE)))
    mean = rows.mean(axis=0)
    return mean / np.linalg.norm(mean)


@pytest.mark.parametrize("encoding", ["float", "base64", None])
def test_a_batch_of_texts(server: Running, encoding: str | None) -> None:
    options = {} if encoding is None else {"encoding_format": encoding}
    texts = [f"text number {number} " * number for number in range(1, 20)]
    answer = server.openai.embeddings.create(model="fake", input=texts, dimensions=HIDDEN_SIZE, **options)
    assert [each.index for each in answer.data] == list(range(19))
    for text, each in zip(texts, answer.data, strict=True):
        vector = each.embedding
        if encoding == "base64":
            vector = np.frombuffer(base64.b64decode(vector), "<f4")
        np.testing.assert_allclose(vector, expected(text), atol=1e-5)
    assert answer.usage.prompt_tokens == answer.usage.total_tokens == sum(map(len, texts))


@pytest.mark.parametrize("given", ["abc", ["abc"], [97, 98, 99], [[97, 98, 99]]])
def test_forms_of_input(server: Running, given) -> None:
    [each] = server.openai.embeddings.create(model="fake", input=given).data
    np.testing.assert_allclose(each.embedding, expected("abc"), atol=1e-5)


@pytest.mark.parametrize(
    ("fields", "param", "fragment"),
    [
        ({"dimensions": 3}, "dimensions", "dimensions is 3; vectors of this model have 8"),
        ({"input": []}, "input", "input must be a string, a list of strings"),
        ({"input": ["x"] * 2049}, "input", "input has 2049 parts; this server takes at most 2048"),
        ({"input": ["x", "x" * 1025]}, "input[1]", "input[1] has 1025 tokens; the context of this model"),
        ({"input": [[5], [5] * 1025]}, "input[1]", "input[1] has 1025 tokens; the context of this model"),
        ({"input": [5, 999]}, None, "token id 999 is not in the vocabulary"),
        ({"encoding_format": "hex"}, "encoding_format", "'float' or 'base64'"),
    ],
)
def test_what_is_wrong_is_named(server: Running, fields: dict, param: str | None, fragment: str) -> None:
    answer = server.post("/v1/embeddings", **({"input": "x"} | fields))
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == param
    assert fragment in answer.json()["error"]["message"]


def test_a_client_that_leaves_ends_its_embeddings() -> None:
    with serving({"fake": fake_model(seconds=0.01)}) as server:
        with httpx.Client(timeout=0.3) as leaving, pytest.raises(httpx.ReadTimeout):
            leaving.post(f"{server.url}/v1/embeddings", json={"model": "fake", "input": ["x" * 1000] * 9})
        until(lambda: server.stats().aborted == 8)


def test_an_engine_that_stops_is_an_error() -> None:
    with serving({"fake": fake_model()}) as server:
        server.model.close()
        answer = server.post("/v1/embeddings", input="x")
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "engine_stopped")
