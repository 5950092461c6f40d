"""Sections in what a model writes, whole and in pieces of any size."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quipu.capabilities.parts.headings import Headings, SectionStream, key

HEADINGS = Headings(["Planning", "Traffic today", "3. Repairs"])


@pytest.mark.parametrize(
    "line",
    ["Traffic today", "## Traffic Today\n", "**Traffic today:**", "2. Traffic today", "Section 2: Traffic  today",
     "# 2) TRAFFIC TODAY #"],
)  # fmt: skip
def test_a_heading_is_recognized_however_it_is_marked(line):
    assert HEADINGS.of(line) == "Traffic today"


@pytest.mark.parametrize("line", ["Traffic today is heavy.", "Traffic", "", "## Summary", "Todays traffic", "3"])
def test_other_lines_are_no_headings(line):
    assert HEADINGS.of(line) is None


def test_a_title_keeps_numbers_that_are_part_of_it():
    assert key("1984") != key("1985")
    assert key("2. The Bridge:") == "the bridge"
    assert key("## Part 2:") == "part 2"
    assert key("3 Reasons") == "3 reasons"
    assert key("2.1 - Roads") == "roads"
    assert key(" ## ") == ""


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        ("Trucks pass.\n\nAll day.", "Trucks pass.\n\nAll day."),
        ("## Traffic today\n\nTrucks pass.", "Trucks pass."),
        ("Trucks pass.\n## Repairs\nSoon.", "Trucks pass."),
        ("## Planning\nA plan.\n## Traffic today\nTrucks.\n## Repairs\nSoon.\n## Traffic today\nNo.", "Trucks."),
        ("**Planning**\nA plan.", "A plan."),  # all that there is
        ("Trucks pass.\nTraffic today", "Trucks pass."),
        ("Plans were made.\nTraffic grew.", "Plans were made.\nTraffic grew."),
        ("", ""),
        ("\n \n", ""),
    ],
)
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_a_section_is_the_same_in_whatever_pieces_it_comes(answer, text, data):
    reading, said, rest = SectionStream("Traffic today", HEADINGS), "", answer
    while rest and not reading.over:
        size = data.draw(st.integers(1, len(rest)))
        said += reading.push(rest[:size])
        rest = rest[size:]
    assert (said + reading.end()).strip() == text


def test_text_is_handed_on_as_it_comes():
    reading = SectionStream("Traffic today", HEADINGS)
    assert [reading.push(piece) for piece in ("Tra", "shy ", "pass", ".\n", "So", "on")] == [
        "", "Trashy ", "pass", ".\n", "So", "on",
    ]  # fmt: skip
