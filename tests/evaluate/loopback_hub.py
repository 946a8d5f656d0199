"""A web server on this machine that answers as the Hugging Face hub does, for evaluation sets."""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from urllib.parse import unquote, urlsplit

from tests.loopback_server import served

COMMIT = "1234567890123456789012345678901234567890"


@dataclass
class Hub:
    """Repositories by name, each with its files; `requests` lists the paths that were asked for.

    `cut` holds the files that end after so many bytes, once.
    """

    repositories: dict[str, Mapping[str, bytes]]
    licence: str | None = "cc0-1.0"
    address: str = ""
    requests: list[str] = field(default_factory=list)
    cut: dict[str, int] = field(default_factory=dict)

    def info(self, repo: str) -> bytes:
        """The answer to a question about a repository."""
        siblings = []
        for name, content in self.repositories[repo].items():
            entry = {"rfilename": name, "size": len(content), "blobId": git_name(content)}
            if name.endswith((".tar", ".parquet")):
                sha256 = hashlib.sha256(content).hexdigest()
                entry |= {"lfs": {"size": len(content), "sha256": sha256, "pointerSize": 130}}
            siblings.append(entry)
        card = {"license": self.licence} if self.licence else {}
        answer = {"id": repo, "sha": COMMIT, "siblings": siblings, "cardData": card}
        return json.dumps(
            {**answer, "private": False, "tags": [], "downloads": 0, "disabled": False}
        ).encode()


def git_name(content: bytes) -> str:
    """The name that git gives a file's content."""
    return hashlib.sha1(f"blob {len(content)}\0".encode() + content, usedforsecurity=False).hexdigest()


@contextmanager
def serving(hub: Hub) -> Iterator[Hub]:
    """Serve a hub on a free port while the block runs."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            path = unquote(urlsplit(self.path).path)
            hub.requests.append(path)
            question = re.fullmatch(r"/api/datasets/([^/]+/[^/]+)(/revision/.+)?", path)
            file = re.fullmatch(rf"/datasets/([^/]+/[^/]+)/resolve/{COMMIT}/(.+)", path)
            if question and question[1] in hub.repositories:
                self.answer(200, hub.info(question[1]))
            elif file and file[2] in hub.repositories.get(file[1], {}):
                self.give(file[2], hub.repositories[file[1]][file[2]])
            else:
                self.answer(404, b"{}")

        def give(self, name: str, content: bytes) -> None:
            start = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").partition("-")[0])
            if start and start >= len(content):
                self.answer(416, b"")
                return
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(content) - start))
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
            self.end_headers()
            self.wfile.write(content[start : hub.cut.pop(name, None)])
            self.close_connection = True

        def answer(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *arguments: object) -> None: ...

    with served(Handler) as hub.address:
        yield hub
