"""Embeddings: the arithmetic against transformers, the engine's part over the fake runner."""

import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import LlamaForCausalLM

import quipu
from quipu.engine.embedding import normalized
from quipu.engine.fake import HIDDEN_SIZE, fake_model
from quipu.errors import ContextLengthExceeded, EngineStopped, InvalidRequest

TINY = Path(__file__).parent.parent / "golden" / "llama3-tiny"


@pytest.fixture(scope="module")
def oracle():
    model = LlamaForCausalLM.from_pretrained(TINY, dtype=torch.float32).model.eval()

    @torch.inference_mode()
    def mean(ids):
        return model(torch.tensor([ids])).last_hidden_state[0].mean(0).numpy()

    return mean


def test_the_mean_hidden_state_is_that_of_transformers(oracle):
    generator = np.random.default_rng(0)
    with quipu.load(TINY, dtype="float32", concurrency=4) as model:
        longest = min(model.context_length, 700)  # more than one step computes
        inputs = [generator.integers(0, 200, length).tolist() for length in (1, 15, 16, 17, longest)]
        inputs.append(inputs[-1])  # a cached prefix must not be left out of the mean
        vectors = model.embed(inputs, normalize=False)
        for ids, vector in zip(inputs, vectors, strict=True):
            np.testing.assert_allclose(vector, oracle(ids), atol=1e-4)
        unit = model.embed(inputs)
        np.testing.assert_allclose(np.linalg.norm(unit, axis=1), 1, atol=1e-6)
        np.testing.assert_allclose(unit, normalized(vectors), atol=1e-6)


def rows(text):
    return np.cos(np.outer(np.frombuffer(text.encode(), np.uint8).astype(int) + 1, np.arange(HIDDEN_SIZE)))


def test_many_inputs_beside_running_answers():
    with fake_model(concurrency=3, queue=8, blocks=70) as model:
        answers = []
        asking = [threading.Thread(target=lambda: answers.append(model.chat("hello", temperature=0))) for _ in range(3)]
        for thread in asking:
            thread.start()
        texts = ["word " * count for count in range(1, 41)]
        vectors = model.embed(texts, normalize=False)
        for thread in asking:
            thread.join()
    assert answers == ["You said: hello"] * 3
    np.testing.assert_allclose(vectors, [rows(text).mean(axis=0) for text in texts], atol=1e-5)
    assert model.engine.stats().blocks_used == 0


def test_nothing_to_embed():
    with fake_model() as model:
        assert model.embed([]).shape == (0, HIDDEN_SIZE)


def test_a_vector_of_zeros_has_no_direction():
    assert normalized(np.zeros((1, 3), np.float32)).tolist() == [[0, 0, 0]]


@pytest.mark.parametrize(
    ("prompts", "kind", "says"),
    [
        ("text", InvalidRequest, "not one text"),
        (["x", ""], InvalidRequest, "the prompt is empty"),
        ([[]], InvalidRequest, "not empty"),
        ([[1, 400]], InvalidRequest, "token id 400 is not in the vocabulary"),
        (["x" * 2000], ContextLengthExceeded, "the prompt has 2000 tokens"),
    ],
)
def test_mistakes_are_named(prompts, kind, says):
    with fake_model() as model, pytest.raises(kind, match=says):
        model.embed(prompts)


def test_a_closed_engine_fails_what_waits():
    model = fake_model(seconds=0.0005)  # two steps of a quarter of a second: a step that runs is waited for
    threading.Timer(0.1, model.close).start()
    with pytest.raises(EngineStopped):
        model.embed(["x" * 1000])
