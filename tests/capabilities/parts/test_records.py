"""Records put together, written as tables, and scored."""

import csv
import io
import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from quipu.capabilities.parts.evidence import Evidence, Found
from quipu.capabilities.parts.field_score import f1, right_fields
from quipu.capabilities.parts.merging import joined, merged
from quipu.capabilities.parts.record_schema import MOST_SHOWN, RecordSchema
from quipu.capabilities.parts.record_table import as_text, cell
from quipu.errors import InvalidRequest

QUOTED, SURE, GUESSED = Evidence((1, 2), 0.2), Evidence(None, 0.9), Evidence(None, 0.1)
scalars = st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=4)
records = st.lists(st.dictionaries(st.sampled_from("abc"), scalars, min_size=1), max_size=5)


def test_records_that_are_alike_are_one():
    found = joined([Found({"a": "Tea", "b": 1}), Found({"b": 1, "a": " tea "}), Found({"a": "Tea", "b": 2})])
    assert [each.record for each in found] == [{"a": "Tea", "b": 1}, {"a": "Tea", "b": 2}]


def test_records_with_the_same_key_are_one_with_the_values_of_both():
    one = Found({"id": 7, "name": None, "price": 2, "tags": ["x"]}, {("price",): GUESSED, ("tags", 0): QUOTED})
    other = Found({"id": 7, "name": "Tea", "price": 3, "tags": ["X", "y"]}, {("price",): SURE, ("tags", 1): SURE})
    nameless = Found({"id": None, "name": "Rye"})
    [both, *rest] = joined([one, nameless, nameless, other], ["id"])
    assert both.record == {"id": 7, "name": "Tea", "price": 3, "tags": ["x", "y"]}
    assert both.evidence == {("price",): SURE, ("tags", 0): QUOTED, ("tags", 1): SURE}
    assert [each.record for each in rest] == [nameless.record] * 2


@pytest.mark.parametrize(
    ("mine", "theirs"), [(QUOTED, SURE), (SURE, GUESSED), (GUESSED, Evidence()), (GUESSED, GUESSED)]
)
def test_the_value_with_more_evidence_stays(mine, theirs):
    one, other = Found({"a": 1}, {("a",): mine}), Found({"a": 2}, {("a",): theirs})
    assert merged(one, other).record == {"a": 1}
    if mine != theirs:
        assert merged(other, one).record == {"a": 1}


@given(records)
def test_joining_again_changes_nothing(found):
    once = joined([Found(record) for record in found])
    assert joined(once) == once
    assert len({json.dumps(each.record) for each in once}) == len(once)


ROWS = [{"name": "=1+1", "n": -3, "tags": ["a", "b"]}, {"name": "x|y\nz, \\", "more": {"k": None}, "n": None}]


def test_csv_is_read_back_and_computes_nothing():
    text = as_text(ROWS, ["name", "n", "tags"], "csv", many=True)
    read = list(csv.reader(io.StringIO(text)))
    assert read == [["name", "n", "tags", "more"], ["'=1+1", "-3", "a; b", ""], ["x|y\nz, \\", "", "", '{"k": null}']]
    assert as_text([], ["a"], "csv", many=True) == "a"


def test_json_and_lines_are_read_back():
    assert json.loads(as_text(ROWS, [], "json", many=True)) == ROWS
    assert json.loads(as_text(ROWS[:1], [], "json", many=False)) == ROWS[0]
    assert [json.loads(line) for line in as_text(ROWS, [], "jsonl", many=True).splitlines()] == ROWS


@given(st.lists(st.text(min_size=1, max_size=8), min_size=2, max_size=4, unique=True), st.text(max_size=12))
def test_a_table_in_markdown_has_every_cell(names, said):
    """Another's parser is the judge: as many cells in each row, whatever is in them."""
    text = as_text([dict.fromkeys(names, said)], names, "markdown", many=True)
    tokens = MarkdownIt("commonmark").enable("table").parse(text)
    assert sum(token.type == "th_open" for token in tokens) == len(names)
    assert sum(token.type == "td_open" for token in tokens) == len(names)


def test_cells_are_for_people():
    assert [cell(value) for value in (None, "a", 1.5, True, ["a", 2], [{"a": 1}])] == [
        "",
        "a",
        "1.5",
        "true",
        "a; 2",
        '[{"a": 1}]',
    ]


@pytest.mark.parametrize(
    ("found", "expected", "score"),
    [
        ([{"a": "Tea.", "b": 1}], [{"a": " tea", "b": 1.0}], 1.0),
        ([{"a": "Tea", "b": 2}], [{"a": "Tea", "b": 1}], 0.5),
        ([{"a": None}], [{"a": None}], 1.0),
        ([{"a": "x"}], [{"a": None}], 0.0),
        ([{"a": None}], [{"a": "x"}], 0.0),
        ([{"a": True}], [{"a": 1}], 0.0),
        ([], [{"a": 1}], 0.0),
        ([], [], 1.0),
        ([{"a": 2, "b": 2}, {"a": 1, "b": 1}], [{"a": 1, "b": 1}, {"a": 2, "b": 2}], 1.0),
        ([{"a": 1}, {"a": 1}], [{"a": 1}], 2 / 3),
    ],
)
def test_f1_over_the_values(found, expected, score):
    assert f1(found, expected) == pytest.approx(score)


@given(records, records)
def test_f1_is_between_nothing_and_all(found, expected):
    assert 0 <= f1(found, expected) <= 1
    assert f1(found, found) == 1
    assert all(name in found[number] for number, name in right_fields(found, expected))


def test_a_schema_that_doubles_with_each_reference_is_refused():
    for fields, references in ((2, 1), (30, 30)):
        inner = {f"f{i}": {"$ref": "#/$defs/N"} for i in range(references)} | {f"t{i}": {} for i in range(fields)}
        schema = {"$ref": "#/$defs/N", "$defs": {"N": {"type": "object", "properties": inner}}}
        shape = RecordSchema.of(schema, many=False)
        if references == 1:
            assert shape.shown.startswith("f0 ({f0 ({")
        else:
            with pytest.raises(InvalidRequest, match=f"more than {MOST_SHOWN} fields") as caught:
                _ = shape.shown
            assert caught.value.param == "wanted"


def test_putting_long_lists_together_takes_time_in_proportion():
    items = [{"name": str(number)} for number in range(10_000)]
    long = Found({"items": items}, {("items", place, "name"): QUOTED for place in range(len(items))})
    start = time.process_time()
    both = merged(long, Found({"items": [{"name": "0"}, {"name": "new"}]}, {("items", 1, "name"): SURE}))
    assert time.process_time() - start < 2, "it was 12 seconds"
    assert len(both.record["items"]) == 10_001
    assert both.evidence[("items", 10_000, "name")] == SURE
