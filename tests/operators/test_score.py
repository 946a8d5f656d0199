from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from ecodatum.errors import PoolError
from ecodatum.operators.operator import (
    Column,
    ImageBatch,
    ImageOperator,
    Operator,
    Parameters,
    Scores,
    create,
)
from ecodatum.operators.score import Counts, errors_path, score
from tests.operators.tiny_samples import Row, encoded, make_part, picture

JPEG = encoded(picture())


class Width(ImageOperator):
    """A user's operator: the image's width, not a number for the odd ones; refuses width 13."""

    name = "width"
    version = 1

    def __init__(self) -> None:
        super().__init__(Parameters())
        self.batches: list[int] = []

    @property
    def columns(self) -> tuple[Column, ...]:
        return (Column("width", pa.float32(), "pixels"),)

    def view(self, image: Image.Image) -> int:
        if image.width == 13:
            raise ValueError("unlucky")
        return image.width

    def score(self, batch: ImageBatch) -> Scores:
        self.batches.append(len(batch.views))
        return self.scores({"width": [float("nan") if view % 2 else float(view) for view in batch.views]})


def wide(width: int) -> bytes:
    return encoded(Image.new("RGB", (width, 5)))


def run(
    folder: Path, rows: Sequence[Row], operators: Mapping[str, Operator], **options: Any
) -> tuple[dict[str, Counts], dict[str, list[dict[str, Any]]], dict[str, list[dict[str, Any]]]]:
    """Score the rows; return the counts, and the scores and the errors by operator."""
    part = make_part(folder, rows, **options.pop("metadata", {}))
    outputs = {key: folder / "scores" / f"{key}.parquet" for key in operators}
    counts = score(part, operators, outputs, device="cpu", **options)
    read = {key: pq.read_table(path).to_pylist() for key, path in outputs.items()}
    errors = {key: pq.read_table(errors_path(path)).to_pylist() for key, path in outputs.items()}
    return counts, read, errors


def test_scores_come_in_the_order_of_the_metadata(tmp_path: Path) -> None:
    rows = [Row(uid, "a", wide(2 * uid)) for uid in (9, 3, 7, 1, 8)]
    counts, scores, errors = run(tmp_path, rows, {"w": Width()})
    assert [(row["uid_high"], row["uid_low"], row["width"]) for row in scores["w"]] == [
        (0, uid, 2.0 * uid) for uid in (9, 3, 7, 1, 8)
    ]
    assert counts["w"] == Counts(rows=5, scored=5, missing=0, failed=0, first=[])
    assert errors["w"] == []


def test_a_row_without_an_image_is_null_and_named_missing(tmp_path: Path) -> None:
    counts, scores, errors = run(tmp_path, [Row(1, "a"), Row(2, "b", wide(4))], {"w": Width()})
    assert [row["width"] for row in scores["w"]] == [None, 4]
    assert errors["w"] == [{"uid": f"{1:032x}", "shard": None, "key": None, "reason": "image missing"}]
    assert counts["w"] == Counts(rows=2, scored=1, missing=1, failed=0, first=[])


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (JPEG[:-100], "cannot decode: image file is truncated"),
        (JPEG[:300], "cannot decode: Truncated File Read"),
        (b"<html>404</html>", "cannot decode: none of JPEG, PNG"),
        (b"", "cannot decode: none of JPEG, PNG"),
        (wide(13), "cannot be scored: unlucky"),
        (wide(15), "width is not a number"),
    ],
)
def test_a_bad_image_is_null_counted_and_named(tmp_path: Path, data: bytes, reason: str) -> None:
    counts, scores, errors = run(tmp_path, [Row(1, "a", data), Row(2, "b", wide(4))], {"w": Width()})
    assert [row["width"] for row in scores["w"]] == [None, 4]
    (error,) = errors["w"]
    assert (error["shard"], error["key"]) == ("00000000.tar", "000000")
    assert error["reason"].startswith(reason)
    assert (counts["w"]["scored"], counts["w"]["failed"]) == (1, 1)
    assert counts["w"]["first"] == [f"00000000.tar:000000: {error['reason']}"]


def test_an_operator_that_fails_does_not_touch_another(tmp_path: Path) -> None:
    operators = {"w": Width(), "quality": create("image_quality", {})}
    counts, scores, _ = run(tmp_path, [Row(1, "a", wide(13)), Row(2, "b", wide(6))], operators)
    assert [row["width"] for row in scores["w"]] == [None, 6]
    assert all(row["size"] is not None for row in scores["quality"])
    assert (counts["w"]["failed"], counts["quality"]["failed"]) == (1, 0)


