"""From files to a running model: every format, Meta's own reference, adapters, options, and memory as planned."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import GOLDEN, tiny_config, tiny_tensors, write_tiny

import quipu
from quipu.engine.fake import byte_tokenizer
from quipu.engine.load import _plan, files_hash
from quipu.engine.machine import processor
from quipu.engine.memory import available_memory, group_memory
from quipu.engine.torch_runner import TorchRunner
from quipu.errors import DamagedCheckpoint, InvalidRequest, ModelNotFound, NotEnoughMemory, UnsupportedCheckpoint
from quipu.model.checkpoint import open_checkpoint
from quipu.model.frequencies import RopeScaling
from quipu.model.lora import ADAPTER_FILES, merged

LIMIT = 1e-4
IDS = [int(token) for token in np.random.default_rng(5).integers(0, 96, 40)]
# Greedy margins of random weights are wide enough for the engine's and the reference's rounding to agree.
SMALL = {"context": 256, "concurrency": 2}


@pytest.fixture(scope="module")
def tiny_llama3():
    """A tiny Llama 3.1-shaped model: Meta's reference code knows the scaling factor 8 only."""
    config = tiny_config()
    config = replace(config, rope=replace(config.rope, scaling=RopeScaling("llama3", 8.0, 1.0, 4.0, 8192)))
    return config, tiny_tensors(config)


@pytest.fixture(scope="module")
def logits_of(tiny_llama3, tmp_path_factory):
    """Logits of the same weights in one format, by the reference path and by the engine's greedy continuation."""

    def compute(file_format: str):
        folder = tmp_path_factory.mktemp(file_format)
        with quipu.load(write_tiny(file_format, folder, *tiny_llama3), dtype="float32", **SMALL) as model:
            return model.logits(IDS), list(
                model.generate(IDS, max_tokens=24, temperature=0, ignore_eos=True).choices[0].token_ids
            )

    return compute


@pytest.mark.parametrize("file_format", ["sharded", "gguf", "pth", "pth-sharded"])
def test_one_model_in_every_format_gives_the_same_logits(logits_of, file_format):
    logits, continuation = logits_of(file_format)
    expected, expected_continuation = logits_of("safetensors")
    assert np.abs(logits - expected).max() <= LIMIT
    assert continuation == expected_continuation


def test_meta_s_own_reference_agrees_on_a_pth_checkpoint(tiny_llama3, tmp_path):
    """llama-models runs the very files that we load, so the layout of q and k cannot be wrong in both."""
    folder = write_tiny("pth", tmp_path, *tiny_llama3)
    script = f"""
import json, sys, torch, numpy as np
import torch.distributed as dist
dist.init_process_group("gloo", init_method="file://{tmp_path}/store", rank=0, world_size=1)
import fairscale.nn.model_parallel.initialize as parallel
parallel.initialize_model_parallel(1)
from llama_models.llama3.args import ModelArgs
from llama_models.llama3.model import Transformer
params = json.load(open("{folder}/params.json"))
weights = torch.load("{folder}/consolidated.00.pth", weights_only=True)
params["vocab_size"] = weights["tok_embeddings.weight"].shape[0]
known = ModelArgs.__dataclass_fields__
model = Transformer(ModelArgs(**{{k: v for k, v in params.items() if k in known}}, max_batch_size=1, max_seq_len=64))
tied = "output.weight" not in weights
if tied:
    weights["output.weight"] = weights["tok_embeddings.weight"]
model.load_state_dict(weights, strict=False)
ids = torch.tensor([{IDS}])
np.save("{tmp_path}/meta.npy", model.eval()(ids, 0)[0].detach().numpy())
"""
    subprocess.run([sys.executable, "-W", "ignore", "-c", script], check=True, capture_output=True, timeout=120)
    with quipu.load(folder, **SMALL) as model:
        assert np.abs(model.logits(IDS) - np.load(tmp_path / "meta.npy")).max() <= LIMIT


@pytest.mark.parametrize("length", [1, 17, 200])
def test_golden_continuations_through_the_whole_engine(length):
    vectors = np.load(GOLDEN / "llama3-tiny" / "vectors.npz")
    with quipu.load(GOLDEN / "llama3-tiny", **SMALL) as model:
        assert model.facts.dtype == "float32", "a float32 checkpoint is served in float32"
        answer = model.generate(vectors[f"ids_{length}"].tolist(), max_tokens=32, temperature=0, ignore_eos=True)
        assert list(answer.choices[0].token_ids) == vectors[f"greedy_{length}"].tolist()


