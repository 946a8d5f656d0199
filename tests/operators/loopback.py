"""A server on this machine that gives files, cuts connections, forgets ranges, and plays the model hub."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any

from tests.loopback_server import served

COMMIT = "c" * 40


@dataclass
class Site:
    """What is served, by path; `cut`: bytes after which a connection breaks, for as many requests."""

    address: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    redirects: dict[str, str] = field(default_factory=dict)
    cut: list[int] = field(default_factory=list)
    ranges: bool = True
    asked: list[tuple[str, str | None]] = field(default_factory=list)

    def add_repository(self, repo: str, files: dict[str, bytes]) -> None:
        """Serve a repository as the hub does: its listing at any revision, and its files at one commit."""
        siblings = [
            {"rfilename": name, "size": len(data), **_storage(name, data)} for name, data in files.items()
        ]
        listing = json.dumps({"id": repo, "sha": COMMIT, "siblings": siblings}).encode()
        for revision in ("main", COMMIT):
            self.files[f"/api/models/{repo}/revision/{revision}"] = listing
        self.files[f"/api/models/{repo}"] = listing
        tree = [
            {"type": "file", "path": s["rfilename"], "oid": s["blobId"], "size": s["size"]} for s in siblings
        ]
        self.files[f"/api/models/{repo}/tree/{COMMIT}"] = json.dumps(tree).encode()
        for name, data in files.items():
            self.files[f"/{repo}/resolve/{COMMIT}/{name}"] = data


def _storage(name: str, data: bytes) -> dict[str, Any]:
    sha = hashlib.sha256(data).hexdigest()
    lfs = {"lfs": {"sha256": sha, "size": len(data), "pointerSize": 134}}
    return {"blobId": sha[:40], **(lfs if name.endswith(".safetensors") else {})}


@contextmanager
def serving() -> Iterator[Site]:
    """Run a server for the block, on a port that the system chooses."""
    site = Site()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self._answer(body=False)

        def do_GET(self) -> None:
            self._answer(body=True)

        def log_message(self, format: str, *args: Any) -> None:
            pass

        def _answer(self, *, body: bool) -> None:
            path = self.path.partition("?")[0]
            wanted = self.headers.get("Range")
            if body:
                site.asked.append((path, wanted))
            if path in site.redirects:
                self._head(302, 0, {"Location": site.redirects[path]})
                return
            data = site.files.get(path)
            if data is None:
                self._head(404, 0, {})
                return
            start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and site.ranges else 0
            if start and start >= len(data):
                self._head(416, 0, {"Content-Range": f"bytes */{len(data)}"})
                return
            extra = {"Content-Range": f"bytes {start}-{len(data) - 1}/{len(data)}"} if start else {}
            self._head(206 if start else 200, len(data) - start, {**extra, **self._etag(path, data)})
            if body:
                end = len(data)
                if site.cut:
                    end = min(end, start + site.cut.pop(0))
                    self.close_connection = True
                self.wfile.write(data[start:end])

        def _etag(self, path: str, data: bytes) -> dict[str, str]:
            sha = hashlib.sha256(data).hexdigest()
            if "/resolve/" not in path:
                return {}
            etag = {"ETag": f'"{sha[:40]}"', "X-Repo-Commit": COMMIT}
            if path.endswith(".safetensors"):
                etag |= {"X-Linked-ETag": f'"{sha}"', "X-Linked-Size": str(len(data))}
            return etag

        def _head(self, status: int, length: int, headers: dict[str, str]) -> None:
            self.send_response(status)
            for name, value in {"Content-Length": str(length), **headers}.items():
                self.send_header(name, value)
            self.end_headers()

    with served(Handler) as site.address:
        yield site
