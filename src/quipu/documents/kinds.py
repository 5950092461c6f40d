"""What kind of file something is: by its first bytes, else by the ending of its name, else by its declared type."""

from __future__ import annotations

import io
import re
import zipfile
from pathlib import PurePath
from typing import Literal

from quipu.documents.document import refuse

Kind = Literal["text", "markdown", "html", "pdf"]

MEDIA_TYPES: dict[Kind, str] = {
    "text": "text/plain",
    "markdown": "text/markdown",
    "html": "text/html",
    "pdf": "application/pdf",
}
READ = "quipu reads text, Markdown, HTML and PDF"

_ENDINGS: dict[str, Kind] = {
    ".md": "markdown", ".markdown": "markdown", ".mdown": "markdown",
    ".html": "html", ".htm": "html", ".xhtml": "html",
    ".pdf": "pdf",
}  # fmt: skip
_DECLARED: dict[str, Kind] = {
    **{media_type: kind for kind, media_type in MEDIA_TYPES.items()},
    "text/x-markdown": "markdown",
    "application/xhtml+xml": "html",
}

_SIGNATURES = {
    b"\x89PNG": "a PNG image",
    b"\xff\xd8\xff": "a JPEG image",
    b"GIF8": "a GIF image",
    b"II*\0": "a TIFF image",
    b"MM\0*": "a TIFF image",
    b"{\\rtf": "an RTF document",
    b"%!PS": "a PostScript file",
    b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1": "an old Microsoft Office document (doc, xls or ppt)",
    b"\x1f\x8b": "a gzip archive",
    b"BZh": "a bzip2 archive",
    b"\xfd7zXZ": "an xz archive",
    b"\x28\xb5\x2f\xfd": "a zstd archive",
    b"7z\xbc\xaf": "a 7z archive",
    b"\x7fELF": "a program",
    b"MZ\x90": "a program",
    b"GGUF": "a GGUF model",
    b"SQLite format 3": "an SQLite database",
    b"ID3": "a sound file",
    b"OggS": "a sound file",
    b"fLaC": "a sound file",
}
_IN_ZIP = {
    "word/": "a Word document (docx)",
    "xl/": "an Excel workbook (xlsx)",
    "ppt/": "a PowerPoint presentation (pptx)",
    "META-INF/container.xml": "an EPUB book",
    "content.xml": "an OpenDocument file",
}
_HTML = re.compile(rb"\s*(<\?xml[^>]{0,200}>\s*|<!--.{0,2000}?-->\s*)*<(!doctype\s+html|html)[\s>]", re.I | re.S)
_BEGINNING = 4096


def kind_of(data: bytes, name: str, media_type: str | None = None) -> Kind:
    """What ``data`` is to be read as. Raises UnreadableDocument for a kind that is known and not read."""
    beginning = data[:_BEGINNING].removeprefix(b"\xef\xbb\xbf")
    ending = PurePath(name).suffix.lower()
    if beginning.lstrip().startswith(b"%PDF-") or (ending == ".pdf" and b"%PDF-" in beginning[:1024]):
        return "pdf"
    if (foreign := _foreign(data, beginning)) is not None:
        raise refuse(name, f"is {foreign}; {READ}: save it as one of these")
    if _HTML.match(beginning) or _HTML.match(beginning.replace(b"\0", b"").lstrip(b"\xff\xfe")):  # or in UTF-16
        return "html"
    declared = (media_type or "").partition(";")[0].strip().lower()
    kind = _ENDINGS.get(ending) or _DECLARED.get(declared, "text")
    if kind == "pdf":
        raise refuse(name, "is called a PDF and is none: it does not begin with %PDF-; get the file again")
    return kind


def _foreign(data: bytes, beginning: bytes) -> str | None:
    """What a file is that is not read, None if nothing speaks against it."""
    for signature, what in _SIGNATURES.items():
        if beginning.startswith(signature):
            return what
    if beginning[:4] == b"RIFF" and beginning[8:12] in (b"WEBP", b"WAVE", b"AVI "):
        return "an image, a sound or a film"
    if beginning[4:8] == b"ftyp":
        return "an image, a sound or a film"
    if beginning.startswith(b"PK\x03\x04"):
        return _archive(data)
    return None


def _archive(data: bytes) -> str:
    """What is in a zip archive, by the names in its directory alone: nothing is unpacked."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError, OSError):
        return "a damaged zip archive"
    for part, what in _IN_ZIP.items():
        if any(name.startswith(part) for name in names):
            return what
    return "a zip archive"
