"""tokenizer.json against transformers' fast tokenizer of the same file."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken, decoders, models, normalizers, pre_tokenizers, processors, trainers
from tokenizers import Tokenizer as Backend
from transformers import PreTrainedTokenizerFast

from quipu.errors import DamagedCheckpoint, UnsupportedCheckpoint
from quipu.model.tokenizer import Tokenizer


def byte_level():
    backend = Backend(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    return backend, {"initial_alphabet": pre_tokenizers.ByteLevel.alphabet()}


def metaspace(scheme):
    backend = Backend(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme, split=False)
    steps = [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    backend.decoder = decoders.Sequence(steps)
    return backend, {}


def prepend():
    backend, options = metaspace("never")
    backend.pre_tokenizer = None
    backend.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
    return backend, options


KINDS = {
    "byte level": byte_level,
    "metaspace first": lambda: metaspace("first"),
    "metaspace always": lambda: metaspace("always"),
    "prepend": prepend,
}


@pytest.fixture(scope="module", params=KINDS)
def pair(request, tmp_path_factory, corpus):
    """(ours, transformers', the folder)"""
    backend, options = KINDS[request.param]()
    bytes_ = [f"<0x{byte:02X}>" for byte in range(256)] if "initial_alphabet" not in options else []
    specials = ["<unk>", "<s>", "</s>", *bytes_]
    trained = [text.replace("<", "") for text in corpus]
    backend.train_from_iterator(
        trained, trainers.BpeTrainer(vocab_size=1500, special_tokens=specials, show_progress=False, **options)
    )
    document = json.loads(backend.to_str())
    document["added_tokens"] = [token for token in document["added_tokens"] if token["content"] not in bytes_]
    backend = Backend.from_str(json.dumps(document))
    backend.add_special_tokens([AddedToken("<|right|>", rstrip=True), AddedToken("<|left|>", lstrip=True)])
    backend.add_tokens(
        [AddedToken("<think>", normalized=False), AddedToken("whole", single_word=True, normalized=False)]
    )
    backend.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    fast = PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", eos_token="</s>", unk_token="<unk>")
    folder = tmp_path_factory.mktemp("tokenizer")
    fast.save_pretrained(folder)
    return Tokenizer.from_json(folder / "tokenizer.json"), fast, folder


EXTRA = ["x<think> y", "whole wholesome a whole", "a <think>", "", " ", "  two", "\u2581"]
WITH_SPECIALS = ["<s>Hello", "<s> Hello</s>", "a<|right|>  \n b", "a  <|left|> b", "</s></s>x<s>", "x <s>y<think>z"]


def test_ordinary_text_equals_transformers(pair, corpus):
    ours, fast, _ = pair
    for text in corpus + EXTRA + WITH_SPECIALS:
        expected = fast.encode(text, add_special_tokens=False, split_special_tokens=True)
        assert ours.encode(text) == expected, text
        assert not any(map(ours.is_special, set(expected) - {0}))


def test_text_with_specials_equals_transformers(pair, corpus):
    ours, fast, _ = pair
    for text in corpus + EXTRA + WITH_SPECIALS:
        assert ours.encode_with_specials(text) == fast.encode(text, add_special_tokens=False), text


def test_decoding_equals_transformers(pair, corpus):
    ours, fast, _ = pair
    for text in corpus + EXTRA:
        ids = ours.encode(text)
        assert ours.decode(ids) == fast.decode(ids), text
    ids = ours.encode_with_specials("<s>Hello there</s>")
    assert ours.decode(ids, skip_special=True) == fast.decode(ids, skip_special_tokens=True)


@given(st.text(alphabet=st.sampled_from("ab wholet<s>/think|rig\u2581é12\n")))
def test_any_text_equals_transformers(pair, text):
    ours, fast, _ = pair
    assert ours.encode_with_specials(text) == fast.encode(text, add_special_tokens=False)


def test_facts(pair):
    ours, fast, _ = pair
    assert ours.vocabulary == len(fast)
    assert (ours.bos_id, ours.eos_id, ours.eos_ids, ours.add_bos) == (1, 2, {2}, True)
    assert set(ours.specials) == {"<unk>", "<s>", "</s>", "<|right|>", "<|left|>"}
    assert ours.token_id("<think>") == fast.convert_tokens_to_ids("<think>")
    assert ours.prompt_ids("Hello") == fast.encode("Hello")


def rewrite(pair, folder, config=None, change=None):
    document = json.loads((pair[2] / "tokenizer.json").read_text())
    if change:
        change(document)
    (folder / "tokenizer.json").write_text(json.dumps(document))
    if config is not None:
        (folder / "tokenizer_config.json").write_text(config if isinstance(config, str) else json.dumps(config))
    return folder / "tokenizer.json"


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"bos_token": "<s>", "add_bos_token": False}, (1, None, False)),
        ({"bos_token": {"content": "<s>"}, "eos_token": {"content": "</s>"}}, (1, 2, True)),
        (None, (1, None, True)),
    ],
)
def test_configuration(pair, config, expected, tmp_path):
    tokenizer = Tokenizer.from_json(rewrite(pair, tmp_path, config))
    assert (tokenizer.bos_id, tokenizer.eos_id, tokenizer.add_bos) == expected


