"""The network against golden vectors (transformers 5.23, fp32), transformers itself, and its own cached path."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import LlamaConfig, LlamaForCausalLM

from quipu.engine.kv_cache import blocks_for
from quipu.engine.runner import PoolSize, Span
from quipu.engine.torch_runner import TorchRunner
from quipu.model.attention import whole_sequence
from quipu.model.checkpoint import open_checkpoint
from quipu.model.config_huggingface import from_huggingface
from quipu.model.llama import Llama, reference_logits
from quipu.model.lora import merged
from quipu.model.rope import Positions

GOLDEN = Path(__file__).parent.parent / "golden"
TINY = GOLDEN / "llama3-tiny"
LIMIT = 1e-4
CPU = torch.device("cpu")

vectors = np.load(TINY / "vectors.npz")
meta = json.loads((TINY / "meta.json").read_text())


@pytest.fixture(scope="module")
def tiny():
    return open_checkpoint(TINY)


@pytest.fixture(scope="module")
def network(tiny) -> Llama:
    return Llama(tiny.config, tiny.tensors, torch.float32, CPU)


def run(runner: TorchRunner, tokens, start=0, blocks=None, want="all") -> np.ndarray:
    blocks = list(range(blocks_for(start + len(tokens)))) if blocks is None else blocks
    return runner.step([Span([int(token) for token in tokens], start, blocks, want)])[0]


def greedy(runner: TorchRunner, prompt, count: int) -> list[int]:
    tokens = [int(token) for token in prompt]
    row = run(runner, tokens)[-1]
    for _ in range(count - 1):
        tokens.append(int(row.argmax()))
        row = run(runner, tokens[-1:], len(tokens) - 1)[-1]
    return [*tokens[len(prompt) :], int(row.argmax())]


@pytest.mark.parametrize("length", [1, 17, 200])
def test_logits_equal_the_reference_at_every_length(tiny, network, length):
    ids, expected = vectors[f"ids_{length}"], vectors[f"logits_{length}"]
    assert np.abs(run(TorchRunner(network, PoolSize(64)), ids) - expected).max() <= LIMIT
    assert np.abs(reference_logits(tiny.config, tiny.tensors, ids.tolist()).numpy() - expected).max() <= LIMIT


@pytest.mark.parametrize("length", [1, 17, 200])
def test_greedy_continuations_are_identical(network, length):
    expected = vectors[f"greedy_{length}"].tolist()
    assert greedy(TorchRunner(network, PoolSize(64)), vectors[f"ids_{length}"], len(expected)) == expected


def test_every_layer_equals_the_trace(network):
    ids = torch.tensor(vectors["ids_17"])
    positions = Positions(torch.arange(17), network.config, network.inverse_frequencies, torch.float32)
    x = torch.nn.functional.embedding(ids, network.embedding)
    outputs = []
    for layer in network.layers:
        x = layer(x, positions, whole_sequence(network.config))
        outputs.append(x)
    # The trace's last entry is after the final norm, in place of the last layer's own output.
    *layers, final = vectors["trace_17"]
    for ours, theirs in zip(outputs, layers, strict=True):
        assert np.abs(ours.detach().numpy() - theirs).max() <= LIMIT
    assert np.abs(network.norm(x).detach().numpy() - final).max() <= LIMIT


@pytest.mark.parametrize("name", ["rope_default", "rope_llama31_f8_8192", "rope_llama32_f32_8192"])
def test_other_rope_settings(tiny, name):
    fields = {**json.loads((TINY / "config.json").read_text()), "rope_scaling": None}
    fields["rope_parameters"] = meta[f"{name}_config"]
    config = from_huggingface(fields)
    logits = reference_logits(config, tiny.tensors, vectors["ids_200"].tolist()).numpy()
    assert np.abs(logits[-32:] - vectors[f"{name}_logits_200_last32"]).max() <= LIMIT


def test_sequences_of_a_batch_equal_the_unpadded_ones(network):
    """The oracle padded on the left; here nothing is padded, so each row must equal its unpadded continuation."""
    prompts = [ids[mask == 1].tolist() for ids, mask in zip(vectors["batch_ids"], vectors["batch_mask"], strict=True)]
    runner = TorchRunner(network, PoolSize(16))
    tables = [list(range(8)), list(range(8, 16))]
    tokens = [list(prompt) for prompt in prompts]
    computed = [0, 0]
    for _ in range(vectors["batch_greedy"].shape[1]):
        rows = runner.step(
            [Span(all_[done:], done, table) for all_, done, table in zip(tokens, computed, tables, strict=True)]
        )
        computed = [len(all_) for all_ in tokens]
        for all_, row in zip(tokens, rows, strict=True):
            all_.append(int(row[-1].argmax()))
    continued = [all_[len(prompt) :] for all_, prompt in zip(tokens, prompts, strict=True)]
    assert continued == vectors["batch_greedy"].tolist()


def test_a_merged_lora_adapter(tiny):
    folder = GOLDEN / "llama3-tiny-lora"
    adapted = merged(tiny.tensors, folder)
    expected = np.load(folder / "vectors.npz")
    logits = reference_logits(tiny.config, adapted, expected["ids"].tolist()).numpy()
    assert np.abs(logits - expected["logits"]).max() <= LIMIT


@settings(max_examples=40, deadline=None)
@given(sequences=st.lists(st.integers(1, 90), min_size=1, max_size=4), seed=st.integers(0, 2**32))
def test_any_chunking_in_any_blocks_beside_any_others_equals_one_forward(network, sequences, seed):
    """Prefill and decode, cut anywhere, in scattered blocks, batched with other sequences."""
    random = np.random.default_rng(seed)
    blocks = random.permutation(sum(map(blocks_for, sequences)) + 2).tolist()
    runner = TorchRunner(network, PoolSize(len(blocks)))
    tables = [[blocks.pop() for _ in range(blocks_for(length))] for length in sequences]
    tokens = [random.integers(0, 512, length) for length in sequences]
    done = [0] * len(sequences)
    results = [[] for _ in sequences]
    while any(start < length for start, length in zip(done, sequences, strict=True)):
        spans, which = [], []
        for place, length in enumerate(sequences):
            count = min(int(random.choice([0, 1, 1, 2, 7, 16, 33])), length - done[place])
            if count:
                ids = tokens[place][done[place] : done[place] + count].tolist()
                spans.append(Span(ids, done[place], tables[place], "all"))
                which.append(place)
        if not spans:
            continue
        for place, span, rows in zip(which, spans, runner.step(spans), strict=True):
            results[place].append(rows)
            done[place] += len(span.tokens)
    for ids, rows in zip(tokens, results, strict=True):
        whole = reference_logits(network.config, _tensors(), ids.tolist()).numpy()
        assert np.abs(np.concatenate(rows) - whole).max() <= LIMIT


def _tensors():
    return open_checkpoint(TINY).tensors


def test_only_the_wanted_rows_come_back(network):
    runner = TorchRunner(network, PoolSize(8))
    ids = vectors["ids_17"].tolist()
    none, last, every = runner.step(
        [Span(ids, 0, [0, 1], "none"), Span(ids, 0, [2, 3], "last"), Span(ids, 0, [4, 5], "all")]
    )
    assert (none.shape, last.shape, every.shape) == ((0, 512), (1, 512), (17, 512))
    np.testing.assert_allclose(last[0], every[-1], atol=1e-5)
    assert runner.step([Span(ids, 0, [0, 1], "none")])[0].shape == (0, 512)


def test_garbage_in_unused_cache_slots_changes_nothing(network):
    """A masked slot has weight 0; what earlier sequences left there must not matter."""
    runner = TorchRunner(network, PoolSize(12))
    for pool in (*runner._cache.keys, *runner._cache.values):
        pool.fill_(1e30)
    first, second = vectors["ids_17"].tolist(), vectors["ids_200"].tolist()[:100]
    runner.step([Span(first, 0, [3, 5]), Span(second, 0, [0, 1, 2, 4, 6, 7, 8])])
    rows = runner.step([Span([7], 17, [3, 5]), Span([7], 100, [0, 1, 2, 4, 6, 7, 8])])
    expected = reference_logits(network.config, _tensors(), [*first, 7]).numpy()[-1]
    assert np.abs(rows[0][0] - expected).max() <= LIMIT


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("factor", [8.0, 32.0])
def test_rope_scaling_at_32_thousand_positions(tied, factor, tmp_path):
    """Llama 3.2's factor is invisible in short prompts and decides everything past 29,000 tokens."""
    torch.manual_seed(3)
    scaling = {"rope_type": "llama3", "factor": factor, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
    theirs = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=128,
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            head_dim=16,
            max_position_embeddings=131072,
            rms_norm_eps=1e-5,
            tie_word_embeddings=tied,
            rope_parameters={**scaling, "original_max_position_embeddings": 8192, "rope_theta": 500000.0},
        )
    ).eval()
    # Random initial weights hardly attend anywhere; larger ones make positions matter.
    for name, weight in theirs.named_parameters():
        if "proj" in name:
            weight.data.mul_(12)
    theirs.save_pretrained(tmp_path)
    checkpoint = open_checkpoint(tmp_path)
    # Tokens far from one another: rotations are relative, so neighbours at 32,000 look like neighbours at 0.
    ids = torch.randint(0, 128, (1, 64))
    positions = torch.arange(64) * 517
    with torch.inference_mode():
        expected = theirs(ids, position_ids=positions[None]).logits[0].numpy()
        network = Llama(checkpoint.config, checkpoint.tensors, torch.float32, CPU)
        ours = network.logits(network(ids[0], positions, whole_sequence(network.config))).numpy()
    assert np.abs(ours - expected).max() <= LIMIT
    # A test that cannot tell the factors apart would prove nothing.
    plain = LlamaConfig.from_pretrained(tmp_path, rope_parameters={"rope_type": "default", "rope_theta": 500000.0})
    other = LlamaForCausalLM(plain).eval()
    other.load_state_dict(theirs.state_dict())
    with torch.inference_mode():
        assert np.abs(other(ids, position_ids=positions[None]).logits[0].numpy() - expected).max() > 100 * LIMIT


def test_bfloat16_stays_near_the_reference(tiny):
    """Packed and run as it is served; the bound is what bf16 itself costs the oracle on these weights."""
    network = Llama(tiny.config, tiny.tensors, torch.bfloat16, CPU)
    network.pack()
    rows = run(TorchRunner(network, PoolSize(4)), vectors["ids_17"])
    oracle = np.abs(vectors["bf16_logits_17"] - vectors["logits_17"]).mean()
    assert np.abs(rows - vectors["logits_17"]).mean() <= 1.5 * oracle
    down = network.layers[0].feed_forward.down
    assert down.packed is None or down.weight.numel() == 0
