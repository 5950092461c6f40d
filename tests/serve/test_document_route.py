"""Files become text over HTTP; what they can be and how hostile, tests/documents has."""

from __future__ import annotations

import threading
import time
from typing import Any

import httpx
import pdf_files
import pytest
from running_server import Running, serving, until

from quipu import documents
from quipu.documents import Document
from quipu.serve.documents import AT_ONCE
from quipu.serve.limits import Limits


def read(server: Running, data: bytes, name: str = "", kind: str | None = None) -> httpx.Response:
    headers = {} if kind is None else {"content-type": kind}
    return server.http.post("/v1/documents", params={"name": name} if name else {}, content=data, headers=headers)


def test_a_pdf(server: Running) -> None:
    answer = read(server, pdf_files.printed("One page.", "Another.", title="Report"), "report.pdf").json()
    assert (answer["pages"], answer["title"], answer["media_type"]) == (2, "Report", "application/pdf")
    assert "One page." in answer["text"]
    assert "Another." in answer["text"]
    assert answer["characters"] == len(answer["text"])


@pytest.mark.parametrize(
    ("data", "name", "kind", "text", "media_type"),
    [
        ("Grüße 🦙".encode(), "", None, "Grüße 🦙", "text/plain"),
        (b"# Head", "notes.md", None, "# Head", "text/markdown"),
        (b"# Head", "", "text/markdown; charset=utf-8", "# Head", "text/markdown"),
        (b"<html><body><p>said</p></body></html>", "", "application/octet-stream", "said", "text/html"),
        (b'{"a": [1]}', "a.json", "application/json", '{"a": [1]}', "text/plain"),
    ],
)
def test_other_kinds(server: Running, data: bytes, name: str, kind: str | None, text: str, media_type: str) -> None:
    answer = read(server, data, name, kind).json()
    assert (answer["text"].strip(), answer["media_type"]) == (text, media_type)


def test_what_had_to_be_guessed_is_told(server: Running) -> None:
    words = "Grüße aus der Straße: für Ärzte, übermäßig schöne Äpfel und Öl. " * 20
    answer = read(server, words.encode("latin-1"), "old.txt").json()
    assert answer["text"].startswith("Grüße")
    assert "not UTF-8" in answer["notes"][0]


@pytest.mark.parametrize(
    ("data", "name", "said"),
    [
        (b"", "", "the file is empty"),
        (b"%PDF-1.7 and nothing else", "broken.pdf", "broken.pdf "),
        (b"\x89PNG\r\n\x1a\n....", "picture", "picture is a PNG image"),
        (b"PK\x03\x04....", "a.docx", "a.docx is a damaged zip archive"),
    ],
)
def test_what_cannot_be_read(server: Running, data: bytes, name: str, said: str) -> None:
    response = read(server, data, name)
    assert response.status_code == 422
    assert response.json()["error"]["code"] == "unreadable_document"
    assert response.json()["error"]["message"].startswith(said)


def test_limits() -> None:
    with serving(limits=Limits(body_bytes=1000, json_depth=3, json_values=5)) as server:
        assert read(server, b"x" * 1001).status_code == 413
        assert read(server, b"[" * 900).json()["text"] == "[" * 900  # a file is not JSON


def test_others_are_answered_while_files_are_read(server: Running, monkeypatch: Any) -> None:
    """And no more of them are read at once than there are places, whoever has left meanwhile."""
    go, inside = threading.Event(), []

    def slow(data: bytes, name: str, media_type: str | None = None) -> Document:
        inside.append(name)
        assert go.wait(10)
        return Document("x", "text/plain")

    monkeypatch.setattr(documents, "read_bytes", slow)
    for number in range(AT_ONCE):
        with pytest.raises(httpx.ReadTimeout), httpx.Client(base_url=server.url, timeout=0.3) as client:
            client.post(f"/v1/documents?name={number}", content=b"x")
    answers: list[httpx.Response] = []
    waiting = threading.Thread(target=lambda: answers.append(read(server, b"x", "last")))
    waiting.start()
    assert server.ask("hi").choices[0].message.content == "You said: hi"
    time.sleep(0.1)
    assert len(inside) == AT_ONCE
    go.set()
    waiting.join(10)
    assert answers[0].json()["text"] == "x"
    assert inside[-1] == "last"
    until(lambda: 'route="/v1/documents",status="499"' in server.http.get("/metrics").text)
