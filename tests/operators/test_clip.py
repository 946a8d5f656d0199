from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps

from ecodatum.errors import AssetError
from ecodatum.operators import clip_models
from ecodatum.operators.clip import Clip, ClipParameters
from ecodatum.operators.operator import ImageBatch
from tests.operators.tiny_samples import picture, save_tiny_clip

CAPTIONS: list[str | None] = ["a dog", "two cats", "an odd thing", ""]
PICTURES = [picture(40, 31, seed=1), picture(17, 90, seed=2), picture(16, 16), picture(100, 19, seed=3)]


@pytest.fixture(scope="module")
def tiny_clip(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return save_tiny_clip(tmp_path_factory.mktemp("clip"))


def operator(files: tuple[Path, Path], **parameters: Any) -> Clip:
    config, weights = files
    clip = Clip(ClipParameters(model=str(config), weights=str(weights), **parameters))
    clip.prepare("cpu")
    return clip


def scores(clip: Clip, pictures: list[Image.Image], captions: list[str | None]) -> Any:
    return clip.score(ImageBatch([clip.view(image) for image in pictures], captions)).values


def expected(files: tuple[Path, Path], pictures: list[Image.Image]) -> list[float]:
    """What open_clip's own transform and model give, one sample after the other."""
    import torch

    config, weights = files
    model, transform, tokenizer = clip_models.load(
        clip_models.register(str(config)), weights, device="cpu", precision="fp32"
    )
    with torch.inference_mode():
        pairs = [
            (
                model.encode_image(transform(image.convert("RGB"))[None], normalize=True),
                model.encode_text(tokenizer([caption]), normalize=True),
            )
            for image, caption in zip(pictures, CAPTIONS, strict=True)
        ]
    return [float((image * text).sum()) for image, text in pairs]


def test_similarity_is_the_cosine_that_open_clip_gives(tiny_clip: tuple[Path, Path]) -> None:
    found = scores(operator(tiny_clip), PICTURES, CAPTIONS).column("similarity")
    assert found.to_pylist() == pytest.approx(expected(tiny_clip, PICTURES), abs=1e-6)


def test_flipped_similarities_are_those_of_the_flipped_image(tiny_clip: tuple[Path, Path]) -> None:
    found = scores(operator(tiny_clip, flips=("vertical", "horizontal", "none")), PICTURES, CAPTIONS)
    assert found.schema.names == ["similarity", "hclip_similarity", "vclip_similarity"]
    for column, flip in (("hclip_similarity", ImageOps.mirror), ("vclip_similarity", ImageOps.flip)):
        wanted = expected(tiny_clip, [flip(image) for image in PICTURES])
        assert found.column(column).to_pylist() == pytest.approx(wanted, abs=1e-6)


def test_scores_do_not_depend_on_the_batch(tiny_clip: tuple[Path, Path]) -> None:
    clip = operator(tiny_clip)
    together = scores(clip, PICTURES, CAPTIONS).column(0).to_pylist()
    alone = [
        scores(clip, [image], [text])[0][0].as_py() for image, text in zip(PICTURES, CAPTIONS, strict=True)
    ]
    assert together == pytest.approx(alone, abs=1e-6)


def test_half_precision_is_near_the_full_one(tiny_clip: tuple[Path, Path]) -> None:
    full, half = (
        scores(operator(tiny_clip, precision=precision), PICTURES, CAPTIONS).column(0).to_numpy()
        for precision in ("fp32", "bf16")
    )
    assert not np.array_equal(full, half)
    assert np.abs(full - half).max() < 0.03


def test_a_sample_without_a_caption_has_no_score(tiny_clip: tuple[Path, Path]) -> None:
    clip = operator(tiny_clip)
    found = clip.score(ImageBatch([clip.view(image) for image in PICTURES[:2]], [None, "a dog"]))
    assert found.values.column(0).is_null().to_pylist() == [True, False]
    assert found.faults[0].reason == "no caption"


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "RGBA", "CMYK", "I;16"])
def test_images_of_any_mode_become_rgb_first(tiny_clip: tuple[Path, Path], mode: str) -> None:
    image = (
        Image.fromarray(np.full((30, 40), 60000, np.uint16)) if mode == "I;16" else picture().convert(mode)
    )
    clip = operator(tiny_clip)
    assert np.array_equal(clip.view(image), clip.view(image.convert("RGB")))


def test_the_fingerprint_follows_the_weights_and_not_where_they_lie(
    tiny_clip: tuple[Path, Path], tmp_path: Path
) -> None:
    config, weights = tiny_clip
    moved = tmp_path / "moved.pt"
    moved.write_bytes(weights.read_bytes())
    other = tmp_path / "other.pt"
    other.write_bytes(weights.read_bytes() + b"x")
    mark = operator(tiny_clip).fingerprint
    assert operator((config, moved)).fingerprint == mark
    assert Clip(ClipParameters(model=str(config), weights=str(other))).fingerprint != mark
    assert operator(tiny_clip, flips=("none", "vertical")).fingerprint != mark


def test_weights_of_another_model_are_refused(tiny_clip: tuple[Path, Path]) -> None:
    with pytest.raises(AssetError, match="not a checkpoint of ViT-B-32"):
        Clip(ClipParameters(model="ViT-B-32", weights=str(tiny_clip[1]))).prepare("cpu")


def test_an_unknown_name_of_weights_is_answered_with_the_known_ones(tiny_clip: tuple[Path, Path]) -> None:
    with pytest.raises(AssetError, match=r"no such checkpoint\n.*openai"):
        Clip(ClipParameters(model="ViT-B-32", weights="opnai")).prepare("cpu")


def test_listed_weights_get_the_activation_that_they_were_trained_with(
    tiny_clip: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import json

    import open_clip.pretrained

    config, weights = tiny_clip
    entry = open_clip.pretrained._pcfg(url="http://127.0.0.1:9/", quick_gelu=True)
    monkeypatch.setitem(open_clip.pretrained._PRETRAINED, "tiny-operator-clip", {"theirs": entry})
    name = clip_models.register(str(config))
    quick = tmp_path / "tiny-operator-clip-quick.json"
    quick.write_text(json.dumps({**json.loads(config.read_text()), "quick_gelu": True}))

    def embedding(model: str, listed: str | None) -> Any:
        import torch

        network, _, tokenizer = clip_models.load(model, weights, device="cpu", listed=listed)
        with torch.inference_mode():
            return network.encode_text(tokenizer(["a dog"])).numpy()

    wanted = embedding(clip_models.register(str(quick)), None)
    assert np.array_equal(embedding(name, "theirs"), wanted)
    assert not np.allclose(embedding(name, None), wanted)


def test_openais_weights_are_an_asset(
    tiny_clip: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ECODATUM_ASSETS", str(tmp_path))
    with pytest.raises(AssetError, match="run: ecodatum assets fetch clip_vit_l14_openai"):
        Clip(ClipParameters())
    monkeypatch.setenv("ECODATUM_ASSET_CLIP_VIT_L14_OPENAI", str(tiny_clip[1]))
    by_name = Clip(ClipParameters())
    assert by_name.assets == {"weights_file": (tiny_clip[1],)}
    assert by_name.fingerprint != Clip(ClipParameters(weights=str(tiny_clip[1]))).fingerprint