def test_an_adapter_is_merged_as_peft_does():
    folder = GOLDEN / "llama3-tiny-lora"
    expected = np.load(folder / "vectors.npz")
    with quipu.load(GOLDEN / "llama3-tiny", adapter=folder, **SMALL) as model:
        assert np.abs(model.logits(expected["ids"].tolist()) - expected["logits"]).max() <= LIMIT


def test_a_model_with_an_adapter_has_a_hash_of_its_own(tmp_path):
    """Evidence of one says nothing of the other; it can be computed again with sha256sum."""
    adapter = tmp_path / "adapter"
    shutil.copytree(GOLDEN / "llama3-tiny-lora", adapter)
    plain = open_checkpoint(GOLDEN / "llama3-tiny")
    lines = [plain.file_hash()]
    lines += [hashlib.sha256((adapter / name).read_bytes()).hexdigest() for name in ADAPTER_FILES]
    with quipu.load(GOLDEN / "llama3-tiny", adapter=adapter, **SMALL) as model:
        assert model.file_hash == hashlib.sha256("\n".join(lines).encode()).hexdigest()
    assert files_hash(plain) == plain.file_hash()
    (adapter / ADAPTER_FILES[1]).unlink()
    with pytest.raises(ModelNotFound, match=r"adapter_model.safetensors does not exist"):
        files_hash(plain, adapter)


def test_a_model_knows_what_computes_and_how_much_memory_that_took():
    with quipu.load(GOLDEN / "llama3-tiny", threads=1, device="cpu", **SMALL) as model:
        assert model.hardware == f"{processor()}, 1 cores"
        assert model.runner == f"torch {torch.__version__}"
        resident = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")
        assert resident <= model.peak_memory() < 64 << 30
    torch.set_num_threads(len(os.sched_getaffinity(0)))


@pytest.mark.parametrize(
    ("changes", "error", "says"),
    [
        ({"peft_type": "IA3"}, UnsupportedCheckpoint, "peft_type is 'IA3'; supported is LORA"),
        ({"use_dora": True}, UnsupportedCheckpoint, "use_dora is True.*merge the adapter with PEFT"),
        ({"modules_to_save": ["lm_head"]}, UnsupportedCheckpoint, "modules_to_save"),
        ({"bias": "all"}, UnsupportedCheckpoint, "bias is 'all'"),
        ({"r": 0}, DamagedCheckpoint, "r is 0"),
        ({"lora_alpha": "x"}, DamagedCheckpoint, "lora_alpha 'x'"),
        ({"r": 2}, DamagedCheckpoint, "the rank of .* is 4, adapter_config.json says 2"),
        ({"alpha_pattern": {"(": 1}}, DamagedCheckpoint, "alpha_pattern must map patterns.*unterminated"),
        ({"rank_pattern": [4]}, DamagedCheckpoint, "rank_pattern must map patterns"),
    ],
)
def test_adapters_that_cannot_be_merged_are_refused(tmp_path, changes, error, says):
    shutil.copytree(GOLDEN / "llama3-tiny-lora", tmp_path, dirs_exist_ok=True)
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    (tmp_path / "adapter_config.json").write_text(json.dumps(config | changes))
    with pytest.raises(error, match=says):
        merged(open_checkpoint(GOLDEN / "llama3-tiny").tensors, tmp_path)


