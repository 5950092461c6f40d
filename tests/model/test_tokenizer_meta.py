"""Meta's tokenizer.model against vectors made with Meta's own tokenizer."""

import base64
import hashlib
import importlib
import json

import pytest

from quipu.errors import DamagedCheckpoint, UnsupportedCheckpoint
from quipu.model.tokenizer import Tokenizer

FAMILIES = ["llama3", "llama4"]


@pytest.mark.parametrize("family", FAMILIES)
def test_vectors(family, request, golden):
    tokenizer, rows = request.getfixturevalue(family), golden("tokenizer_vectors")["rows"]
    assert len(rows) == 136
    assert [tokenizer.encode(row["text"]) for row in rows] == [row[family] for row in rows]
    assert [tokenizer.decode(row[family]) for row in rows] == [row["text"] for row in rows]


@pytest.mark.parametrize("family", FAMILIES)
def test_vectors_with_specials(family, request, golden):
    tokenizer, rows = request.getfixturevalue(family), golden("tokenizer_vectors")["rows"]
    expected = [row.get(f"{family}_specials_allowed", row[family]) for row in rows]
    assert [tokenizer.encode_with_specials(row["text"]) for row in rows] == expected
    assert expected != [row[family] for row in rows]


@pytest.mark.parametrize("family", FAMILIES)
def test_long_runs_are_cut_as_meta_cuts_them(family, request, golden):
    for run in golden("tokenizer_vectors")["long_runs"]:
        ids, expected = request.getfixturevalue(family).encode(run["unit"] * run["repeat"]), run[family]
        assert (len(ids), ids[:5], ids[-5:]) == (expected["count"], expected["first5"], expected["last5"])
        digest = hashlib.sha256(json.dumps(ids, separators=(",", ":")).encode()).hexdigest()
        assert digest == expected["sha256_of_json_ids"]


@pytest.mark.parametrize("family", FAMILIES)
def test_more_than_400_000_characters_equal_meta(family, request, meta_tokenizer_file):
    meta = importlib.import_module(f"llama_models.{family}.tokenizer").Tokenizer(meta_tokenizer_file(family))
    text = ("word 12 \n" * 45_000)[3:] + "é" * 60_000 + " " * 70_000 + "x"
    assert len(text) > 400_000
    assert request.getfixturevalue(family).encode(text) == meta.encode(text, bos=False, eos=False)


@pytest.mark.parametrize("family", FAMILIES)
def test_special_tokens(family, request, golden):
    tokenizer, table = request.getfixturevalue(family), golden(f"special_tokens_{family}")
    assert dict(tokenizer.specials) == table["special_tokens"]
    assert tokenizer.vocabulary == table["n_words"]
    assert (tokenizer.bos_id, tokenizer.eos_id, tokenizer.add_bos) == (table["bos"], table["eos"], True)
    assert tokenizer.eos_ids == set(table["stop_tokens"])
    assert tokenizer.token_bytes(table["eot"]).decode() in table["special_tokens"]


def test_a_raw_prompt_begins_with_one_bos(llama3):
    assert llama3.prompt_ids("Hello") == [128000, 9906]
    text_like_bos = llama3.prompt_ids("<|begin_of_text|>Hello")
    assert text_like_bos.count(128000) == 1
    assert llama3.decode(text_like_bos) == "<|begin_of_text|><|begin_of_text|>Hello"


def write(path, lines):
    path.write_bytes(b"\n".join(lines))
    return path


def every_byte():
    return [base64.b64encode(bytes([byte])) + b" %d" % byte for byte in range(256)]


def test_a_vocabulary_of_bytes(tmp_path):
    tokenizer = Tokenizer.from_tiktoken(write(tmp_path / "tokenizer.model", every_byte()))
    assert tokenizer.encode("é<|eot_id|>") == list("é<|eot_id|>".encode())
    assert tokenizer.specials["<|eot_id|>"] == 256 + 9


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda lines: [*lines[:7], b"a broken line!", *lines[7:]], "line 8: b'a broken line!'"),
        (lambda lines: [*lines, b"QUI= 300"], "do not count up from 0"),
        (lambda lines: lines[:-1], "a single byte is missing"),
        (lambda lines: [], "a single byte is missing"),
        (lambda lines: [*lines, b"*** 256"], "line 257"),
    ],
)
def test_damaged_files(spoil, message, tmp_path):
    with pytest.raises(DamagedCheckpoint, match=message):
        Tokenizer.from_tiktoken(write(tmp_path / "tokenizer.model", spoil(every_byte())))


def test_a_missing_file(tmp_path):
    with pytest.raises(DamagedCheckpoint, match="cannot be read: No such file"):
        Tokenizer.from_tiktoken(tmp_path / "tokenizer.model")


def test_sentencepiece_is_refused_with_the_remedy(tmp_path):
    path = tmp_path / "tokenizer.model"
    path.write_bytes(b"\n\x0e\n\x05<unk>\x15\x00\x00\x00\x00\x18\x02")
    with pytest.raises(UnsupportedCheckpoint, match=r"SentencePiece model.*use the tokenizer\.json"):
        Tokenizer.from_tiktoken(path)


def test_an_unknown_family(tmp_path):
    with pytest.raises(UnsupportedCheckpoint, match="'llama9'"):
        Tokenizer.from_tiktoken(tmp_path / "tokenizer.model", "llama9")
