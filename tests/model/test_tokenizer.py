"""What holds for every tokenizer."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quipu.errors import DamagedCheckpoint, InvalidRequest
from quipu.model.vocabulary import finder


@pytest.mark.parametrize("token_id", [-1, 49152, 10**12])
@pytest.mark.parametrize("call", ["decode", "token_bytes"])
def test_unknown_ids_are_named(smollm2, call, token_id):
    message = f"token id {token_id} is not in the vocabulary of 49152 tokens"
    with pytest.raises(InvalidRequest, match=message):
        getattr(smollm2, call)([token_id] if call == "decode" else token_id)


def test_half_a_surrogate_pair_is_refused(smollm2, llama3):
    for tokenizer in (smollm2, llama3):
        with pytest.raises(InvalidRequest, match="half of a surrogate pair at character 2"):
            tokenizer.encode("ab\ud83d")


def test_token_id(smollm2, llama3):
    assert smollm2.token_id("<|im_end|>") == 2
    assert smollm2.decode([smollm2.token_id(" the")]) == " the"
    assert smollm2.token_id("two words") is None
    assert smollm2.token_id("") is None
    assert llama3.token_id("<|eot_id|>") == 128009


@given(st.text())
def test_text_survives(llama3, text):
    assert llama3.decode(llama3.encode(text)) == text


@given(st.text(alphabet=st.sampled_from("<|im_startend>begoxh \n")))
def test_text_never_becomes_special(smollm2, llama3, text):
    for tokenizer in (smollm2, llama3):
        assert not any(map(tokenizer.is_special, tokenizer.encode(text)))
        assert tokenizer.decode(tokenizer.encode_with_specials(text)) == text


def test_the_bytes_of_tokens_join_to_the_text(llama3):
    text = "naïve 🦙 नमस्ते"
    assert b"".join(map(llama3.token_bytes, llama3.encode(text))) == text.encode()
    assert "\ufffd" in llama3.decode(llama3.encode("🦙")[:1])


@pytest.mark.parametrize("unit", ["a", " ", "\n", "1", "<|", "é", "ab "])
def test_a_megabyte_in_one_run_does_not_hang(smollm2, llama3, unit):
    text = unit * (1_000_000 // len(unit))
    for tokenizer in (smollm2, llama3):
        ids = tokenizer.encode_with_specials(text)
        assert tokenizer.decode(ids) == text


def test_many_threads(smollm2, corpus):
    expected = [smollm2.encode(text) for text in corpus]
    with ThreadPoolExecutor(8) as threads:
        for ids in threads.map(lambda _: [smollm2.encode(text) for text in corpus], range(16)):
            assert ids == expected


@given(st.lists(st.text("ab<|>", min_size=1, max_size=5), max_size=8), st.text("ab<|>"))
def test_finder_finds_the_longest_at_each_place(texts, text):
    pattern = finder(texts)
    if not texts:
        assert pattern is None
        return
    found, place = [], 0
    while place < len(text):
        here = max((t for t in texts if text.startswith(t, place)), key=len, default=None)
        found += [here] if here else []
        place += len(here) if here else 1
    assert pattern.findall(text) == found


def test_finder_limits():
    assert finder("a" * n for n in range(1, 129)).match("a" * 200).end() == 128
    with pytest.raises(DamagedCheckpoint, match="added token of 129 characters"):
        finder(["a" * 129])


@pytest.mark.parametrize("name", ["smollm2", "llama3"])
def test_the_least_number_of_tokens_is_never_too_many(name, request, corpus):
    tokenizer = request.getfixturevalue(name)
    for text in [*corpus, " " * 5000, "\n" * 999, "=" * 4000, ""]:
        assert tokenizer.least_tokens(text) <= len(tokenizer.encode(text))
    assert tokenizer.least_tokens("é" * 10**6) > 2000
