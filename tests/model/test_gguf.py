"""The GGUF reader against gguf's own, and against files that lie."""

from __future__ import annotations

import struct
from contextlib import suppress
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import paired, tiny_config, tiny_tensors, write_gguf

from quipu.errors import CheckpointError, DamagedCheckpoint, QuipuError, UnsupportedCheckpoint
from quipu.model.checkpoint import open_checkpoint, resolve
from quipu.model.frequencies import Rope
from quipu.model.gguf import read_gguf
from quipu.model.names_gguf import canonical_name, canonical_tensors, rope_divisors

# ---- a real file


@pytest.fixture(scope="module")
def smollm2() -> Path:
    return resolve("smollm2-135m-instruct")


@pytest.fixture(scope="module")
def oracle(smollm2: Path) -> gguf.GGUFReader:
    return gguf.GGUFReader(smollm2)


def test_metadata_equals_ggufs_own_reader(smollm2: Path, oracle: gguf.GGUFReader) -> None:
    file = read_gguf(smollm2)
    fields = {name: field for name, field in oracle.fields.items() if not name.startswith("GGUF.")}
    assert file.version == 3
    assert list(file.metadata) == list(fields)
    for name, field in fields.items():
        found = file.metadata[name]
        assert (found.tolist() if isinstance(found, np.ndarray) else found) == field.contents(), name


def test_tensors_equal_ggufs_own_reader(smollm2: Path, oracle: gguf.GGUFReader) -> None:
    file = read_gguf(smollm2)
    assert sorted(file.tensors) == sorted(tensor.name for tensor in oracle.tensors)
    for theirs in oracle.tensors:
        ours = file.tensors[theirs.name]
        assert ours.shape == tuple(int(n) for n in theirs.shape[::-1])
        assert ours.kind == theirs.tensor_type.name
        np.testing.assert_array_equal(ours.packed().reshape(-1), theirs.data.reshape(-1).view(np.uint8))
        if not theirs.name.startswith("token_embd"):  # 28 million weights: the bytes above are enough
            np.testing.assert_array_equal(
                ours.float32(), gguf.quants.dequantize(theirs.data, theirs.tensor_type).reshape(ours.shape)
            )


def test_its_header_is_read_at_once(smollm2: Path) -> None:
    import time

    def once() -> float:
        start = time.perf_counter()
        read_gguf(smollm2)
        return time.perf_counter() - start

    assert min(once() for _ in range(3)) < 1.0  # gguf's own reader takes several seconds


# ---- every kind


@pytest.mark.parametrize("kind", ["F32", "F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0"])
def test_a_model_in_every_kind_that_gguf_writes(kind: str, tmp_path: Path) -> None:
    config = tiny_config(intermediate_size=192)
    tensors = tiny_tensors(config)
    checkpoint = open_checkpoint(write_gguf(tmp_path / "x.gguf", config, tensors, kind))
    assert checkpoint.quantization == ({"F32": 20} if kind == "F32" else {kind: 15, "F32": 5})
    for name, weight in tensors.items():
        expected = weight
        if weight.ndim == 2 and kind != "F32":
            quantisation = gguf.GGMLQuantizationType[kind]
            heads = {"q_proj": config.heads, "k_proj": config.kv_heads}.get(name.split(".")[-2])
            stored = weight if heads is None else paired(weight, heads)
            expected = gguf.quants.dequantize(gguf.quants.quantize(stored, quantisation), quantisation)
            if heads is not None:  # per head, the even rows of the pairs, then the odd ones
                by_head = expected.reshape(heads, -1, weight.shape[1])
                expected = np.concatenate([by_head[:, 0::2], by_head[:, 1::2]], axis=1).reshape(weight.shape)
        np.testing.assert_array_equal(checkpoint.tensors[name].float32(), expected)


@pytest.mark.parametrize("kind", ["Q4_K", "Q5_K", "Q6_K"])
def test_k_quants(kind: str, tmp_path: Path) -> None:
    quantisation = gguf.GGMLQuantizationType[kind]
    _, size = gguf.GGML_QUANT_SIZES[quantisation]
    stored = np.random.default_rng(0).integers(0, 256, (8, 2 * size), dtype=np.uint8)
    writer = gguf.GGUFWriter(tmp_path / "k.gguf", "llama")
    writer.add_tensor("blk.0.ffn_up.weight", stored, raw_dtype=quantisation)
    _finish(writer)
    tensor = read_gguf(tmp_path / "k.gguf").tensors["blk.0.ffn_up.weight"]
    assert (tensor.kind, tensor.shape) == (kind, (8, 512))
    np.testing.assert_array_equal(tensor.packed(), stored)
    with np.errstate(all="ignore"):
        np.testing.assert_array_equal(tensor.float32(), gguf.quants.dequantize(stored, quantisation))


