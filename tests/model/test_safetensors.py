"""safetensors files, single and sharded, sound and hostile."""

from __future__ import annotations

import json
import struct
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file
from tiny import GOLDEN, tiny_config, tiny_tensors, write_tiny

from quipu.errors import CheckpointError, DamagedCheckpoint, UnsupportedCheckpoint
from quipu.model.checkpoint import open_checkpoint
from quipu.model.frequencies import Rope
from quipu.model.safetensors import read_safetensors, read_sharded


def test_values_equal_the_librarys(tmp_path: Path) -> None:
    from safetensors.numpy import load_file

    path = GOLDEN / "llama3-tiny" / "model.safetensors"
    expected = load_file(path)
    found = read_safetensors(path)
    assert found.keys() == expected.keys()
    for name, tensor in found.items():
        np.testing.assert_array_equal(tensor.float32(), expected[name])
        assert tensor.shape == expected[name].shape


@pytest.mark.parametrize(("dtype", "kind"), [("float32", "F32"), ("float16", "F16"), ("bfloat16", "BF16")])
def test_dtypes_as_torch_writes_them(dtype: str, kind: str, tmp_path: Path) -> None:
    import torch
    from safetensors.torch import save_file as save_torch

    value = torch.randn(3, 5).to(getattr(torch, dtype))
    save_torch({"x": value}, tmp_path / "x.safetensors")
    tensor = read_safetensors(tmp_path / "x.safetensors")["x"]
    assert tensor.kind == kind
    np.testing.assert_array_equal(tensor.float32(), value.float().numpy())


def test_another_dtype_is_named(tmp_path: Path) -> None:
    save_file({"x": np.zeros(4, np.int64)}, tmp_path / "x.safetensors")
    with pytest.raises(UnsupportedCheckpoint, match="x is stored as I64; supported are F32, F16, BF16"):
        read_safetensors(tmp_path / "x.safetensors")


def test_known_extras_are_left_out_whatever_their_type(tmp_path: Path) -> None:
    extras = {"model.layers.0.self_attn.rotary_emb.inv_freq": np.zeros(4, np.float64)}
    save_file({"x": np.zeros(4, np.float32), **extras}, tmp_path / "x.safetensors")
    assert list(read_safetensors(tmp_path / "x.safetensors")) == ["x"]


def header(entries: dict[str, Any], data: bytes = bytes(64)) -> bytes:
    text = json.dumps(entries).encode()
    return struct.pack("<Q", len(text)) + text + data


ENTRY = {"dtype": "F32", "shape": [16], "data_offsets": [0, 64]}


@pytest.mark.parametrize(
    "content",
    [
        b"\x01",
        header({"x": ENTRY})[:-1],
        header({"x": ENTRY}, bytes(65)),
        struct.pack("<Q", 2**62) + b"{}",
        struct.pack("<Q", 2) + b"[]",
        header({"x": {**ENTRY, "data_offsets": [0, 2**62]}}),
        header({"x": {**ENTRY, "shape": [2**40, 2**40]}}),
        header({"x": ENTRY, "y": ENTRY}),
        header({"x": {**ENTRY, "dtype": "F3"}}),
    ],
)
def test_lies_are_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "x.safetensors").write_bytes(content)
    with pytest.raises(DamagedCheckpoint, match=r"x\.safetensors is not a sound safetensors file"):
        read_safetensors(tmp_path / "x.safetensors")


def test_an_empty_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.safetensors").touch()
    with pytest.raises(DamagedCheckpoint, match=r"x\.safetensors is empty"):
        read_safetensors(tmp_path / "x.safetensors")


# ---- sharded


@pytest.fixture
def sharded(tmp_path: Path) -> Path:
    config = tiny_config()
    return write_tiny("sharded", tmp_path, config, tiny_tensors(config)) / "model.safetensors.index.json"


def edit(index: Path, **weight_map: Any) -> None:
    content = json.loads(index.read_text())
    index.write_text(json.dumps({**content, "weight_map": {**content["weight_map"], **weight_map}}))


def test_a_missing_shard_is_named(sharded: Path) -> None:
    (sharded.parent / "model-00002-of-00003.safetensors").unlink()
    with pytest.raises(DamagedCheckpoint, match=r"model-00002-of-00003\.safetensors is missing"):
        read_sharded(sharded)


def test_a_tensor_that_its_shard_lacks_is_named(sharded: Path) -> None:
    edit(sharded, ghost="model-00001-of-00003.safetensors")
    with pytest.raises(DamagedCheckpoint, match=r"model-00001-of-00003\.safetensors lacks ghost"):
        read_sharded(sharded)


def test_a_tensor_in_two_shards_is_named(sharded: Path) -> None:
    shard = sharded.parent / "model-00001-of-00003.safetensors"
    (sharded.parent / "more.safetensors").write_bytes(shard.read_bytes())
    edit(sharded, ghost="more.safetensors")
    with pytest.raises(DamagedCheckpoint, match="is in two shards"):
        read_sharded(sharded)


@pytest.mark.parametrize("file", ["../x.safetensors", "/etc/passwd", "a/b", "..", "", "a\\b", "a\0b", 7, None])
def test_an_index_that_points_out_of_its_folder_is_refused(file: Any, sharded: Path) -> None:
    edit(sharded, ghost=file)
    with pytest.raises(DamagedCheckpoint, match=r"ghost is said to be in .*, which is not a \.safetensors file"):
        read_sharded(sharded)


@pytest.mark.parametrize("content", ["{}", '{"weight_map": []}', '{"weight_map": {}}'])
def test_an_index_without_a_map_is_refused(content: str, sharded: Path) -> None:
    sharded.write_text(content)
    with pytest.raises(DamagedCheckpoint, match="weight_map is missing or empty"):
        read_sharded(sharded)


# ---- any bytes


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, bytes]:
    config = tiny_config(
        vocabulary=8, hidden_size=32, intermediate_size=32, layers=1, heads=2, kv_heads=1, rope=Rope(1e4, 16)
    )
    folder = write_tiny("safetensors", tmp_path_factory.mktemp("small"), config, tiny_tensors(config))
    return folder / "model.safetensors", (folder / "model.safetensors").read_bytes()


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_truncated_and_flipped_files_never_crash(small: tuple[Path, bytes], data: st.DataObject) -> None:
    path, content = small
    changed = bytearray(content[: data.draw(st.just(len(content)) | st.integers(0, len(content)))])
    for _ in range(data.draw(st.integers(0, 4)) if changed else 0):
        end = min(len(changed), 1200)  # the header, mostly
        changed[data.draw(st.integers(0, end - 1))] = data.draw(st.integers(0, 255))
    path.unlink(missing_ok=True)  # a mapped file must not shrink under an earlier example
    path.write_bytes(changed)
    with suppress(CheckpointError):
        for each in open_checkpoint(path.parent).tensors.values():
            assert each.float32().shape == each.shape
