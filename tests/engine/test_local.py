"""The Python API over the fake: prompts of each kind, options by name, streams that can be left, errors at once."""

import gc
import queue
import threading
import time
from types import SimpleNamespace

import pytest

import quipu
from quipu.engine.fake import fake_model
from quipu.engine.stream import Stream
from quipu.errors import ContextLengthExceeded, EngineStopped, InvalidRequest, MissingTemplate, UnsupportedCheckpoint
from quipu.types import Chunk, Completion, Message, Sampling

HELLO = [{"role": "user", "content": "hello"}]


@pytest.fixture(scope="module")
def model():
    with fake_model() as model:
        yield model


def test_chat_returns_a_string_that_knows_the_rest(model):
    answer = model.chat(HELLO)
    assert answer == "You said: hello"
    assert answer.text == "You said: hello"
    assert type(answer.text) is str
    assert answer.finish_reason == "stop"
    assert answer.usage.prompt_tokens == model.count(HELLO)
    assert answer.usage.completion_tokens == len("You said: hello") + 1
    assert bytes(answer.choices[0].token_ids) == b"You said: hello"


def test_a_string_is_a_question_to_chat_and_a_text_to_generate(model):
    assert model.chat("hello") == "You said: hello"
    assert model.chat([Message("user", "hello")]) == "You said: hello"
    assert model.generate("<|start|>user\nhello<|end|>", max_tokens=3).usage.prompt_tokens == 26, "text stays text"
    ids = model.prompt_ids(HELLO)
    assert model.generate(ids) == "You said: hello"


def test_several_answers(model):
    answer = model.chat(HELLO, n=3)
    assert [choice.text for choice in answer.choices] == ["You said: hello"] * 3
    assert answer.usage.completion_tokens == 3 * 16


def test_the_last_chunk_of_all_answers_has_the_usage_and_no_chunk_is_empty_but_the_last_of_each(model):
    chunks = list(model.stream([{"role": "user", "content": "ä€😀"}], n=3))
    assert [chunk.usage is not None for chunk in chunks] == [False] * (len(chunks) - 1) + [True]
    assert all(chunk.text or chunk.finish_reason for chunk in chunks)


def test_usage_tells_what_the_cache_already_held(model):
    question = [{"role": "user", "content": "cached " * 10}]
    model.chat(question)
    usage = model.chat(question).usage
    assert usage.cached_tokens == (usage.prompt_tokens - 1) // 16 * 16


def test_an_answer_that_fails_ends_the_stream_and_aborts_the_others():
    events: queue.SimpleQueue = queue.SimpleQueue()
    events.put(EngineStopped("bad luck"))
    aborted = []
    stream = Stream(None, SimpleNamespace(abort=lambda: aborted.append(True)), events, 2)
    with pytest.raises(EngineStopped, match="bad luck"):
        next(stream)
    assert (aborted, list(stream)) == ([True], [])


def test_stop_strings_end_the_answer_before_them(model):
    answer = model.chat(HELLO, stop=["said: h"])
    assert answer == "You "
    assert answer.finish_reason == "stop"
    assert model.chat(HELLO, stop="nowhere") == "You said: hello"
    assert model.chat(HELLO, stop="hello!") == "You said: hello", (
        "what could have become a stop string is text after all"
    )


def test_logprobs_come_with_text_and_bytes(model):
    answer = model.chat(HELLO, logprobs=2, temperature=0)
    scored = answer.choices[0].logprobs
    assert [entry.bytes for entry in scored] == [bytes([byte]) for byte in b"You said: hello"]
    assert all(entry.logprob <= 0 and len(entry.top) == 2 for entry in scored)
    assert scored[0].top[0].text == "Y"


def test_prompt_logprobs(model):
    answer = model.generate("abc", max_tokens=0, prompt_logprobs=1)
    assert [entry.text for entry in answer.prompt_logprobs] == ["a", "b", "c"]
    assert answer.prompt_logprobs[0].logprob is None
    assert answer == ""


def test_a_stream_can_be_left(model):
    with model.stream(HELLO, max_tokens=500, ignore_eos=True) as stream:
        next(stream)
    assert list(stream) == []
    idle(model)