def test_a_uid_that_is_twice_in_the_metadata_gets_its_scores_twice(tmp_path: Path) -> None:
    rows = [Row(5, "a", wide(6)), Row(2, "b", wide(8)), Row(5, "a")]
    counts, scores, errors = run(tmp_path, rows, {"w": Width()})
    assert [row["width"] for row in scores["w"]] == [6, 8, 6]
    assert errors["w"] == []
    assert counts["w"]["missing"] == 0


def test_images_are_decoded_once_and_handed_out_in_batches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = []
    genuine = Image.open
    monkeypatch.setattr(Image, "open", lambda *a, **k: opened.append(1) or genuine(*a, **k))  # type: ignore[func-returns-value]
    first, second = Width(), Width()
    run(tmp_path, [Row(n, "a", wide(2)) for n in range(7)], {"a": first, "b": second}, batch_size=3)
    assert len(opened) == 7
    assert first.batches == second.batches == [3, 3, 1]


def test_the_batch_size_changes_no_byte(tmp_path: Path) -> None:
    rows = [Row(n, "some words", encoded(picture(seed=n))) for n in range(8)]
    for size in (1, 3, 100):
        run(tmp_path / str(size), rows, {"q": create("image_quality", {})}, batch_size=size)
    files = {(tmp_path / str(size) / "scores" / "q.parquet").read_bytes() for size in (1, 3, 100)}
    assert len(files) == 1


def test_metadata_and_image_operators_score_in_one_call(tmp_path: Path) -> None:
    operators = {
        "w": Width(),
        "caption": create("caption", {}),
        "metadata": create("metadata", {"columns": ["x"]}),
    }
    done: list[int] = []
    rows = [Row(1, "two words", wide(4)), Row(2, None, wide(6)), Row(3, "one")]
    counts, scores, errors = run(
        tmp_path, rows, operators, metadata={"x": [1.5, float("nan"), None]}, progress=done.append
    )
    assert [row["words"] for row in scores["caption"]] == [2, None, 1]
    assert [row["x"] for row in scores["metadata"]] == [1.5, None, None]
    assert [error["reason"] for error in errors["metadata"]] == ["x is missing", "x is not a number"]
    assert errors["caption"][0]["uid"] == f"{2:032x}"
    assert counts["caption"]["first"] == [f"uid {2:032x}: no caption"]
    assert sum(done) == 2 * len(rows)


def test_a_missing_column_is_named_with_what_is_there(tmp_path: Path) -> None:
    with pytest.raises(PoolError, match=r"part\.parquet: metadata has no column nosuch\n.*it has: uid, text"):
        run(tmp_path, [Row(1, "a")], {"m": create("metadata", {"columns": ["nosuch"]})})


def test_a_column_without_numbers_is_named_with_its_file(tmp_path: Path) -> None:
    with pytest.raises(PoolError, match=r"part\.parquet: the metadata column text holds"):
        run(tmp_path, [Row(1, "a")], {"m": create("metadata", {"columns": ["text"]})})


def test_a_sample_of_another_pool_is_refused(tmp_path: Path) -> None:
    rows, stranger = [Row(1, "a", wide(4))], Row(255, "b", wide(4))
    with pytest.raises(
        PoolError, match=rf"00000000\.tar: sample 000001 has the uid {255:032x}, which is not"
    ):
        run(tmp_path, rows, {"w": Width()}, metadata={"strangers": [stranger]})


def test_a_part_without_shards_cannot_give_image_scores(tmp_path: Path) -> None:
    with pytest.raises(PoolError, match="the pool has no shards of this part, and w needs its images"):
        run(tmp_path, [Row(1, "a")], {"w": Width()})


def test_a_truncated_shard_fails_and_leaves_nothing(tmp_path: Path) -> None:
    part = make_part(tmp_path, [Row(n, "a", wide(4)) for n in range(3)])
    tar = part.shards[0].path
    tar.write_bytes(tar.read_bytes()[:1700])
    output = tmp_path / "scores" / "w.parquet"
    with pytest.raises(PoolError, match=r"00000000\.tar: truncated shard: .*offset"):
        score(part, {"w": Width()}, {"w": output}, device="cpu")
    assert list(output.parent.iterdir()) == []


def test_when_every_image_fails_the_scores_are_all_null(tmp_path: Path) -> None:
    counts, scores, _ = run(tmp_path, [Row(n, "a", b"x") for n in range(9)], {"w": Width()})
    assert [row["width"] for row in scores["w"]] == [None] * 9
    assert counts["w"]["failed"] == 9
    assert len(counts["w"]["first"]) == 5


def test_uids_keep_all_their_bits(tmp_path: Path) -> None:
    uid = 0xFEDCBA9876543210_F123456789ABCDEF
    _, scores, _ = run(tmp_path, [Row(uid, "a", wide(2))], {"w": Width()})
    high, low = np.uint64(scores["w"][0]["uid_high"]), np.uint64(scores["w"][0]["uid_low"])
    assert int(high) << 64 | int(low) == uid
