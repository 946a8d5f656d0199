"""The server behind the page on which a person judges samples: of this machine, for this machine."""

import io
import json
import threading
from collections.abc import Sequence
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

from PIL import Image

from ecodatum.curate.drawing import Drawn
from ecodatum.curate.label_file import LabelFile
from ecodatum.curate.labels import DROP, KEEP
from ecodatum.operators.images import decode

_HOST: Final = "127.0.0.1"
_PAGE: Final = Path(__file__).with_name("label_page.html")
_LONGEST: Final = 1000
_SHOWN: Final = ("JPEG", "PNG", "WEBP", "GIF", "BMP")

#: The page may load from its own server alone, and nothing may frame it.
_POLICY: Final = (
    "default-src 'none'; img-src 'self'; style-src 'unsafe-inline'; script-src 'unsafe-inline';"
    " connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


class LabelPage(ThreadingHTTPServer):
    """Shows samples in order, and appends each judgement to the labels file before it answers."""

    daemon_threads = True

    def __init__(self, samples: Sequence[Drawn], labels: LabelFile, port: int) -> None:
        super().__init__((_HOST, port), _Handler)
        self._samples, self._labels = {drawn.uid: drawn for drawn in samples}, labels
        self._lock = threading.Lock()

    @property
    def address(self) -> str:
        """Where the page is."""
        return f"http://{_HOST}:{self.server_port}/"

    def state(self) -> dict[str, Any]:
        """Return the sample that is to be judged next, and how far the judging is."""
        with self._lock:
            return self._state()

    def image(self, uid: str) -> tuple[bytes, str] | None:
        """Return a sample's encoded image and its media type, in a format that browsers know."""
        drawn = self._samples.get(uid)
        image = decode(drawn.sample.image if drawn else None)
        if drawn is None or drawn.sample.image is None or isinstance(image, str):
            return None
        if image.format in _SHOWN:
            return drawn.sample.image, Image.MIME[image.format]
        data = io.BytesIO()
        image.convert("RGB").save(data, "PNG")
        return data.getvalue(), Image.MIME["PNG"]

    def judge(self, uid: str, label: str) -> dict[str, Any] | None:
        """Save a judgement; None where the sample is not the one to be judged (a key pressed twice)."""
        with self._lock:
            if self._state()["uid"] != uid:
                return None
            self._labels.append(uid, label, "person")
            return self._state()

    def undo(self) -> dict[str, Any]:
        """Take the last judgement back, which makes its sample the next one."""
        with self._lock:
            if any(judgement.uid in self._samples for judgement in self._labels.judgements[-1:]):
                self._labels.undo()
            return self._state()

    def _state(self) -> dict[str, Any]:
        judged = {j.uid: j.label for j in self._labels.judgements if j.uid in self._samples}
        waiting = next((drawn for uid, drawn in self._samples.items() if uid not in judged), None)
        return {
            "uid": waiting.uid if waiting else None,
            "caption": waiting.caption if waiting else None,
            "total": len(self._samples),
            "keep": sum(label == KEEP for label in judged.values()),
            "drop": sum(label == DROP for label in judged.values()),
        }


class _Handler(BaseHTTPRequestHandler):
    server: LabelPage
    server_version, sys_version = "ecodatum", ""

    def do_GET(self) -> None:
        if not self._is_own():
            return
        if self.path == "/":
            self._answer(_PAGE.read_bytes(), "text/html; charset=utf-8")
        elif self.path == "/state":
            self._answer_json(self.server.state())
        elif image := self.server.image(self.path.removeprefix("/image/")):
            self._answer(*image)
        else:
            self._refuse(HTTPStatus.NOT_FOUND)

    def do_POST(self) -> None:
        """Take `/judge` {uid, label} and `/undo`. Another site's page can send no JSON here unasked."""
        if not self._is_own():
            return
        size = self.headers.get("Content-Length", "")
        if (
            self.headers.get("Content-Type") != "application/json"
            or not size.isdigit()
            or int(size) > _LONGEST
        ):
            self._refuse(HTTPStatus.BAD_REQUEST)
            return
        try:
            asked = json.loads(self.rfile.read(int(size)))
            uid, label = str(asked.get("uid")), asked.get("label")
        except (ValueError, AttributeError):
            self._refuse(HTTPStatus.BAD_REQUEST)
            return
        if self.path == "/undo":
            self._answer_json(self.server.undo())
        elif self.path == "/judge" and label in (KEEP, DROP):
            state = self.server.judge(uid, label)
            if state is None:
                self._refuse(HTTPStatus.CONFLICT)
            else:
                self._answer_json(state)
        else:
            self._refuse(HTTPStatus.NOT_FOUND)

    def _is_own(self) -> bool:
        """Refuse a request that a foreign name led here: another site's page could read the answer."""
        port = self.server.server_port
        own = self.headers.get("Host") in (f"{_HOST}:{port}", f"localhost:{port}")
        if not own:
            self._refuse(HTTPStatus.FORBIDDEN)
        return own

    def _answer_json(self, value: Any) -> None:
        self._answer(json.dumps(value).encode(), "application/json")

    def _refuse(self, status: HTTPStatus) -> None:
        self._answer(status.phrase.encode(), "text/plain", status)

    def _answer(self, body: bytes, kind: str, status: HTTPStatus = HTTPStatus.OK) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Content-Security-Policy", _POLICY)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Stay quiet: a line a key would bury what matters."""
