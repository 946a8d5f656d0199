from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from ecodatum.errors import AssetError
from ecodatum.operators.grounding import LEVELS, Grounding, GroundingParameters, covered, prompt
from ecodatum.operators.operator import ImageBatch
from ecodatum.operators.score import errors_path, score
from tests.operators.tiny_samples import Row, encoded, make_part, picture
from tests.operators.tiny_transformers import save_tiny_detector, transformers

CAPTIONS: list[str | None] = ["a red dog", "Photo of two CATS. A disc.", "dog", ""]
PICTURES = [
    picture(40, 30, seed=1),
    picture(40, 30, seed=2),
    picture(60, 20, seed=3),
    picture(20, 60, seed=4),
]


@pytest.fixture(scope="module", params=["GroundingDino", "MMGroundingDino"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_detector(tmp_path_factory.mktemp("detector"), request.param)


def operator(folder: Path, **parameters: Any) -> Grounding:
    grounding = Grounding(GroundingParameters(model=str(folder), **parameters))
    grounding.prepare("cpu")
    return grounding


def scores(
    grounding: Grounding, pictures: list[Image.Image] = PICTURES, captions: list[str | None] = CAPTIONS
) -> pa.RecordBatch:
    return grounding.score(ImageBatch([grounding.view(image) for image in pictures], captions)).values


def expected(folder: Path, image: Image.Image, caption: str) -> Any:
    """What transformers' own post-processing keeps of one image, above 0.1."""
    import torch

    model = transformers.AutoModelForZeroShotObjectDetection.from_pretrained(folder).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    images = transformers.AutoImageProcessor.from_pretrained(folder, backend="pil")
    processor = transformers.GroundingDinoProcessor(images, tokenizer)
    inputs = processor(images=image, text=prompt(caption), return_tensors="pt")
    with torch.inference_mode():
        output = model(**inputs)
    return processor.post_process_grounded_object_detection(output, inputs["input_ids"], threshold=0.1)[0]


def test_the_boxes_are_those_that_transformers_gives_for_each_image_alone(folder: Path) -> None:
    found = scores(operator(folder))
    for row, (image, caption) in enumerate(zip(PICTURES, CAPTIONS, strict=True)):
        wanted = expected(folder, image, caption or "")
        confidences = wanted["scores"].numpy()
        assert len(confidences) > 0
        assert found.column("confidences")[row].as_py() == pytest.approx(confidences.tolist(), abs=1e-5)
        assert np.array(found.column("boxes")[row].as_py()) == pytest.approx(
            wanted["boxes"].numpy(), abs=1e-5
        )
        assert found.column("max_confidence")[row].as_py() == pytest.approx(confidences.max(), abs=1e-5)
        assert found.column("mean_confidence")[row].as_py() == pytest.approx(confidences.mean(), abs=1e-5)


def test_the_counts_areas_and_aspects_are_those_of_the_boxes_above_each_level(folder: Path) -> None:
    rows = scores(operator(folder)).to_pylist()
    counts = set()
    for row, image in zip(rows, PICTURES, strict=True):
        for level in LEVELS:
            pairs = zip(row["boxes"], row["confidences"], strict=True)
            boxes = np.array([box for box, sure in pairs if sure > np.float32(level / 100)]).reshape(-1, 4)
            sides = np.abs(boxes[:, 2:] - boxes[:, :2]) * image.size
            aspect = np.mean(sides.min(1) / sides.max(1)) if len(boxes) else 0
            assert row[f"count_{level}"] == len(boxes)
            assert row[f"aspect_{level}"] == pytest.approx(aspect, abs=1e-4)
            assert row[f"area_{level}"] == pytest.approx(painted(boxes), abs=0.01)
            counts.add(len(boxes))
    assert len(counts) > 2  # the levels tell boxes apart


def painted(boxes: Any, side: int = 2000) -> float:
    """The share of a fine grid's cells whose centre lies in some box."""
    centres = (np.arange(side) + 0.5) / side
    canvas = np.zeros((side, side), bool)
    for left, top, right, bottom in boxes:
        inside = (centres > left) & (centres < right)
        canvas |= ((centres > top) & (centres < bottom))[:, None] & inside
    return float(canvas.mean())


def test_boxes_that_overlap_cover_once_and_only_within_the_image() -> None:
    boxes = np.array([[0, 0, 0.5, 0.5], [0.25, 0.25, 0.75, 0.75], [0.9, 0.9, 1.5, 1.5], [0.1, 0.1, 0.1, 0.3]])
    assert covered(boxes.astype(np.float32)) == pytest.approx(0.25 + 0.25 - 0.0625 + 0.01, abs=1e-6)
    assert covered(np.empty((0, 4), np.float32)) == 0
    assert covered(np.array([[-1, -1, 2, 2]], np.float32)) == 1


def test_scores_do_not_depend_on_the_batch_and_repeat_to_the_bit(folder: Path) -> None:
    grounding = operator(folder)
    together = scores(grounding)
    assert scores(operator(folder)).equals(together)
    for row in range(len(PICTURES)):
        alone = scores(grounding, PICTURES[row : row + 1], CAPTIONS[row : row + 1])
        assert alone.column("count_10")[0] == together.column("count_10")[row]
        assert alone.column("max_confidence")[0].as_py() == pytest.approx(
            together.column("max_confidence")[row].as_py(), abs=1e-5
        )


def test_a_sample_without_a_caption_has_no_score(folder: Path) -> None:
    grounding = operator(folder)
    found = grounding.score(ImageBatch([grounding.view(image) for image in PICTURES[:2]], [None, "a dog"]))
    assert all(column.is_null().to_pylist() == [True, False] for column in found.values.columns)
    assert found.faults[0].reason == "no caption"


def test_every_score_lies_in_its_declared_range(folder: Path) -> None:
    grounding = operator(folder)
    pictures = [
        picture(int(w), int(h), seed=s) for s, (w, h) in enumerate([(1, 1), (64, 1), (3, 90), (8, 8)])
    ]
    captions: list[str | None] = ["dog " * 100, "?.?.", "\x00\u202e.", "A" * 5000]
    found = scores(grounding, pictures, captions)
    for column in grounding.columns:
        if column.low is not None:
            values = found.column(column.name).to_numpy(zero_copy_only=False)
            assert np.all(values >= column.low) and np.all(values <= (column.high or np.inf)), column.name


def test_an_image_that_is_a_line_has_a_reason_and_not_a_score(folder: Path, tmp_path: Path) -> None:
    line = encoded(picture(3000, 2), "PNG")
    rows = [Row(1, "a dog", encoded(PICTURES[0])), Row(2, "a dog", line), Row(3, "dog", None)]
    part = make_part(tmp_path, rows)
    output = tmp_path / "scores.parquet"
    counts = score(part, {"grounding": operator(folder)}, {"grounding": output}, device="cpu")["grounding"]
    assert (counts["scored"], counts["missing"], counts["failed"]) == (1, 1, 1)
    assert "3000 x 2, are too unequal" in counts["first"][0]
    assert pq.read_table(output).column("count_10").is_null().to_pylist() == [False, True, True]
    assert pq.read_table(errors_path(output)).num_rows == 2


def test_a_large_image_is_reduced_before_it_waits(folder: Path) -> None:
    assert max(operator(folder).view(Image.new("L", (9000, 6000))).size) <= 2 * 1333


@pytest.mark.parametrize(
    ("caption", "wanted"), [(" Two Dogs ", "two dogs."), ("A dog. A cat.", "a dog. a cat."), ("", ".")]
)
def test_a_caption_becomes_a_prompt_in_lower_case_with_a_full_stop(caption: str, wanted: str) -> None:
    assert prompt(caption) == wanted


def test_half_precision_works(folder: Path) -> None:
    values = scores(operator(folder, precision="bf16")).column("max_confidence").to_numpy()
    assert np.isfinite(values).all()


def test_a_missing_model_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ECODATUM_ASSETS", str(tmp_path))
    with pytest.raises(AssetError, match="run: ecodatum assets fetch grounding_dino_large"):
        Grounding(GroundingParameters())
