"""Files of all kinds become text, or an error that names the file, the cause and the remedy."""

import io
import os
import subprocess
import sys
import time
import zipfile
import zlib
from pathlib import Path

import pdf_files
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quipu import documents
from quipu.errors import UnreadableDocument

PAGE = """<!DOCTYPE html><html><head><title>Facts &amp;
 figures</title><style>b {}</style><script>document.write("<p>no</p>")</script></head>
<body><nav><a href="/">Home</a></nav><h1>Head</h1><p>One <b>bold</b> word.<p>caf&eacute; &#x1F999; &bogus;
<ul><li>first<li>second</ul><table><tr><th>key<th>value<tr><td>1<td>2</table><pre>  keep
   this</pre><p hidden>hid</p><p style="display: none">hid</p><p aria-hidden="true">hid</p></body></html>"""
WORDS = "Grüße aus der Straße: für Ärzte, übermäßig schöne Äpfel und Öl. Das ist ein längerer Satz. " * 20


def refused(data: bytes, name: str, **options: object) -> str:
    with pytest.raises(UnreadableDocument) as caught:
        documents.read_bytes(data, name, **options)
    assert (caught.value.status, caught.value.param) == (422, "file")
    assert str(caught.value).startswith(name)
    return str(caught.value).removeprefix(name + " ")


def read_or_refused(data: bytes, name: str) -> None:
    try:
        said = documents.read_bytes(data, name, seconds=20).text
    except UnreadableDocument as error:
        said = str(error).partition(f"{name} ")[2]
    assert said.encode()


# ---- text


@pytest.mark.parametrize(
    ("data", "text", "note"),
    [
        ("Grüße 🦙\r\nzwei\rdrei".encode(), "Grüße 🦙\nzwei\ndrei", None),
        (b"\xef\xbb\xbfmarked", "marked", None),
        ("\ufeffGrüße 🦙".encode("utf-16-le"), "Grüße 🦙", None),
        ("\ufeffGrüße 🦙".encode("utf-16-be"), "Grüße 🦙", None),
        ("\ufeffGrüße 🦙".encode("utf-32-le"), "Grüße 🦙", None),
        ("Grüße aus der Ferne\n".encode("utf-16-le"), "Grüße aus der Ferne\n", "read as utf-16-le"),
        ("Grüße aus der Ferne\n".encode("utf-16-be"), "Grüße aus der Ferne\n", "read as utf-16-be"),
        (WORDS.encode("latin-1"), WORDS, "it is not UTF-8"),
        (WORDS.encode("cp1252"), WORDS, "it is not UTF-8"),
        ((WORDS + "“mixed” ").encode() + b"caf\xe9 \x93x\x94", WORDS + "“mixed” café “x”", "UTF-8 with 3 bytes"),
        (b"page one\x0cpage two\x1b[0m", "page one\x0cpage two[0m", None),
        (b"a,b\n1,2\n", "a,b\n1,2\n", None),
    ],
)  # fmt: skip
def test_text_in_many_encodings(data, text, note):
    found = documents.read_bytes(data, "letter.txt")
    assert (found.text, found.media_type, found.pages) == (text, "text/plain", None)
    assert (note is None and found.notes == ()) or note in found.notes[0]


