"""A web server on this machine: the hub with a pool's metadata, and the sites with its images."""

import hashlib
import json
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from urllib.parse import urlsplit

from tests.loopback_server import served

COMMIT = "1234567890123456789012345678901234567890"


@dataclass
class Web:
    """What is served: the repository's files, and images by path; what is in neither is a 404.

    slow: seconds before an image is given. cut: files of the repository that end after so many bytes, once.
    """

    repository: str
    files: Mapping[str, Path]
    images: Mapping[str, bytes]
    slow: Mapping[str, float] = field(default_factory=dict)
    cut: dict[str, int] = field(default_factory=dict)
    address: str = ""
    asked: list[str] = field(default_factory=list)

    def about(self, path: str) -> object:
        """Answer a question about the repository, None for another."""
        if path == f"/api/datasets/{self.repository}":
            return {"id": self.repository, "sha": COMMIT, "siblings": [], "private": False, "disabled": False}
        if path == f"/api/datasets/{self.repository}/tree/{COMMIT}":
            return [
                {"type": "file", "path": name, "oid": "0" * 40, "size": file.stat().st_size}
                for name, file in self.files.items()
            ]
        return None


@contextmanager
def serving(web: Web) -> Iterator[Web]:
    """Serve on a free port while the block runs."""
    with served(_handler(web)) as web.address:
        yield web


def _handler(web: Web) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.give(body=False)

        def do_GET(self) -> None:
            self.give(body=True)

        def give(self, *, body: bool) -> None:
            path = urlsplit(self.path).path
            web.asked.append(f"{self.command} {path}")
            file = re.fullmatch(rf"/datasets/{web.repository}/resolve/{COMMIT}/(.+)", path)
            about = web.about(path)
            if about is not None:
                self.answer(200, json.dumps(about).encode(), body=body)
            elif file and file[1] in web.files:
                self.answer_file(file[1], web.files[file[1]].read_bytes(), body=body)
            elif path in web.images:
                time.sleep(web.slow.get(path, 0))
                self.answer(200, web.images[path], body=body)
            else:
                self.answer(404, b"", body=body)

        def answer_file(self, name: str, content: bytes, *, body: bool) -> None:
            wanted = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
            start = int(wanted[1]) if wanted else 0
            headers = {
                "ETag": f'"{hashlib.sha256(content).hexdigest()}"',
                "X-Repo-Commit": COMMIT,
                "Accept-Ranges": "bytes",
            }
            if start:
                headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
            end = web.cut.pop(name, len(content)) if body else len(content)
            self.answer(206 if start else 200, content[start:], body=body, headers=headers, send=end - start)

        def answer(
            self,
            status: int,
            content: bytes,
            *,
            body: bool,
            headers: Mapping[str, str] | None = None,
            send: int | None = None,
        ) -> None:
            try:
                self.send_response(status)
                self.send_header("Content-Length", str(len(content)))
                for name, value in (headers or {}).items():
                    self.send_header(name, value)
                self.end_headers()
                if body:
                    self.wfile.write(content[:send])
            except OSError:  # the one who asked has given up
                self.close_connection = True

        def log_message(self, format: str, *arguments: object) -> None: ...

    return Handler
