"""Meta's .pth: restricted loading, shards, and what a pickle may not do."""

from __future__ import annotations

import io
import pickle
import struct
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import tiny_config, tiny_tensors, write_meta

from quipu.errors import CheckpointError, DamagedCheckpoint, QuipuError, UnsupportedCheckpoint
from quipu.model.checkpoint import open_checkpoint
from quipu.model.frequencies import Rope
from quipu.model.meta_pth import read_meta_pth
from quipu.model.names_meta import canonical_tensors, is_tied


def saved(folder: Path, **values: Any) -> Path:
    torch.save({name.replace("__", "."): value for name, value in values.items()}, folder / "consolidated.00.pth")
    return folder


@pytest.mark.parametrize(("dtype", "kind"), [(torch.float32, "F32"), (torch.float16, "F16"), (torch.bfloat16, "BF16")])
def test_dtypes(dtype: torch.dtype, kind: str, tmp_path: Path) -> None:
    value = torch.randn(3, 5).to(dtype)
    tensor = read_meta_pth(saved(tmp_path, norm__weight=value))[0]["norm.weight"]
    assert (tensor.kind, tensor.shape) == (kind, (3, 5))
    np.testing.assert_array_equal(tensor.float32(), value.float().numpy())


def test_known_extras_are_skipped(tmp_path: Path) -> None:
    folder = saved(tmp_path, rope__freqs=torch.zeros(4), layers__0___extra_state=io.BytesIO(b"x"), x=torch.zeros(1))
    assert list(read_meta_pth(folder)[0]) == ["x"]


def test_an_output_on_the_storage_of_the_embedding_is_tied(tmp_path: Path) -> None:
    shared = torch.randn(4, 8)
    tied = read_meta_pth(saved(tmp_path, tok_embeddings__weight=shared, output__weight=shared))
    assert is_tied(tied)
    own = read_meta_pth(saved(tmp_path, tok_embeddings__weight=shared, output__weight=shared.clone()))
    assert not is_tied(own)


def test_left_over_names_are_listed(tmp_path: Path) -> None:
    config = tiny_config()
    write_meta(tmp_path, config, tiny_tensors(config))
    stored = torch.load(tmp_path / "consolidated.00.pth", weights_only=True)
    torch.save({**stored, "layers.0.attention.wq.bias": torch.zeros(64)}, tmp_path / "consolidated.00.pth")
    with pytest.raises(DamagedCheckpoint, match=r"1 left over: layers\.0\.attention\.wq\.bias"):
        open_checkpoint(tmp_path)


class Payload:
    """What an attacker would pickle."""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return exec, ("raise SystemExit('a checkpoint ran code')",)


def test_a_pickle_that_wants_more_than_tensors_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedCheckpoint, match="asks for more than tensors, and quipu runs no code"):
        read_meta_pth(saved(tmp_path, x=Payload()))


@pytest.mark.parametrize("content", [b"not a zip", pickle.dumps({"x": 1})])
def test_no_zip_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "consolidated.00.pth").write_bytes(content)
    with pytest.raises(DamagedCheckpoint, match=r"consolidated\.00\.pth is truncated, or not a file of torch\.save"):
        read_meta_pth(tmp_path)


def test_a_truncated_file_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path, x=torch.zeros(100)) / "consolidated.00.pth"
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(DamagedCheckpoint, match="is truncated"):
        read_meta_pth(tmp_path)


def test_a_zip_on_several_disks_is_refused(tmp_path: Path) -> None:
    """zipfile.is_zipfile of Python 3.11 raises an error of its own."""
    locator = b"PK\x06\x07" + struct.pack("<LQL", 0, 0, 2)
    end = b"PK\x05\x06" + struct.pack("<4H2LH", 0xFFFF, 0xFFFF, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)
    (tmp_path / "consolidated.00.pth").write_bytes(bytes(64) + locator + end)
    with pytest.raises(DamagedCheckpoint, match=r"not a file of torch\.save"):
        read_meta_pth(tmp_path)


def test_a_big_endian_file_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path, x=torch.zeros(3)) / "consolidated.00.pth"
    with zipfile.ZipFile(path) as file:
        entries = {name: file.read(name) for name in file.namelist()}
    with zipfile.ZipFile(path, "w") as file:
        for name, content in entries.items():
            file.writestr(name, b"big" if name.endswith("/byteorder") else content)
    with pytest.raises(UnsupportedCheckpoint, match="big-endian"):
        read_meta_pth(tmp_path)


