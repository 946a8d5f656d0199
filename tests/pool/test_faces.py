"""Face boxes: which samples have some, what is done to them, and what is left alone."""

import io
import json
import random
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from ecodatum.errors import PoolError
from ecodatum.pool.faces import FaceBoxes, FaceTreatment, treat
from ecodatum.pool.pool import open_pool
from ecodatum.pool.resharding import reshard
from ecodatum.pool.shards import read_shard
from ecodatum.pool.uids import from_hex, order
from tests.conftest import MakePool, disc

FACE = [[0.25, 0.25, 0.75, 0.75]]


def _pixels(image: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(image)).convert("RGB"), dtype=float)


def _members(image: bytes) -> dict[str, bytes]:
    return {"png": image, "json": b'{"uid": "0", "caption": "caf\\u00e9"}', "txt": b"caption"}


def test_a_blurred_image_becomes_webp_and_is_smooth_in_the_box_alone() -> None:
    pytest.importorskip("img2dataset")
    noise = np.random.default_rng(0).integers(0, 256, (80, 80, 1), np.uint8).repeat(3, axis=2)
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, "PNG")
    treated = treat(_members(buffer.getvalue()), FACE, FaceTreatment(blur=True))
    assert treated is not None and list(treated) == ["json", "txt", "webp"]
    after = _pixels(treated["webp"])
    assert after[30:50, 30:50].std() < 0.5 * noise[30:50, 30:50].std()
    assert np.abs(after[:10] - noise[:10]).mean() < 0.3 * noise[:10].std()


def test_blurring_leaves_the_callers_chance_alone() -> None:
    pytest.importorskip("img2dataset")
    members = _members(disc("red", 0))
    random.seed(5)
    expected = random.random()
    random.seed(5)
    assert treat(members, FACE, FaceTreatment(blur=True)) == treat(members, FACE, FaceTreatment(blur=True))
    assert random.random() == expected


def test_boxes_are_written_as_datacomp_writes_them() -> None:
    treated = treat(_members(b""), FACE, FaceTreatment(inject=True))
    assert treated is not None and list(treated) == ["png", "json", "txt"]
    assert (
        treated["json"] == b'{"uid": "0", "caption": "caf\\u00e9", "face_bboxes": [[0.25, 0.25, 0.75, 0.75]]}'
    )


@pytest.mark.parametrize("members", [{"json": b"{}"}, {"jpg": b"no image", "json": b"{}"}, {"jpg": b""}])
def test_what_cannot_be_decoded_is_not_passed_on_with_its_face(members: dict[str, bytes]) -> None:
    pytest.importorskip("img2dataset")
    assert treat(members, FACE, FaceTreatment(blur=True)) is None


def test_rows_are_found_by_uid_and_those_without_a_face_are_not(make_pool: MakePool) -> None:
    boxes = [FACE, [], None, [*FACE, [0.0, 0.0, 0.1, 0.1]]]
    pool = open_pool(make_pool(rows=4, parts=1, changes={i: {"face_bboxes": b} for i, b in enumerate(boxes)}))
    uids = from_hex(next(iter(_uids(pool.parts[0].metadata))))
    found = FaceBoxes(pool.parts[0])
    rows = found.rows(uids)
    assert (rows >= 0).tolist() == [True, False, False, True]
    assert found.boxes(rows[3]) == boxes[3]


def _uids(path: Path) -> list[pa.ChunkedArray]:
    import pyarrow.parquet as pq

    return [pq.read_table(path, columns=["uid"])["uid"]]


def test_a_pool_without_boxes_in_its_metadata_is_refused(make_pool: MakePool) -> None:
    import pyarrow.parquet as pq

    pool = open_pool(make_pool(rows=4, parts=1))
    pq.write_table(pq.read_table(pool.parts[0].metadata).drop(["face_bboxes"]), pool.parts[0].metadata)
    with pytest.raises(PoolError, match="no column face_bboxes"):
        FaceBoxes(pool.parts[0])


def test_samples_with_and_without_faces_stay_in_order_and_fill_the_shards(
    make_pool: MakePool, tmp_path: Path
) -> None:
    pytest.importorskip("img2dataset")
    faces = (0, 3, 4, 11)
    changes = {i: {"face_bboxes": FACE} for i in faces} | {3: {"face_bboxes": FACE, "image": b"broken"}}
    pool = open_pool(make_pool(rows=12, parts=1, changes=changes))
    uids = from_hex(_uids(pool.parts[0].metadata)[0])
    subset = np.concatenate([uids, uids[:1]])  # the first one twice
    done = reshard(
        pool.parts[0],
        subset[order(subset)],
        tmp_path / "out",
        shard_size=5,
        faces=FaceTreatment(blur=True, inject=True),
    )
    assert (done.processed, done.written, done.blurred, done.dropped, done.shards) == (12, 12, 3, 1, 3)
    samples = [s for tar in sorted((tmp_path / "out").glob("*.tar")) for s in read_shard(tar)]
    hexes = _uids(pool.parts[0].metadata)[0].to_pylist()
    order_ = [f"{hexes[0]}-0", *(f"{uid}-{int(i == 0)}" for i, uid in enumerate(hexes) if i != 3)]
    assert [sample.key for sample in samples] == order_
    blurred = [sample.key[:32] for sample in samples if "webp" in sample.members]
    assert blurred == [hexes[0], hexes[0], hexes[4], hexes[11]]
    assert all(("face_bboxes" in json.loads(s.members["json"])) == ("webp" in s.members) for s in samples)
