"""Files -> text: plain text, Markdown, HTML and PDF. Files are hostile until they have been read.

What a file is, its first bytes say; its name decides only where they leave it open.
"""

from __future__ import annotations

import stat
from pathlib import Path

from quipu.documents.document import Document
from quipu.documents.kinds import MEDIA_TYPES, kind_of
from quipu.errors import UnreadableDocument

__all__ = ["MEDIA_TYPES", "MOST_BYTES", "Document", "read", "read_bytes"]

MOST_BYTES = 64 << 20
"""Bytes of a file that is read."""
SECONDS = 120.0
"""Of computing that reading a PDF or HTML file may take; 10,000 pages of print take 70."""


def read(path: str | Path, *, seconds: float = SECONDS) -> Document:
    """The text of a file. Raises UnreadableDocument with the file's name, the cause and the remedy."""
    path = Path(path)
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            raise UnreadableDocument(f"{path} is a folder; name a file in it", param="file")
        if not stat.S_ISREG(mode):
            raise UnreadableDocument(f"{path} is a device or a pipe; name a file, or pipe it in", param="file")
        with path.open("rb") as opened:
            data = opened.read(MOST_BYTES + 1)
    except (OSError, ValueError) as error:  # ValueError: a name with a NUL in it
        cause = (error.strerror or str(error)) if isinstance(error, OSError) else str(error)
        raise UnreadableDocument(f"{str(path)!r:.300} cannot be read: {cause}", param="file") from None
    return read_bytes(data, str(path), seconds=seconds)


def read_bytes(
    data: bytes, name: str = "the file", *, media_type: str | None = None, seconds: float = SECONDS
) -> Document:
    """The text of a file's content. ``name`` is for messages, and its ending or ``media_type`` where content is open.

    PDF and HTML are read in a process of its own with little memory and ``seconds`` of time. Raises UnreadableDocument.
    """
    if len(data) > MOST_BYTES:
        raise UnreadableDocument(
            f"{name} has more than {MOST_BYTES >> 20} MiB; cut it into smaller files", param="file"
        )
    if not data.strip():
        raise UnreadableDocument(f"{name} is empty", param="file")
    # Here, so that a file of one kind costs only what that kind needs.
    match kind_of(data, name, media_type):
        case "pdf":
            from quipu.documents.pdf import read_pdf

            return read_pdf(data, name, seconds)
        case "html":
            from quipu.documents.html import read_html

            return read_html(data, name, seconds)
        case "markdown":
            from quipu.documents.markdown import read_markdown

            return read_markdown(data, name)
    from quipu.documents.text import read_text

    return read_text(data, name)