def _finish(writer: gguf.GGUFWriter) -> None:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def test_every_type_of_metadata(tmp_path: Path) -> None:
    writer = gguf.GGUFWriter(tmp_path / "x.gguf", "llama")
    given: dict[str, Any] = {
        "uint8": 200, "int8": -3, "uint16": 60000, "int16": -300, "uint32": 2**32 - 1, "int32": -7, "uint64": 2**64 - 1,
        "int64": -(2**63), "float32": 0.5, "float64": 0.1, "bool": True, "string": "knot ☃",
    }  # fmt: skip
    for kind, value in given.items():
        getattr(writer, f"add_{kind}")(kind, value)
    writer.add_array("strings", ["a", "", "bü"])
    writer.add_array("numbers", [1, -2, 3])
    writer.add_array("flags", [True, False])
    _finish(writer)
    metadata = read_gguf(tmp_path / "x.gguf").metadata
    assert {kind: metadata[kind] for kind in given} == given
    assert metadata["strings"] == ["a", "", "bü"]
    assert metadata["numbers"].tolist() == [1, -2, 3]
    assert metadata["flags"].tolist() == [True, False]


# ---- split files


def split(tmp_path: Path) -> list[Path]:
    config = tiny_config()
    write_gguf(tmp_path / "tiny.gguf", config, tiny_tensors(config), split_max_tensors=8)
    return sorted(tmp_path.glob("*.gguf"))


def test_split_parts_are_one_model_whichever_is_given(tmp_path: Path) -> None:
    parts = split(tmp_path)
    assert len(parts) == 3
    expected = tiny_tensors(tiny_config())
    for model in (parts[0], parts[2], tmp_path):
        checkpoint = open_checkpoint(model)
        assert checkpoint.files == tuple(parts)
        for name, tensor in checkpoint.tensors.items():
            np.testing.assert_array_equal(tensor.float32(), expected[name])


def test_a_missing_part_is_named(tmp_path: Path) -> None:
    parts = split(tmp_path)
    parts[1].unlink()
    with pytest.raises(DamagedCheckpoint, match=r"tiny-00002-of-00003\.gguf is missing"):
        read_gguf(parts[0])


def test_a_renamed_part_says_so(tmp_path: Path) -> None:
    renamed = split(tmp_path)[0].rename(tmp_path / "model.gguf")
    with pytest.raises(DamagedCheckpoint, match="one of 3 parts, but is not named like one"):
        read_gguf(renamed)


def test_a_tensor_in_two_parts_is_refused(tmp_path: Path) -> None:
    parts = split(tmp_path)
    parts[1].write_bytes(parts[2].read_bytes())
    with pytest.raises(DamagedCheckpoint, match=r"tiny-00003.*is in an earlier part, too"):
        read_gguf(parts[0])


# ---- names


def test_names_map_to_hugging_faces() -> None:
    assert canonical_name("blk.12.ffn_gate.weight") == "model.layers.12.mlp.gate_proj.weight"
    assert canonical_name("output.weight") == "lm_head.weight"
    for unknown in ("blk.0.attn_q.bias", "blk.0.ffn_gate_exps.weight", "blk.0.x.attn_q.weight"):
        assert canonical_name(unknown) == unknown


def test_two_tensors_for_one_name_are_refused(tmp_path: Path) -> None:
    writer = gguf.GGUFWriter(tmp_path / "x.gguf", "llama")
    writer.add_tensor("output_norm.weight", np.ones(64, np.float32))
    writer.add_tensor("model.norm.weight", np.ones(64, np.float32))
    _finish(writer)
    with pytest.raises(DamagedCheckpoint, match=r"two tensors stand for model\.norm\.weight"):
        canonical_tensors(read_gguf(tmp_path / "x.gguf"), tiny_config())


def test_a_rope_table_of_two_dimensions_is_refused(tmp_path: Path) -> None:
    writer = gguf.GGUFWriter(tmp_path / "x.gguf", "llama")
    writer.add_tensor("rope_freqs.weight", np.ones((2, 4), np.float32))
    _finish(writer)
    with pytest.raises(DamagedCheckpoint, match=r"rope_freqs\.weight is \[2, 4\]"):
        rope_divisors(read_gguf(tmp_path / "x.gguf"))


