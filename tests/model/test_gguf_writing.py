"""What is written into a GGUF header, read by quipu's reader and by gguf's, and its tokenizers by llama.cpp."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import tiny_config
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

from quipu.errors import DamagedCheckpoint, UnsupportedCheckpoint
from quipu.model.checkpoint import Checkpoint
from quipu.model.config import Experts, ModelConfig, Temperature
from quipu.model.config_gguf import from_gguf, sampling_defaults
from quipu.model.frequencies import Rope, RopeScaling
from quipu.model.gguf import read_gguf
from quipu.model.gguf_layout import layout
from quipu.model.gguf_metadata import metadata, rope_divisors
from quipu.model.gguf_tokenizer import tokenizer_metadata
from quipu.model.tokenizer import Tokenizer as Ours
from quipu.model.tokenizer_gguf import PRE_TOKENIZERS
from quipu.model.weights import byte_count

# ---- the container

SHAPES = st.lists(st.integers(1, 5), min_size=1, max_size=3).map(lambda sizes: (*sizes[:-1], 32 * sizes[-1]))
VALUES = (
    st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(width=32, allow_nan=False)
    | st.text(max_size=20)
    | st.lists(st.text(max_size=5), max_size=5)
    | st.lists(st.integers(-(2**31), 2**31 - 1), max_size=5).map(lambda each: np.array(each, np.int32))
    | st.lists(st.booleans(), max_size=5).map(np.array).filter(lambda each: each.dtype == bool)
)
KEYS = st.text("abc._0", min_size=1, max_size=12).map("x.".__add__)


@settings(max_examples=40)
@given(
    values=st.dictionaries(KEYS, VALUES, max_size=6),
    tensors=st.dictionaries(KEYS, st.tuples(SHAPES, st.sampled_from(["F32", "BF16", "Q4_1", "Q8_0"])), max_size=5),
)
def test_what_is_laid_out_is_read(tmp_path_factory: pytest.TempPathFactory, values: Any, tensors: Any) -> None:
    path = tmp_path_factory.mktemp("layout") / "x.gguf"
    file = layout({"general.architecture": "llama", **values}, tensors)
    content = bytearray(file.header) + bytes(file.size - len(file.header))
    for number, (name, place) in enumerate(file.places.items()):
        size = byte_count(*tensors[name])
        content[place : place + size] = bytes([number + 1]) * size
    path.write_bytes(content)
    read = read_gguf(path)
    theirs = gguf.GGUFReader(path)
    for key, value in values.items():
        expected = value.tolist() if isinstance(value, np.ndarray) else value
        found = read.metadata[key]
        assert (found.tolist() if isinstance(found, np.ndarray) else found) == expected
        if expected != []:  # gguf has no empty arrays
            assert theirs.fields[key].contents() == expected
    assert list(read.tensors) == list(tensors) == [each.name for each in theirs.tensors]
    for number, (name, (shape, kind)) in enumerate(tensors.items()):
        tensor = read.tensors[name]
        assert (tensor.shape, tensor.kind) == (shape, kind)
        assert set(tensor.packed().reshape(-1).tolist()) == {number + 1}
        assert theirs.tensors[number].tensor_type.name == kind


# ---- the configuration


def opened(config: ModelConfig, **fields: Any) -> Checkpoint:
    return Checkpoint(Path("x"), "safetensors", "x", config, {}, (), **fields)


def read_back(config: ModelConfig) -> ModelConfig:
    divisors = rope_divisors(config)
    return from_gguf(
        metadata(opened(config), 3),
        tied=config.tied_embeddings,
        divisors=None if divisors is None else tuple(map(float, divisors)),
    )


LAYERS = st.integers(0, 5).map(lambda each: frozenset(range(each, 6))) | st.frozensets(st.integers(0, 5), min_size=1)


@st.composite
def llama4_configs(draw: st.DrawFn) -> ModelConfig:
    nope = draw(st.sampled_from([frozenset({3}), frozenset()]) | LAYERS)
    experts = Experts(draw(st.sampled_from([4, 16, 128])), 1, 96, draw(LAYERS))
    temperature = draw(st.sampled_from([None, Temperature(8192, 0.1), Temperature(8.0, 0.25)]))
    return replace(
        tiny_config(rope=Rope(500000.0, 16)),
        architecture="llama4",
        layers=6,
        experts=draw(st.sampled_from([experts, None])),
        nope_layers=nope,
        chunk=draw(st.sampled_from([8192, 16] if nope else [8192, 16, None])),
        pair_rotation=True,
        query_key_norm=draw(st.booleans()),
        temperature=temperature,
    )


@given(llama4_configs())
def test_any_llama_4_is_read_back(config: ModelConfig) -> None:
    assert read_back(config) == config


def test_no_chunks_beside_layers_without_rotation_are_one_of_the_whole_context() -> None:
    config = replace(
        tiny_config(rope=Rope(500000.0, 16)), architecture="llama4", layers=4, nope_layers=frozenset({3}),
        pair_rotation=True, query_key_norm=True, temperature=Temperature(8192, 0.1),
    )  # fmt: skip
    assert read_back(config) == replace(config, chunk=config.context_length)


@pytest.mark.parametrize("scaling", [RopeScaling("llama3", 32.0), RopeScaling("linear", 4.0), None])
def test_scaling_is_read_back(scaling: RopeScaling | None) -> None:
    config = tiny_config(rope=Rope(500000.0, 16, scaling))
    again = read_back(config)
    np.testing.assert_allclose(again.rope.inverse_frequencies(), config.rope.inverse_frequencies(), rtol=2e-7)
    assert read_back(again) == again


def test_sampling_and_licence() -> None:
    checkpoint = opened(tiny_config(), sampling_defaults={"temperature": 0.6, "top_p": 0.9, "top_k": 40}, license="mit")
    found = metadata(checkpoint, 7)
    assert sampling_defaults(found) == checkpoint.sampling_defaults
    assert (found["general.license"], found["general.file_type"]) == ("mit", 7)
    for wrong in ("hot", -1.0, float("nan"), True):
        with pytest.raises(DamagedCheckpoint, match=r"general\.sampling: temperature must be .*; correct it"):
            sampling_defaults({"general.sampling.temp": wrong})


# ---- tokenizers


def same(ours: Ours, source: Ours, texts: list[str]) -> None:
    assert ours.specials == source.specials
    assert (ours.bos_id, ours.add_bos) == (source.bos_id, source.add_bos)
    assert source.eos_ids <= ours.eos_ids
    for text in texts:
        ids = source.encode(text)
        assert ours.encode(text) == ids, text
        assert ours.decode(ids) == source.decode(ids)


def through_a_file(found: dict[str, Any], folder: Path) -> Path:
    """A GGUF of vocabulary only."""
    config = tiny_config(vocabulary=len(found["tokenizer.ggml.tokens"]))
    header = metadata(opened(config, tokenizer_source=("gguf", found)), 7)
    (folder / "vocabulary.gguf").write_bytes(layout(header, {}).header)
    return folder / "vocabulary.gguf"


@pytest.mark.slow
@pytest.mark.parametrize(("family", "merges"), [("llama3", 280_147), ("llama4", 439_802)])
def test_metas_tokenizers(
    family: str,
    merges: int,
    request: pytest.FixtureRequest,
    meta_tokenizer_file: Any,
    corpus: list[str],
    tmp_path: Path,
) -> None:
    """Merges are as many as transformers' converter makes of the same file."""
    source: Ours = request.getfixturevalue(family)
    config = tiny_config(vocabulary=source.vocabulary, architecture="llama" if family == "llama3" else family)
    found = tokenizer_metadata(("tiktoken", meta_tokenizer_file(family)), config, ())
    assert len(found["tokenizer.ggml.merges"]) == merges
    path = through_a_file(found, tmp_path)
    same(Ours.from_gguf(read_gguf(path).metadata), source, corpus)
    if family == "llama3" and find_spec("llama_cpp") is not None:  # its llama4 lacks the marks of Indic scripts
        assert llama_cpp_ids(path, corpus) == [source.encode(text) for text in corpus]


