import dataclasses
import threading
from pathlib import Path
from typing import Literal

import adding
import pytest
from oracle import Oracle, saying
from pydantic import Field

from quipu import capabilities
from quipu.capabilities import base
from quipu.capabilities.base import Delta, Probe, Result, digest
from quipu.capabilities.parts.calls import Calls
from quipu.capabilities.parts.language import NAMES, language_of
from quipu.engine.fake import fake_model
from quipu.errors import CapabilityNotFound, ContextLengthExceeded, EngineStopped, InvalidRequest, Unparsed
from quipu.types import Message


class Everything(base.Input):
    text: str = Field(description="a text")
    words: int = Field(80, ge=1, description="a number")
    share: float | None = Field(None, description="a part")
    style: Literal["short", "long"] = Field("short", description="a choice")
    polite: bool = Field(False, description="a switch")
    names: list[str] = Field([], description="texts")


def test_values_are_taken_as_they_are() -> None:
    given = Everything.of({"text": "", "words": 3, "share": 0, "names": ["a"]})
    assert (given.text, given.words, given.share, given.style, given.names) == ("", 3, 0, "short", ["a"])


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({}, "text is missing"),
        ({"text": "a", "word": 3}, "unknown field word; did you mean words?"),
        ({"text": "a", "zzz": 3}, "unknown field zzz; known: text, words, share, style, polite, names"),
        ({"text": "a", "words": "3"}, "words should be a valid integer, got '3'"),
        ({"text": "a", "words": 0}, "words should be greater than or equal to 1, got 0"),
        ({"text": "a", "words": None}, "words should be a valid integer, got None"),
        ({"text": "a", "style": "tall"}, "style should be 'short' or 'long', got 'tall'"),
        ({"text": "a", "polite": 1}, "polite should be a valid boolean, got 1"),
        ({"text": "a", "names": ["a", 2]}, "names[1] should be a valid string, got 2"),
    ],
)
def test_what_is_wrong_is_named(values: dict, words: str) -> None:
    with pytest.raises(InvalidRequest) as raised:
        Everything.of(values)
    assert str(raised.value) == words
    assert raised.value.param == words.split()[2 if words.startswith("unknown") else 0].rstrip(";")


def test_an_output_reads_as_its_first_text() -> None:
    class Text(base.Output):
        text: str = Field(description="it")
        more: int = Field(0, description="more")

    assert str(Text(text="hello")) == "hello"
    assert str(adding.Output(total=7)) == '{\n  "total": 7\n}'


def test_a_call_is_heard_as_it_happens() -> None:
    events = list(adding.Adding().events(saying("1234567890"), adding.Input(question="1+2"), {"temperature": 1}))
    assert events[:-1] == [Delta("1234567"), Delta("890")]
    assert isinstance(events[-1], Result)
    assert (events[-1].output.total, events[-1].text, events[-1].finish_reason) == (1234567890, "1234567890", "stop")
    assert events[-1].usage.prompt_tokens > 0


def test_python_calls_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "adding.py").write_text(Path(adding.__file__).read_text())
    monkeypatch.setenv("QUIPU_CAPABILITIES", str(tmp_path))
    assert "adding" in capabilities.names()
    with fake_model(lambda asked: str(sum(map(int, asked.split("+"))))) as model:
        assert model.run("adding", question="3+4").total == 7
        with pytest.raises(InvalidRequest, match="unknown field questoin; did you mean question"):
            model.run("adding", questoin="3+4")
        with pytest.raises(InvalidRequest, match="unknown sampling option 'temprature'"):
            model.run("adding", question="3+4", sampling={"temprature": 1})
    with pytest.raises(Unparsed, match="there is no number in the answer") as raised:
        capabilities.run(saying("many"), "adding", question="3+4")
    assert raised.value.text == "many"
    with pytest.raises(CapabilityNotFound, match=r"there is no capability 'addin'; did you mean adding\?"):
        capabilities.find("addin")
    with pytest.raises(CapabilityNotFound, match="there is no capability 'xyzzy'; there are adding, "):
        capabilities.find("xyzzy")


