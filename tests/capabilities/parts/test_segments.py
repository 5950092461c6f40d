"""Segments and placeholders: nothing is lost, structure stays, every piece is short enough."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quipu.capabilities.parts.placeholders import is_bare, lost, placeholders
from quipu.capabilities.parts.segments import segments

MARKDOWN = """# A heading

A paragraph that was broken to fit a width, so that its first line goes on
in the second one and ends there. Another sentence.

- first point
  1. inner point
- [x] done {name}

> A quotation.

| Name | Meaning |
|------|---------|
| red  | a colour |

```python
print("leave me")
```
https://example.org/a

The end.
"""


def worked_on(document, most=1200):
    return [piece.text for piece in segments(document, most) if not piece.kept]


def test_markdown_is_taken_apart():
    assert worked_on(MARKDOWN) == [
        "A heading",
        "A paragraph that was broken to fit a width, so that its first line goes on\nin the second one and ends there. "
        "Another sentence.",
        "first point",
        "inner point",
        "done {name}",
        "A quotation.",
        "Name",
        "Meaning",
        "red",
        "a colour",
        "The end.",
    ]


def test_short_lines_are_apart():
    assert worked_on("Dear Sir,\nthank you.\n\nYours\nAnna") == ["Dear Sir,", "thank you.", "Yours", "Anna"]


def test_a_long_paragraph_is_divided_between_sentences():
    assert worked_on("One is short. Two is short! Is three? Four.", 30) == [
        "One is short. Two is short!",
        "Is three? Four.",
    ]
    assert worked_on("no sentence ends here at all", 12) == ["no sentence", "ends here at", "all"]
    assert worked_on("x" * 25, 10) == ["x" * 10, "x" * 10, "x" * 5]


@given(st.text("ab .!?\n\r\t|#->`*1{}%s<", max_size=400) | st.text(), st.integers(1, 60))
def test_nothing_is_lost_and_pieces_are_short(document, most):
    pieces = list(segments(document, most))
    assert "".join(piece.text for piece in pieces) == document
    for piece in pieces:
        assert piece.kept or (0 < len(piece.text) <= most and piece.text == piece.text.strip())


@pytest.mark.parametrize(
    "document",
    [
        "A sentence of nine words stands here for you. " * 50_000,
        "A line that is long enough to go on in the line after it,\n" * 40_000,
        "x" * 5_000_000,
        "\n" * 200_000,
        "| " * 100_000,
        "> " * 2_000_000,
        "{" * 300_000 + "<a " * 300_000,
        " " * 5_000_000 + "x",
    ],
    ids=["one paragraph", "wrapped lines", "one word", "blank lines", "bars", "quotations", "openings", "space"],
)
def test_megabytes_are_no_trouble(document):
    assert "".join(piece.text for piece in segments(document, 1200)) == document


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Hi {name}, {0} {} {price:.2f} ${user.id}", ["{name}", "{0}", "{}", "{price:.2f}", "${user.id}"]),
        ("{{ count }} and {% if x %}", ["{{ count }}", "{% if x %}"]),
        ("%s %d %1$s %.2f %(count)d %(x)05.1f %ld", ["%s", "%d", "%1$s", "%.2f", "%(count)d", "%(x)05.1f", "%ld"]),
        ("100% sure, 50 % of it, 5%discount", []),
        ('<b>bold</b> <a href="x">y</a> 3 < 4 > 2', ["<b>", "</b>", '<a href="x">', "</a>"]),
        ("see https://example.org/a?b=1. (http://x.y/z)", ["https://example.org/a?b=1", "http://x.y/z"]),
    ],
)
def test_placeholders_are_found(text, expected):
    assert placeholders(text) == expected


def test_what_is_lost_is_counted():
    assert lost("%s and %s for {name}", "%s für {Name}") == ["%s", "{name}"]
    assert lost("%s", "%s %s") == []


@pytest.mark.parametrize("text", ["", "12.5 %", "{name}: %s", "https://example.org", "—"])
def test_bare_text_has_no_word(text):
    assert is_bare(text)


@given(st.text())
def test_any_text_has_all_of_its_own_placeholders(text):
    assert lost(text, text) == []