def set_at(*path_and_value):
    *path, last, value = path_and_value

    def change(document):
        for key in path:
            document = document[key]
        document[last] = value

    return change


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (set_at("model", None), DamagedCheckpoint, "has no model"),
        (set_at("model", "type", "Unigram"), UnsupportedCheckpoint, "this one is 'Unigram'"),
        (set_at("model", "dropout", 0.1), UnsupportedCheckpoint, "without .*dropout"),
        (set_at("model", "vocab", {}), DamagedCheckpoint, "model.vocab is missing or empty"),
        (set_at("model", "vocab", {"a": "b"}), DamagedCheckpoint, r"model.vocab\['a'\] is 'b', not a token id"),
        (set_at("model", "vocab", {"a": 2**40}), DamagedCheckpoint, "not a token id"),
        (set_at("model", "vocab", {"a": 1, "b": 1}), DamagedCheckpoint, "one id to several tokens"),
        (set_at("model", "merges", [["a"]]), DamagedCheckpoint, r"model.merges holds \['a'\]"),
        (set_at("model", "merges", ["\u2603 \u2604"]), DamagedCheckpoint, "needs the token"),
        (set_at("model", "unk_token", "<none>"), DamagedCheckpoint, "unk_token '<none>' is not in"),
        (set_at("added_tokens", [{"id": 1}]), DamagedCheckpoint, r"added_tokens\[0\] has no content"),
        (set_at("added_tokens", [{"id": -1, "content": "x"}]), DamagedCheckpoint, r"added_tokens\[0\].id is -1"),
        (set_at("added_tokens", [{"id": 1, "content": ""}]), DamagedCheckpoint, "added token of 0 characters"),
        (set_at("pre_tokenizer", {"type": "Mystery"}), DamagedCheckpoint, "normalizer or pre_tokenizer is not one"),
    ],
)
def test_damaged_documents(pair, change, error, message, tmp_path):
    with pytest.raises(error, match=message):
        Tokenizer.from_json(rewrite(pair, tmp_path, change=change))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("{", "tokenizer_config.json is not JSON"),
        ("[]", "JSON but not an object"),
        ({"bos_token": "<none>"}, "names bos_token '<none>'"),
    ],
)
def test_damaged_configuration(pair, config, message, tmp_path):
    with pytest.raises(DamagedCheckpoint, match=message):
        Tokenizer.from_json(rewrite(pair, tmp_path, config))


def test_bos_wanted_but_not_named(pair, tmp_path):
    path = rewrite(pair, tmp_path, {"add_bos_token": True}, set_at("post_processor", None))
    with pytest.raises(DamagedCheckpoint, match="add_bos_token but names no bos_token"):
        Tokenizer.from_json(path)


def test_a_missing_or_foreign_file(tmp_path):
    with pytest.raises(DamagedCheckpoint, match="cannot be read"):
        Tokenizer.from_json(tmp_path / "tokenizer.json")
    (tmp_path / "tokenizer.json").write_bytes(b"\xff\xfe")
    with pytest.raises(DamagedCheckpoint, match="is not JSON"):
        Tokenizer.from_json(tmp_path / "tokenizer.json")
    (tmp_path / "tokenizer.json").write_text("[" * 100_000)
    with pytest.raises(DamagedCheckpoint, match="is not JSON"):
        Tokenizer.from_json(tmp_path / "tokenizer.json")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"added_tokens": 5}, "added_tokens is 5, not a list"),
        ({"model": {"type": "BPE", "vocab": {"a": 0}, "merges": 0.5}}, "model.merges is 0.5, not a list"),
        ({"model": {"type": "BPE", "vocab": {"a": 0}, "unk_token": ["a"]}}, "unk_token .* is not in model.vocab"),
        ({"pre_tokenizer": {"type": "Sequence", "pretokenizers": 7}}, "normalizer or pre_tokenizer is not one"),
    ],
)
def test_fields_of_a_wrong_type(change, message, tmp_path):
    document = {"added_tokens": [], "model": {"type": "BPE", "vocab": {"a": 0}, "merges": []}}
    (tmp_path / "tokenizer.json").write_text(json.dumps(document | change))
    with pytest.raises(DamagedCheckpoint, match=message):
        Tokenizer.from_json(tmp_path / "tokenizer.json")


@pytest.mark.parametrize(
    "processor",
    [
        {"single": [{"SpecialToken": "x"}]},
        {"single": [{"SpecialToken": 1}]},
        {"processors": 5},
        {"processors": [3]},
    ],
)
def test_a_post_processor_that_makes_no_sense_adds_no_bos(processor, tmp_path):
    document = {"model": {"type": "BPE", "vocab": {"a": 0}, "merges": []}, "post_processor": processor}
    (tmp_path / "tokenizer.json").write_text(json.dumps(document))
    assert Tokenizer.from_json(tmp_path / "tokenizer.json").add_bos is False


def test_a_bos_token_that_is_no_text(tmp_path):
    (tmp_path / "tokenizer.json").write_text(json.dumps({"model": {"type": "BPE", "vocab": {"a": 0}, "merges": []}}))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"bos_token": ["a"]}))
    with pytest.raises(DamagedCheckpoint, match=r"names bos_token \['a'\], which"):
        Tokenizer.from_json(tmp_path / "tokenizer.json")
