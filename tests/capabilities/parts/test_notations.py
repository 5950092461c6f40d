"""What is wanted, however it is written; and what is none of that is refused by name."""

import contextlib
import dataclasses
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from pydantic import BaseModel

from quipu.capabilities.parts.notations import record, schema_of, written
from quipu.capabilities.parts.record_schema import RecordSchema
from quipu.errors import InvalidRequest, Unparsed

STRING = {"type": "string"}
TEXT, NUMBER = {"type": ["string", "null"]}, {"type": ["number", "null"]}


class Item(BaseModel):
    name: str
    price: float | None = None


@dataclasses.dataclass
class Order:
    buyer: str
    items: list[Item]


@pytest.mark.parametrize(
    ("wanted", "properties"),
    [
        ("name:str,total:float", {"name": TEXT, "total": NUMBER}),
        ("name, total : number;", {"name": TEXT, "total": NUMBER}),
        ("buyer", {"buyer": TEXT}),
        ("buyer\ntotal: in euros", {"buyer": TEXT, "total": {**TEXT, "description": "in euros"}}),
        ("Bill no: at the top\n\nTotal: float", {"Bill no": {**TEXT, "description": "at the top"}, "Total": NUMBER}),
        ("tags:str[], kind:a|b", {"tags": {"type": "array", "items": STRING}, "kind": {"enum": ["a", "b", None]}}),
        ("due:date", {"due": {"type": ["string", "null"], "format": "date"}}),
        ("spam | ham |spam", {"value": {"enum": ["spam", "ham"]}}),
        ('["spam", "not spam"]', {"value": {"enum": ["spam", "not spam"]}}),
        (r"/[A-Z]{2}-\d+/", {"value": {**TEXT, "pattern": r"^(?:[A-Z]{2}-\d+)$"}}),
        ('{"buyer": "who pays", "total": "float"}', {"buyer": {**TEXT, "description": "who pays"}, "total": NUMBER}),
    ],
)  # fmt: skip
def test_notations_are_told_by_their_look(wanted, properties):
    assert schema_of(wanted) == record(properties)


@pytest.mark.parametrize(
    "wanted",
    [
        "the buyer, the total in euros and every item with its quantity",
        "buyer and total",
        "Who wrote this?",
        "a: b c, d",
    ],
)
def test_the_rest_is_a_sentence(wanted):
    assert schema_of(wanted) is None
    assert schema_of("buyer", "sentence") is None


def test_a_notation_that_is_named_is_taken():
    assert schema_of("a|b", "regex")["properties"]["value"]["pattern"] == "^(?:a|b)$"
    assert schema_of("yes\nno", "choices")["properties"]["value"]["enum"] == ["yes", "no"]
    assert list(schema_of("first name, last name", "columns")["properties"]) == ["first name", "last name"]


def test_types_of_python_are_their_schemas():
    shape = RecordSchema.of(schema_of(written(Order)), many=False)
    assert shape.shown == "buyer, items ([{name, price (number)}, ...])"
    shape = RecordSchema.of(schema_of(written(list[Item])), many=False)
    assert (shape.many, shape.names) == (True, ["name", "price"])
    assert written({"a": "str"}) == '{"a": "str"}'
    assert written(7) == 7
    with pytest.raises(InvalidRequest, match="a type without JSON Schema"):
        written(type("Odd", (), {}))


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        (" ", "wanted is empty"),
        ("total:flaot", "the column 'total' has the unknown type 'flaot'; did you mean float?"),
        ("a, b, a", "wanted names 'a' twice"),
        ('{"type": ', "begins as JSON and is none"),
        ("[1, 2]", "neither a JSON Schema"),
        ("{}", "neither a JSON Schema"),
        ('{"type": "objekt"}', 'wanted is no JSON Schema: type: "objekt" is not valid'),
        ('{"type": "object", "propertys": {}}', "'propertys', which is no keyword of JSON Schema; did you mean prop"),
        ('{"properties": {"a": {"typ": "string"}}}', "wanted, at properties.a, has 'typ'.*did you mean type"),
        (
            '{"properties": {"a": {"$ref": "http://example.org/s"}}}',
            "refers to 'http://example.org/s', which is not in",
        ),
        ('{"properties": {"a": {"$ref": "#/$defs/B"}}}', "refers to '#/\\$defs/B', which is not in it"),
        ('{"type": "object", "patternProperties": {".": {}}}', "has patternProperties; .* use properties"),
        ('{"$defs": 5, "properties": {"a": {"$ref": "#/$defs/x"}}}', "which is not in it"),
        (r'{"properties": {"\ud800": {}}}', "is no JSON Schema"),
        ('{"properties": {"a": {"items": []}}}', "is no JSON Schema: properties.a.items"),
        ("/[/", 'is no JSON Schema: properties.value.pattern: .* is not a "regex"'),
        ('{"type": "object", "properties": {"a": {"items": ' * 2000 + "{}" + "}}}" * 2000, "nested too deep|is none"),
    ],
)
def test_what_is_no_schema_is_refused_by_name(wanted, said):
    with pytest.raises(InvalidRequest, match=said) as caught:
        RecordSchema.of(schema_of(wanted), many=False)
    assert caught.value.param == "wanted"


@given(st.text(alphabet="ab:|,;/[]{} \n.\"'1", max_size=60))
def test_anything_is_a_schema_a_sentence_or_refused(wanted):
    try:
        schema = schema_of(wanted)
        shape = schema and RecordSchema.of(schema, many=True)
    except InvalidRequest as error:
        refused = error.param
        assert refused == "wanted"
    else:
        if shape:
            Draft202012Validator.check_schema(shape.answer)
            assert RecordSchema.of(shape.schema, many=False).answer == shape.answer  # reusable


def test_long_texts_are_told_quickly():
    start = time.monotonic()
    for text in ("a\n\n" * 30_000 + "!", "a " * 50_000 + ":", "a:" * 50_000, "|" * 100_000):
        with contextlib.suppress(InvalidRequest):
            schema_of(text)
    assert time.monotonic() - start < 2


def test_a_pattern_that_takes_for_ever_elsewhere_takes_no_time():
    shape = RecordSchema.of(schema_of("/(a+)+b/"), many=False)
    with pytest.raises(Unparsed, match="does not match"):
        shape.records({"value": "a" * 60}, "x")


def test_records_are_held_to_the_schema():
    shape = RecordSchema.of(schema_of("name:str, total:float"), many=False)
    assert shape.records({"total": 1}, "x") == [{"name": None, "total": 1}]
    for value, said in [
        ({"name": 5, "total": 1}, "name: 5 is not"),
        ({"total": 1, "b": 2}, "'b'"),
        ([], "0 records"),
        (3, "3"),
    ]:
        with pytest.raises(Unparsed, match=said) as caught:
            shape.records(value, "the text")
        assert caught.value.text == "the text"
