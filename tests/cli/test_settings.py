"""Any value of a shipped recipe can be set from the command line."""

import importlib.util
import re
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
import pytest

from ecodatum.cli import main
from ecodatum.pool import uids as uid_arrays
from tests.conftest import MakePool
from tests.operators.assets import require_wordnet

B32, L14 = "clip_b32_similarity_score", "clip_l14_similarity_score"
ROWS = 48

Kept = npt.NDArray[np.bool_]


@pytest.fixture
def pool(make_pool: MakePool) -> Path:
    """Scores in single precision, as in CommonPool, with one at the threshold and captions of two kinds."""
    captions = ["a photo of a small dog on the beach", "it is what it was, and so be it"]
    path = make_pool(changes={row: {"text": captions[row % 2]} for row in range(ROWS)})
    for file in (path / "metadata").glob("*.parquet"):
        table = pq.read_table(file)
        for name in (B32, L14):
            scores = table[name].to_numpy().astype(np.float32)
            scores[3] = 0.28
            table = table.set_column(table.schema.get_field_index(name), name, [scores])
        pq.write_table(table, file)
    return path


def column(pool: Path, name: str) -> npt.NDArray[np.float32]:
    files = sorted((pool / "metadata").glob("*.parquet"))
    return np.concatenate([pq.read_table(file)[name].to_numpy() for file in files])


def curated(monkeypatch: pytest.MonkeyPatch, pool: Path, recipe: str, *settings: str) -> Kept:
    """Run the command; return which of the pool's rows are in the subset."""
    folder = pool.parent
    arguments = ["curate", recipe, "--pool", pool, "--out", folder / "out.npy", "--work", folder / "work"]
    arguments += [text for setting in settings for text in ("--set", setting)]
    monkeypatch.setattr("sys.argv", ["ecodatum", *map(str, arguments), "--device", "cpu"])
    main()
    files = sorted((pool / "metadata").glob("*.parquet"))
    uids = np.concatenate([uid_arrays.from_hex(pq.read_table(file)["uid"]) for file in files])
    kept: Kept = np.isin(uids, np.load(folder / "out.npy"))
    return kept


def top(scores: npt.NDArray[np.float32], share: float) -> Kept:
    kept: Kept = scores >= np.sort(scores)[::-1][int(len(scores) * share)]
    return kept


def test_clip_score_by_the_other_model_another_share_or_a_threshold(
    pool: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    b32, l14 = column(pool, B32), column(pool, L14)
    model, threshold = f"rules.0.score=metadata.{B32}", "rules.0.at_least=0.28"
    recipe = "clip_score_l14_30"
    assert np.array_equal(curated(monkeypatch, pool, recipe), top(l14, 0.3))
    assert np.array_equal(curated(monkeypatch, pool, recipe, model), top(b32, 0.3))
    assert np.array_equal(curated(monkeypatch, pool, recipe, "rules.0.at_least.top=0.1"), top(l14, 0.1))
    assert np.array_equal(curated(monkeypatch, pool, recipe, threshold), l14 >= np.float32(0.28))
    kept = curated(monkeypatch, pool, recipe, model, threshold)
    assert np.array_equal(kept, b32 >= np.float32(0.28)) and kept[3]


def test_text_based_by_other_ids_and_another_language(pool: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    require_wordnet()
    dogs = np.arange(ROWS) % 2 == 0
    assert np.array_equal(curated(monkeypatch, pool, "text_based"), dogs)
    ids = pool.parent / "ids.txt"
    ids.write_text("n02084071\n")  # the dog
    mine = f"operators.wordnet.ids={ids}"
    assert np.array_equal(curated(monkeypatch, pool, "text_based", mine), dogs)
    ids.write_text("n02121620\n")  # the cat
    with pytest.raises(SystemExit):
        curated(monkeypatch, pool, "text_based", mine)
    negated = curated(monkeypatch, pool, "text_based", mine, "rules.1.is=false")
    assert negated.all()


def test_laion2b_by_another_threshold_and_model(pool: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if importlib.util.find_spec("gcld3") is None:
        pytest.skip("the extra gcld3 is not installed")
    english = curated(monkeypatch, pool, "laion2b", "rules.1.at_least=-1")
    kept = curated(monkeypatch, pool, "laion2b", f"rules.1.score=metadata.{L14}", "rules.1.at_least=0.4")
    assert 0 < kept.sum() < english.sum()
    assert np.array_equal(kept, english & (column(pool, L14) >= np.float32(0.4)))


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("rules.0.at_least.tpo=0.1", "tpo"),
        ("rules.0.at_least={top: 0.1, of: passed}", "'pool' or 'passing'"),
        ("rules.0.at_least.top=2", "less than or equal to 1"),
        ("rules.0.score=metadata.clip_score", "gives no score 'clip_score'"),
        ("rules.3.at_least=0.1", "no item 3"),
    ],
)
def test_a_setting_that_cannot_be_is_explained(
    setting: str,
    message: str,
    pool: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit):
        curated(monkeypatch, pool, "clip_score_l14_30", setting)
    assert message in re.sub(r"\s+", " ", capsys.readouterr().err)
