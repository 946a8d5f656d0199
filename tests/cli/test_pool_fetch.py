"""`ecodatum pool fetch` against a web of this machine: metadata, images, dead links, interruptions."""

import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from ecodatum.cli.app import app
from ecodatum.errors import ConfigError, RunError
from ecodatum.pool import fetching
from ecodatum.pool.pool import open_pool
from ecodatum.pool.shards import read_shard
from tests.conftest import MakePool, disc
from tests.pool.loopback_web import Web, serving

ROWS = 12
FACE = [[0.25, 0.25, 0.75, 0.75]]

pytest.importorskip("img2dataset")


def _noise(width: int, height: int) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 1), np.uint8).repeat(3, axis=2)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def web(make_pool: MakePool) -> Iterator[Web]:
    """Two metadata files of twelve rows; dead, no image, slow and large ones are among the links."""
    images = {f"/{number}.png": disc("red", number) for number in range(2 * ROWS)}
    del images["/3.png"]
    images |= {"/5.png": b"no image", "/7.png": _noise(800, 400), "/8.png": _noise(64, 64)}
    web = Web("mlfoundations/datacomp_small", {}, images, slow={"/9.png": 3.0})
    with serving(web):
        changes: dict[int, dict[str, Any]] = {
            number: {"url": f"{web.address}/{number}.png", "face_bboxes": FACE if number == 8 else []}
            for number in range(2 * ROWS)
        }
        metadata = make_pool("source", rows=ROWS, parts=2, changes=changes) / "metadata"
        for file in sorted(metadata.glob("*.parquet")):
            np.savez(file.with_suffix(".npz"), b32_img=np.zeros((ROWS, 8), np.float16))
        web.files = {file.name: file for file in metadata.iterdir()}
        yield web


def command(web: Web, folder: Path, *more: str) -> list[str]:
    return [
        *("pool", "fetch", "--scale", "small", "--out", str(folder / "pool"), "--work", str(folder / "work")),
        *("--processes", "1", "--threads", "4", "--retries", "0", "--timeout", "1", *more),
    ]