def test_rank_and_alpha_patterns_and_rank_stabilised_scaling(tmp_path):
    tensors = open_checkpoint(GOLDEN / "llama3-tiny").tensors
    shutil.copytree(GOLDEN / "llama3-tiny-lora", tmp_path, dirs_exist_ok=True)
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    name = "model.layers.1.self_attn.q_proj.weight"

    def delta(**changes):
        (tmp_path / "adapter_config.json").write_text(json.dumps(config | changes))
        return merged(tensors, tmp_path)[name].float32() - tensors[name].float32()

    plain = delta()
    np.testing.assert_allclose(delta(use_rslora=True), plain * 2, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(delta(alpha_pattern={"layers.1.self_attn.q_proj": 32}), plain * 2, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(delta(alpha_pattern={"layers.0.self_attn.q_proj": 32}), plain, rtol=1e-6)


def test_an_adapter_of_another_model_is_refused(tmp_path):
    from safetensors.numpy import load_file, save_file

    shutil.copytree(GOLDEN / "llama3-tiny-lora", tmp_path, dirs_exist_ok=True)
    tensors = open_checkpoint(GOLDEN / "llama3-tiny").tensors
    file = tmp_path / "adapter_model.safetensors"
    weights = load_file(file)
    first = next(iter(weights))

    def refused(changed, says):
        save_file(changed, file)
        with pytest.raises((DamagedCheckpoint, UnsupportedCheckpoint), match=says):
            merged(tensors, tmp_path)

    refused({key.replace("layers.3", "layers.9"): value for key, value in weights.items()}, "layers.9.* does not have")
    refused({**weights, first: np.zeros((4, 5), np.float32)}, "does not fit")
    refused({key: value for key, value in weights.items() if key != first}, "not its counterpart")
    refused({}, "holds no LoRA matrices")
    refused({**weights, "base_model.model.lm_head.weight": np.zeros((2, 2), np.float32)}, "is no LoRA matrix")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"dtype": "int3"}, "dtype is 'int3'; it must be one of auto, bfloat16"),
        ({"device": "abacus"}, "device 'abacus' cannot be used"),
        ({"device": "cuda:7"}, "device 'cuda:7' cannot be used.*try cpu"),
        ({"concurrency": 0}, "concurrency must be 1 or more, got 0"),
        ({"context": 0}, "context must be 1 or more, got 0"),
        ({"threads": 0}, "threads must be 1 or more, got 0"),
        ({"queue": -1}, "queue must be 0 or more, got -1"),
        ({"kv_memory": 0}, "kv_memory must be a number of GiB above 0, got 0"),
        ({"kv_memory": float("nan")}, "kv_memory must be a number of GiB above 0, got nan"),
        ({"speculate": "always"}, "speculate is 'always'; it must be one of auto, on, off"),
        ({"speculate": "off", "draft": "model.gguf"}, "give draft, or speculate off, not both"),
        ({"context": 5000}, "context 5000 is more than the 4096 tokens this model was made for"),
        ({"kv_memory": 0.0001, "context": 4096}, "ask for a smaller --context or more --kv-memory"),
    ],
)
def test_options_that_cannot_be_met_are_named(options, says):
    with pytest.raises(InvalidRequest, match=says):
        quipu.load(GOLDEN / "llama3-tiny", **options)


def test_a_template_that_does_not_compile_is_refused_before_the_engine_starts(tmp_path, monkeypatch):
    def never(*args, **options):
        raise AssertionError("the weights were loaded first")

    shutil.copytree(GOLDEN / "llama3-tiny", tmp_path, dirs_exist_ok=True)
    (tmp_path / "chat_template.jinja").write_text("{% for %}")
    monkeypatch.setattr("quipu.engine.load._tokenizer", lambda checkpoint: byte_tokenizer())
    monkeypatch.setattr(TorchRunner, "load", never)
    with pytest.raises(UnsupportedCheckpoint, match="template"):
        quipu.load(tmp_path)


def test_a_model_that_is_not_there():
    with pytest.raises(ModelNotFound, match="did you mean smollm2-135m-instruct"):
        quipu.load("smollm2-135m-instuct")


def test_too_little_memory_is_said_before_anything_is_loaded():
    checkpoint = open_checkpoint(GOLDEN / "llama3-tiny")
    with pytest.raises(InvalidRequest, match=r"the weights take .* GiB in float32 and 0.0 GiB of memory are free"):
        _plan(checkpoint, "float32", 1000, None, 1, None)


def test_a_cache_that_does_not_fit_is_refused_by_plan():
    checkpoint = open_checkpoint(GOLDEN / "llama3-tiny")
    free = 1 << 30
    block = 16 * 4 * 2 * 2 * 16 * 4
    assert _plan(checkpoint, "float32", free, 4096, 4, 100.0) == (4096, 4 * 256)  # more than is needed is not taken
    weights = 4 * checkpoint.parameters
    assert _plan(checkpoint, "float32", weights + 1024 * block, 4096, 4, 100.0) == (4096, 1024)
    with pytest.raises(
        NotEnoughMemory, match=r"the KV cache 0\.0 GiB as asked, and .* ask for less --kv-memory"
    ) as error:
        _plan(checkpoint, "float32", weights + 1024 * block - 1, 4096, 4, 100.0)
    assert error.value.param == "kv_memory"


