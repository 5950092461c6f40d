"""``quantize``: what is in the file, that llama.cpp reads it, and that killing it changes nothing."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from gguf import quants
from numpy.typing import NDArray
from tiny_llama4 import GOLDEN, STEPS, text_config, write, write_large

from quipu.engine import quantize as room
from quipu.engine.gguf_blocks import quantised
from quipu.engine.packing import pack_all, packed_kinds
from quipu.engine.quantize import quantize
from quipu.errors import InvalidRequest, StorageFailed
from quipu.model.checkpoint import open_checkpoint
from quipu.model.llama import reference_logits
from quipu.model.weights import Tensor

TINY = ("llama3-tiny", *STEPS)


def made(source: Path, to: str, out: Path, **options: Any) -> room.Quantised:
    return quantize(open_checkpoint(source), to, out, threads=2, **options)


# ---- blocks


@pytest.mark.parametrize("kind", ["Q8_0", "Q4_1"])
@pytest.mark.parametrize(("rows", "columns"), [(1, 32), (16, 64), (17, 96), (40, 160)])
def test_blocks_decode_to_what_the_kernels_hold(kind: str, rows: int, columns: int) -> None:
    """gguf decodes them; what is lost is what the packer says, and no more than by gguf's own quantiser."""
    values = np.random.default_rng(rows).normal(0, 0.02, (rows, columns)).astype(np.float32)
    data, loss = quantised(Tensor("x", values.shape, "F32", values.reshape(-1).view(np.uint8)), kind)
    theirs = gguf.GGMLQuantizationType[kind]

    def error(blocks: NDArray[np.uint8]) -> float:
        decoded = quants.dequantize(blocks, theirs)
        assert decoded.shape == values.shape
        return float(np.linalg.norm(decoded - values) / np.linalg.norm(values))

    assert error(data.reshape(rows, -1)) == pytest.approx(loss.relative, rel=1e-4)
    assert 0 < loss.relative <= 1.02 * error(quants.quantize(values, theirs))


# ---- out and in again


@pytest.mark.parametrize("to", ["q8", "q4"])
@pytest.mark.parametrize("name", TINY)
def test_out_and_in_again(name: str, to: str, tmp_path: Path) -> None:
    """Read by gguf as well; logits are those of the weights in the file, put into the original network."""
    source = open_checkpoint(GOLDEN / name)
    report = quantize(source, to, tmp_path / "out.gguf", threads=2)
    again = open_checkpoint(tmp_path / "out.gguf")
    theirs = {each.name: each for each in gguf.GGUFReader(tmp_path / "out.gguf").tensors}
    assert theirs.keys() == {each.name for each in report.tensors}
    assert all(theirs[each.name].tensor_type.name == each.kind for each in report.tensors)
    assert again.tensors.keys() == source.tensors.keys()
    for tensor_name, tensor in again.tensors.items():
        before = source.tensors[tensor_name].float32()
        error = np.linalg.norm(tensor.float32() - before) / np.linalg.norm(before)
        eight = to == "q8" or tensor_name.startswith(("model.embed", "lm_head"))
        kept = before.ndim == 1 or "router" in tensor_name or before.shape[-1] % 32
        assert tensor.kind == ("F32" if kept else "Q8_0" if eight else "Q4_1")
        assert error <= {"F32": 0.0, "Q8_0": 0.007, "Q4_1": 0.085}[tensor.kind]
    ids = list(range(40, 58))
    ours = reference_logits(again.config, again.tensors, ids)
    expected = reference_logits(source.config, again.tensors, ids)
    np.testing.assert_allclose(ours.numpy(), expected.numpy(), atol=1e-4)
    assert report.size == (tmp_path / "out.gguf").stat().st_size
    assert report.bits == 8 * report.size / sum(each.float32().size for each in source.tensors.values())
    seeing = ["mmproj-out.gguf"] if source.vision else []
    assert sorted(path.name for path in tmp_path.iterdir()) == [*seeing, "out.gguf"]


