"""Which fields a limit cut: told from the text and how much of it the model wrote."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quipu.engine.json_fields import incomplete_fields

SCHEMA = {
    "$ref": "#/$defs/order",
    "$defs": {
        "order": {
            "type": "object",
            "properties": {"name": {}, "items": {"items": {"$ref": "#/$defs/item"}}, "note": {}},
        },
        "item": {"properties": {"what": {}, "price/€": {}}},
    },
}


@pytest.mark.parametrize(
    ("text", "written", "fields"),
    [
        ('{"name": "Jo", "items": []}', '{"name": "J', ("name", "items", "note")),
        ('{"name": "Jo", "items": []}', '{"name": "Jo"', ("items", "note")),
        ('{"name": "Jo", "items": [{"what": "x"}]}', '{"name": "Jo", "items": [{"what": "x"',
         ("items[0].price/€", "items", "note")),
        ('{"name": 12, "note": null}', '{"name": 12', ("name", "note", "items")),
        ('{"name": true, "note": null}', '{"name": true', ("note", "items")),
        ('{"name": [1, 2], "other": {"a": [""]}}', '{"name": [1, 2], "other": {"a": [',
         ("other.a[0]", "other.a", "items", "note")),
        ('12', '12', ("",)),
        ('"ab"', '"a', ("",)),
        ('"ab"', '"ab"', ()),
    ],
)  # fmt: skip
def test_examples(text, written, fields):
    assert incomplete_fields(text, len(written), SCHEMA) == fields


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
)


@given(VALUES, st.booleans())
def test_of_what_is_wholly_written_nothing_is_incomplete_but_a_last_number_and_of_nothing_all_is(value, pretty):
    text = json.dumps(value, indent=2 if pretty else None)
    number = isinstance(value, int | float) and not isinstance(value, bool)
    assert incomplete_fields(text, len(text), True) == (("",) if number else ())
    unwritten = incomplete_fields(text, 0, True)
    assert bool(unwritten) or "{" in text