def test_a_file_that_is_written_to_while_it_is_loaded_is_refused(tmp_path, monkeypatch):
    shutil.copytree(GOLDEN / "llama3-tiny", tmp_path, dirs_exist_ok=True)
    really = TorchRunner.load

    def writing(*given, **options):
        os.utime(tmp_path / "model.safetensors", ns=(0, 0))  # as whoever writes to it does
        return really(*given, **options)

    monkeypatch.setattr(TorchRunner, "load", writing)
    with pytest.raises(DamagedCheckpoint, match=r"model.safetensors was changed while"):
        quipu.load(tmp_path)


def test_the_default_context_is_the_models_own_or_a_power_of_two_that_fits():
    checkpoint = open_checkpoint(GOLDEN / "llama3-tiny")
    assert _plan(checkpoint, "float32", 1 << 30, None, 4, None) == (4096, 4 * 256)
    per_token = 4 * 2 * 2 * 16 * 4
    weights = 4 * checkpoint.parameters
    assert _plan(checkpoint, "float32", weights + 2 * per_token * 1600, None, 4, None) == (1024, 100)
    assert _plan(checkpoint, "float32", weights + 2 * per_token * 1100, None, 4, None) == (1024, 68)
    with pytest.raises(NotEnoughMemory, match="one context of 16 tokens takes"):
        _plan(checkpoint, "float32", weights + per_token * 31, None, 4, None)


def test_available_memory_is_a_plausible_number():
    assert 1 << 20 < available_memory() < 1 << 46


def test_files_in_the_page_cache_of_a_control_group_are_no_memory_that_is_gone(tmp_path):
    (tmp_path / "memory.max").write_text("4000\n")
    (tmp_path / "memory.current").write_text("3900\n")
    (tmp_path / "memory.stat").write_text("anon 700\nfile 3200\nshmem 100\nactive_file 1000\ninactive_file 2100\n")
    assert group_memory(tmp_path, 9000) == 3200
    (tmp_path / "memory.max").write_text("max\n")
    assert group_memory(tmp_path, 9000) == 9000


@pytest.mark.parametrize("missing", ["torch"])
def test_without_torch_the_remedy_is_named(missing):
    script = f"""
import sys
sys.modules["{missing}"] = None
import quipu
try:
    quipu.load(r"{GOLDEN / "llama3-tiny"}")
except quipu.QuipuError as error:
    print(error)
"""
    result = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    assert "pip install 'quipu-llama[torch]'" in result.stdout


@pytest.mark.parametrize(
    "module",
    [
        "quipu",
        "quipu.cli",
        "quipu.serve.app",
        "quipu.engine.load",
        "quipu.engine.native_runner",
        "quipu.model.checkpoint",
    ],
)
def test_importing_does_not_import_torch(module):
    script = f"import sys, {module}; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", script], check=True)


def test_resident_memory_is_what_the_plan_says():
    """A process that loads a model and fills its whole cache grows by what memory_plan promised, within 5 %."""
    script = """
import gc, re, sys
from pathlib import Path
import torch, gguf.quants, numpy
import quipu
from quipu.engine.fake import fake_model
from quipu.model.checkpoint import memory_plan, open_checkpoint

def resident():
    gc.collect()
    return int(re.search(r"RssAnon:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) * 1024

# What torch, thread pools, tokenizers and Jinja take for themselves the first time is not the model's.
quipu.load(sys.argv[1], context=64, concurrency=1).close()
with fake_model() as fake:
    fake.chat("hello")
before = resident()
model = quipu.load("smollm2-135m-instruct", context=8192, concurrency=8)
for pool in (*model.engine._runner._cache.keys, *model.engine._runner._cache.values):
    pool.fill_(1)
config = open_checkpoint("smollm2-135m-instruct").config
plan = memory_plan(config, dtype="bfloat16", context=8192, concurrency=8, block_size=16)
print((resident() - before) / plan.total_bytes)
"""
    tiny = str(Path(GOLDEN / "llama3-tiny"))
    result = subprocess.run([sys.executable, "-c", script, tiny], check=True, capture_output=True, text=True)
    assert float(result.stdout) == pytest.approx(1, abs=0.05)


def test_torch_uses_the_threads_it_is_given():
    before = torch.get_num_threads()
    try:
        with quipu.load(GOLDEN / "llama3-tiny", threads=1, **SMALL):
            assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)
