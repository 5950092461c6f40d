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
from tiny import GOLDEN, tiny_config, tiny_tensors, write_gguf, write_tiny

import quipu
from quipu import native
from quipu.engine import backends
from quipu.engine.backends import Arithmetic
from quipu.engine.fake import byte_tokenizer
from quipu.engine.load import _alike, _plan, files_hash
from quipu.engine.machine import processor
from quipu.engine.memory import available_memory, group_memory
from quipu.engine.native_backend import NativeBackend
from quipu.engine.packed_file import VERSION
from quipu.engine.runner import PoolSize
from quipu.engine.torch_runner import TorchBackend
from quipu.errors import DamagedCheckpoint, InvalidRequest, ModelNotFound, NotEnoughMemory, UnsupportedCheckpoint
from quipu.model.checkpoint import open_checkpoint
from quipu.model.frequencies import RopeScaling
from quipu.model.lora import ADAPTER_FILES, merged

LIMIT = 1e-4
IDS = [int(token) for token in np.random.default_rng(5).integers(0, 96, 40)]
# Greedy margins of random weights are wide enough for the engine's and the reference's rounding to agree.
SMALL = {"context": 256, "concurrency": 2}
BLOCKS = tiny_config(intermediate_size=192)  # whole groups of 32, for kinds that are stored so
RUNNERS = ("native", "torch")
BACKENDS = (NativeBackend, TorchBackend)


@pytest.fixture(scope="module")
def tiny_llama3():
    """A tiny Llama 3.1-shaped model: Meta's reference code knows the scaling factor 8 only."""
    config = tiny_config()
    config = replace(config, rope=replace(config.rope, scaling=RopeScaling("llama3", 8.0, 1.0, 4.0, 8192)))
    return config, tiny_tensors(config)


@pytest.fixture(scope="module")
def logits_of(tiny_llama3, tmp_path_factory):
    """Logits of the same weights in one format, by the reference path and by the engine's greedy continuation."""

    def compute(file_format: str, runner: str):
        folder = tmp_path_factory.mktemp(file_format)
        path = write_tiny(file_format, folder, *tiny_llama3)
        with quipu.load(path, dtype="float32", runner=runner, **SMALL) as model:
            return model.logits(IDS), list(
                model.generate(IDS, max_tokens=24, temperature=0, ignore_eos=True).choices[0].token_ids
            )

    return compute


@pytest.mark.parametrize("runner", RUNNERS)
@pytest.mark.parametrize("file_format", ["sharded", "gguf", "pth", "pth-sharded"])
def test_one_model_in_every_format_gives_the_same_logits(logits_of, file_format, runner):
    logits, continuation = logits_of(file_format, runner)
    expected, expected_continuation = logits_of("safetensors", "torch")
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
    for runner in RUNNERS:
        with quipu.load(folder, runner=runner, **SMALL) as model:
            assert np.abs(model.logits(IDS) - np.load(tmp_path / "meta.npy")).max() <= LIMIT


@pytest.mark.parametrize("runner", RUNNERS)
@pytest.mark.parametrize("length", [1, 17, 200])
def test_golden_continuations_through_the_whole_engine(length, runner):
    vectors = np.load(GOLDEN / "llama3-tiny" / "vectors.npz")
    with quipu.load(GOLDEN / "llama3-tiny", runner=runner, **SMALL) as model:
        assert model.facts.dtype == "float32", "a float32 checkpoint is served in float32"
        answer = model.generate(vectors[f"ids_{length}"].tolist(), max_tokens=32, temperature=0, ignore_eos=True)
        assert list(answer.choices[0].token_ids) == vectors[f"greedy_{length}"].tolist()


@pytest.mark.parametrize("runner", RUNNERS)
def test_an_adapter_is_merged_as_peft_does(runner):
    folder = GOLDEN / "llama3-tiny-lora"
    expected = np.load(folder / "vectors.npz")
    ids = expected["ids"].tolist()
    with quipu.load(GOLDEN / "llama3-tiny", adapter=folder, runner=runner, **SMALL) as model:
        assert np.abs(model.logits(ids) - expected["logits"]).max() <= LIMIT
        # What is served is the adapted model, too: not only the reference, which reads tensors without packing them.
        answer = model.generate(ids, max_tokens=1, temperature=0, ignore_eos=True)
        assert answer.choices[0].token_ids[0] == expected["logits"][-1].argmax()


