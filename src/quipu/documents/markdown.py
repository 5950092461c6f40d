"""Markdown: models read it as it is, so the text stays; only its title is looked for."""

from __future__ import annotations

import re

from quipu.documents.document import Document, clean, title_of
from quipu.documents.kinds import MEDIA_TYPES
from quipu.documents.text import decode

_TITLE = re.compile(r"^# +(.*?)[ #]*$|^title: *[\"']?(.*?)[\"']?$", re.MULTILINE)


def read_markdown(data: bytes, name: str) -> Document:
    """A Markdown file; its title is the first heading of the first level, or that of its front matter."""
    decoded, notes = decode(data, name)
    text = clean(decoded)
    found = _TITLE.search(text[:20_000])
    return Document(text, MEDIA_TYPES["markdown"], title=title_of(found and (found[1] or found[2])), notes=notes)
