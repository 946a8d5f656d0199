import pyarrow as pa
import pytest

from ecodatum.errors import PoolError
from ecodatum.operators.metadata import ImageSize, Metadata, MetadataParameters
from ecodatum.operators.operator import Parameters
from tests.operators.tiny_samples import batch


def test_clip_scores_stay_float32_and_other_numbers_become_float64() -> None:
    operator = Metadata(MetadataParameters(columns=("clip_b32_similarity_score", "votes")))
    scores = operator.score(
        batch(clip_b32_similarity_score=pa.array([0.21, None], pa.float32()), votes=[2, 3])
    )
    assert scores.values.schema.types == [pa.float32(), pa.float64()]
    assert scores.values.column("votes").to_pylist() == [2.0, 3.0]
    assert [(fault.rows.tolist(), fault.reason) for fault in scores.faults] == [
        ([1], "clip_b32_similarity_score is missing")
    ]


def test_a_column_without_numbers_is_refused() -> None:
    with pytest.raises(PoolError, match="the metadata column url holds string, not numbers"):
        Metadata(MetadataParameters(columns=("url",))).score(batch(url=["a"]))


def test_sides_and_aspect_of_an_image() -> None:
    scores = ImageSize(Parameters()).score(batch(original_width=[300, 200], original_height=[100, 200]))
    assert scores.values.to_pylist() == [
        {"short_side": 100, "long_side": 300, "aspect": 3.0},
        {"short_side": 200, "long_side": 200, "aspect": 1.0},
    ]


@pytest.mark.parametrize("width", [0, -3, None])
def test_an_unknown_size_has_no_score(width: int | None) -> None:
    scores = ImageSize(Parameters()).score(batch(original_width=[200, width], original_height=[100, 100]))
    assert scores.values.column("aspect").to_pylist() == [2.0, None]
    assert scores.values.column("short_side").to_pylist() == [100, None]
    assert scores.faults[0].rows.tolist() == [1]


def test_sizes_that_a_table_holds_as_floats_are_taken() -> None:
    scores = ImageSize(Parameters()).score(
        batch(original_width=[200.0, float("nan")], original_height=[100.0, 5.0])
    )
    assert scores.values.column("long_side").to_pylist() == [200, None]