@pytest.mark.parametrize("kind", ["F16", "BF16", "Q8_0", "Q4_0"])
def test_a_checkpoint_of_another_kind_gives_the_logits_of_what_it_holds(kind, tmp_path):
    """F16 and quantised files run as stored; the reference reads them in float32, as the torch runner's does."""
    path = write_gguf(tmp_path / "tiny.gguf", BLOCKS, tiny_tensors(BLOCKS), kind)
    found = []
    for runner in RUNNERS:
        with quipu.load(path, runner=runner, **SMALL) as model:
            found.append(model.logits(IDS))
            stored = {"F16": "float16", "BF16": "bfloat16"}.get(kind, "int8")
            assert model.facts.dtype == (stored if runner == "native" else "bfloat16")
    assert np.abs(found[0] - found[1]).max() <= LIMIT


@pytest.mark.parametrize(("kind", "dtype"), [("Q4_0", "float32"), ("F32", "bfloat16"), ("F32", "float16")])
def test_a_dtype_that_is_asked_for_is_what_weights_are_converted_to(kind, dtype, tmp_path):
    path = write_gguf(tmp_path / "tiny.gguf", BLOCKS, tiny_tensors(BLOCKS), kind)
    with quipu.load(path, dtype=dtype, **SMALL) as model:
        assert model.facts.dtype == dtype
        expected = model.logits(IDS)[-1].argmax()
        answer = model.generate(IDS, max_tokens=1, temperature=0, ignore_eos=True)
        assert answer.choices[0].token_ids[0] == expected


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
        instructions = native.instruction_sets()[0]
        assert model.runner == f"native {VERSION} {instructions}, KV f32"
        resident = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")
        assert resident <= model.peak_memory() < 64 << 30
    with quipu.load(GOLDEN / "llama3-tiny", threads=1, runner="torch", device="cpu", **SMALL) as model:
        assert model.hardware == f"{processor()}, 1 cores"
        assert model.runner == f"torch {torch.__version__}"
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
        ({"runner": "abacus"}, "runner is 'abacus'; it must be one of auto, native, torch"),
        ({"kv_dtype": "int4"}, "kv_dtype is 'int4'; it must be one of auto, f16, int8, f32"),
        ({"quantize": "q2"}, "quantize is 'q2'; it must be one of q8, q4"),
        ({"quantize": "q8", "dtype": "float32"}, "quantize q8 and dtype float32 exclude each other; give one"),
        (
            {"runner": "native", "device": "cuda"},
            "the native runner computes on the CPU, not on cuda",
        ),
        ({"runner": "torch", "kv_dtype": "f16"}, "kv_dtype f16 is for the native runner, and this model runs on torch"),
        ({"runner": "torch", "quantize": "q4"}, "quantize q4 is for the native runner, and this model runs on torch"),
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


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_template_that_does_not_compile_is_refused_before_the_engine_starts(tmp_path, monkeypatch, backend):
    def never(*args, **options):
        raise AssertionError("the weights were loaded first")

    shutil.copytree(GOLDEN / "llama3-tiny", tmp_path, dirs_exist_ok=True)
    (tmp_path / "chat_template.jinja").write_text("{% for %}")
    monkeypatch.setattr("quipu.engine.load._tokenizer", lambda checkpoint: byte_tokenizer())
    monkeypatch.setattr(backend, "runner", never)
    with pytest.raises(UnsupportedCheckpoint, match="template"):
        quipu.load(tmp_path, runner=RUNNERS[BACKENDS.index(backend)])


def test_a_model_that_is_not_there():
    with pytest.raises(ModelNotFound, match="did you mean smollm2-135m-instruct"):
        quipu.load("smollm2-135m-instuct")


class Planned:
    """A Backend as far as a plan asks it: 4 bytes a weight, and keys and values of float32."""

    dtype = "float32"
    block_bytes = 16 * 4 * 2 * 2 * 16 * 4
    chunk_block_bytes = 0
    chunk: int | None = None

    def __init__(self, free: int, reads_from_disk: bool = False) -> None:
        self.weights_bytes = 4 * TINY.parameters
        self.reads_from_disk = reads_from_disk
        self._free = free

    def free_memory(self) -> int:
        return self._free


TINY = open_checkpoint(GOLDEN / "llama3-tiny")
WEIGHTS = 4 * TINY.parameters


@pytest.mark.parametrize("backend", BACKENDS)
def test_what_a_backend_says_it_takes(backend):
    runner = RUNNERS[BACKENDS.index(backend)]
    found = Arithmetic(runner=runner, device="cpu").backend(TINY, TINY.tensors, None)
    assert isinstance(found, backend)
    assert found.dtype == "float32"
    assert found.block_bytes == Planned.block_bytes
    # 16 rows of a matrix are packed together; the widths of this model are whole tiles but for the vocabulary.
    assert WEIGHTS <= found.weights_bytes <= 1.05 * WEIGHTS
    assert 1 << 20 < found.free_memory() < 1 << 46


