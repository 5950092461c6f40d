"""A small server that speaks as much of the Hugging Face hub's API as a download needs."""

import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub:
    """Repositories by name: their files, or the refusal (status, X-Error-Code) that every request for them gets."""

    def __init__(self, repositories: dict[str, dict[str, bytes] | tuple[int, str | None]]) -> None:
        self.repositories = repositories
        self.downloaded: list[str] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def _handler(hub: Hub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *words: object) -> None:
            del words

        def do_HEAD(self) -> None:
            self._answer()

        def do_GET(self) -> None:
            self._answer()

        def _answer(self) -> None:
            parts = unquote(urlsplit(self.path).path).strip("/").split("/")
            api = parts[:2] == ["api", "models"]
            owner, name, *rest = parts[2:] if api else parts
            files = hub.repositories.get(f"{owner}/{name}", (404, "RepoNotFound"))
            if isinstance(files, tuple):
                self._refuse(*files)
            elif len(rest) > 1 and rest[1] not in ("main", COMMIT):
                self._refuse(404, "RevisionNotFound")
            elif not api:
                self._file(files, "/".join(rest[2:]))
            elif rest[:1] == ["tree"]:
                entries = [_entry(path, data) for path, data in files.items()]
                self._send(200, json.dumps(entries).encode(), {"Content-Type": "application/json"})
            else:
                siblings = [{"rfilename": path, "size": len(data)} for path, data in files.items()]
                info = {"id": f"{owner}/{name}", "sha": COMMIT, "siblings": siblings, "tags": [], "downloads": 0}
                self._send(200, json.dumps(info).encode(), {"Content-Type": "application/json"})

        def _file(self, files: dict[str, bytes], path: str) -> None:
            if path not in files:
                self._refuse(404, "EntryNotFound")
                return
            if self.command == "GET":
                hub.downloaded.append(path)
            etag = hashlib.sha256(files[path]).hexdigest()
            self._send(200, files[path], {"ETag": f'"{etag}"', "X-Repo-Commit": COMMIT})

        def _refuse(self, status: int, code: str | None) -> None:
            self._send(status, b"{}", {"X-Error-Code": code} if code else {})

        def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

    return Handler


def _entry(path: str, data: bytes) -> dict[str, object]:
    return {"type": "file", "path": path, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}