def test_a_forgotten_stream_is_aborted(model):
    stream = model.stream(HELLO, ignore_eos=True)
    next(stream)
    del stream
    gc.collect()
    idle(model)


def test_a_stream_closed_by_another_thread_ends_there():
    """The reader already waits when someone presses stop; what comes then is the chunk of the aborted end."""

    class Closing(queue.SimpleQueue):
        def get(self):
            stream.close()
            return super().get()

    events: queue.SimpleQueue = Closing()
    events.put(Chunk(finish_reason="abort"))
    stream = Stream(None, SimpleNamespace(abort=lambda: None), events, 1)
    reader = threading.Thread(target=list, args=(stream,), daemon=True)
    reader.start()
    reader.join(5)
    assert not reader.is_alive()


def test_an_interrupted_answer_is_not_generated_on(model, monkeypatch):
    def interrupted(chunks):
        next(chunks)
        raise KeyboardInterrupt

    monkeypatch.setattr(Completion, "of", interrupted)
    for ask in (model.chat, model.generate):
        with pytest.raises(KeyboardInterrupt) as kept:  # with its traceback, as an interactive session keeps it
            ask(HELLO, ignore_eos=True)
        stats = model.engine.stats()
        while model.engine.stats().running:
            time.sleep(0.002)
        assert model.engine.stats().aborted == stats.aborted + (stats.running > 0)
        assert kept.traceback


@pytest.mark.parametrize("ids", [[65, 66], (65, 66)])
def test_token_ids_are_continued_whatever_sequence_holds_them(model, monkeypatch, ids):
    asked = []
    submit = model.submit
    monkeypatch.setattr(
        model, "submit", lambda *args, continues, **more: asked.append(continues) or submit(*args, continues=continues)
    )
    model.generate(ids, max_tokens=1)
    model.chat(HELLO, max_tokens=1)
    assert asked == [True, False]


