"""``quantize`` of a model that sees: the file of what it sees with, beside the text model's."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import gguf
import numpy as np
import pytest
from seeing import GOLDEN, tokenizer_metadata
from tiny_llama4 import write_projector

import quipu
from quipu.engine import quantize as room
from quipu.engine import quantize_file
from quipu.engine.quantize import quantize
from quipu.errors import InvalidRequest, UnsupportedCheckpoint
from quipu.model.checkpoint import Checkpoint, open_checkpoint
from quipu.model.weights import float_tensor


def seeing() -> Checkpoint:
    """The golden model with a tokenizer that knows the marks of pictures."""
    return replace(open_checkpoint(GOLDEN), tokenizer_source=("gguf", tokenizer_metadata()))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> room.Quantised:
    return quantize(seeing(), "q8", tmp_path_factory.mktemp("made") / "out.gguf", threads=2)


def test_it_is_what_llama_cpp_reads(made: room.Quantised, tmp_path: Path) -> None:
    """Names, shapes and fields are those of a file made by gguf, whose converter has one name that nothing reads."""
    assert made.projector is not None
    ours = gguf.GGUFReader(made.projector.path)
    theirs = gguf.GGUFReader(write_projector(tmp_path / "mmproj-theirs.gguf", GOLDEN.name))
    expected = {each.name.replace("attn_post_norm", "ln2"): each for each in theirs.tensors}
    found = {each.name: each for each in ours.tensors}
    assert found.keys() == expected.keys()
    for name, tensor in found.items():
        assert tensor.shape.tolist() == expected[name].shape.tolist()
        matrix = len(tensor.shape) == 2 and name != "v.position_embd.weight"
        assert tensor.tensor_type.name == ("F16" if matrix else "F32"), name
        np.testing.assert_allclose(tensor.data, expected[name].data, rtol=1e-3, atol=1e-7)
    fields = {name: field.contents() for name, field in ours.fields.items()}
    said = {name: field.contents() for name, field in theirs.fields.items() if name.startswith("clip.vision.")}
    said["clip.projector_type"] = said.pop("clip.vision.projector_type")  # where all but mixed modalities have it
    assert said.items() <= fields.items()
    assert fields["general.architecture"] == "clip"
    assert fields["clip.has_vision_encoder"] is True
    assert fields["clip.vision.image_mean"] == fields["clip.vision.image_std"] == [0.5, 0.5, 0.5]
    assert fields["clip.vision.projection_dim"] == open_checkpoint(GOLDEN).config.hidden_size


def test_it_sees_as_before(made: room.Quantised, tmp_path: Path) -> None:
    """Beside the same text model with the eyes of before, in float32 and written by gguf; logits deviate by 1.1."""
    vectors = np.load(GOLDEN / "vectors.npz")
    (tmp_path / "out.gguf").symlink_to(made.path)
    write_projector(tmp_path / "mmproj-before.gguf", GOLDEN.name)
    found, expected = (quipu.load(path, context=256, threads=1) for path in (made.path, tmp_path / "out.gguf"))
    with found, expected:
        assert found.vision == expected.vision == open_checkpoint(GOLDEN).config.vision
        for ids, pixels in (("ids_1image", ["pixels_image1"]), ("ids_2images", ["pixels_image1", "pixels_image2"])):
            seen, tokens = np.concatenate([vectors[each] for each in pixels]), vectors[ids].tolist()
            before = expected.logits(tokens, pixels=seen)
            assert np.abs(found.logits(tokens, pixels=seen) - before).max() <= 0.02
            assert np.abs(found.logits(tokens, pixels=np.zeros_like(seen)) - before).max() >= 1


def test_float16_is_all_that_the_encoder_lost(made: room.Quantised) -> None:
    assert made.projector is not None
    before, after = open_checkpoint(GOLDEN).vision, open_checkpoint(made.path).vision
    assert before.keys() == after.keys()
    for name, tensor in after.items():
        exact = before[name].float32()
        rounded = exact.astype(np.float16).astype(np.float32) if tensor.kind == "F16" else exact
        np.testing.assert_array_equal(tensor.float32(), rounded, name)
    assert 1e-5 < made.projector.error < 5e-4
    size = made.projector.path.stat().st_size
    assert (made.projector.size, made.projector.bits) == (size, 8 * size / made.projector.parameters)
    assert made.projector.parameters == sum(tensor.float32().size for tensor in before.values())


def test_each_of_two_text_models_has_its_own(tmp_path: Path) -> None:
    for to in ("q8", "q4"):
        quantize(seeing(), to, tmp_path / f"{to}.gguf", threads=1)
    for to in ("q8", "q4"):
        files = {path.name for path in open_checkpoint(tmp_path / f"{to}.gguf").files}
        assert files == {f"{to}.gguf", f"mmproj-{to}.gguf"}


def test_a_projector_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "mmproj-out.gguf").write_bytes(b"another")
    with pytest.raises(InvalidRequest, match=r"mmproj-out\.gguf exists; remove it, or give another --out"):
        quantize(seeing(), "q8", tmp_path / "out.gguf", threads=1)
    assert [path.name for path in tmp_path.iterdir()] == ["mmproj-out.gguf"]


def test_what_float16_cannot_hold_is_refused(tmp_path: Path) -> None:
    source = seeing()
    name = "multi_modal_projector.linear_1.weight"
    large = float_tensor(name, source.vision[name].float32() * 1e6, "F32")
    with pytest.raises(UnsupportedCheckpoint, match=rf"{name} has weights beyond 65504, which float16 cannot hold"):
        quantize(replace(source, vision={**source.vision, name: large}), "q8", tmp_path / "out.gguf", threads=1)


class Ended(BaseException):
    """As Ctrl-C would be."""


@pytest.mark.parametrize("moment", ["in the first file", "in the second", "between their names"])
def test_ended_it_goes_on(moment: str, made: room.Quantised, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write, rename = quantize_file._write_piece, Path.rename
    names: list[str] = []
    end_at = {"in the first file": 20, "in the second": len(open_checkpoint(GOLDEN).vision) + 10}.get(moment, 10**6)

    def counted(descriptor: int, piece: quantize_file.Piece) -> object:
        names.append(piece.key)
        if len(names) == end_at:
            raise Ended
        return write(descriptor, piece)

    def once(path: Path, to: Path) -> Path:
        if moment == "between their names" and path.name == "out.gguf.part":
            raise Ended
        return rename(path, to)

    with monkeypatch.context() as patch:
        patch.setattr(quantize_file, "_write_piece", counted)
        patch.setattr("quipu.engine.quantize_journal.SECONDS", 0)
        patch.setattr(Path, "rename", once)
        with pytest.raises(Ended):
            quantize(seeing(), "q8", tmp_path / "out.gguf", threads=1)
    assert not (tmp_path / "out.gguf").exists()
    written = len(names)
    names.clear()
    monkeypatch.setattr(quantize_file, "_write_piece", lambda *given: (names.append(given[1].key), write(*given))[1])
    again = quantize(seeing(), "q8", tmp_path / "out.gguf", threads=1)
    assert again.projector is not None
    assert made.projector is not None
    assert (again.error, again.projector.error) == (made.error, made.projector.error)
    assert {path.name for path in tmp_path.iterdir()} == {"out.gguf", "mmproj-out.gguf"}
    for path in (made.path, made.projector.path):
        assert (tmp_path / path.name).read_bytes() == path.read_bytes()
    assert (len(names) == 0) == (moment == "between their names")
    assert written + len(names) <= len(made.tensors) * 8 + len(made.projector.tensors), "little was done twice"
