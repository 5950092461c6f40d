"""PDF files for tests: real ones by fpdf2, wrong ones by hand."""

import zlib

from fpdf import FPDF


def printed(*pages: str, title: str = "") -> bytes:
    """A PDF with a page for each text; none on it for an empty one."""
    document = FPDF()
    document.set_font("Helvetica", size=11)
    if title:
        document.set_title(title)
    for text in pages:
        document.add_page()
        if text:
            document.multi_cell(0, 6, text)
        else:
            document.rect(10, 10, 50, 50)
    return bytes(document.output())


def with_content(content: bytes, filters: bytes = b"/FlateDecode") -> bytes:
    """A PDF of one page whose content stream is ``content``, already compressed."""
    stream = b"<</Length %d/Filter %s>>stream\n" % (len(content), filters) + content + b"\nendstream"
    page = b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 9 9]/Contents 4 0 R/Resources<</Font<</F1 5 0 R>>>>>>"
    font = b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>"
    return assembled([b"<</Type/Catalog/Pages 2 0 R>>", b"<</Type/Pages/Kids[3 0 R]/Count 1>>", page, stream, font])


def assembled(objects: list[bytes]) -> bytes:
    """Objects, numbered from 1, with a table of where they are."""
    out, places = b"%PDF-1.4\n", []
    for number, each in enumerate(objects, 1):
        places.append(len(out))
        out += b"%d 0 obj\n" % number + each + b"\nendobj\n"
    table = b"".join(b"%010d 00000 n \n" % place for place in places)
    head = b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    end = b"trailer<</Size %d/Root 1 0 R>>\nstartxref\n%d\n%%%%EOF" % (len(objects) + 1, len(out))
    return out + head + table + end


def repeated(text: bytes, times: int) -> bytes:
    """``text`` so many times, compressed without ever being whole."""
    packer = zlib.compressobj(9)
    return b"".join([*(packer.compress(text) for _ in range(times)), packer.flush()])
