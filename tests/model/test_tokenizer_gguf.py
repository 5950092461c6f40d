"""Tokenizers from GGUF metadata against transformers, Meta's vectors and the SentencePiece library."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer as Backend
from tokenizers import pre_tokenizers

from quipu.errors import DamagedCheckpoint, UnsupportedCheckpoint
from quipu.model.tokenizer import Tokenizer


@pytest.fixture(scope="session")
def oracle(transformers_smollm2):
    """transformers' tokenizer of the same file, with SmolLM2's published pre-tokenizer.

    transformers 5.23 has no entry for ``pre = smollm`` in GGUF_PRE_TOKENIZER_SPLITS and falls back to GPT-2's
    split, which cuts "a  1" as "a", " ", " 1" where SmolLM2's own tokenizer.json (Digits with individual_digits,
    then ByteLevel without a prefix space) cuts "a", "  ", "1". ``test_where_transformers_misreads_this_file`` pins
    the difference.
    """
    backend = Backend.from_str(transformers_smollm2.backend_tokenizer.to_str())
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    backend.encode_special_tokens = True
    return lambda text: backend.encode(text, add_special_tokens=False).ids


def test_smollm2_equals_transformers(smollm2, oracle, corpus):
    assert [smollm2.encode(text) for text in corpus] == [oracle(text) for text in corpus]


@given(st.text())
def test_smollm2_equals_transformers_on_any_text(smollm2, oracle, text):
    assert smollm2.encode(text) == oracle(text)


def test_long_texts_equal_short_ones(smollm2, oracle, corpus):
    text = " ".join(corpus) * 4
    assert len(text) > 8192
    assert smollm2.encode(text) == oracle(text)


def test_where_transformers_misreads_this_file(smollm2, transformers_smollm2, corpus):
    """Only where whitespace meets a digit, or two digits that are not ASCII meet, do the two differ."""
    theirs = {
        text: transformers_smollm2.encode(text, add_special_tokens=False, split_special_tokens=True) for text in corpus
    }
    differ = {text for text in corpus if theirs[text] != smollm2.encode(text)}
    assert "a  1" in differ
    assert all(any(character.isnumeric() for character in text) for text in differ)


def test_smollm2_facts(smollm2):
    assert smollm2.vocabulary == 49152
    assert (smollm2.bos_id, smollm2.eos_id, smollm2.eos_ids, smollm2.add_bos) == (1, 2, {2}, False)
    assert smollm2.specials["<|im_start|>"] == 1
    assert smollm2.is_special(1)
    assert not smollm2.is_special(100)
    assert smollm2.prompt_ids("Hi") == smollm2.encode("Hi")


def test_smollm2_specials_are_text_unless_asked_for(smollm2):
    text = "<|im_start|>user\nHi<|im_end|>"
    assert not any(map(smollm2.is_special, smollm2.encode(text)))
    ids = smollm2.encode_with_specials(text)
    assert [ids[0], ids[-1]] == [1, 2]
    assert smollm2.decode(ids) == text
    assert smollm2.decode(ids, skip_special=True) == "user\nHi"


@pytest.mark.parametrize(("family", "pre"), [("llama3", "llama-bpe"), ("llama4", "llama4")])
def test_meta_vocabulary_as_gguf_equals_meta(family, pre, request, golden):
    """Tokens spelled and merges listed as llama.cpp's converter does, from Meta's file."""
    meta = request.getfixturevalue(family)
    tokenizer = Tokenizer.from_gguf(as_gguf(meta, pre))
    for row in golden("tokenizer_vectors")["rows"]:
        assert tokenizer.encode(row["text"]) == row[family]
        assert tokenizer.encode_with_specials(row["text"]) == row.get(f"{family}_specials_allowed", row[family])
        assert tokenizer.decode(row[family]) == row["text"]
    assert (tokenizer.eos_ids, tokenizer.bos_id, tokenizer.add_bos) == (meta.eos_ids, meta.bos_id, True)
    assert dict(tokenizer.specials) == dict(meta.specials)


def as_gguf(meta, pre):
    from quipu.model.vocabulary import BYTES_BY_CHARACTER

    spelling = {byte: character for character, byte in BYTES_BY_CHARACTER.items()}
    base = meta.vocabulary - len(meta.specials)
    pieces = [meta.token_bytes(i) for i in range(base)]
    ranks = {piece: rank for rank, piece in enumerate(pieces)}
    spelled = {piece: "".join(map(spelling.__getitem__, piece)) for piece in pieces}
    merges = []
    for piece in pieces:
        cuts = [(piece[:i], piece[i:]) for i in range(1, len(piece))]
        pairs = [pair for pair in cuts if pair[0] in ranks and pair[1] in ranks]
        merges += sorted(pairs, key=lambda pair: (ranks[pair[0]], ranks[pair[1]]))
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": pre,
        "tokenizer.ggml.tokens": [*spelled.values(), *meta.specials],
        "tokenizer.ggml.token_type": np.array([1] * base + [3] * len(meta.specials), np.int32),
        "tokenizer.ggml.merges": [f"{spelled[left]} {spelled[right]}" for left, right in merges],
        "tokenizer.ggml.bos_token_id": np.uint32(meta.bos_id),
        "tokenizer.ggml.eos_token_id": meta.eos_id,
        "tokenizer.ggml.add_bos_token": True,
    }


@pytest.fixture(params=[0, 1], ids=["prefix", "no prefix"])
def sentencepiece(request, golden):
    """BPE models with byte fallback, as Llama 2's, that the SentencePiece library trained and encoded with."""
    model = golden("sentencepiece_vectors")["models"][request.param]
    metadata = {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": model["tokens"],
        "tokenizer.ggml.scores": np.array(model["scores"], np.float32),
        "tokenizer.ggml.token_type": model["token_type"],
        "tokenizer.ggml.bos_token_id": model["bos"],
        "tokenizer.ggml.eos_token_id": model["eos"],
        "tokenizer.ggml.unknown_token_id": model["unk"],
        "tokenizer.ggml.add_space_prefix": model["add_space_prefix"],
    }
    return metadata, model["rows"]