def test_too_little_memory_is_said_before_anything_is_loaded():
    with pytest.raises(InvalidRequest, match=r"the weights take .* GiB in float32 and 0.0 GiB of memory are free"):
        _plan(TINY, Planned(1000), None, 1, None)


def test_weights_that_are_mapped_may_be_more_than_the_memory(caplog):
    """A quarter of what is free is left to the cache, and the log says what it costs."""
    free = WEIGHTS // 2
    assert _plan(TINY, Planned(free, reads_from_disk=True), 16, 1, None) == (16, PoolSize(1))
    assert "part of them is read from disk for every token" in caplog.text
    with pytest.raises(NotEnoughMemory):
        _plan(TINY, Planned(free), 16, 1, None)


def test_chunked_layers_are_given_what_they_can_read_again():
    """Three layers of four in chunks of 256: beyond them a further token takes a quarter of the memory."""
    backend = Planned(1 << 40)
    backend.block_bytes, backend.chunk_block_bytes, backend.chunk = 1000, 3000, 256
    # The chunk, the largest step of a prompt, and a block that both begin and end in.
    assert _plan(TINY, backend, 4096, 3, 100.0) == (4096, PoolSize(3 * 256, 3 * (16 + 32 + 1)))
    assert _plan(TINY, backend, 128, 3, 100.0) == (128, PoolSize(3 * 8, 3 * 8))
    one = 256 * 1000 + 49 * 3000
    assert _plan(TINY, backend, 4096, 3, 1.5 * one / (1 << 30)) == (4096, PoolSize(384, 73))
    assert _plan(TINY, backend, None, 3, (one - 1) / (1 << 30))[0] == 2048
    with pytest.raises(InvalidRequest, match="one context of 4096 tokens takes"):
        _plan(TINY, backend, 4096, 3, (one - 1) / (1 << 30))


def test_a_draft_model_with_chunks_takes_no_more_than_was_planned():
    backend = Planned(1 << 40)
    assert _alike(backend, PoolSize(7)) == PoolSize(7)
    backend.block_bytes, backend.chunk_block_bytes, backend.chunk = 1000, 3000, 256
    _, pool = _plan(TINY, backend, 4096, 3, 100.0)
    blocks = (768 * 1000 + 147 * 3000) // 4000
    assert _alike(backend, pool) == PoolSize(blocks, blocks)


def test_a_cache_that_does_not_fit_is_refused_by_plan():
    block = Planned.block_bytes
    assert _plan(TINY, Planned(1 << 30), 4096, 4, 100.0) == (
        4096,
        PoolSize(4 * 256),
    )  # more than is needed is not taken
    assert _plan(TINY, Planned(WEIGHTS + 1024 * block), 4096, 4, 100.0) == (4096, PoolSize(1024))
    with pytest.raises(
        NotEnoughMemory, match=r"the KV cache 0\.0 GiB as asked, and .* ask for less --kv-memory"
    ) as error:
        _plan(TINY, Planned(WEIGHTS + 1024 * block - 1), 4096, 4, 100.0)
    assert error.value.param == "kv_memory"


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_file_that_is_written_to_while_it_is_loaded_is_refused(tmp_path, monkeypatch, backend):
    shutil.copytree(GOLDEN / "llama3-tiny", tmp_path, dirs_exist_ok=True)
    really = backend.runner

    def writing(*given, **options):
        os.utime(tmp_path / "model.safetensors", ns=(0, 0))  # as whoever writes to it does
        return really(*given, **options)

    monkeypatch.setattr(backend, "runner", writing)
    with pytest.raises(DamagedCheckpoint, match=r"model.safetensors was changed while"):
        quipu.load(tmp_path, runner=RUNNERS[BACKENDS.index(backend)])


def test_the_default_context_is_the_models_own_or_a_power_of_two_that_fits():
    assert _plan(TINY, Planned(1 << 30), None, 4, None) == (4096, PoolSize(4 * 256))
    per_token = 4 * 2 * 2 * 16 * 4
    assert _plan(TINY, Planned(WEIGHTS + 2 * per_token * 1600), None, 4, None) == (1024, PoolSize(100))
    assert _plan(TINY, Planned(WEIGHTS + 2 * per_token * 1100), None, 4, None) == (1024, PoolSize(68))
    with pytest.raises(NotEnoughMemory, match="one context of 16 tokens takes"):
        _plan(TINY, Planned(WEIGHTS + per_token * 31), None, 4, None)


