"""Streaming equals decoding everything at once and cutting at the first stop string."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from quipu.engine.text_stream import TextStream
from quipu.errors import InvalidRequest
from quipu.model.tokenizer import Tokenizer


@pytest.fixture(scope="session")
def sentencepiece(golden):
    model = golden("sentencepiece_vectors")["models"][0]
    return Tokenizer.from_gguf(
        {
            "tokenizer.ggml.model": "llama",
            "tokenizer.ggml.tokens": model["tokens"],
            "tokenizer.ggml.scores": np.array(model["scores"]),
            "tokenizer.ggml.token_type": model["token_type"],
            "tokenizer.ggml.bos_token_id": model["bos"],
        }
    )


def run(stream, ids):
    shown = [stream.push(token) for token in ids]
    return [*shown, stream.finish()]


def cut(text, stops):
    """Up to the stop string that completes first; of several that complete together the longest."""
    ends = [(text.find(stop) + len(stop), -len(stop)) for stop in stops if stop in text]
    if not ends:
        return text, False
    end, length = min(ends)
    return text[: end + length], True


def any_ids(tokenizer):
    """Random tokens; bytes that are part of a character; whole texts; specials."""
    multibyte = tokenizer.encode("🦙é语\u0301")
    token = st.one_of(
        st.integers(0, tokenizer.vocabulary - 1),
        st.sampled_from(multibyte),
        st.sampled_from(sorted(tokenizer.specials.values())),
        st.sampled_from(tokenizer.encode("abab ab\n\naba b")),
    )
    return st.lists(token, max_size=40)


@pytest.fixture(params=["smollm2", "llama3", "sentencepiece"])
def tokenizer(request):
    return request.getfixturevalue(request.param)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])  # the fixture only names a session's one
@given(data=st.data())
def test_stream_equals_decode_cut_at_the_first_stop(tokenizer, data):
    ids = data.draw(any_ids(tokenizer))
    skip = data.draw(st.booleans())
    whole = tokenizer.decode(ids, skip_special=skip)
    pieces = st.builds(lambda a, n: whole[a : a + n], st.integers(0, max(len(whole) - 1, 0)), st.integers(1, 6))
    stops = data.draw(st.lists(st.one_of(pieces, st.text("ab \n\ufffd", min_size=1, max_size=5)), max_size=3))
    stops = [stop for stop in stops if stop]

    stream = TextStream(tokenizer, stops, skip_special=skip)
    shown = run(stream, ids)
    assert ("".join(shown), stream.stopped) == cut(whole, stops)
    assert (stream.stop_string in stops) if stream.stopped else stream.stop_string is None


@given(st.text("ab", max_size=60), st.lists(st.text("ab", min_size=1, max_size=6), min_size=1, max_size=4))
def test_overlapping_stops(llama3, text, stops):
    stream = TextStream(llama3, stops)
    assert "".join(run(stream, [llama3.encode(character)[0] for character in text])) == cut(text, stops)[0]


@given(st.text(max_size=30))
def test_never_half_a_character(llama3, text):
    shown = run(TextStream(llama3), llama3.encode(text))
    assert "".join(shown) == text
    assert "\ufffd" in text or not any("\ufffd" in part for part in shown)


def test_text_comes_as_soon_as_it_is_certain(smollm2):
    stream = TextStream(smollm2, ["END"])
    assert [stream.push(token) for token in smollm2.encode("Hi there")] == ["Hi", " there"]
    held = [stream.push(smollm2.encode(character)[0]) for character in "xENxE"]
    assert held == ["x", "", "", "ENx", ""]
    assert stream.finish() == "E"
    assert stream.finish() == ""


def test_nothing_after_a_stop(smollm2):
    stream = TextStream(smollm2, ["\n\n"])
    shown = [stream.push(token) for token in smollm2.encode("one\n\ntwo")]
    assert ("".join(shown), stream.stopped, stream.stop_string) == ("one", True, "\n\n")
    assert stream.push(smollm2.encode("x")[0]) == stream.finish() == ""


def test_specials(smollm2):
    assert run(TextStream(smollm2), [2]) == ["", ""]
    assert run(TextStream(smollm2, skip_special=False), [2]) == ["<|im_end|>", ""]
    stream = TextStream(smollm2, ["<|im_end|>"], skip_special=False)
    assert run(stream, [*smollm2.encode("bye"), 2])[0] == "bye"
    assert stream.stopped


def test_incomplete_bytes_at_the_end(llama3):
    ids = llama3.encode("🦙")[:-1]
    assert run(TextStream(llama3), ids) == [""] * len(ids) + ["\ufffd"]


def test_sentencepiece_space(sentencepiece):
    ids = sentencepiece.encode("hello world")
    assert "".join(run(TextStream(sentencepiece), ids)) == "hello world"
    assert "".join(run(TextStream(sentencepiece, continues=True), ids)) == " hello world"


def test_a_long_stop_string_is_cheap(llama3):
    stop = "a" * 200_000 + "b"
    stream = TextStream(llama3, [stop])
    [token] = llama3.encode("aaaaaaaa")
    assert "".join(run(stream, [token] * 20_000)) == "a" * 160_000


@pytest.mark.parametrize("stop", ["END", [""], ["a", ""]])
def test_bad_stops(llama3, stop):
    with pytest.raises(InvalidRequest, match="stop must be a list of non-empty strings"):
        TextStream(llama3, stop)


def test_unknown_ids(llama3):
    with pytest.raises(InvalidRequest, match="token id 128256"):
        TextStream(llama3).push(128256)