def test_sentencepiece_equals_its_library(sentencepiece):
    metadata, rows = sentencepiece
    tokenizer = Tokenizer.from_gguf(metadata)
    assert len(rows) > 150
    for row in rows:
        assert tokenizer.encode(row["text"]) == row["ids"], row["text"]
        assert tokenizer.decode(row["ids"]) == row["decoded"], row["text"]


def test_sentencepiece_facts(sentencepiece):
    metadata, _ = sentencepiece
    tokenizer = Tokenizer.from_gguf(metadata)
    tokens = metadata["tokenizer.ggml.tokens"]
    assert dict(tokenizer.specials) == {"<unk>": 0, "<s>": 1, "</s>": 2}
    assert (tokenizer.add_bos, tokenizer.eos_ids) == (True, {2})
    assert tokenizer.token_bytes(tokens.index("<0x0A>")) == b"\n"
    assert tokenizer.token_bytes(tokens.index("\u2581")) == b" "
    assert tokenizer.prompt_ids("x") == [1, *tokenizer.encode("x")]
    assert tokenizer.encode_with_specials("<s>x</s>") == [1, *tokenizer.encode("x"), 2]
    without_types = {key: value for key, value in metadata.items() if key != "tokenizer.ggml.token_type"}
    assert set(Tokenizer.from_gguf(without_types).specials) == {"<s>", "</s>"}


def test_a_user_defined_token_is_found_in_any_text():
    tokenizer = Tokenizer.from_gguf(small() | {"tokenizer.ggml.token_type": [1] * 256 + [1, 4, 3]})
    assert tokenizer.encode("a<think>ab<end>") == [64, 257, 256, *tokenizer.encode("<end>")]
    assert not tokenizer.is_special(257)
    assert tokenizer.specials == {"<end>": 258}


def test_merges_never_make_a_special_token():
    metadata = small() | {"tokenizer.ggml.token_type": [1] * 256 + [3, 1, 3]}
    assert Tokenizer.from_gguf(metadata).encode("ab") == [64, 65]