def fetch(web: Web, folder: Path, *more: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_ENDPOINT", web.address)
        app(command(web, folder, "--jobs", "0", *more), standalone_mode=False)


def images_asked(web: Web) -> list[str]:
    return [path for path in web.asked if path.endswith(".png")]


@pytest.mark.slow
def test_a_pool_is_fetched_whole_with_what_the_web_still_has(web: Web, tmp_path: Path) -> None:
    environment = {**os.environ, "HF_ENDPOINT": web.address, "COLUMNS": "200"}
    done = subprocess.run(
        [sys.executable, "-m", "ecodatum", *command(web, tmp_path, "--jobs", "2")],
        env=environment,
        text=True,
        capture_output=True,
        timeout=180,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "21 of 24 images (87.5%)" in done.stdout
    assert re.search(r"12 .* 9 .* 75\.0% .*HTTP Error 404", done.stdout) and "timed out" in done.stdout
    pool = open_pool(tmp_path / "pool")
    assert [(part.rows, [shard.samples for shard in part.shards]) for part in pool.parts] == [
        (12, [9]),
        (12, [12]),
    ]
    assert {path.name for path in (pool.path / "metadata").glob("*.*")} >= set(web.files)
    assert sorted(path.name for path in (pool.path / "shards").iterdir()) == [
        f"{number:08d}{suffix}" for number in (0, 1) for suffix in (".parquet", ".tar", "_stats.json")
    ]
    uids = pq.read_table(pool.parts[0].metadata)["uid"].to_pylist()
    samples = {sample.key: sample.members for sample in read_shard(pool.parts[0].shards[0].path)}
    assert set(samples) == {f"{number:012d}" for number in range(ROWS) if number not in (3, 5, 9)}
    for key, members in samples.items():
        about = json.loads(members["json"])
        assert set(members) == {"jpg", "json", "txt"} and about["uid"] == uids[int(key)]
        assert members["txt"].decode() == about["caption"] and about["status"] == "success"
    sizes = {int(key): Image.open(io.BytesIO(members["jpg"])).size for key, members in samples.items()}
    assert sizes[7] == (512, 256) and sizes[0] == (48, 36)
    blurred = np.asarray(Image.open(io.BytesIO(samples[f"{8:012d}"]["jpg"])).convert("L"), float)
    assert blurred[24:40, 24:40].std() < 0.5 * blurred[:4].std()


def test_shards_that_are_there_are_not_fetched_again(
    web: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(fetching, "SHARD_ROWS", 5)
    web.slow = {}
    fetch(web, tmp_path)
    shards = tmp_path / "pool" / "shards"
    assert [shard.rows for part in open_pool(tmp_path / "pool").parts for shard in part.shards] == [
        5,
        5,
        2,
    ] * 2
    assert len(images_asked(web)) == 24
    fetch(web, tmp_path)
    assert len(images_asked(web)) == 24
    (shards / "00000001_stats.json").unlink()  # as if killed before it was written
    fetch(web, tmp_path)
    assert sorted(images_asked(web)[24:]) == sorted(f"GET /{number}.png" for number in range(5, 10))
    assert "22 of 24 images" in capfd.readouterr().out
    fetched = [
        sample.key
        for part in open_pool(tmp_path / "pool").parts
        for shard in part.shards
        for sample in read_shard(shard.path)
    ]
    assert len(fetched) == len(set(fetched)) == 22


@pytest.mark.slow
def test_killed_it_goes_on_with_the_next_shard(
    web: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetching, "SHARD_ROWS", 6)
    web.slow = {"/9.png": 60.0}
    driver = (
        "import sys; from ecodatum.pool import fetching; fetching.SHARD_ROWS = 6\n"
        "from ecodatum.cli.app import app; app(sys.argv[1:], standalone_mode=False)"
    )
    arguments = command(web, tmp_path, "--jobs", "0", "--timeout", "100")
    with subprocess.Popen(
        [sys.executable, "-c", driver, *arguments],
        env={**os.environ, "HF_ENDPOINT": web.address},
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        deadline = time.monotonic() + 120
        while "GET /9.png" not in web.asked and time.monotonic() < deadline and process.poll() is None:
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGKILL)
    assert "GET /9.png" in web.asked
    assert not list((tmp_path / "pool" / "shards").glob("*.tar"))  # nothing half-done bears a final name
    before, web.slow = len(images_asked(web)), {}
    fetch(web, tmp_path, "--timeout", "100")
    again = images_asked(web)[before:]
    assert "GET /0.png" not in again and {"GET /9.png", "GET /23.png"} <= set(again)
    assert sum(shard.samples for part in open_pool(tmp_path / "pool").parts for shard in part.shards) == 22


def test_metadata_that_were_cut_go_on(web: Web, tmp_path: Path) -> None:
    name = min(name for name in web.files if name.endswith(".parquet"))
    web.cut = {name: 1000}
    fetch(web, tmp_path, "--metadata-only", "--no-npz")
    metadata = tmp_path / "pool" / "metadata"
    assert (metadata / name).read_bytes() == web.files[name].read_bytes()
    assert not list(metadata.glob("*.npz")) and not images_asked(web)
    fetch(web, tmp_path, "--metadata-only")
    assert len(list(metadata.glob("*.npz"))) == 2
    assert json.loads((tmp_path / "pool" / "source.json").read_text())["commit"].startswith("12345")


def test_a_hub_that_is_not_there_is_an_error_of_one_message(web: Web, tmp_path: Path) -> None:
    web.repository = "another/pool"
    with pytest.raises(RunError, match="datacomp_small: cannot be fetched from the hub"):
        fetch(web, tmp_path)


def test_a_pool_is_not_continued_in_another_way(web: Web, tmp_path: Path) -> None:
    fetch(web, tmp_path, "--metadata-only", "--no-npz")
    fetching.remember(tmp_path / "pool", {"images": {"image_size": 256}})
    with pytest.raises(ConfigError, match="was begun with images"):
        fetch(web, tmp_path, "--no-npz")
    with pytest.raises(ConfigError, match="was begun with repository"):
        fetching.fetch_metadata("mlfoundations/datacomp_medium", tmp_path / "pool", embeddings=False)


def test_without_the_downloader_it_is_said_at_once(
    tmp_path: Path, web: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"needs img2dataset\n.*ecodatum\[download\]"):
        fetch(web, tmp_path)
    assert not web.asked
