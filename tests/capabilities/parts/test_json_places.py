"""Every value of a JSON text is where it is said to be: Python's own parser is the judge."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quipu.capabilities.parts.json_places import Place, places

scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4), max_leaves=20
)


def leaves(value, path=()):
    if isinstance(value, dict | list) and value:
        for part, each in value.items() if isinstance(value, dict) else enumerate(value):
            yield from leaves(each, (*path, part))
    else:
        yield path, value


@given(values, st.sampled_from([None, 2]), st.booleans(), st.text(), st.text())
def test_each_value_is_where_it_is_said_to_be(value, indent, ascii_only, before, after):
    text = before + json.dumps(value, indent=indent, ensure_ascii=ascii_only) + " " + after
    found = places(text, len(before))
    assert [(place.path, json.loads(text[place.start : place.end])) for place in found] == list(leaves(value))


@given(st.text(alphabet='{}[]",:truefalsn0123456789.eE+- \\u'))
def test_what_is_no_json_is_refused(text):
    try:
        json.JSONDecoder().raw_decode(text, len(text) - len(text.lstrip(" \t\n\r")))
    except ValueError:
        with pytest.raises(ValueError):  # noqa: PT011 - the message is the parser's own
            places(text)
    else:
        places(text)


def test_of_a_name_that_is_there_twice_the_last_value_counts():
    assert places('{"a": 1, "a": 2}') == [Place(("a",), 14, 15)]
    assert places('{"a": [1, {"b": 2}], "c": 3, "a": 4}') == [Place(("c",), 26, 27), Place(("a",), 34, 35)]


def test_what_is_nested_too_deep_is_an_error():
    with pytest.raises(RecursionError):
        places("[" * 100_000 + "]" * 100_000)
