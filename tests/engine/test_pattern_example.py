"""Examples of patterns: what is given matches; what is not seen through is None, never wrong."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quipu.engine.pattern_example import pattern_example


@pytest.mark.parametrize(
    ("pattern", "example"),
    [
        ("foo|ba", "ba"), ("^[a-z]{3,8}$", "aaa"), (r"^\d{2}-\d{4}$", "00-0000"), ("(ab)+c?", "ab"), (".*", ""),
        ("[^a]x", "0x"), ("[€]", "€"), (r"\w\s\W\D", "a  a"), ("(?=a)b", None), (r"(a)\1", None), ("(", None),
        ("a{2000}", None), (r"\p{L}", None), ("[^\\x00-\\U0010ffff]", None),
        ("(aa|a){60}", "a" * 60), ("^(aa|a){60}$", "a" * 60), ("((a{999}){999}){999}", None),
    ],
)  # fmt: skip
def test_examples(pattern, example):
    assert pattern_example(pattern) == example


@given(st.text("ab|*+?()[]^$.{}1,\\dw-", max_size=12))
def test_what_it_gives_matches(pattern):
    example = pattern_example(pattern)
    assert example is None or re.search(pattern, example)
