"""A hub on this computer: the few endpoints that a download asks, over real HTTP."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import unquote, urlsplit

from huggingface_hub import constants

COMMIT, TAGGED = "c0ffee" + "0" * 34, "7a6" + "0" * 37
REPO = "Wan-AI/Wan2.1-Tiny"
_LARGE_BYTES = 4096  # from here on a file is stored by its SHA-256
_CHUNK = 1 << 16
_TEMPLATE = "{repo_id}/resolve/{revision}/{filename}"


class Hub(ThreadingHTTPServer):
    """Serve folders as repositories; what was asked and sent is counted."""

    daemon_threads = True

    def __init__(self, folder: Path, repo: str = REPO) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.repo = repo
        self.folders = {COMMIT: folder, TAGGED: folder}
        self.revisions = {"main": COMMIT, "v1": TAGGED, COMMIT: COMMIT, TAGGED: TAGGED}
        self.asked: list[str] = []
        self.ranges: list[str] = []
        self.sent: Counter[str] = Counter()  # bytes by file
        self.cut_after: int | None = None  # bytes, then no more until it is None again
        self.refusal: tuple[int, str] | None = None  # status and X-Error-Code, whatever is asked
        self.ignores_ranges = False
        self.elsewhere = False  # files lie with another server, as the hub's do
        self.tokens: dict[str, str | None] = {}  # by path
        self.damaged = ""  # a file whose first byte is sent wrong

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.server_port}"

    def files(self, commit: str) -> dict[str, Path]:
        """Files of a commit by their paths."""
        folder = self.folders[commit]
        there = (path for path in sorted(folder.rglob("*")) if path.is_file())
        return {path.relative_to(folder).as_posix(): path for path in there}


@contextmanager
def serving(folder: Path, repo: str = REPO):
    """Serve *folder* as the repository *repo*."""
    hub = Hub(folder, repo)
    thread = Thread(target=hub.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield hub
    finally:
        hub.shutdown()
        thread.join()
        hub.server_close()


def point_at(url: str, monkeypatch) -> None:
    """Set in this process what HF_ENDPOINT sets in one that starts."""
    monkeypatch.setattr(constants, "ENDPOINT", url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", f"{url}/{_TEMPLATE}")


class _Handler(BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Answer what a download asks."""
        path, repo = unquote(urlsplit(self.path).path), self.server.repo
        self.server.asked.append(path)
        self.server.tokens[path] = self.headers.get("Authorization")
        if self.server.refusal is not None:
            self._refuse(*self.server.refusal)
        elif found := re.fullmatch(rf"/api/models/{repo}/revision/(.+)", path):
            self._info(found[1])
        elif self.server.elsewhere and path.startswith(f"/{repo}/resolve/"):
            there = f"http://localhost:{self.server.server_port}/storage{path}"
            self._begin(302, 0, {"Location": there})
        elif found := re.fullmatch(rf"(?:/storage)?/{repo}/resolve/([0-9a-f]+)/(.+)", path):
            self._file(found[1], found[2])
        else:
            self._refuse(404, "RepoNotFound")

    def do_HEAD(self) -> None:
        """Answer as to a GET, without the data."""
        self.do_GET()

    def _info(self, revision: str) -> None:
        commit = self.server.revisions.get(revision)
        if commit is None:
            self._refuse(404, "RevisionNotFound")
            return
        siblings = [_sibling(n, p.read_bytes()) for n, p in self.server.files(commit).items()]
        body = json.dumps({"id": self.server.repo, "sha": commit, "siblings": siblings}).encode()
        self._begin(200, len(body), {"Content-Type": "application/json"})
        self.wfile.write(body)

    def _file(self, commit: str, name: str) -> None:
        data = self.server.files(commit)[name].read_bytes()
        if name == self.server.damaged:
            data = bytes([data[0] ^ 1]) + data[1:]
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if asked and not self.server.ignores_ranges:
            start = int(asked[1])
            self.server.ranges.append(f"{name} from {start}")
            about = {"Content-Range": f"bytes {start}-{len(data) - 1}/{len(data)}"}
            self._begin(206, len(data) - start, about)
            self._send(name, data[start:])
        else:
            self._begin(200, len(data), {})
            self._send(name, data)

    def _send(self, name: str, data: bytes) -> None:
        if self.command == "HEAD":
            return
        for start in range(0, len(data), _CHUNK):
            piece = data[start : start + _CHUNK]
            if self.server.cut_after is not None:
                piece = piece[: self.server.cut_after]
                self.server.cut_after -= len(piece)
            self.wfile.write(piece)
            self.server.sent[name] += len(piece)
            if self.server.cut_after == 0:
                self.wfile.flush()
                self.server.refusal = (503, "")
                self.close_connection = True
                self.connection.shutdown(2)
                return

    def _refuse(self, status: int, code: str) -> None:
        self._begin(status, 0, {"X-Error-Code": code} if code else {})

    def _begin(self, status: int, length: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in ({"Content-Length": str(length)} | headers).items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Stay silent."""


def _sibling(name: str, data: bytes) -> dict[str, object]:
    blob = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()  # noqa: S324  Git's own
    sibling: dict[str, object] = {"rfilename": name, "size": len(data), "blobId": blob}
    if len(data) >= _LARGE_BYTES:
        sha256 = hashlib.sha256(data).hexdigest()
        sibling["lfs"] = {"sha256": sha256, "size": len(data), "pointerSize": 128}
    return sibling