def test_the_identifier_of_a_probe_is_that_of_its_content() -> None:
    probe = Probe({"a": 1, "b": "ü"}, {"c": 2}, "answer", "group", "easy")
    assert probe.id == digest([{"b": "ü", "a": 1}, {"c": 2}])[:16]
    assert dataclasses.replace(probe, group="other").id == probe.id
    assert Probe({"a": 2, "b": "ü"}, {"c": 2}, "answer", "group", "easy").id != probe.id


def asked(text: str) -> list[Message]:
    return [Message("user", text)]


def test_calls_ask_for_no_more_than_the_context_holds() -> None:
    model = Oracle(lambda _: "yes", context_length=100)
    calls = Calls(model, {"temperature": 0})
    assert calls.room(asked("one two")) == 94
    for longest in (50, 200):
        calls.answer(asked("one two"), longest)
    Calls(model, {"max_tokens": 300}).answer(asked("one two"), 50)
    Calls(model, {"max_tokens": None}).answer(asked("one two"), 50)
    assert [options["max_tokens"] for options in model.options] == [50, 94, 300, 50]


def test_a_prompt_beyond_the_context_is_refused_by_the_model() -> None:
    with fake_model(context_length=100) as model, pytest.raises(ContextLengthExceeded, match="100 tokens"):
        Calls(model, {}).answer(asked("long " * 100), 10)


def test_an_answer_that_was_cut_off_says_so() -> None:
    with fake_model() as model:
        calls = Calls(model, {"temperature": 0})
        assert calls.answer(asked("hello"), 50) == "You said: hello"
        assert calls.finish_reason == "stop"
        calls.answer(asked("hello"), 3)
        assert calls.finish_reason == "length"
        assert calls.usage.completion_tokens == len("You said: hello") + 1 + 3


def test_many_answers_run_together_and_keep_their_places() -> None:
    with fake_model(seconds=0.001) as model:
        calls = Calls(model, {"temperature": 0})
        conversations = [asked(f"number {place}") for place in range(20)]
        found = dict(calls.answers(conversations, 100))
    assert found == {place: f"You said: number {place}" for place in range(20)}


def test_one_failure_ends_all() -> None:
    started = threading.Barrier(2, timeout=10)

    def answer(messages: list[Message]) -> str:
        if messages[-1].content in ("0", "1"):
            started.wait()
        if messages[-1].content == "0":
            raise EngineStopped("it stopped")
        return "word " * 1000

    model = Oracle(answer)
    with pytest.raises(EngineStopped, match="it stopped"):
        list(Calls(model, {}).answers([asked(str(place)) for place in range(400)], 5))
    assert len(model.asked) < 400


def test_languages() -> None:
    texts = {
        "en": "The weather is nice today and we are going for a walk.",
        "de": "Das Wetter ist heute schön und wir gehen spazieren.",
        "fr": "Il fait beau aujourd'hui et nous allons nous promener.",
        "it": "Oggi il tempo è bello e andiamo a fare una passeggiata.",
        "pt": "O tempo está bom hoje e nós vamos dar um passeio.",
        "hi": "आज मौसम अच्छा है और हम टहलने जा रहे हैं।",
        "es": "Hoy hace buen tiempo y vamos a dar un paseo.",
        "th": "วันนี้อากาศดีและเราจะไปเดินเล่น",
    }
    assert {code: language_of(text) for code, text in texts.items()} == {code: code for code in NAMES}


@pytest.mark.parametrize("text", ["", " ", "123 456 789", "Hello", "two words", "???"])
def test_too_little_tells_no_language(text: str) -> None:
    assert language_of(text) is None


def test_a_script_decides_even_for_one_word() -> None:
    assert (language_of("สวัสดี"), language_of("नमस्ते")) == ("th", "hi")
    assert language_of("The word สวัสดี means hello in the Thai language") == "en"
