"""PDF, by pypdf: slower than PDFium, and it has no memory that a file could corrupt."""

from __future__ import annotations

from typing import Any

from quipu.documents.apart import apart, lost
from quipu.documents.document import Document, clean, refuse, title_of
from quipu.documents.kinds import MEDIA_TYPES

_LISTED = 10


def read_pdf(data: bytes, name: str, seconds: float) -> Document:
    """The text of a PDF, pages apart by a blank line. Raises UnreadableDocument."""
    found = apart("pdf", data, name, seconds)
    pages, empty = found["pages"], found["empty"]
    if len(empty) == pages:
        raise refuse(name, "has no text in it; it may be scanned images: recognise them first, e.g. with ocrmypdf")
    notes: tuple[str, ...] = ()
    if empty:
        listed = ", ".join(map(str, empty[:_LISTED])) + (" ..." if len(empty) > _LISTED else "")
        notes = (f"{len(empty)} of {pages} pages have no text; they may be images: {listed}",)
    return Document(clean(found["text"]), MEDIA_TYPES["pdf"], pages, title_of(found["title"]), notes)


def extract(data: bytes) -> dict[str, Any]:
    """Text, title, number of pages and the pages without text; runs apart."""
    import io
    import logging

    from pypdf import PasswordType, PdfReader
    from pypdf.errors import DependencyError, LimitReachedError, PyPdfError

    logging.disable()  # it tells of every fault it mends
    encrypted = lost("is encrypted; take the password off, e.g. with qpdf --decrypt, and try again")
    try:
        reader = PdfReader(io.BytesIO(data))
        if reader.is_encrypted and reader.decrypt("") == PasswordType.NOT_DECRYPTED:
            raise encrypted
        texts = [page.extract_text().strip() for page in reader.pages]
        title = reader.metadata.title if reader.metadata else None
    except DependencyError:  # AES, which it leaves to a library that quipu does without
        raise encrypted from None
    except LimitReachedError:
        raise lost("unpacks to far more than its size, as a decompression bomb does; it is not read") from None
    except RecursionError:
        raise lost("is nested too deep to be read; print it into a new PDF") from None
    except PyPdfError as error:
        raise lost(f"is damaged ({error}); get it again, or print it into a new PDF") from None
    return {
        "text": "\n\n".join(filter(None, texts)),
        "title": title,
        "pages": len(texts),
        "empty": [number for number, text in enumerate(texts, 1) if not text],
    }
