"""Spans of a text that a program fills in or reads, and that a translation has to leave as they are."""

from __future__ import annotations

import re
from collections import Counter

PLACEHOLDER = re.compile(
    r"""
    (?=[h{$%<])(?:                                                            # what one begins with, to be fast
      https?://[^\s<>"'`(){}\[\]|]*[^\s<>"'`(){}\[\]|.,;:!?*_]                # a URL, without the full stop after it
    | \{\{[^{}\n]{1,100}\}\} | \{%[^{}\n]{1,100}%\} | \$?\{[\w.:!,<>^+-]{0,100}\}   # {{ x }}, {% x %}, ${x}, {x}, {}
    | %\(\w{1,100}\)[-+#0]{0,4}\d{0,9}(?:\.\d{1,9})?[a-zA-Z]                  # %(count)d
    | %(?:\d{1,9}\$)?[-+#0]{0,4}\d{0,9}(?:\.\d{1,9})?(?:l{0,2}[diuxX]|[sfeEgGc@])(?![A-Za-z])  # %s, %1$s, %.2f
    | </?[A-Za-z][^<>\n]{0,500}>                                              # <b>, </a>, <br/>
    )
    """,
    re.VERBOSE,
)
"""URLs, braces of templates and format strings, the conversions of printf, and tags."""


def placeholders(text: str) -> list[str]:
    """Every placeholder, in order, as often as it is there."""
    return PLACEHOLDER.findall(text)


def lost(source: str, text: str) -> list[str]:
    """The placeholders of ``source`` that ``text`` has fewer of, each as often as it is missing."""
    return list((Counter(placeholders(source)) - Counter(placeholders(text))).elements())


def is_bare(text: str) -> bool:
    """Whether nothing but placeholders, numbers and signs is in it: no letter to translate."""
    return not any(letter.isalpha() for letter in PLACEHOLDER.sub("", text))