def llama_cpp_ids(path: Path, texts: list[str]) -> list[list[int]]:
    code = (
        "import json, sys, llama_cpp\nmodel = llama_cpp.Llama(sys.argv[1], vocab_only=True, verbose=False)\n"
        "texts = json.load(sys.stdin)\n"
        "ids = [model.tokenize(text.encode(), add_bos=False, special=False) for text in texts]\n"
        "print(json.dumps(ids))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)], input=json.dumps(texts), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    result: list[list[int]] = json.loads(done.stdout)
    return result


def tokenizer_json(folder: Path, pre: dict[str, Any], corpus: list[str], **changes: Any) -> Path:
    backend = Tokenizer(models.BPE())
    backend.decoder = decoders.ByteLevel()
    shell = json.loads(backend.to_str()) | {"pre_tokenizer": pre}
    backend = Tokenizer.from_str(json.dumps(shell))
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    backend.train_from_iterator(
        corpus, trainers.BpeTrainer(vocab_size=600, special_tokens=["<s>", "</s>", "<|eot_id|>"], show_progress=False,
                                    initial_alphabet=alphabet)
    )  # fmt: skip
    backend.add_tokens([AddedToken("<think>", special=False)])
    document = json.loads(backend.to_str())
    document["model"] |= changes.pop("model", {})
    path = folder / "tokenizer.json"
    path.write_text(json.dumps(document | changes))
    (folder / "tokenizer_config.json").write_text(json.dumps({"bos_token": "<s>", "eos_token": "</s>"}))
    return path


@pytest.mark.parametrize("name", [name for name in PRE_TOKENIZERS if name not in ("llama3", "llama-v3", "default")])
def test_every_named_way_of_cutting(name: str, corpus: list[str], tmp_path: Path) -> None:
    pre, whole, _ = PRE_TOKENIZERS[name]
    path = tokenizer_json(tmp_path, pre, corpus, model={"ignore_merges": whole})
    source = Ours.from_json(path)
    config = tiny_config(vocabulary=source.vocabulary + 7)
    found = tokenizer_metadata(("json", path), config, (source.specials["</s>"], source.specials["<|eot_id|>"]))
    assert found["tokenizer.ggml.pre"] == name
    assert found["tokenizer.ggml.tokens"][-1] == f"[PAD{config.vocabulary - 1}]"
    assert found["tokenizer.ggml.token_type"][-7:].tolist() == [5] * 7
    assert found["tokenizer.ggml.eot_token_id"] == source.specials["<|eot_id|>"]
    assert found["tokenizer.ggml.eos_token_id"] == source.specials["</s>"]
    same(Ours.from_gguf(read_gguf(through_a_file(found, tmp_path)).metadata), source, [*corpus, "a <think> b"])


def test_a_way_of_cutting_without_a_name_is_refused(corpus: list[str], tmp_path: Path) -> None:
    config = tiny_config(vocabulary=1000)
    gpt2 = PRE_TOKENIZERS["gpt-2"][0]
    for pre, changes in (
        (gpt2 | {"add_prefix_space": True}, {}),
        (gpt2, {"normalizer": {"type": "NFC"}}),
        ({"type": "Sequence", "pretokenizers": [{"type": "Digits", "individual_digits": False}, gpt2]}, {}),
        ({"type": "Sequence", "pretokenizers": [{"type": "Whitespace"}, gpt2]}, {}),
    ):
        path = tokenizer_json(tmp_path, pre, corpus, **changes)
        with pytest.raises(UnsupportedCheckpoint, match=r"tokenizer\.json cuts text .* that GGUF has no name for"):
            tokenizer_metadata(("json", path), config, ())


PREPEND = {"type": "Prepend", "prepend": "\u2581"}
MARK = {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"}
METASPACE = {"type": "Metaspace", "replacement": "\u2581", "split": False}
SPACES = {
    "legacy": ({"type": "Sequence", "normalizers": [PREPEND, MARK]}, None),
    "without": (MARK, None),
    "never": (None, METASPACE | {"prepend_scheme": "never"}),
}


def sentencepiece_json(folder: Path, corpus: list[str], normalizer: Any, pre_tokenizer: Any, **model: Any) -> Path:
    """As converters make them of a SentencePiece model: every way to make a token is a merge, best token first."""
    backend = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    specials = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    backend.train_from_iterator(
        [text.replace(" ", "\u2581") for text in corpus],
        trainers.BpeTrainer(vocab_size=1200, special_tokens=specials, show_progress=False),
    )
    document = json.loads(backend.to_str())
    document["added_tokens"] = [each for each in document["added_tokens"] if not each["content"].startswith("<0x")]
    vocab = {text: index for text, index in document["model"]["vocab"].items() if index >= len(specials)}
    cuts = [(text, cut) for text in sorted(vocab, key=vocab.__getitem__) for cut in range(1, len(text))]
    merges = [[text[:cut], text[cut:]] for text, cut in cuts if text[:cut] in vocab and text[cut:] in vocab]
    decoder = {"type": "Sequence", "decoders": [MARK | {"pattern": {"String": "\u2581"}, "content": " "},
                                                 {"type": "ByteFallback"}, {"type": "Fuse"}]}  # fmt: skip
    if normalizer is not None or (pre_tokenizer or {}).get("prepend_scheme") != "never":
        decoder["decoders"].append({"type": "Strip", "content": " ", "start": 1, "stop": 0})
    if normalizer == MARK:
        decoder["decoders"].pop()
    document |= {"normalizer": normalizer, "pre_tokenizer": pre_tokenizer, "decoder": decoder}
    document["model"] |= {"merges": merges} | model
    (folder / "tokenizer.json").write_text(json.dumps(document))
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"bos_token": "<s>", "eos_token": "</s>", "add_bos_token": True})
    )
    return folder / "tokenizer.json"