def test_the_error_of_each_tensor_is_what_it_lost(tmp_path: Path) -> None:
    source = open_checkpoint(GOLDEN / STEPS[0])
    report = quantize(source, "q4", tmp_path / "out.gguf", threads=1)
    again = open_checkpoint(tmp_path / "out.gguf")
    errors = {each.name: each.error for each in report.tensors}
    name = "model.layers.2.self_attn.k_proj.weight"
    before = source.tensors[name].float32()
    lost = np.linalg.norm(again.tensors[name].float32() - before) / np.linalg.norm(before)
    assert errors["blk.2.attn_k.weight"] == pytest.approx(lost, rel=1e-4)
    fused = [f"model.layers.2.feed_forward.experts.{expert}.up_proj.weight" for expert in range(4)]
    before = np.stack([source.tensors[each].float32() for each in fused])
    after = np.stack([again.tensors[each].float32() for each in fused])
    lost = np.linalg.norm(after - before) / np.linalg.norm(before)
    assert errors["blk.2.ffn_up_exps.weight"] == pytest.approx(lost, rel=1e-4)
    assert errors["blk.2.attn_norm.weight"] == 0


@pytest.mark.parametrize("to", ["q8", "q4"])
@pytest.mark.parametrize("name", TINY)
def test_the_kernels_get_the_bits_of_quantize(name: str, to: str, tmp_path: Path) -> None:
    """Loading the file and loading the checkpoint with --quantize are the same, bit for bit."""
    source = open_checkpoint(GOLDEN / name).tensors
    made(GOLDEN / name, to, tmp_path / "out.gguf")
    again = open_checkpoint(tmp_path / "out.gguf").tensors
    before, after = packed_kinds(source, "auto", to), packed_kinds(again, "auto", None)
    packed = {each: data for each, data, _ in pack_all(source, before, threads=1)}
    for each, data, loss in pack_all(again, after, threads=1):
        if source[each].shape[-1] % 32 == 0:  # else GGUF keeps the floats, where the kernels fill up the last block
            assert after.get(each) == before.get(each)
            np.testing.assert_array_equal(data, packed[each], each)
            assert loss.relative == 0


@pytest.mark.parametrize("form", ["pth-2", "sharded", "gguf"])
def test_every_format_gives_the_same_weights(form: str, tmp_path: Path) -> None:
    made(write(form, STEPS[1], tmp_path / "source"), "q4", tmp_path / "a.gguf")
    made(GOLDEN / STEPS[1], "q4", tmp_path / "b.gguf")
    found, expected = (open_checkpoint(tmp_path / name).tensors for name in ("a.gguf", "b.gguf"))
    for name, tensor in found.items():
        np.testing.assert_array_equal(tensor.packed(), expected[name].packed(), name)


def test_small_pieces_make_the_same_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made(GOLDEN / STEPS[1], "q4", tmp_path / "a.gguf")
    monkeypatch.setattr(room, "_PIECE", 4096)
    made(GOLDEN / STEPS[1], "q4", tmp_path / "b.gguf")
    assert (tmp_path / "a.gguf").read_bytes() == (tmp_path / "b.gguf").read_bytes()


# ---- llama.cpp reads it


def odd_llama4(folder: Path) -> tuple[Path, Any]:
    """A network of transformers whose rows are no whole blocks, so that quantising leaves all of it in float32."""
    from transformers import Llama4ForCausalLM, Llama4TextConfig

    text = text_config(STEPS[1]) | {
        "hidden_size": 80, "num_attention_heads": 5, "num_key_value_heads": 1, "intermediate_size": 48,
        "intermediate_size_mlp": 112, "num_hidden_layers": 4, "attention_chunk_size": 8192, "floor_scale": 8192,
        "attn_scale": 0.1, "interleave_moe_layer_step": 2, "use_qk_norm": True, "head_dim": 16,
    }  # fmt: skip
    text["rope_parameters"] = {
        "rope_type": "llama3", "rope_theta": 500000.0, "factor": 16.0, "low_freq_factor": 1.0,
        "high_freq_factor": 4.0, "original_max_position_embeddings": 32,
    }  # fmt: skip
    text.pop("rope_scaling", None)
    torch.manual_seed(0)
    network = Llama4ForCausalLM(Llama4TextConfig(**text)).float().eval()
    for parameter in network.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=parameter.shape[-1] ** -0.5)
    network.save_pretrained(folder)
    return folder, network


