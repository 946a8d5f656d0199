"""The page to judge on: real requests to its server, and its keys in a real browser where there is one."""

import http.client
import io
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from ecodatum.cli.label_page import LabelPage
from ecodatum.curate.drawing import draw_samples
from ecodatum.curate.label_file import LabelFile
from ecodatum.pool.pool import open_pool
from tests.browser import Browser, needs_chromium
from tests.conftest import MakePool, disc

HOSTILE = '<img src=x onerror="document.title=1"> & "quoted", ünïcödé'


class Session:
    """A running page, with the samples that it shows."""

    def __init__(self, pool: Path, out: Path, count: int = 3) -> None:
        self.file = LabelFile(out)
        self.samples = draw_samples(open_pool(pool), count, 0)
        self.server = LabelPage(self.samples, self.file, 0)
        self.thread = threading.Thread(target=self.server.serve_forever)
        self.thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()
        self.file.__exit__()

    def ask(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> tuple[http.client.HTTPResponse, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.server.server_port, timeout=10)
        sent = None if body is None else json.dumps(body) if not isinstance(body, str) else body
        connection.request(method, path, sent, {"Content-Type": "application/json", **(headers or {})})
        answer = connection.getresponse()
        data = answer.read()
        connection.close()
        return answer, data

    def state(self) -> Any:
        return json.loads(self.ask("GET", "/state")[1])

    def judge(self, uid: str, label: str) -> int:
        return self.ask("POST", "/judge", {"uid": uid, "label": label})[0].status


@pytest.fixture
def pool(make_pool: MakePool) -> Path:
    return make_pool(rows=3, parts=1, changes={i: {"text": f"{HOSTILE} {i}"} for i in range(3)})


@pytest.fixture
def session(pool: Path, tmp_path: Path) -> Iterator[Session]:
    session = Session(pool, tmp_path / "labels.csv")
    yield session
    session.close()


def lines(folder: Path) -> list[str]:
    return (folder / "labels.csv").read_text().splitlines()[1:]


def test_each_judgement_is_on_the_disk_before_the_next_sample_comes(session: Session, tmp_path: Path) -> None:
    first, second, third = (drawn.uid for drawn in session.samples)
    assert session.state() == {
        "uid": first, "caption": session.samples[0].caption, "total": 3, "keep": 0, "drop": 0,
    }  # fmt: skip
    assert session.judge(first, "keep") == 200
    assert lines(tmp_path) == [f"{first},keep,person"]
    session.judge(second, "drop")
    session.judge(third, "drop")
    assert lines(tmp_path) == [f"{first},keep,person", f"{second},drop,person", f"{third},drop,person"]
    assert session.state() == {"uid": None, "caption": None, "total": 3, "keep": 1, "drop": 2}


def test_undo_brings_the_last_sample_back(session: Session, tmp_path: Path) -> None:
    first, second, _ = (drawn.uid for drawn in session.samples)
    session.judge(first, "keep")
    session.judge(second, "keep")
    assert json.loads(session.ask("POST", "/undo", {})[1])["uid"] == second
    session.judge(second, "drop")
    assert lines(tmp_path) == [f"{first},keep,person", f"{second},drop,person"]
    for _ in range(5):
        session.ask("POST", "/undo", {})
    assert lines(tmp_path) == [] and session.state()["uid"] == first


def test_a_key_pressed_twice_judges_once(session: Session, tmp_path: Path) -> None:
    uid = session.samples[0].uid
    assert [session.judge(uid, "keep"), session.judge(uid, "keep")] == [200, 409]
    assert len(lines(tmp_path)) == 1


def test_it_goes_on_where_it_stopped_and_leaves_other_labels_alone(pool: Path, tmp_path: Path) -> None:
    other = "f" * 32
    (tmp_path / "labels.csv").write_text(f"uid,label,source\n{other},keep,trusted\n")
    first = Session(pool, tmp_path / "labels.csv")
    first.ask("POST", "/undo", {})  # not ours to take back
    first.judge(first.samples[0].uid, "drop")
    first.close()
    second = Session(pool, tmp_path / "labels.csv")
    assert second.state()["uid"] == second.samples[1].uid and second.state()["drop"] == 1
    second.close()
    assert lines(tmp_path) == [f"{other},keep,trusted", f"{first.samples[0].uid},drop,person"]


def test_images_are_served_in_formats_that_browsers_know(make_pool: MakePool, tmp_path: Path) -> None:
    tiff = io.BytesIO()
    Image.open(io.BytesIO(disc("red", 1))).save(tiff, "TIFF")
    session = Session(
        make_pool(rows=2, parts=1, changes={0: {"image": tiff.getvalue()}}), tmp_path / "l.csv", 2
    )
    for drawn in session.samples:
        answer, data = session.ask("GET", f"/image/{drawn.uid}")
        assert answer.getheader("Content-Type") == "image/png" and Image.open(io.BytesIO(data)).size == (
            48,
            36,
        )
    session.close()


def test_only_this_machine_is_listened_to_and_only_the_page_itself_is_answered(session: Session) -> None:
    assert session.server.server_address[0] == "127.0.0.1"
    uid = session.samples[0].uid
    judgement = {"uid": uid, "label": "keep"}
    assert session.ask("GET", "/state", headers={"Host": "evil.example"})[0].status == 403
    assert session.ask("POST", "/judge", judgement, {"Host": "evil.example"})[0].status == 403
    assert session.ask("POST", "/judge", judgement, {"Content-Type": "text/plain"})[0].status == 400
    assert session.ask("POST", "/judge", "not json")[0].status == 400
    assert session.ask("POST", "/judge", "[1]")[0].status == 400
    assert session.ask("POST", "/judge", {"uid": "x" * 2000, "label": "keep"})[0].status == 400
    assert session.ask("POST", "/judge", {"uid": uid, "label": "maybe"})[0].status == 404
    assert session.ask("GET", "/../labels.csv")[0].status == 404
    assert session.ask("GET", "/image/../../etc/passwd")[0].status == 404
    assert session.state()["keep"] == 0
    policy = session.ask("GET", "/")[0].getheader("Content-Security-Policy") or ""
    assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy


def test_the_page_loads_nothing_from_elsewhere(session: Session) -> None:
    answer, data = session.ask("GET", "/")
    page = data.decode()
    assert answer.getheader("Content-Type") == "text/html; charset=utf-8"
    assert "http://" not in page and "https://" not in page and "src=" not in page
    for needed in (
        'lang="en"',
        "<main>",
        "<h1>",
        "alt=",
        "aria-live",
        'role="alert"',
        "color-scheme: light dark",
    ):
        assert needed in page


@needs_chromium
def test_keys_judge_and_undo_in_a_browser(session: Session, tmp_path: Path) -> None:
    first, second, third = (drawn.uid for drawn in session.samples)
    told = "document.getElementById('told').textContent"
    with Browser(tmp_path / "profile") as browser:
        browser.emulate("dark")
        browser.open(session.server.address)
        browser.wait_for(told, "0 of 3 judged: 0 keep, 0 drop")
        browser.wait_for("document.getElementById('image').naturalWidth", 48)
        shown = browser.value("document.getElementById('caption').textContent")
        assert shown == session.samples[0].caption and HOSTILE in shown
        assert browser.value("document.title") == "Keep or drop"
        dark = browser.value("getComputedStyle(document.body).backgroundColor")
        browser.emulate("light")
        browser.wait_for("getComputedStyle(document.body).backgroundColor", "rgb(255, 255, 255)")
        assert dark != "rgb(255, 255, 255)"
        browser.press("k")
        browser.wait_for(told, "1 of 3 judged: 1 keep, 0 drop")
        browser.press("d")
        browser.wait_for(told, "2 of 3 judged: 1 keep, 1 drop")
        browser.press("u")
        browser.wait_for(told, "1 of 3 judged: 1 keep, 0 drop")
        assert lines(tmp_path) == [f"{first},keep,person"]
        browser.press("ArrowRight")
        browser.wait_for(told, "2 of 3 judged: 2 keep, 0 drop")
        browser.value("document.getElementById('drop').click()")
        browser.wait_for(told, "3 of 3 judged: 2 keep, 1 drop. All done; you can close this page.")
        assert browser.value("document.getElementById('sample').hidden") is True
    assert lines(tmp_path) == [f"{first},keep,person", f"{second},keep,person", f"{third},drop,person"]