def test_rows_that_do_not_fit_the_heads_are_a_shape_error(tmp_path: Path) -> None:
    tensors = tiny_tensors(tiny_config())
    name = "model.layers.0.self_attn.q_proj.weight"
    path = write_gguf(tmp_path / "x.gguf", tiny_config(), {**tensors, name: tensors[name][:48]})
    with pytest.raises(DamagedCheckpoint, match=r"q_proj.weight is \[48, 64\], expected \[64, 64\]"):
        open_checkpoint(path)


# ---- files that lie


def string(value: bytes) -> bytes:
    return struct.pack("<Q", len(value)) + value


def field(key: bytes, kind: int, value: bytes) -> bytes:
    return string(key) + struct.pack("<I", kind) + value


def tensor(name: bytes = b"t", dims: tuple[int, ...] = (32,), kind: int = 0, offset: int = 0) -> bytes:
    return string(name) + struct.pack(f"<I{len(dims)}QIQ", len(dims), *dims, kind, offset)


def raw(
    fields: tuple[bytes, ...] = (),
    tensors: tuple[bytes, ...] = (),
    *,
    magic: bytes = b"GGUF",
    version: bytes = struct.pack("<I", 3),
    counts: tuple[int, int] | None = None,
    data: bytes = bytes(256),
) -> bytes:
    head = magic + version + struct.pack("<QQ", *(counts or (len(tensors), len(fields))))
    head += b"".join(fields) + b"".join(tensors)
    return head + bytes(-len(head) % 32) + data


U32, U64 = struct.Struct("<I").pack, struct.Struct("<Q").pack

LIES: dict[str, tuple[bytes, type[QuipuError], str]] = {
    "empty": (b"", DamagedCheckpoint, "is empty"),
    "magic": (raw(magic=b"GGML"), DamagedCheckpoint, "not a GGUF file"),
    "three bytes": (b"GGU", DamagedCheckpoint, "not a GGUF file"),
    "no version": (b"GGUF", DamagedCheckpoint, "truncated"),
    "no counts": (raw()[:12], DamagedCheckpoint, "truncated"),
    "version 1": (raw(version=U32(1)), UnsupportedCheckpoint, "version 1"),
    "version 0": (raw(version=U32(0)), UnsupportedCheckpoint, "version 0"),
    "big-endian": (raw(version=struct.pack(">I", 3)), UnsupportedCheckpoint, "big-endian"),
    "fields": (raw(counts=(0, 2**60)), DamagedCheckpoint, "metadata fields announced"),
    "tensors": (raw(counts=(2**60, 0)), DamagedCheckpoint, "tensors announced"),
    "key length": (raw((U64(2**62) + b"x",)), DamagedCheckpoint, "metadata key has 4611686018427387904 bytes"),
    "key text": (raw((field(b"\xff\xfe", 4, U32(1)),)), DamagedCheckpoint, "metadata key is not UTF-8"),
    "same key": (raw((field(b"a", 4, U32(1)),) * 2), DamagedCheckpoint, "'a' occurs twice"),
    "value text": (raw((field(b"a", 8, string(b"\xc3")),)), DamagedCheckpoint, "a is not UTF-8"),
    "value type": (raw((field(b"a", 99, U32(1)),)), DamagedCheckpoint, "type 99"),
    "array type": (raw((field(b"a", 9, U32(77) + U64(1)),)), DamagedCheckpoint, "type 77"),
    "nested array": (raw((field(b"a", 9, U32(9) + U64(1)),)), UnsupportedCheckpoint, "array of arrays"),
    "array length": (raw((field(b"a", 9, U32(5) + U64(2**61)),)), DamagedCheckpoint, "values in a announced"),
    "string count": (raw((field(b"a", 9, U32(8) + U64(2**61)),)), DamagedCheckpoint, "strings in a announced"),
    "alignment 3": (raw((field(b"general.alignment", 4, U32(3)),)), DamagedCheckpoint, "general.alignment is 3"),
    "alignment 0": (raw((field(b"general.alignment", 4, U32(0)),)), DamagedCheckpoint, "general.alignment is 0"),
    "alignment text": (raw((field(b"general.alignment", 8, string(b"x")),)), DamagedCheckpoint, "power of two"),
    "no dimension": (raw((), (tensor(dims=()) + bytes(8),)), DamagedCheckpoint, "0 dimensions"),
    "9 dimensions": (raw((), (tensor(dims=(1,) * 9),)), DamagedCheckpoint, "9 dimensions"),
    "zero dimension": (raw((), (tensor(dims=(0, 4)),)), DamagedCheckpoint, "dimension of zero"),
    "product": (raw((), (tensor(dims=(2**63, 2**63)),)), DamagedCheckpoint, "past the end"),
    "offset": (raw((), (tensor(offset=2**40),)), DamagedCheckpoint, "past the end"),
    "last byte": (raw((), (tensor(),), data=bytes(127)), DamagedCheckpoint, "ends 1 bytes past the end"),
    "misaligned": (raw((), (tensor(offset=4),)), DamagedCheckpoint, "not a multiple of 32"),
    "same tensor": (raw((), (tensor(), tensor(offset=128))), DamagedCheckpoint, "t occurs twice"),
    "overlap": (raw((), (tensor(), tensor(b"u", offset=32))), DamagedCheckpoint, "u overlaps t"),
    "half block": (raw((), (tensor(dims=(48,), kind=2),)), DamagedCheckpoint, "Q4_0 comes in blocks of 32"),
    "IQ2_XS": (raw((), (tensor(dims=(256,), kind=17),)), UnsupportedCheckpoint, "stored as IQ2_XS; supported"),
    "unknown kind": (raw((), (tensor(kind=250),)), UnsupportedCheckpoint, "ggml type 250"),
    "no architecture": (raw(), DamagedCheckpoint, "general.architecture is missing"),
}


