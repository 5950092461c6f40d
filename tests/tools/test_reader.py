"""Calls in a model's text: all forms, any cut of the text, any text at all; Python and json are the oracles."""

import json
import time
from functools import partial
from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from quipu.tools.reader import CallReader, read
from quipu.tools.written import written
from quipu.types import ToolCall, ToolCallDelta

FORMS = ("json", "pythonic")
numbers = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
values = st.recursive(
    st.none() | st.booleans() | numbers | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
names = st.from_regex(r"[a-zA-Z_][a-zA-Z0-9_.-]{0,20}", fullmatch=True)
arguments = st.dictionaries(st.text() | st.sampled_from(["city", "class", "zip-code", "x"]), values, max_size=4)
calls = st.lists(st.builds(ToolCall, names, arguments), min_size=1, max_size=4)
SIGNS = [
    '{"name": "f", "parameters": {', '"arguments": {', "[f(", "x=1", '"a"', "'", ")", "]", "}", "{", "[", ", ", ";",
    "\\", "\n", " ", "é", "hello", "None", "null", "**", "(", '{"name": "g"', '"type": "function", ', "1e999", "f",
]  # fmt: skip
noise = st.lists(st.sampled_from(SIGNS) | st.text(max_size=3), max_size=14).map("".join)


def pieces(text: str, cuts: list[int], **options) -> list:
    reader = CallReader(**options)
    places = [0, *sorted(cut % (len(text) + 1) for cut in cuts), len(text)]
    out = [piece for start, end in pairwise(places) for piece in reader.push(text[start:end])]
    return out + reader.finish()


def joined(parts: list) -> tuple[str, dict]:
    """The text, and by index the name and the arguments of each call."""
    made: dict[int, list] = {}
    for part in parts:
        if isinstance(part, ToolCallDelta):
            name, text = made.get(part.index, (None, ""))
            assert part.name is None or name is None, "a second beginning of one call"
            made[part.index] = [name or part.name, text + part.arguments]
    assert list(made) == list(range(len(made)))
    return "".join(part for part in parts if isinstance(part, str)), made


@pytest.mark.parametrize("form", FORMS)
@given(calls=calls)
def test_what_is_written_is_read(form: str, calls: list[ToolCall]) -> None:
    text = written(calls, form)
    told = [(call.name, json.loads(json.dumps(call.arguments))) for call in calls]
    for given_names in (None, {call.name for call in calls}):
        said, found = read(text, given_names)
        assert (said, [(call.name, call.arguments) for call in found]) == ("", told)
    said, found = read(f"I will look that up.\n\n{text}", None)
    assert (said, len(found)) == ("I will look that up.", len(calls))


@given(calls=calls)
def test_the_pythonic_form_is_python(calls: list[ToolCall]) -> None:
    names = {call.name for call in calls if call.name.isidentifier()}
    calls = [call for call in calls if call.name in names]
    called = []
    functions = {name: partial(lambda name, **given: called.append((name, given)), name) for name in names}
    try:
        compiled = compile(written(calls, "pythonic"), "written", "eval")
    except SyntaxError:  # a name may be a word of Python's
        return
    eval(compiled, {"__builtins__": {}}, functions)
    assert called == [(call.name, call.arguments) for call in calls]


@settings(max_examples=300)
@given(text=noise, cuts=st.lists(st.integers(0, 10**6), max_size=8), known=st.booleans(), eager=st.booleans())
@example(text='{"name": "f", "parameters": {"a": 1}}', cuts=[*range(40)], known=True, eager=True)
@example(text="[f(x=1), f(", cuts=[8], known=True, eager=True)
@example(text='{"name": "f", "parameters": {]{"name": "f", "parameters": {', cuts=[], known=True, eager=True)
@example(text=" [f(x='", cuts=[1, 2], known=True, eager=False)
def test_how_the_text_is_cut_changes_nothing(text: str, cuts: list[int], known: bool, eager: bool) -> None:
    options = {"names": {"f", "g"} if known else None, "eager": eager}
    whole = joined(pieces(text, [], **options))
    assert joined(pieces(text, cuts, **options)) == whole
    assert joined(pieces(text, list(range(len(text))), **options)) == whole


@settings(max_examples=300)
@given(text=noise, calls=calls, form=st.sampled_from(FORMS), end=st.integers(0, 200))
def test_every_prefix_is_text_and_whole_calls(text: str, calls: list[ToolCall], form: str, end: int) -> None:
    said, found = read((text + written(calls, form))[:end])
    assert isinstance(said, str)
    for call in found:
        assert isinstance(call.arguments, dict)
        json.dumps(call.arguments, allow_nan=False)
    if not found:
        assert said == (text + written(calls, form))[:end]


@pytest.mark.parametrize(
    ("text", "said", "found"),
    [
        ("", "", []),
        ("hello [link](http://x) {a} [f]", None, []),
        ('[f(x=1), g(y="a")]', "", [("f", {"x": 1}), ("g", {"y": "a"})]),
        ("[ f( x = 1 ) , g( ) ]", "", [("f", {"x": 1}), ("g", {})]),
        ("[get.it(x=1)]", "", [("get.it", {"x": 1})]),
        ("[get-it(x=1)]", "", [("get-it", {"x": 1})]),
        ("[f(x={'k': [1, (2, 3)]}, y=-1.5, z=None)]", "", [("f", {"x": {"k": [1, [2, 3]]}, "y": -1.5, "z": None})]),
        ("[f(x=true, y=null, z=False)]", "", [("f", {"x": True, "y": None, "z": False})]),
        ("[f(**{'a-b': 1, 'class': 2}, c=3)]", "", [("f", {"a-b": 1, "class": 2, "c": 3})]),
        ("""[f(x="it's", y='say "hi"', z="a)b]c", w='a\\'b')]""", "",
         [("f", {"x": "it's", "y": 'say "hi"', "z": "a)b]c", "w": "a'b"})]),
        ('[f(x="naïve 日本 \\u00e9 \\ud83d\\ude00 \\/ \\d")]', "", [("f", {"x": "naïve 日本 é 😀 / \\d"})]),
        ('[f(x="two\nlines")]', "", [("f", {"x": "two\nlines"})]),
        ("[f(\n  x=1,\n  y=2,\n)]", "", [("f", {"x": 1, "y": 2})]),
        ("[f(x=1e999, y=-1e999)]", "", [("f", {"x": 1.7976931348623157e308, "y": -1.7976931348623157e308})]),
        ('{"name": "f", "parameters": {"x": 1e999}}', "", [("f", {"x": 1.7976931348623157e308})]),
        ('[f(x="a" "b")]', "", [("f", {"x": "ab"})]),
        ("Let me see: [f(x=1)]", "Let me see:", [("f", {"x": 1})]),
        ('{"name": "f", "parameters": {"a": "}{"}}', "", [("f", {"a": "}{"})]),
        ('{"name": "f", "parameters": {"a": "\\""}}; {"name": "g", "parameters": {}}', "",
         [("f", {"a": '"'}), ("g", {})]),
        ('{"name":"f","arguments":{}}\n{"name":"g","arguments":{}}', "", [("f", {}), ("g", {})]),
        ('{"name": "f", "parameters": {}}{"name": "g", "parameters": {}}', "", [("f", {}), ("g", {})]),
        ('[{"name": "f", "parameters": {}}, {"name": "g", "parameters": {}}]', "", [("f", {}), ("g", {})]),
        ('{"type": "function", "name": "f", "parameters": {}}', "", [("f", {})]),
        ('Sure.\n\n{"name": "f", "parameters": {}}', "Sure.", [("f", {})]),
    ],
)  # fmt: skip
def test_calls(text: str, said: str | None, found: list) -> None:
    names = {"f", "g", "get.it", "get-it"}
    for given_names in (None, names):
        got, calls = read(text, given_names)
        assert got == (text if said is None else said)
        assert [(call.name, call.arguments) for call in calls] == found


@pytest.mark.parametrize(
    "text",
    [
        "[f(1)]", "[f(x)]", "[f(x=g())]", "[f(x=1), 2]", "[f(x=1)", "[f(x=1", "[f", "[]", "f(x=1)", "[f(x=1, x=2)]",
        "[f(x={1, 2})]", "[f(x=b'a')]", "[f(x=1j)]", "[f(x=...)]", "[f(x={1: 2})]", "[f(x=f'{1}')]",
        "[f(x=1+1)]", "[f(x=-'a')]", "[f(**x)]", "[f(x=)]", "[f(x=1]]", "[f(x='a)]", "[f(x=__import__('os'))]",
        '{"name": "f"}', '{"name": 7, "parameters": {}}', '{"name": "f", "parameters": 1}', "{}", '{"name": "f", ',
        '{"name": "f", "parameters": {a}}', '{"name": "f", "parameters": {"x": NaN}}',
        '{"name": "f", "parameters": {}, "id": 1}', '{"name": "f", "parameters": {]}',
        '{"name": "unknown", "parameters": {',
        "[f(x=" + "9" * 5000 + ")]", "[f(x=0x" + "f" * 9000 + ")]", "[f(x=" + "-" * 9000 + "1)]",
        "[f(x=" + "not " * 9000 + "1)]", "[f(x=" + "lambda: " * 3000 + "1)]", "[f(x=a" + ".a" * 9000 + ")]",
        "[f(x=" + "1 if 1 else " * 3000 + "1)]", "[f(x=\0)]",
    ],
)  # fmt: skip
def test_what_is_no_call_stays_text(text: str) -> None:
    assert read(text, {"f", "g"}) == (text, ())


def test_calls_of_unknown_tools_are_text() -> None:
    for text in ('{"name": "f", "parameters": {}}', "[f(x=1)]"):
        assert read(text, {"g"}) == (text, ())
        assert read(text, set()) == (text, ())
        assert len(read(text, {"f"})[1]) == 1


def test_eager_arguments_come_as_they_are_written() -> None:
    text = 'Look: {"name": "f", "parameters": {"text": "one two three"}}'
    reader = CallReader({"f"}, eager=True)
    out = [reader.push(character) for character in text]
    assert out[text.index("{") + len('{"name": "f", "parameters": {') - 1] == [ToolCallDelta(0, "{", "f")]
    streamed = [piece.arguments for each in out for piece in each if isinstance(piece, ToolCallDelta)]
    assert len(streamed) == len('{"text": "one two three"}')
    assert "".join(streamed) == '{"text": "one two three"}'
    lists = CallReader({"f", "g"}, eager=True)
    assert lists.push("[f(x=1), g(") == [ToolCallDelta(0, '{"x": 1}', "f")]
    assert lists.push(")]") == [ToolCallDelta(1, "{}", "g")]


@pytest.mark.parametrize(
    "text",
    [
        "[f(" * 200_000, "{" * 200_000, '{"name": "f", "parameters": {' * 20_000, "[" + "f(x=1)," * 10_000,
        " " * 500_000, '[f(x="' + "a" * 500_000, "[f(x=" + "[" * 90 + "]" * 90 + ")" * 100_000,
        '{"name": "f", "parameters": {}}' * 10_000,
    ],
)  # fmt: skip
def test_long_hostile_text_takes_no_time(text: str) -> None:
    start = time.process_time()
    read(text, {"f"})
    reader = CallReader({"f"}, eager=True)
    for place in range(0, len(text), 1000):
        reader.push(text[place : place + 1000])
    reader.finish()
    assert time.process_time() - start < 5


@pytest.mark.parametrize("begun", ["", "{", "[", '{"name" ', '[f(x=1)\n{"name": "f", "parameters": {}'])
def test_space_without_an_end_is_handed_on_as_it_comes(begun: str) -> None:
    """What is held back is looked at again with each piece: a model that writes nothing else must not take minutes."""
    reader = CallReader(["f"])
    reader.push(begun)
    reader.push(" " * 1000)
    later = "".join(piece for _ in range(10) for piece in reader.push(" " * 100) if isinstance(piece, str))
    assert len(later) == 1000


@given(st.integers(0, 200), st.lists(st.integers(0, 400), max_size=6))
def test_how_space_is_cut_makes_no_difference(size: int, cuts: list[int]) -> None:
    text = "So:" + " " * size + '{"name":' + " " * (size // 2) + '"f", "parameters": {}}'
    said, made = joined(pieces(text, cuts, names=["f"]))
    assert (said, made) == joined(pieces(text, [], names=["f"]))
    assert bool(made) == (size // 2 <= 64)