def test_fifty_megabytes_are_read_soon():
    started = time.monotonic()
    for encoding in ("utf-8", "latin-1"):
        data = (WORDS.encode(encoding) * (50_000_000 // len(WORDS) + 1))[:50_000_000]
        assert len(documents.read_bytes(data, "big.txt").text) > 44_000_000
    assert time.monotonic() - started < 60


@pytest.mark.parametrize(
    ("data", "name", "why"),
    [
        (b"", "a.txt", "is empty"),
        (b" \n\t\n", "a.html", "is empty"),
        (b"\xef\xbb\xbf", "a.txt", "is empty"),
        (b"some\0thing", "a.txt", "is not text: there are control characters in it"),
        (bytes(range(1, 32)) * 20, "a.txt", "is not text"),
        (os.urandom(5000), "a.txt", "save it as UTF-8"),
        (b"\xff\xfeG\0r\0\x00\xd8x\0", "a.txt", "begins as UTF-16 text and is damaged at byte"),
        (b"\x89PNG\r\n\x1a\n", "a.txt", "is a PNG image; quipu reads text, Markdown, HTML and PDF"),
        (b"{\\rtf1 text}", "a.rtf", "is an RTF document"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "a.doc", "is an old Microsoft Office document"),
        (b"RIFF1234WAVEfmt", "a.wav", "is an image, a sound or a film"),
        (b"\0\0\0\x20ftypisom", "a.mp4", "is an image, a sound or a film"),
        (b"PK\x03\x04 no more", "a.zip", "is a damaged zip archive"),
        (b"plain text", "a.pdf", "is called a PDF and is none"),
    ],
)
def test_what_is_no_text_is_refused(data, name, why):
    assert why in refused(data, name)


@pytest.mark.parametrize(
    ("part", "why"),
    [
        ("word/document.xml", "is a Word document (docx); quipu reads text, Markdown, HTML and PDF"),
        ("xl/workbook.xml", "is an Excel workbook"),
        ("content.xml", "is an OpenDocument file"),
        ("a.txt", "is a zip archive"),
    ],
)
def test_office_documents_are_refused_by_name(part, why):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr(part, "x")
    assert why in refused(packed.getvalue(), "report.docx")


def test_a_declared_type_decides_where_content_and_name_do_not():
    assert documents.read_bytes(b"# Head", "upload", media_type="text/markdown; charset=utf-8").title == "Head"
    assert documents.read_bytes(b"<p>x</p>", "upload", media_type="text/html").text.strip() == "x"
    assert documents.read_bytes(b"# Head", "upload", media_type="nonsense").media_type == "text/plain"


@settings(max_examples=150)
@given(st.binary(max_size=300))
def test_any_bytes_are_read_or_refused(data):
    read_or_refused(data, "a.txt")


# ---- Markdown


@pytest.mark.parametrize(
    ("text", "title"),
    [
        ("intro\n\n# The *title* #\n## Not\n", "The *title*"),
        ("---\ntitle: 'Front'\n---\ntext", "Front"),
        ("none", None),
    ],
)
def test_markdown_stays_as_it_is(text, title):
    found = documents.read_bytes(text.encode(), "notes.md")
    assert (found.text, found.title, found.media_type) == (text, title, "text/markdown")


# ---- HTML


@pytest.mark.parametrize("name", ["page.html", "page", "page.txt"])
def test_html_as_a_reader_sees_it(name):
    found = documents.read_bytes(PAGE.encode(), name)
    assert (found.title, found.media_type) == ("Facts & figures", "text/html")
    assert [line.split() for line in found.text.splitlines() if line.strip()] == [
        ["Head"], ["One", "bold", "word."], ["café", "🦙", "&bogus;"], ["*", "first"], ["*", "second"],
        ["key", "value"], ["1", "2"], ["keep"], ["this"],
    ]  # fmt: skip
    assert "   this" in found.text


@pytest.mark.parametrize(
    ("head", "encoding"),
    [("<meta charset=iso-8859-1>", "latin-1"), ("<meta charset=nonsense>", "utf-8"), ("", "utf-16"),
     ("<?xml version='1.0' encoding='utf-8'?>", "utf-8")],
)  # fmt: skip
def test_html_in_its_own_encoding(head, encoding):
    page = f"{head}<!doctype html><html><p>Straße für schöne Äpfel</html>"
    assert documents.read_bytes(page.encode(encoding), "a.html").text.strip() == "Straße für schöne Äpfel"


@pytest.mark.parametrize(
    ("page", "why"),
    [
        ("<div>" * 100_000 + "x", "cannot be read as HTML to its end"),
        ("<html><script>document.write('x')</script></html>", "has no text in it that a reader would see"),
        ("<html><body hidden>x", "has no text in it that a reader would see"),
        ("<html><p " + " ".join(f"a{place}=1" for place in range(200_000)) + ">x", "takes longer than 2 seconds"),
        ("<html><table><tr><td>" + "x" * 2_000_000 + "<td>y" + "<tr><td>a<td>b" * 9000, "takes"),
    ],
)
def test_html_bombs_end_soon(page, why):
    started = time.monotonic()
    assert why in refused(page.encode(), "bomb.html", seconds=2)
    assert time.monotonic() - started < 30


def test_entities_do_not_explode():
    lol = "".join(f'<!ENTITY l{n + 1} "{f"&l{n};" * 10}">' for n in range(12))
    page = f'<!DOCTYPE html [<!ENTITY l0 "lol">{lol}]><html><p>&l12; &amp;amp; x</html>'
    assert len(documents.read_bytes(page.encode(), "a.html").text) < 2000
    assert documents.read_bytes(b"<html><p>" + b"&amp;" * 500_000, "a.html").text.count("&") == 500_000


# ---- PDF


def test_a_pdf():
    data = pdf_files.printed("The first page: café.", "The second.\nTwo lines.", title="A report")
    found = documents.read_bytes(data, "report.pdf")
    assert found == documents.Document(
        "The first page: café.\n\nThe second.\nTwo lines.", "application/pdf", pages=2, title="A report"
    )
    assert documents.read_bytes(data, "report.txt") == found  # its content decides
    assert documents.read_bytes(b"junk before\n" + data, "report.pdf").text == found.text


def test_pages_without_text_are_told():
    data = pdf_files.printed("one", "", "three", "")
    assert documents.read_bytes(data, "a.pdf").notes == ("2 of 4 pages have no text; they may be images: 2, 4",)
    assert "it may be scanned images: recognise them first" in refused(pdf_files.printed("", ""), "scan.pdf")


@pytest.mark.parametrize(("password", "readable"), [("", True), ("secret", False)])
def test_an_encrypted_pdf(password, readable):
    from pypdf import PdfReader, PdfWriter

    writer = PdfWriter(PdfReader(io.BytesIO(pdf_files.printed("hidden words"))))
    writer.encrypt(password, "owner", algorithm="RC4-128")
    written = io.BytesIO()
    writer.write(written)
    if readable:
        assert documents.read_bytes(written.getvalue(), "a.pdf").text == "hidden words"
    else:
        assert "is encrypted; take the password off" in refused(written.getvalue(), "a.pdf")


def test_aes_is_said_to_be_encryption():
    encrypt = (
        b"<</Filter/Standard/V 5/R 6/Length 256/P -4/O<%s>/U<%s>/OE<%s>/UE<%s>/Perms<%s>/CF<</StdCF<</CFM/AESV3>>>>>>"
    )
    fields = encrypt % (b"00" * 48, b"00" * 48, b"00" * 32, b"00" * 32, b"00" * 16)
    data = pdf_files.assembled([b"<</Type/Catalog/Pages 2 0 R>>", b"<</Type/Pages/Kids[]/Count 0>>", fields])
    data = data.replace(b"/Root 1 0 R", b"/Root 1 0 R/Encrypt 3 0 R/ID[<00><00>]")
    assert "is encrypted; take the password off" in refused(data, "a.pdf")


@pytest.mark.parametrize("filters", [b"/FlateDecode", b"[/FlateDecode/FlateDecode]"])
def test_decompression_bombs(filters):
    packed = pdf_files.repeated(b"BT /F1 12 Tf (words and words) Tj ET\n" * 30_000, 500)
    packed = zlib.compress(packed, 9) if filters.startswith(b"[") else packed
    assert "as a decompression bomb does" in refused(pdf_files.with_content(packed, filters), "bomb.pdf")


def test_slow_and_endless_pdfs_end():
    shown = b"BT /F1 12 Tf (words and words) Tj ET\n"
    assert "takes longer than 1 seconds" in refused(
        pdf_files.with_content(pdf_files.repeated(shown * 1000, 400)), "slow.pdf", seconds=1
    )
    pages = pdf_files.assembled([b"<</Type/Catalog/Pages 2 0 R>>", b"<</Type/Pages/Kids[2 0 R]/Count 1>>"])
    assert refused(pages, "circle.pdf")


@pytest.mark.slow
def test_ten_thousand_pages():
    pages = b"".join(b"%d 0 R " % (number + 4) for number in range(10_000))
    page = b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 9 9]/Contents 3 0 R/Resources<</Font<</F1 10004 0 R>>>>>>"
    objects = [
        b"<</Type/Catalog/Pages 2 0 R>>",
        b"<</Type/Pages/Count 10000/Kids[" + pages + b"]>>",
        b"<</Length 29>>stream\nBT /F1 12 Tf (a page) Tj ET  \nendstream",
        *[page] * 10_000,
        b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>",
    ]
    found = documents.read_bytes(pdf_files.assembled(objects), "long.pdf")
    assert found.pages == 10_000
    assert found.text.split("\n\n") == ["a page"] * 10_000


SOUND = pdf_files.printed("A sound file with some words.", "And a second page.")


@pytest.mark.parametrize("kept", [0.0001, 0.1, 0.5, 0.9])
def test_truncated_pdfs(kept):
    data = b"%PDF-1.7" + SOUND[8 : max(8, int(len(SOUND) * kept))]
    read_or_refused(data, "cut.pdf")


@settings(max_examples=12)
@given(place=st.integers(8, len(SOUND) - 1), junk=st.binary(min_size=1, max_size=30))
def test_damaged_pdfs(place, junk):
    data = SOUND[:place] + junk + SOUND[place + len(junk) :]
    read_or_refused(data, "damaged.pdf")


# ---- files


def test_a_file(tmp_path):
    path = tmp_path / "a.md"
    path.write_text("# Title\n")
    assert documents.read(path).title == "Title"
    assert documents.read(str(path)).text == "# Title\n"


def test_what_is_no_file(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    big = tmp_path / "big"
    with big.open("wb") as opened:
        opened.truncate(1 << 40)
    for path, why in [
        (tmp_path, "is a folder; name a file in it"),
        (tmp_path / "missing", "cannot be read: No such file"),
        (tmp_path / "pipe", "is a device or a pipe"),
        ("/dev/zero", "is a device or a pipe"),
        (big, "has more than 64 MiB"),
        ("a\0b", "cannot be read: embedded null byte"),
        ("x" * 5000, "cannot be read: File name too long"),
    ]:
        with pytest.raises(UnreadableDocument, match=why):
            documents.read(path)


def test_a_file_of_the_working_folder_is_not_imported(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("pypdf", "quipu", "json", "lxml"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('taken')")
    assert documents.read_bytes(pdf_files.printed("safe"), "a.pdf").text == "safe"


def test_what_runs_apart_cannot_write_files(tmp_path):
    code = (
        "import resource\nfrom quipu.documents import apart, html\n"
        f"html.extract = lambda data: open({str(tmp_path / 'x')!r}, 'wb', 0).write(b'x')\n"
        "apart._main('html', 5)"
    )
    source = str(Path(documents.__file__).parents[2])
    done = subprocess.run(
        [sys.executable, "-c", code],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        env={"PYTHONPATH": source},
    )
    assert "File too large" in done.stdout
