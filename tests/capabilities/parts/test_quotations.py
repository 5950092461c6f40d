"""A value is found where it stands as words or a number of its own, and nowhere else."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quipu.capabilities.parts.papers import amount, papers
from quipu.capabilities.parts.quotations import Quotations, readings


@pytest.mark.parametrize(
    ("text", "value", "quotation"),
    [
        ("Sold to Nora  Blake\ntoday", "nora blake", "Nora  Blake"),
        ("the landlord and Anders", "and", "and"),
        ("Anders", "and", None),
        ("order A-17, A-1", "A-1", "A-1"),
        ("(Ulm)", "Ulm", "Ulm"),
        ("ราคา 1,250.00บาท", "บาท", "บาท"),
        ("อยู่ที่เชียงใหม่ครับ", "เชียงใหม่", "เชียงใหม่"),
        ("in all 1.250,50 EUR", 1250.5, "1.250,50"),
        ("in all 1 250,50 €", 1250.5, "1 250,50"),
        ("in all 1,25,000 रुपये", 125000, "1,25,000"),
        ("कुल १२३ रुपये", 123, "१२३"),
        ("12 of 3", 3.0, "3"),
        ("room 1234", 123, None),
        ("-5 degrees", -5, "-5"),
        ("5 yes", True, None),
        ("null", None, None),
        ("", "x", None),
        ("x", "  ", None),
    ],
)
def test_where_a_value_stands(text, value, quotation):
    span = Quotations(text).find(value)
    assert (span and text[span[0] : span[1]]) == quotation


def test_of_several_places_it_is_the_nearest_that_no_other_value_has():
    text = "1 x tea, 2.50\n1 x rye, 2.50\n1 x tea, 3.00"
    quotations = Quotations(text)
    found = [quotations.find(value) for value in ("tea", 1, 2.5, "rye", 1, 2.5, "tea", 1, 3)]
    assert [span and span[0] for span in found] == [4, 0, 9, 18, 14, 23, 32, 28, 37]


@given(st.text(alphabet="ab 1é\n-"), st.text(alphabet="ab 1é\n-"), st.text(alphabet="ab1é", min_size=1))
def test_what_is_there_is_found(before, after, word):
    text = f"{before} {word} {after}"
    span = Quotations(text).find(word)
    assert span is not None
    assert text[span[0] : span[1]].casefold() == word.casefold()


@given(st.text(), st.text() | st.floats(allow_nan=False, allow_infinity=False) | st.integers())
def test_anything_is_looked_for_in_anything(text, value):
    span = Quotations(text).find(value)
    assert span is None or 0 <= span[0] < span[1] <= len(text)


@given(st.integers(0, 10**7), st.sampled_from(["en", "de", "fr"]))
def test_amounts_are_read_in_every_language(cents, language):
    assert cents / 100 in readings(amount(cents / 100, language))


def test_every_value_of_every_paper_is_in_it():
    for paper in papers():
        quotations = Quotations(paper.text)
        for record in paper.records if paper.kind != "letter" else []:
            for name, value in record.items():
                if value is not None and not isinstance(value, bool):
                    assert quotations.find(value), (paper.kind, paper.language, name)
