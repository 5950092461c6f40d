"""A conversation and its file."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as some

from quipu.cli.conversation import Conversation, Turn
from quipu.errors import InvalidRequest
from quipu.types import Message, ToolCall

texts = some.text(some.characters(exclude_categories=["Cs"]))
calls = some.lists(
    some.builds(ToolCall, texts.filter(bool), some.dictionaries(texts, texts | some.integers(0, 9), max_size=2), texts),
    min_size=1, max_size=2,
).map(tuple)  # fmt: skip


@some.composite
def steps(draw):
    """Messages that call, each with the results."""
    made = []
    for called in draw(some.lists(calls, max_size=2)):
        made.append(Message("assistant", draw(texts), tool_calls=called))
        made += [Message("tool", draw(texts), tool_call_id=call.id) for call in called]
    return tuple(made)


turns = some.lists(
    some.builds(Turn, texts, texts, some.booleans(), some.just(()), steps(), some.just(()) | calls), max_size=4
)


@given(some.none() | texts, turns)
def test_saved_and_loaded_is_the_same(tmp_path_factory, system, turns):
    path = tmp_path_factory.mktemp("talk") / "talk.json"
    options = {"temperature": 0, "logit_bias": {42: -1.5}, "stop": ["a"]}
    saved = Conversation(system, options, turns, tools=[{"name": "f"}] if turns else [])
    saved.save(path)
    assert Conversation.load(path) == saved


def test_messages():
    talk = Conversation("be brief", turns=[Turn("one", "1", stopped=True)])
    said = [Message("system", "be brief"), Message("user", "one"), Message("assistant", "1"), Message("user", "two")]
    assert talk.messages("two") == said


def test_a_plain_list_of_messages_loads(tmp_path):
    path = tmp_path / "talk.json"
    path.write_text('[{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]')
    assert Conversation.load(path).turns == [Turn("a", "b")]


def test_only_its_own_file_is_overwritten(tmp_path):
    path = tmp_path / "talk.json"
    path.write_text("precious")
    talk = Conversation()
    with pytest.raises(InvalidRequest, match="exists already"):
        talk.save(path)
    assert path.read_text() == "precious"
    talk.save(tmp_path / "other.json")
    talk.turns.append(Turn("a", "b"))
    talk.save(tmp_path / "other.json")
    assert Conversation.load(tmp_path / "other.json").turns == [Turn("a", "b")]


def test_a_place_that_cannot_be_written(tmp_path):
    with pytest.raises(InvalidRequest, match="cannot be written: No such file or directory"):
        Conversation().save(tmp_path / "missing" / "talk.json")


@pytest.mark.parametrize(
    ("document", "said"),
    [
        (b"not json", "is not a saved conversation: Expecting value"),
        (b"\xff", "is not a saved conversation: 'utf-8' codec"),
        (b"[" * 100_000, "is not a saved conversation"),
        (b"3", "it has no list of messages"),
        (b'{"messages": {}}', "it has no list of messages"),
        (b"[3]", r"messages\[0\] must be an object"),
        (b'[{"role": "user", "content": "a"}]', "user and assistant by turns"),
        (b'[{"role": "assistant", "content": "a"}, {"role": "user", "content": "b"}]', "by turns"),
        (b'[{"role": "king", "content": "a"}]', r"messages\[0\].role is 'king'"),
        (b'[{"role": "user", "contents": "a"}]', "no field 'contents'"),
        (
            b'[{"role": "user", "content": "a"}, {"role": "tool", "content": "b", "tool_call_id": "x"}]',
            "no earlier message",
        ),
        (
            b'[{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, '
            b'{"role": "tool", "content": "c"}, {"role": "assistant", "content": "d"}]',
            "by turns",
        ),
        (b'[{"role": "user", "content": "a"}, {"role": "tool", "content": "c"}]', "by turns"),
        (b'{"messages": [], "tools": 3}', "talk.json: tools must be a list"),
        (b'{"messages": [], "tools": [{"name": ""}]}', "tools"),
        (b'{"messages": [], "options": []}', "options must be an object"),
        (b'{"messages": [], "options": {"temperature": "hot"}}', "temperature must be a number"),
        (b'{"messages": [], "options": {"stop": 5}}', "stop must be a string or a list"),
        (b'{"messages": [], "options": {"logit_bias": 5}}', "logit_bias must map"),
        (b'{"messages": [], "options": {"n": 2}}', "n is for programs"),
    ],
)
def test_files_that_are_no_conversation(tmp_path, document, said):
    path = tmp_path / "talk.json"
    path.write_bytes(document)
    with pytest.raises(InvalidRequest, match=said):
        Conversation.load(path)


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("temperature", "0", 0),
        ("top-p", "0.5", 0.5),
        ("max_tokens", "7", 7),
        ("stop", "END", "END"),
        ("stop", "5", "5"),
        ("stop", '["a", "b"]', ["a", "b"]),
        ("ignore_eos", "true", True),
        ("logit_bias", '{"3": 1}', {3: 1}),
    ],
)
def test_set_and_unset(name, text, value):
    talk = Conversation()
    talk.set(name, text)
    assert talk.options == {name.replace("-", "_"): value}
    talk.set(name, "")
    assert talk.options == {}


def test_a_refused_value_changes_nothing():
    talk = Conversation(options={"temperature": 0.5})
    for name, text in (("temperature", "-1"), ("temperature", "hot"), ("nonsense", "1"), ("logprobs", "1")):
        with pytest.raises(InvalidRequest):
            talk.set(name, text)
    assert talk.options == {"temperature": 0.5}
    assert json.dumps(talk.options)
