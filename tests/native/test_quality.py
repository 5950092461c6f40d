"""What the demonstration model loses to quantised activations and a narrow cache: against the reference in float32."""

from pathlib import Path

import numpy as np
import pytest
from native.models import pack_tensors

from quipu.engine.kv_cache import blocks_for
from quipu.engine.native_runner import NativeRunner
from quipu.engine.runner import PoolSize, Span
from quipu.model.checkpoint import open_checkpoint

ROOT = Path(__file__).parents[2]
TOKENS = 2000


@pytest.fixture(scope="module")
def checkpoint():
    return open_checkpoint("smollm2-135m-instruct")


@pytest.fixture(scope="module")
def weights(checkpoint):
    return pack_tensors(checkpoint.tensors)


@pytest.fixture(scope="module")
def ids(smollm2):
    """English that nobody changes: half a licence, half a page of the web."""
    texts = [(ROOT / name).read_text() for name in ("LICENSE", "tests/golden/seed_page.txt")]
    return [token for text in texts for token in smollm2.encode(text)[: TOKENS // 2]]


def log_softmax(logits):
    logits = logits.astype(np.float64)
    logits -= logits.max(-1, keepdims=True)
    return logits - np.log(np.exp(logits).sum(-1, keepdims=True))


@pytest.fixture(scope="module")
def reference(checkpoint, ids):
    from quipu.model.llama import reference_logits

    return reference_logits(checkpoint.config, checkpoint.tensors, ids).numpy()


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("kv_dtype", ["f16", "int8"])
def test_divergence_and_perplexity(checkpoint, weights, ids, reference, kv_dtype):
    runner = NativeRunner(checkpoint.config, weights, PoolSize(blocks_for(TOKENS)), kv_dtype=kv_dtype)
    divergence = ours_lost = theirs_lost = 0.0
    for start in range(0, TOKENS, 250):
        rows = runner.step([Span(ids[start : start + 250], start, range(blocks_for(TOKENS)), "all")])[0]
        ours, theirs = log_softmax(rows), log_softmax(reference[start : start + 250])
        divergence += float((np.exp(theirs) * (theirs - ours)).sum())
        following = np.array(ids[start + 1 : start + 251])
        places = np.arange(len(following))
        ours_lost -= float(ours[places, following].sum())
        theirs_lost -= float(theirs[places, following].sum())
    divergence /= TOKENS
    ours_perplexity, theirs_perplexity = (float(np.exp(lost / (TOKENS - 1))) for lost in (ours_lost, theirs_lost))
    print(f"{kv_dtype}: KL {divergence:.5f} nats a token, perplexity {ours_perplexity:.3f} ({theirs_perplexity:.3f})")
    assert divergence < 0.005
    assert abs(ours_perplexity / theirs_perplexity - 1) < 0.01


def greedy(runner, prompts, count):
    """Continuations of all of ``prompts``, side by side."""
    room = blocks_for(max(map(len, prompts)) + count)
    tables = [range(place * room, (place + 1) * room) for place in range(len(prompts))]
    tokens = [list(prompt) for prompt in prompts]
    parts = [(prompt, 0) for prompt in prompts]
    for _ in range(count):
        rows = runner.step([Span(new, start, table) for (new, start), table in zip(parts, tables, strict=True)])
        for each, row in zip(tokens, rows, strict=True):
            each.append(int(row[0].argmax()))
        parts = [(each[-1:], len(each) - 1) for each in tokens]
    return [each[len(prompt) :] for each, prompt in zip(tokens, prompts, strict=True)]


@pytest.mark.slow
def test_the_greedy_continuation_is_the_same_alone_and_among_16(checkpoint, weights, ids):
    prompts = [ids[60 * place : 60 * place + 20 + place] for place in range(17)]
    runner = NativeRunner(checkpoint.config, weights, PoolSize(17 * 6))
    [alone] = greedy(runner, prompts[5:6], 40)
    assert greedy(runner, prompts, 40)[5] == alone
    assert len(set(alone)) > 5