def test_available_memory_is_a_plausible_number():
    assert 1 << 20 < available_memory() < 1 << 46


def test_files_in_the_page_cache_of_a_control_group_are_no_memory_that_is_gone(tmp_path):
    (tmp_path / "memory.max").write_text("4000\n")
    (tmp_path / "memory.current").write_text("3900\n")
    (tmp_path / "memory.stat").write_text("anon 700\nfile 3200\nshmem 100\nactive_file 1000\ninactive_file 2100\n")
    assert group_memory(tmp_path, 9000) == 3200
    (tmp_path / "memory.max").write_text("max\n")
    assert group_memory(tmp_path, 9000) == 9000


def without(*modules: str, **options: object) -> str:
    """What loading says in a process that cannot import ``modules``, or ``loaded``."""
    script = f"""
import sys
sys.modules.update(dict.fromkeys({modules!r}))
import quipu
try:
    quipu.load(r"{GOLDEN / "llama3-tiny"}", **{options!r}).close()
    print("loaded")
except quipu.QuipuError as error:
    print(error)
"""
    return subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stdout


KERNELS = "quipu.native._kernels"


def test_a_model_loads_without_torch_or_without_the_kernels():
    assert without("torch") == "loaded\n"
    assert without(KERNELS) == "loaded\n"


def test_what_is_missing_is_named_with_its_remedy():
    assert "pip install 'quipu-llama[torch]', or use device cpu and runner native" in without("torch", runner="torch")
    for given in ({}, {"runner": "native"}):
        said = without("torch", KERNELS, **given)
        assert "install a C++ compiler" in said
        assert "pip install 'quipu-llama[torch]'" in said
    assert "install a C++ compiler" in without(KERNELS, runner="native")


def test_a_gpu_is_used_only_where_torch_sees_it(tmp_path, monkeypatch):
    """A driver says nothing of torch, which may be built for the CPU alone; then the kernels compute."""
    driver = tmp_path / "driver"
    driver.touch()
    monkeypatch.setattr(backends, "GPU_DEVICES", (driver,))
    assert isinstance(Arithmetic().backend(TINY, TINY.tensors, None), NativeBackend)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert isinstance(Arithmetic(device="cpu").backend(TINY, TINY.tensors, None), NativeBackend)
    assert isinstance(Arithmetic(runner="native").backend(TINY, TINY.tensors, None), NativeBackend)
    assert not Arithmetic()._runs_natively()


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


def test_torch_uses_the_threads_it_is_given():
    before = torch.get_num_threads()
    try:
        with quipu.load(GOLDEN / "llama3-tiny", threads=1, runner="torch", **SMALL):
            assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("runner", ["native", pytest.param("torch", marks=pytest.mark.slow)])
def test_resident_memory_is_what_the_plan_says(runner):
    """A process that loads a model and fills its whole cache grows by what `quipu inspect` promised, within 5 %."""
    script = """
import contextlib, gc, io, json, re, sys
from pathlib import Path
import gguf.quants, numpy
import quipu
from quipu.cli import main
from quipu.engine.fake import fake_model
from quipu.engine.runner import Span

def resident():
    gc.collect()
    return int(re.search(r"VmRSS:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) * 1024

model, runner = sys.argv[1:]
name = "smollm2-135m-instruct"
with contextlib.redirect_stdout(io.StringIO()) as said:
    main(["inspect", name, "--no-hash", "--json", "--context", "8192", "--concurrency", "8", "--runner", runner])
plan = json.loads(said.getvalue())["memory"]
# What torch, thread pools, tokenizers and Jinja take for themselves the first time is not the model's.
with quipu.load(model, context=64, concurrency=1, runner=runner) as first:
    list(first.stream([1, 2, 3], max_tokens=2))
with fake_model() as fake:
    fake.chat("hello")
before = resident()
model = quipu.load(name, context=8192, concurrency=8, runner=runner)
computes = model.engine._runner
# The system gives memory where something is written.
if runner == "torch":
    for pool in (*computes._cache.keys, *computes._cache.values):
        pool.fill_(1)
else:  # a block, of which the first and the last token are written, has two pages
    for first in range(0, computes.pool.blocks, 128):
        blocks = range(first, min(first + 128, computes.pool.blocks))
        computes.step([Span([1], place, [block], "none") for block in blocks for place in (0, 15)])
print((resident() - before) / plan["total_bytes"])
"""
    tiny = str(Path(GOLDEN / "llama3-tiny"))
    result = subprocess.run([sys.executable, "-c", script, tiny, runner], check=True, capture_output=True, text=True)
    assert float(result.stdout) == pytest.approx(1, abs=0.05)