def odd_llama3(folder: Path) -> tuple[Path, Any]:
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    scaling = {
        "rope_type": "llama3", "rope_theta": 500000.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 32,
    }  # fmt: skip
    config = LlamaConfig(vocab_size=256, hidden_size=80, intermediate_size=112, num_hidden_layers=2,
                         num_attention_heads=5, num_key_value_heads=1, head_dim=16, rope_parameters=scaling,
                         max_position_embeddings=256, tie_word_embeddings=True)  # fmt: skip
    network = LlamaForCausalLM(config).float().eval()
    for parameter in network.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=parameter.shape[-1] ** -0.5)
    network.save_pretrained(folder)
    return folder, network


def llama_cpp_logits(path: Path, ids: list[int]) -> NDArray[np.float32]:
    """llama.cpp's, in a process of its own: its OpenMP and torch's do not go together everywhere."""
    code = (
        "import sys, json, llama_cpp, numpy as np\nfrom quipu.bench.llama_cpp import LlamaCpp\n"
        "params = llama_cpp.llama_context_default_params()\nparams.type_k = params.type_v = 0\n"  # float32, not 16
        "llama_cpp.llama_context_default_params = lambda: params\n"
        "engine = LlamaCpp(sys.argv[1], 512, 512, 1)\nengine.use('without')\nengine.reset(1)\n"
        "[rows] = engine.step([(0, json.loads(sys.argv[2]), 0)], every=True)\nnp.save(sys.argv[3], rows)\n"
    )
    out = path.with_suffix(".npy")
    done = subprocess.run([sys.executable, "-c", code, str(path), json.dumps(ids), str(out)], capture_output=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return np.load(out)


needs_llama_cpp = pytest.mark.skipif(find_spec("llama_cpp") is None, reason="the extra bench is not installed")


@needs_llama_cpp
@pytest.mark.parametrize("network_of", [odd_llama3, odd_llama4])
@pytest.mark.filterwarnings("ignore")
def test_llama_cpp_agrees_with_transformers_about_the_file(network_of: Any, tmp_path: Path) -> None:
    folder, network = network_of(tmp_path / "odd")
    made(folder, "q8", tmp_path / "out.gguf")
    ids = np.random.default_rng(1).integers(0, 256, 100).tolist()
    with torch.inference_mode():
        expected = network(torch.tensor([ids])).logits[0].numpy()
    assert expected.std() > 0.1
    assert np.abs(llama_cpp_logits(tmp_path / "out.gguf", ids) - expected).max() <= 1e-4
    again = open_checkpoint(tmp_path / "out.gguf")
    assert np.abs(reference_logits(again.config, again.tensors, ids).numpy() - expected).max() <= 1e-4


@needs_llama_cpp
@pytest.mark.parametrize("to", [pytest.param("q8", marks=pytest.mark.slow), "q4"])
def test_llama_cpp_reads_quantised_experts(to: str, tmp_path: Path) -> None:
    """It rounds activations to eight bits, so its logits are only near; the mistakes in layout move them by 5."""
    text = text_config(STEPS[0]) | {"attention_chunk_size": 8192, "floor_scale": 8192, "attn_scale": 0.1}
    whole = json.loads((GOLDEN / STEPS[0] / "config.json").read_text()) | {"text_config": text}
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "config.json").write_text(json.dumps(whole))
    (tmp_path / "source" / "model.safetensors").symlink_to(GOLDEN / STEPS[0] / "model.safetensors")
    made(tmp_path / "source", to, tmp_path / "out.gguf")
    again = open_checkpoint(tmp_path / "out.gguf")
    ids = list(range(7, 39))
    ours = reference_logits(again.config, again.tensors, ids).numpy()
    theirs = llama_cpp_logits(tmp_path / "out.gguf", ids)
    assert np.abs(theirs - ours).mean() <= 0.1 * ours.std()


# ---- ended and gone on with

