"""Calls that an answer ends with are told from text, however they come; everything else stays the text it is."""

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from quipu.tools.closing import ClosingCalls, shown
from quipu.tools.written import written
from quipu.types import ToolCall

values = st.recursive(
    st.none() | st.booleans() | st.integers(-99, 99) | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)
calls = st.builds(
    ToolCall, st.from_regex(r"[a-z_]{1,9}", fullmatch=True), st.dictionaries(st.text(max_size=4), values, max_size=3)
)
signs = [
    "[f(x=1)]",
    '{"name": "f", "parameters": {"x": 1}}',
    "```",
    "\n",
    " ",
    "[",
    "{",
    "(",
    ")",
    "]",
    "}",
    "Hello.",
    "<|python_tag|>",
]


def told(text, cuts=()):
    reader, said, start = ClosingCalls(), "", 0
    for cut in [*sorted(cuts), len(text)]:
        said += reader.push(text[start:cut])
        start = max(start, cut)
    rest, found = reader.finish()
    return said + rest, found


def plain(found):
    return [(call.name, call.arguments) for call in found]


@given(
    st.sampled_from(["", "I will look it up.\n", "```\n[f(x=1)]\n```\n", "One.\n\n"]),
    st.lists(calls, min_size=1, max_size=3),
    st.sampled_from(["json", "pythonic"]),
    st.booleans(),
    st.lists(st.integers(0, 200)),
)
def test_what_ends_an_answer_is_calls_with_what_was_said_before_them(said, made, form, tagged, cuts):
    text = said + "<|python_tag|>" * tagged + written(made, form)
    assert (told(text, cuts)[0], plain(told(text, cuts)[1])) == (said, plain(made))


@given(st.lists(st.sampled_from(signs), max_size=10).map("".join) | st.text(max_size=40), st.lists(st.integers(0, 60)))
@example('[f(x=1)]\n{"name": "', [])
def test_nothing_is_lost_and_cuts_make_no_difference(text, cuts):
    said, found = told(text, cuts)
    assert (said, found) == told(text)
    assert text.startswith(said)
    assert bool(found) or said == text


@pytest.mark.parametrize(
    "text",
    [
        "```python\n[f(x=1)]\n```", "```\n[f(x=1)]", "Use [f(x=1)]", "[f(x=1)]\nis how a call is written.",
        '{"name": "Ada", "age": 36}', "[1, 2, 3]", "[f(1)]", "[see](https://example.org)", "[f(x=1)", "",
        "<|python_tag|>print(1)",
    ],
)  # fmt: skip
def test_what_is_no_call_is_text_and_comes_soon(text):
    assert told(text) == (text, ())


def test_only_what_may_be_a_call_is_held_back():
    reader = ClosingCalls()
    assert reader.push("Look: ") == "Look: "
    assert reader.push("[f(x=1)] is one.\n[") == "[f(x=1)] is one.\n"
    assert reader.push("a list]\n") == "[a list]\n"
    assert reader.push("[g(x=") == ""
    assert reader.push("1)] was another") == "[g(x=1)] was another"
    assert reader.finish() == ("", ())


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"city": "Paris", "days": 3}, "f(city: Paris, days: 3)"),
        ({"a": "3", "b": "", "c": "x, y", "d": None, "e": ["é", {"k": True}]},
         'f(a: "3", b: "", c: "x, y", d: null, e: ["é", {"k": true}])'),
        ({}, "f()"),
        ({"a": " x", "b": "null", "c": "two\nlines"}, 'f(a: " x", b: "null", c: "two\\nlines")'),
    ],
)  # fmt: skip
def test_a_call_for_people(arguments, text):
    assert shown(ToolCall("f", arguments)) == text


@given(st.text())
def test_a_text_is_never_taken_for_something_else(value):
    argument = shown(ToolCall("f", {"x": value})).removeprefix("f(x: ").removesuffix(")")
    try:
        assert json.loads(argument) == value
    except json.JSONDecodeError:
        assert argument == value