def small(**changes):
    """Every byte, one merge, two further tokens."""
    from quipu.model.vocabulary import BYTES_BY_CHARACTER

    metadata = {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "gpt-2",
        "tokenizer.ggml.tokens": [*BYTES_BY_CHARACTER, "ab", "<think>", "<end>"],
        "tokenizer.ggml.token_type": [1] * 256 + [1, 3, 3],
        "tokenizer.ggml.merges": ["a b"],
        "tokenizer.ggml.eos_token_id": 258,
    }
    return metadata | {f"tokenizer.ggml.{name}": value for name, value in changes.items()}


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"model": None}, DamagedCheckpoint, "carries no tokenizer"),
        ({"model": 7}, DamagedCheckpoint, "tokenizer.ggml.model is 7, not a string"),
        ({"model": "bert"}, UnsupportedCheckpoint, "tokenizer.ggml.model is 'bert'"),
        ({"pre": "qwen2"}, UnsupportedCheckpoint, "tokenizer.ggml.pre is 'qwen2'"),
        ({"pre": ["smollm"]}, UnsupportedCheckpoint, "tokenizer.ggml.pre is"),
        ({"tokens": []}, DamagedCheckpoint, "tokens is empty"),
        ({"tokens": None}, DamagedCheckpoint, "tokens is missing or not a list"),
        ({"tokens": "abc"}, DamagedCheckpoint, "tokens is missing or not a list"),
        ({"tokens": ["a", 7]}, DamagedCheckpoint, r"tokens\[1\] is not a string but int"),
        ({"token_type": [1, 3]}, DamagedCheckpoint, "token_type has 2 entries for 259 tokens"),
        ({"token_type": "x"}, DamagedCheckpoint, "token_type is not a list of numbers"),
        ({"token_type": [float("nan")] * 259}, DamagedCheckpoint, "token_type holds a number that is not finite"),
        ({"merges": None}, DamagedCheckpoint, "merges is missing"),
        ({"merges": ["a b c"]}, DamagedCheckpoint, "merges holds 'a b c'"),
        ({"merges": ["ab"]}, DamagedCheckpoint, "merges holds 'ab'"),
        ({"merges": ["a c"]}, DamagedCheckpoint, r"merge 'a' \+ 'c' needs the token 'ac'"),
        ({"merges": ["a €"]}, DamagedCheckpoint, "needs the token '€'"),
        ({"eos_token_id": 259}, DamagedCheckpoint, "eos_token_id is 259, but the vocabulary has 259 tokens"),
        ({"bos_token_id": -1}, DamagedCheckpoint, "bos_token_id is -1"),
        ({"eot_token_id": 1.5}, DamagedCheckpoint, "eot_token_id is 1.5, not a whole number"),
        ({"add_bos_token": True}, DamagedCheckpoint, "there is no tokenizer.ggml.bos_token_id"),
        ({"add_bos_token": "yes"}, DamagedCheckpoint, "add_bos_token is 'yes', not true or false"),
        ({"model": "llama"}, DamagedCheckpoint, "scores is missing"),
        ({"model": "llama", "scores": [0.0]}, DamagedCheckpoint, "scores has 1 entries"),
    ],
)
def test_contradictions_are_refused(changes, error, message):
    metadata = {name: value for name, value in small(**changes).items() if value is not None}
    with pytest.raises(error, match=message):
        Tokenizer.from_gguf(metadata)


@pytest.mark.parametrize(("model", "length", "kind"), [("llama", 5000, 1), ("gpt2", 500, 3)])
def test_an_absurdly_long_token_is_refused(model, length, kind):
    tokens, types = [*small()["tokenizer.ggml.tokens"], "x" * length], [1] * 259 + [kind]
    with pytest.raises(DamagedCheckpoint, match=f"token of {length} characters"):
        Tokenizer.from_gguf(small(model=model, tokens=tokens, token_type=types, scores=[0.0] * 260))


@given(st.dictionaries(
    st.sampled_from(["tokens", "token_type", "merges", "scores", "bos_token_id", "pre", "model", "add_space_prefix"]),
    st.one_of(st.none(), st.integers(), st.text(), st.lists(st.text()), st.lists(st.floats()), st.floats()),
))  # fmt: skip
def test_nonsense_is_refused_or_works(changes):
    try:
        tokenizer = Tokenizer.from_gguf(small(**changes))
    except (DamagedCheckpoint, UnsupportedCheckpoint):
        return
    assert isinstance(tokenizer.encode("some text"), list)


def test_ids_of_every_single_token_round_trip(smollm2):
    for i in itertools.islice(range(smollm2.vocabulary), 17, None, 97):
        text = smollm2.token_bytes(i)
        assert smollm2.decode([i]) == text.decode("utf-8", "replace")