CHILD = """
import json, resource, sys
from pathlib import Path
from quipu.engine import quantize, quantize_file, quantize_journal
from quipu.model.checkpoint import open_checkpoint
quantize_journal.SECONDS = 0
source, to, out, piece, room = sys.argv[1:]
checkpoint = open_checkpoint(source)
if int(room):
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + int(room),) * 2)
    try:
        bytearray(sum(size for _, size, _ in checkpoint.states.values()))
        sys.exit("the limit would hold the checkpoint")
    except MemoryError:
        pass
quantize._PIECE = int(piece)
pieces, write = [], quantize_file._write_piece
quantize_file._write_piece = lambda descriptor, piece: (pieces.append(piece), write(descriptor, piece))[1]
made = quantize.quantize(checkpoint, to, Path(out), threads=2)
print(json.dumps([made.bits, made.error, len(pieces)]))
"""


def child(source: Path, to: str, out: Path, *, piece: int = 1 << 16, room: int = 0) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", CHILD, str(source), to, str(out), str(piece), str(room)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def lines(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


def test_killed_at_any_moment_it_goes_on_to_the_identical_file(tmp_path: Path) -> None:
    source = write_large(tmp_path / "source", hidden=128, inner=256, experts=8, layers=7)
    said, failed = child(source, "q4", tmp_path / "whole.gguf").communicate()
    *numbers, pieces = json.loads(said)
    out, journal, part = (tmp_path / f"out.gguf{end}" for end in ("", ".journal", ".part"))
    moments = random.Random(4)
    finished = 0
    for _ in range(2):
        running = child(source, "q4", out)
        while running.poll() is None and lines(journal) <= finished + 1:
            time.sleep(0.002)
        time.sleep(moments.uniform(0, 0.04))
        running.send_signal(signal.SIGKILL)
        running.communicate()
        assert running.returncode == -signal.SIGKILL, "it was done before it was killed: make the checkpoint larger"
        assert part.exists()
        assert not out.exists()
        assert lines(journal) > finished  # what was finished stays so
        finished = lines(journal)
    with journal.open("ab") as file:
        file.write(b'["model.layers.0')  # a line that the power cut
    running = child(source, "q4", out)
    said, failed = running.communicate()
    assert running.returncode == 0, failed
    assert out.read_bytes() == (tmp_path / "whole.gguf").read_bytes()
    assert json.loads(said) == [*numbers, pieces - (finished - 1)]  # the first line is not about a piece
    assert not journal.exists()
    assert not part.exists()


def begun(source: Path, out: Path, to: str = "q4") -> tuple[Path, Path]:
    """The half-written file and the journal of a run that was killed."""
    running = child(source, to, out)
    journal, part = (out.with_name(f"{out.name}.{end}") for end in ("journal", "part"))
    while running.poll() is None and lines(journal) < 4:
        time.sleep(0.002)
    running.kill()
    running.communicate()
    assert lines(journal) >= 4
    return part, journal


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_large(tmp_path_factory.mktemp("large"), hidden=128, inner=256, experts=8, layers=4)


def test_what_cannot_be_gone_on_with(large: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "_PIECE", 1 << 16)
    out, again = tmp_path / "out.gguf", tmp_path / "again.gguf"
    part, journal = begun(large, out)
    with pytest.raises(InvalidRequest, match=r"out\.gguf\.part cannot be gone on with: it was begun from or to someth"):
        made(large, "q8", out)
    whole = journal.read_bytes()
    journal.write_bytes(whole + b"{}\n")
    with pytest.raises(InvalidRequest, match=r"out\.gguf\.journal is damaged; remove it and"):
        made(large, "q4", out)
    journal.write_bytes(whole)
    shard = sorted(large.glob("*.safetensors"))[0]
    times = shard.stat()
    os.utime(shard, ns=(1, 1))
    with pytest.raises(
        InvalidRequest, match=r"the checkpoint was changed since. Remove .*out\.gguf\.part and .*journal"
    ):
        made(large, "q4", out)
    os.utime(shard, ns=(times.st_atime_ns, times.st_mtime_ns))
    with part.open("r+b") as file:
        file.truncate(100)
    made(large, "q4", out)  # nothing is left to go on with: it begins anew
    made(large, "q4", again)
    assert out.read_bytes() == again.read_bytes()


