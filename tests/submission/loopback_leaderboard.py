"""A web server on this machine that answers as the hub does to an upload, and as the leaderboard does."""

import base64
import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import urlsplit

from tests.loopback_server import served

COMMIT = "1234567890123456789012345678901234567890"


@dataclass
class Leaderboard:
    """What has arrived: the hub's files, the database's records by key, and the notifications.

    refuse: how often each step (`hub`, `database`, `notification`) is refused before it is taken. silent:
    how often the database takes a record and hangs up. tokens: the keys that came with each step.
    """

    refuse: dict[str, int] = field(default_factory=dict)
    silent: int = 0
    files: dict[str, bytes] = field(default_factory=dict)
    commits: list[dict[str, Any]] = field(default_factory=list)
    records: dict[str, dict[str, Any]] = field(default_factory=dict)
    notifications: list[str] = field(default_factory=list)
    tokens: set[tuple[str, str]] = field(default_factory=set)
    asked: list[str] = field(default_factory=list)
    large: dict[str, bytes] = field(default_factory=dict)
    address: str = ""

    def refuses(self, step: str) -> bool:
        """Tell whether this attempt at a step is one to refuse."""
        left = self.refuse.get(step, 0)
        self.refuse[step] = max(0, left - 1)
        return left > 0

    def preupload(self, body: bytes) -> object:
        """Say how each file is to be sent: arrays and weights apart, text with the commit."""
        files = json.loads(body)["files"]
        modes = {True: "lfs", False: "regular"}
        return {
            "files": [
                {
                    "path": f["path"],
                    "uploadMode": modes[f["path"].endswith((".npy", ".pt"))],
                    "shouldIgnore": False,
                }
                for f in files
            ]
        }

    def batch(self, body: bytes) -> object:
        """Say where each large file goes."""
        objects = [
            {**o, "actions": {"upload": {"href": f"{self.address}/large/{o['oid']}", "header": {}}}}
            for o in json.loads(body)["objects"]
        ]
        return {"transfer": "basic", "objects": objects}

    def commit(self, body: bytes) -> object:
        """Take a commit, whose lines hold small files and name the large ones."""
        for line in map(json.loads, body.decode().splitlines()):
            value = line["value"]
            if line["key"] == "header":
                self.commits.append(value)
            elif line["key"] == "file":
                self.files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                self.files[value["path"]] = self.large[value["oid"]]
        url = f"{self.address}/someone/repo/commit/{COMMIT}"
        return {"success": True, "commitOid": COMMIT, "commitUrl": url, "hookOutput": ""}


@contextmanager
def serving(board: Leaderboard) -> Iterator[Leaderboard]:
    """Serve on a free port while the block runs."""
    with served(_handler(board)) as board.address:
        yield board


def _handler(board: Leaderboard) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body, path = self.take()
            self.note("hub")
            if path.endswith("/preupload/main"):
                self.answer(200, board.preupload(body))
            elif path.endswith(".git/info/lfs/objects/batch"):
                self.answer(200, board.batch(body))
            elif path.endswith("/paths-info/main"):
                self.answer(200, [])
            elif path.endswith("/commit/main"):
                if board.refuses("hub"):
                    self.answer(403, {"error": "you may not write here"})
                else:
                    self.answer(200, board.commit(body))
            else:
                self.answer(404, {"error": path})

        def do_PUT(self) -> None:
            body, path = self.take()
            large, record = re.fullmatch(r"/large/(\w+)", path), re.fullmatch(r"/database/(.+)\.json", path)
            if large:
                assert hashlib.sha256(body).hexdigest() == large[1]
                board.large[large[1]] = body
                self.answer(200, {})
            elif record:
                self.put_record(record[1], body)
            elif path == "/notification/":
                self.note("notification")
                refused = board.refuses("notification")
                board.notifications += [] if refused else [json.loads(body)["text"]]
                self.answer(500 if refused else 200, {})
            else:
                self.answer(404, {})

        def put_record(self, key: str, body: bytes) -> None:
            self.note("database")
            if board.refuses("database"):
                self.answer(500, {})
                return
            board.records[key] = json.loads(body)
            if board.silent:
                board.silent -= 1
                self.close_connection = True  # taken, and not answered
            else:
                self.answer(200, {})

        def take(self) -> tuple[bytes, str]:
            path = urlsplit(self.path).path
            board.asked.append(f"{self.command} {path}")
            return self.rfile.read(int(self.headers.get("Content-Length", 0))), path

        def note(self, step: str) -> None:
            board.tokens.add((step, self.headers.get("Authorization", "")))

        def answer(self, status: int, value: object) -> None:
            content = json.dumps(value).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *arguments: object) -> None: ...

    return Handler
