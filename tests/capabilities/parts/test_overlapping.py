"""A record of a long text is found once, wherever it stands: sections overlap, and what two have is one."""

from __future__ import annotations

import json
import re
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st
from oracle import Oracle

from quipu import capabilities
from quipu.capabilities.parts.evidence import Evidence, Found
from quipu.capabilities.parts.overlapping import is_part, stitched
from quipu.capabilities.parts.sections import spans

CONTEXT = 1100
"""Of which sections of about 300 words are left, which have 50 words of the one before again."""
FIELDS = "buyer:str, item:str, pieces:int, price:float"
NAMES = {"buyer": "Buyer", "item": "Item", "pieces": "Pieces", "price": "Price"}


@st.composite
def long_texts(draw):
    """A text of paragraphs, and the records in it, of at most 40 words each, as they stand there."""
    gaps = st.integers(0, 220).map(lambda words: " ".join(["lorem"] * words) + ".")
    space = st.sampled_from([" ", "\n", "\n\n"])
    parts, records = [], []
    for number in range(draw(st.integers(1, 12))):
        record = {
            "buyer": draw(st.sampled_from(["Nora Blake", "Omar van der Berg", "Ida"])),
            "item": draw(st.sampled_from(["green tea", "rye", "pea soup with mint"])),
            "pieces": draw(st.integers(1, 3)),
            "price": number + 0.25,
        }
        said = [f"{NAMES[name]}: {value};" + " and" * draw(st.integers(0, 5)) for name, value in record.items()]
        parts += [draw(gaps), draw(space), draw(space).join(said), draw(space)]
        records.append(record)
    return "".join([*parts, draw(gaps)]), records


def read(messages):
    """All that a section says, whole or half: fields from one Buyer to the next are one record."""
    text = messages[-1].content.partition("\n\n---\n")[0]
    found = []
    for start, body in re.findall(r"(^|Buyer: )(.*?)(?=Buyer: |$)", text, re.DOTALL):
        values = {name: re.search(rf"{NAMES[name]}: ([^;]+)", start + body) for name in NAMES}
        record = {name: value and " ".join(value[1].split()) for name, value in values.items()}
        for name, kind in (("pieces", int), ("price", float)):
            record[name] = record[name] and kind(record[name])
        if any(each is not None for each in record.values()):
            found.append(record)
    return json.dumps({"records": found})


def whole(messages):
    """The records that a section has from beginning to end."""
    records = json.loads(read(messages))["records"]
    return json.dumps({"records": [each for each in records if None not in each.values()]})


@settings(max_examples=40, deadline=None)
@given(long_texts(), st.sampled_from([read, whole]))
def test_every_record_is_found_once_wherever_the_borders_are(given_text, reader):
    text, records = given_text
    output = capabilities.run(Oracle(reader, CONTEXT), "extract", text=text, wanted=FIELDS, many=True)
    assert output.records == records
    starts = [*(found.start() for found in re.finditer("Buyer: ", text)), len(text)]
    for place, each in enumerate(output.values):
        number, name = place // len(NAMES), list(NAMES)[place % len(NAMES)]
        assert each.path == f"[{number}].{name}"
        assert starts[number] <= each.start < each.end <= starts[number + 1]
        assert text[: each.start].endswith(f"{NAMES[name]}: ")
        assert text[each.start : each.end] == str(each.value)


@settings(max_examples=25, deadline=None)
@given(long_texts())
def test_every_item_of_one_record_is_found_once(given_text):
    """The same as a list within the one record of a text."""
    text, records = given_text
    wanted = {"type": "object", "properties": {"orders": {"type": "array", "items": {"type": "object", "properties": {
        "buyer": {"type": ["string", "null"]}, "item": {"type": ["string", "null"]},
        "pieces": {"type": ["integer", "null"]}, "price": {"type": ["number", "null"]}}}}}}  # fmt: skip

    def orders(messages):
        return json.dumps({"orders": json.loads(read(messages))["records"]})

    output = capabilities.run(Oracle(orders, CONTEXT), "extract", text=text, wanted=wanted)
    assert output.records == [{"orders": records}]
    assert all(text[each.start : each.end] == str(each.value) for each in output.values)


@settings(max_examples=200, deadline=None)
@given(
    text=st.text(alphabet=st.sampled_from("ab .\n#!?ก"), max_size=900) | st.text(max_size=300),
    size=st.integers(32, 100),
    data=st.data(),
)
def test_what_is_shorter_than_the_overlap_is_whole_in_a_section(text, size, data):
    overlap = data.draw(st.integers(1, size // 6))
    found = list(spans(text, size, len, overlap))
    assert all(0 < end - start <= size for start, end in found)
    assert (found[0][0], found[-1][1]) == (0, len(text)) if text else found == []
    for (start, end), (after, finish) in pairwise(found):
        assert start + (end - start) // 2 <= after <= end - overlap
        assert finish > end


def test_sections_go_back_to_the_beginning_of_a_paragraph():
    paragraphs = [f"{number} " + "word " * 29 + "\n\n" for number in range(40)]
    text = "".join(paragraphs)
    found = list(spans(text, 300, lambda piece: len(piece.split()), 25))
    starts = {text.index(paragraph) for paragraph in paragraphs}
    assert len(found) > 3
    assert {start for start, _ in found} <= starts


def test_in_a_text_whose_tokens_are_dense_at_the_end_the_overlap_ends_at_half_a_section():
    text = "a" * 900 + "b" * 900
    found = list(spans(text, 400, lambda piece: piece.count("b"), 350))
    assert all(start + (end - start) // 2 <= after <= end for (start, end), (after, _) in pairwise(found))


# ---- which are one

TEA = Found({"item": "Tea", "price": 3}, {("item",): Evidence((5, 8)), ("price",): Evidence((9, 10))})


def test_half_a_record_is_the_whole_one_at_its_place():
    half = Found({"item": "Te", "price": None}, {("item",): Evidence((5, 7))})
    assert is_part(half, TEA)
    assert not is_part(TEA, half)
    assert stitched([[half], [TEA]]) == stitched([[TEA], [half]]) == [TEA]


def test_records_of_one_section_of_other_places_or_that_differ_are_two():
    half = Found({"item": "Tea", "price": None}, {("item",): Evidence((5, 8))})
    elsewhere = Found({"item": "Tea", "price": None}, {("item",): Evidence((50, 53))})
    other = Found({"item": "Tea", "price": 4}, {("item",): Evidence((5, 8))})
    assert stitched([[half, TEA]]) == [half, TEA]
    assert stitched([[TEA], [elsewhere]]) == [TEA, elsewhere]
    assert stitched([[TEA], [other]]) == [TEA, other]