@pytest.mark.parametrize("lie", LIES)
def test_lies_are_named(lie: str, tmp_path: Path) -> None:
    content, kind, words = LIES[lie]
    path = tmp_path / "lie.gguf"
    path.write_bytes(content)
    with pytest.raises(kind) as error:
        open_checkpoint(path)
    assert words in str(error.value)
    assert str(path) in str(error.value)


def test_a_sparse_file_cannot_fill_the_memory(tmp_path: Path) -> None:
    """A terabyte of nothing makes every count plausible: values without end, or one endless string."""
    for name, value, words in (
        ("many", U32(8) + U64(2**36), "not plausible"),
        ("numbers", U32(6) + U64(2**37), "not plausible"),
        ("long", U32(8) + U64(1) + U64(2**38), "274877906944 bytes"),
    ):
        path = tmp_path / f"{name}.gguf"
        with path.open("wb") as file:
            file.write(raw((field(b"a", 9, value),), data=b""))
            file.truncate(2**40)
        with pytest.raises(DamagedCheckpoint, match=words):
            read_gguf(path)


def test_versions_2_and_3_read_alike(tmp_path: Path) -> None:
    for version in (2, 3):
        path = tmp_path / f"{version}.gguf"
        path.write_bytes(raw((), (tensor(),), version=U32(version), data=np.arange(32, dtype="<f4").tobytes()))
        file = read_gguf(path)
        assert file.version == version
        np.testing.assert_array_equal(file.tensors["t"].float32(), np.arange(32))


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, bytes]:
    config = tiny_config(
        vocabulary=8, hidden_size=32, intermediate_size=32, layers=1, heads=2, kv_heads=1, rope=Rope(1e4, 16)
    )
    folder = tmp_path_factory.mktemp("small")
    path = write_gguf(folder / "small.gguf", config, tiny_tensors(config), "Q8_0")
    return folder / "hostile.gguf", path.read_bytes()


def opens_or_refuses(path: Path, content: bytes) -> None:
    path.unlink(missing_ok=True)  # a mapped file must not shrink under an earlier example
    path.write_bytes(content)
    with suppress(CheckpointError):
        checkpoint = open_checkpoint(path)
        for each in checkpoint.tensors.values():
            assert each.float32().shape == each.shape


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_truncated_files_are_refused(small: tuple[Path, bytes], data: st.DataObject) -> None:
    path, content = small
    size = data.draw(st.integers(0, len(content) - 1))
    opens_or_refuses(path, content[:size])


@settings(max_examples=400, deadline=None)
@given(data=st.data())
def test_flipped_bytes_never_crash(small: tuple[Path, bytes], data: st.DataObject) -> None:
    path, content = small
    changed = bytearray(content)
    header = content.index(bytes(31), 400)  # most flips go where they can do harm
    for _ in range(data.draw(st.integers(1, 4))):
        changed[data.draw(st.integers(0, header) | st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    opens_or_refuses(path, bytes(changed))