def test_two_at_once(large: Path, tmp_path: Path) -> None:
    running = child(large, "q4", tmp_path / "out.gguf")
    while running.poll() is None and lines(tmp_path / "out.gguf.journal") < 2:
        time.sleep(0.002)
    with pytest.raises(InvalidRequest, match="another quipu quantize is writing"):
        made(large, "q4", tmp_path / "out.gguf")
    running.kill()
    running.communicate()


@pytest.mark.parametrize(
    ("layers", "megabytes", "room_mib"), [(3, 300, 220), pytest.param(12, 1200, 300, marks=pytest.mark.slow)]
)
def test_a_checkpoint_larger_than_memory(layers: int, megabytes: int, room_mib: int, tmp_path: Path) -> None:
    """Neither it nor, of the large one, the file would fit into what is there beside Python itself."""
    source = write_large(tmp_path / "source", hidden=1024, inner=1024, experts=16, layers=layers)
    assert sum(path.stat().st_size for path in source.glob("*.safetensors")) > megabytes * 1e6
    running = child(source, "q8", tmp_path / "out.gguf", piece=room._PIECE, room=room_mib << 20)
    said, failed = running.communicate()
    assert running.returncode == 0, failed
    bits, error, _ = json.loads(said)
    assert 8.5 <= bits < 8.6
    assert 0.004 < error < 0.006
    found = open_checkpoint(tmp_path / "out.gguf").tensors
    expected = open_checkpoint(source).tensors
    name = f"model.layers.{layers - 1}.feed_forward.experts.15.down_proj.weight"
    np.testing.assert_allclose(found[name].float32(), expected[name].float32(), atol=2e-3)


# ---- refused


def test_refused_options(tmp_path: Path) -> None:
    source = GOLDEN / "llama3-tiny"
    (tmp_path / "there.gguf").write_bytes(b"")
    for to, out, words in (
        ("q5", "x.gguf", "to is 'q5'; it must be one of q8, q4"),
        ("q4", "x.bin", r"x\.bin does not end in \.gguf"),
        ("q4", "no/x.gguf", "no is no folder; make it first"),
        ("q4", "there.gguf", r"there\.gguf exists; remove it, or give another --out"),
    ):
        with pytest.raises(InvalidRequest, match=words):
            made(source, to, tmp_path / out)
    made(source, "q4", tmp_path / "four.gguf")
    made(tmp_path / "four.gguf", "q8", tmp_path / "twice.gguf")  # matrices of odd columns are floats still
    assert sorted(path.name for path in tmp_path.iterdir()) == ["four.gguf", "there.gguf", "twice.gguf"]


def test_what_is_quantised_is_not_quantised_again(smollm2_file: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match=r"quantised already \(.*Q4_1.*\), and would lose twice"):
        made(smollm2_file, "q4", tmp_path / "x.gguf")
    assert not list(tmp_path.iterdir())


def test_a_full_disk_is_known_before_the_work(tmp_path: Path) -> None:
    """The checkpoint is all holes; the file would be larger than any disk here."""
    source = write_large(tmp_path / "source", hidden=1 << 15, inner=1 << 15, experts=128, layers=12, holes=True)
    with pytest.raises(
        StorageFailed, match=r"GiB free and the file takes 2\d\d\d\.\d GiB; make room, or give an --out"
    ):
        made(source, "q4", tmp_path / "x.gguf")
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


def test_no_right_to_write(tmp_path: Path) -> None:
    """A limit on the size of files stands for every failure of the system: its own words are passed on."""
    code = CHILD.replace("if int(room):", "resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16,) * 2)\nif int(room):")
    command = [sys.executable, "-c", code, str(GOLDEN / STEPS[0]), "q4", str(tmp_path / "x.gguf"), "65536", "0"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert "StorageFailed" in done.stderr
    assert "x.gguf cannot be written: File too large" in done.stderr
    assert not list(tmp_path.iterdir())