@pytest.mark.parametrize("name", SPACES)
def test_sentencepiece(name: str, corpus: list[str], tmp_path: Path) -> None:
    path = sentencepiece_json(tmp_path, corpus, *SPACES[name])
    source = Ours.from_json(path)
    found = tokenizer_metadata(("json", path), tiny_config(vocabulary=source.vocabulary), ())
    written = through_a_file(found, tmp_path)
    same(Ours.from_gguf(read_gguf(written).metadata), source, corpus)
    if find_spec("llama_cpp") is not None and name in ("legacy", "without"):
        texts = [text for text in corpus if text.isprintable() and "<" not in text]
        assert llama_cpp_ids(written, texts) == [source.encode(text) for text in texts]


def test_sentencepiece_that_gguf_cannot_say(corpus: list[str], tmp_path: Path) -> None:
    config = tiny_config(vocabulary=2000)
    for scheme in ("first", "always"):  # always, but not before a space
        path = sentencepiece_json(tmp_path, corpus, None, METASPACE | {"prepend_scheme": scheme})
        with pytest.raises(UnsupportedCheckpoint, match="puts spaces where GGUF has no way to say"):
            tokenizer_metadata(("json", path), config, ())
    merges = json.loads(path.read_text())["model"]["merges"]
    made = ["".join(merge) for merge in merges]
    twice = next(number for number, text in enumerate(made) if number > 9 and made[number - 1] == text)
    apart = [merges[twice], *merges[:twice], *merges[twice + 1 :]]
    for wrong in (merges[:-1], apart):
        path = sentencepiece_json(tmp_path, corpus, *SPACES["legacy"], merges=wrong)
        with pytest.raises(UnsupportedCheckpoint, match="merges tokens in an order that no scores give"):
            tokenizer_metadata(("json", path), config, ())


def test_more_tokens_than_the_embedding_has(corpus: list[str], tmp_path: Path) -> None:
    path = tokenizer_json(tmp_path, PRE_TOKENIZERS["gpt-2"][0], corpus)
    with pytest.raises(DamagedCheckpoint, match=r"has 601 tokens and the model an embedding for 600"):
        tokenizer_metadata(("json", path), tiny_config(vocabulary=600), ())


def test_a_gguf_keeps_its_tokenizer() -> None:
    kept = {"tokenizer.ggml.model": "llama", "tokenizer.ggml.scores": np.zeros(3, np.float32), "tokenizer.other": "x"}
    assert tokenizer_metadata(("gguf", kept | {"general.name": "x"}), tiny_config(), ()) == kept
    assert tokenizer_metadata(None, tiny_config(), ()) == {"tokenizer.ggml.model": "none"}
