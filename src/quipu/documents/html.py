"""HTML as a reader sees it, by inscriptis over lxml: lists, tables and paragraphs keep their shape."""

from __future__ import annotations

import re
from typing import Any

from quipu.documents.apart import apart, lost
from quipu.documents.document import Document, clean, refuse, title_of
from quipu.documents.kinds import MEDIA_TYPES
from quipu.documents.text import decode

_CHARSET = re.compile(rb"<meta[^>]{1,300}charset\s*=\s*[\"']?\s*([\w.:-]{1,40})", re.I)
_LOOK = 4096
_ELEMENTS = (
    "script",
    "style",
    "template",
    "noscript",
    "nav",
    "svg",
    "iframe",
    "object",
    "select",
    "textarea",
    "button",
    "head",
)
_UNSEEN = " or ".join(
    [*(f"self::{name}" for name in _ELEMENTS), "@hidden", "@aria-hidden='true'", "@role='navigation'"]
)
"""An XPath condition: elements that no reader sees, or that lead elsewhere."""


def read_html(data: bytes, name: str, seconds: float) -> Document:
    """A page: its text without scripts, styles, navigation and what is hidden. Raises UnreadableDocument."""
    declared = _CHARSET.search(data[:_LOOK])
    source, notes = decode(data, name, declared[1].decode("ascii", "replace") if declared else None)
    found = apart("html", clean(source).encode(), name, seconds)
    if not found["text"].strip():
        raise refuse(name, "has no text in it that a reader would see; it may be made by a script: save it as text")
    return Document(clean(found["text"]), MEDIA_TYPES["html"], title=title_of(found["title"]), notes=notes)


def extract(data: bytes) -> dict[str, Any]:
    """Text and title of a page in UTF-8; runs apart."""
    from inscriptis.html_engine import Inscriptis
    from lxml import etree, html

    parser = html.HTMLParser(encoding="utf-8", remove_comments=True, no_network=True)
    tree = html.document_fromstring(data, parser=parser)
    for fault in parser.error_log:
        if fault.level >= etree.ErrorLevels.FATAL or "depth" in fault.message.lower():
            raise lost(
                f"cannot be read as HTML to its end (line {fault.line}: {fault.message.strip()}); save it as text"
            )
    title = tree.findtext(".//title")
    for element in tree.xpath(f"//*[{_UNSEEN}]"):
        if element.getparent() is not None:
            element.drop_tree()
    return {"text": Inscriptis(tree).get_text(), "title": title}