def test_a_zip_of_something_else_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "consolidated.00.pth", "w") as file:
        file.writestr("hello.txt", "hello")
    with pytest.raises(DamagedCheckpoint, match="cannot be read"):
        read_meta_pth(tmp_path)


@pytest.mark.parametrize(
    ("value", "kind", "words"),
    [
        ([1, 2], UnsupportedCheckpoint, "x is a list, not a tensor"),
        (torch.zeros(3).to_sparse(), UnsupportedCheckpoint, "not a tensor"),
        (torch.zeros(3, dtype=torch.int8), UnsupportedCheckpoint, r"stored as torch\.int8; supported"),
        (torch.zeros(1).expand(2**40), DamagedCheckpoint, "not a plain array"),
        (torch.zeros(()), DamagedCheckpoint, "not a plain array"),
    ],
)
@pytest.mark.filterwarnings("ignore:Sparse invariant checks:UserWarning")
def test_what_is_no_plain_array_is_refused(value: Any, kind: type[QuipuError], words: str, tmp_path: Path) -> None:
    with pytest.raises(kind, match=words):
        read_meta_pth(saved(tmp_path, x=value))


def test_a_bare_tensor_is_refused(tmp_path: Path) -> None:
    torch.save(torch.zeros(3), tmp_path / "consolidated.00.pth")
    with pytest.raises(DamagedCheckpoint, match="does not hold named tensors"):
        read_meta_pth(tmp_path)


def test_two_tensors_for_one_name_are_refused(tmp_path: Path) -> None:
    torch.save({"norm.weight": torch.zeros(3), "model.norm.weight": torch.ones(3)}, tmp_path / "consolidated.00.pth")
    with pytest.raises(DamagedCheckpoint, match=r"two tensors stand for model\.norm\.weight"):
        canonical_tensors(read_meta_pth(tmp_path), tiny_config(), "x")


# ---- shards


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    config = tiny_config()
    write_meta(tmp_path, config, tiny_tensors(config), shards=2)
    (tmp_path / "consolidated.00.pth").unlink()
    with pytest.raises(DamagedCheckpoint, match=r"not consolidated\.00\.pth"):
        read_meta_pth(tmp_path)
    (tmp_path / "consolidated.01.pth").unlink()
    with pytest.raises(DamagedCheckpoint, match=r"has no consolidated"):
        read_meta_pth(tmp_path)


def test_shards_of_different_models_are_refused(tmp_path: Path) -> None:
    torch.save({"norm.weight": torch.zeros(3)}, tmp_path / "consolidated.00.pth")
    torch.save({"norm.weight": torch.zeros(3), "y": torch.zeros(3)}, tmp_path / "consolidated.01.pth")
    with pytest.raises(DamagedCheckpoint, match="do not hold the same tensors: y is in one only"):
        read_meta_pth(tmp_path)
    torch.save({"output.weight": torch.zeros(3, 4)}, tmp_path / "consolidated.00.pth")
    torch.save({"output.weight": torch.zeros(3, 5)}, tmp_path / "consolidated.01.pth")
    with pytest.raises(DamagedCheckpoint, match=r"shards of lm_head\.weight do not fit together"):
        canonical_tensors(read_meta_pth(tmp_path), tiny_config(tied_embeddings=False), "x")


# ---- any bytes


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, bytes]:
    config = tiny_config(
        vocabulary=8, hidden_size=32, intermediate_size=96, layers=1, heads=2, kv_heads=1, rope=Rope(1e4, 16)
    )
    folder = write_meta(tmp_path_factory.mktemp("small"), config, tiny_tensors(config))
    return folder / "consolidated.00.pth", (folder / "consolidated.00.pth").read_bytes()


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_flipped_bytes_never_crash(small: tuple[Path, bytes], data: st.DataObject) -> None:
    path, content = small
    changed = bytearray(content)
    for _ in range(data.draw(st.integers(1, 4))):
        place = st.integers(0, 2500) | st.integers(len(content) - 2500, len(content) - 1)  # pickle, or zip directory
        changed[data.draw(place)] = data.draw(st.integers(0, 255))
    path.unlink(missing_ok=True)  # a mapped file must not shrink under an earlier example
    path.write_bytes(changed)
    with suppress(CheckpointError):
        for each in open_checkpoint(path.parent).tensors.values():
            assert each.float32().shape == each.shape