def idle(model):
    deadline = time.monotonic() + 5
    while model.engine.stats().running:
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda m: m.chat(HELLO, temprature=1), "unknown sampling option 'temprature'; did you mean temperature"),
        (lambda m: m.stream(HELLO, wobble=1), "unknown sampling option 'wobble'; known: max_tokens"),
        (lambda m: m.stream(HELLO, Sampling(), wobble=1), "unknown sampling option 'wobble'"),
        (lambda m: m.chat(HELLO, max_tokens=-1), "max_tokens must be at least 0, got -1"),
        (lambda m: m.chat(HELLO, temperature="hot"), "temperature must be a number, got 'hot'"),
        (lambda m: m.chat(HELLO, temperature=float("nan")), "temperature must be a number"),
        (lambda m: m.chat(HELLO, temperature=10**400), "temperature must be between 0 and 100, got 1000"),
        (lambda m: m.chat(HELLO, temperature=float("inf")), "temperature must be between 0 and 100, got inf"),
        (lambda m: m.chat(HELLO, top_p=0), "top_p must be above 0 and at most 1, got 0"),
        (lambda m: m.chat(HELLO, n=True), "n must be an integer, got True"),
        (lambda m: m.chat(HELLO, ignore_eos=1), "ignore_eos must be true or false"),
        (lambda m: m.chat(HELLO, min_tokens=5, max_tokens=4), "min_tokens 5 is more than max_tokens 4"),
        (lambda m: m.chat(HELLO, stop=[""]), r"stop must be a non-empty string or a list of them, got \[''\]"),
        (lambda m: m.chat(HELLO, stop=5), "stop must be a non-empty string or a list of them, got 5"),
        (lambda m: m.chat(HELLO, logit_bias=[1]), "logit_bias must map token ids to numbers"),
        (lambda m: m.chat(HELLO, logit_bias={"a": 1}), "logit_bias must be an integer, got 'a'"),
        (lambda m: m.chat([]), "not empty"),
        (
            lambda m: m.chat([{"role": "robot", "content": ""}]),
            r"messages\[0\].role is 'robot'; it must be one of system",
        ),
        (lambda m: m.chat([{"role": "user"}]), r"messages\[0\].content is missing"),
        (lambda m: m.chat([{"role": "user", "content": 5}]), r"messages\[0\].content must be a string"),
        (
            lambda m: m.chat([{"role": "user", "content": [{"type": "audio"}]}]),
            r"content\[0\] is neither a text nor a pic",
        ),
        (lambda m: m.chat([{"role": "user", "content": "", "mood": 1}]), r"messages\[0\] has no field 'mood'"),
        (lambda m: m.chat([{"role": "user", "contnt": ""}]), r"has no field 'contnt'; did you mean content\?"),
        (
            lambda m: m.chat([{"role": "user", "content": [{"type": "text", "text": "a", "txt": "b"}]}]),
            r"messages\[0\]\.content\[0\] has no field 'txt'; did you mean text\?",
        ),
        (
            lambda m: m.chat([{"role": "assistant", "tool_calls": [{"function": {"name": "f", "argument": "{}"}}]}]),
            r"tool_calls\[0\]\.function has no field 'argument'; did you mean arguments\?",
        ),
        (lambda m: m.chat(["hello"]), r"messages\[0\] must be an object"),
        (lambda m: m.chat([{"role": "assistant", "tool_calls": [{}]}]), "needs function.name"),
        (
            lambda m: m.chat([{"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "{"}}]}]),
            "arguments is not JSON",
        ),
        (
            lambda m: m.chat([{"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "[]"}}]}]),
            "must be a JSON object",
        ),
        (lambda m: m.generate(""), "prompt is empty"),
        (lambda m: m.logits([1]), "loaded without its network"),
    ],
)
def test_mistakes_are_named_when_the_call_is_made(model, call, says):
    with pytest.raises((InvalidRequest, UnsupportedCheckpoint), match=says):
        call(model)


def test_options_add_to_a_sampling(model):
    assert model.chat(HELLO, Sampling(temperature=0), max_tokens=3) == "You"


def test_defaults_of_the_checkpoint_apply_unless_overridden(model):
    model.sampling_defaults["max_tokens"] = 3
    try:
        assert model.chat(HELLO) == "You"
        assert model.chat(HELLO, max_tokens=None) == "You said: hello"
    finally:
        model.sampling_defaults.clear()


def test_replayed_answers_of_the_openai_sdk_are_understood(model):
    replay = {"role": "assistant", "content": "ok", "refusal": None, "annotations": None, "audio": None}
    developer = {"role": "developer", "content": [{"type": "text", "text": "be "}, {"type": "text", "text": "kind"}]}
    assert model.chat([developer, *HELLO, replay, {"role": "user", "content": "more"}]) == "You said: more"


def test_a_model_without_text_files_reads_ids_only():
    with fake_model() as whole:
        bare = type(whole)(whole.engine, whole.facts, None, None)
        chunks = list(bare.stream([72, 105], max_tokens=2))
        assert [chunk.token_ids for chunk in chunks if chunk.token_ids] == [(257,)] or chunks[-1].finish_reason
        with pytest.raises(UnsupportedCheckpoint, match="no tokenizer beside its weights"):
            bare.generate("hello")
        with pytest.raises(MissingTemplate, match="no chat template"):
            bare.chat(HELLO)


def test_a_model_that_nobody_holds_frees_its_engine():
    model = fake_model()
    engine = model.engine
    stream = model.stream(HELLO, temperature=0)
    del model
    gc.collect()
    assert "".join(map(str, stream)) == "You said: hello", "a stream holds its model"
    del stream
    gc.collect()
    with pytest.raises(EngineStopped):
        engine.submit([1], Sampling(), None)


def test_names_of_the_package():
    assert quipu.Message is Message
    assert quipu.QuipuError.__name__ == "QuipuError"
    with pytest.raises(AttributeError, match="has no attribute 'lod'"):
        _ = quipu.lod


def test_a_conversation_far_too_long_is_refused_before_it_is_tokenized() -> None:
    with fake_model() as model:
        for message in (Message("user", "word " * 10**6), {"role": "user", "content": "word " * 10**6}):
            with pytest.raises(ContextLengthExceeded, match="has at least"):
                model.chat([message])
