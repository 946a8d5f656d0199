"""The seven baselines against DataComp's own baselines.py, run here on a pool with all that can go wrong.

DATACOMP_HOME names its checkout, DATACOMP_PYTHON a Python with its packages if this one lacks some.
"""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from ecodatum.cli.curation import curate_pool
from ecodatum.curate.centroids import Settings, kmeans, sample_embeddings
from ecodatum.datacomp.scripts import environment
from ecodatum.errors import RunError
from ecodatum.operators.features import read_centroids
from ecodatum.operators.language import find_model
from ecodatum.pool.pool import open_pool
from tests.operators.assets import require_wordnet

DRIVER = Path(__file__).with_name("run_datacomp_baselines.py")
B32, L14 = "metadata.clip_b32_similarity_score", "metadata.clip_l14_similarity_score"
ROWS, PARTS, WIDTH = 240, 3, 24

#: NLTK wants this file of WordNet, which Debian's package leaves out: numbers, names, parts of speech.
LEXNAMES = (
    "adj.all:3 adj.pert:3 adv.all:4 noun.Tops:1 noun.act:1 noun.animal:1 noun.artifact:1 noun.attribute:1"
    " noun.body:1 noun.cognition:1 noun.communication:1 noun.event:1 noun.feeling:1 noun.food:1 noun.group:1"
    " noun.location:1 noun.motive:1 noun.object:1 noun.person:1 noun.phenomenon:1 noun.plant:1"
    " noun.possession:1 noun.process:1 noun.quantity:1 noun.relation:1 noun.shape:1 noun.state:1"
    " noun.substance:1 noun.time:1 verb.body:2 verb.change:2 verb.cognition:2 verb.communication:2"
    " verb.competition:2 verb.consumption:2 verb.contact:2 verb.creation:2 verb.emotion:2 verb.motion:2"
    " verb.perception:2 verb.possession:2 verb.social:2 verb.stative:2 verb.weather:2 adj.ppl:3"
)

CAPTIONS = [
    "a photo of a small dog on the beach",
    "two red apples and a wooden table in the garden",
    "the geese were running over the fields",
    "men and women feeding wolves, foxes and oxen",
    "he quickly ran better than the others did",
    "Ein kleines Haus am Rande des großen Waldes",
    "une photo d'un chat noir sur la table",
    "купить недорого детский велосипед в Москве",
    "北京的一张美丽的风景照片",
    "نص طويل باللغة العربية لاختبار المرشح",
    "भारत का एक सुंदर चित्र",
    "dog",
    "a cat",
    "a dogs b",
    "house.",
    "a\nphoto\nof a horse\nin the snow",
    "a horse\r\nand a cart on the road",
    "\n",
    "",
    " ",
    "\t \u00a0",
    "the\u00a0black\u00a0cat on\u2028the sofa at night",
    "the red\u3000car \u200b of the year",
    "IMG_20190412_113512.jpg",
    "1234567890",
    "🐶🐱 dog and cat 🐶",
    "</s> the end of the line </s>",
    "café crème brûlée with strawberries and cream",
    "a \0 photo of a bird",
    "the quick brown fox jumps over the lazy dog " * 60,
    "x" * 3000,
    "Stock photo: woman holding umbrella, rain, autumn, yellow leaves, close-up",
    "Happy birthday to you from all of us, dear friend",
    "WOODEN SPOONS AND KITCHEN KNIVES FOR SALE",
    "e\u0301tude of the a\u030angstro\u0308m",
    "\ufeffa photo of the old church tower",
]
SIDES = [0, 1, 66, 199, 200, 201, 599, 600, 601, 602, 1000, 100_000]
SCORES = [0.1, 0.21, 0.243, 0.25, 0.28, 0.28000003, 0.3, 0.31, np.nan, -0.0, 0.0, -0.1]


CENTRES = np.random.default_rng(0).normal(size=(20, WIDTH)).astype(np.float32)
CENTRES[5] = CENTRES[4]  # a tie that the first must win


@dataclass(frozen=True)
class Case:
    """A baseline as DataComp's options give it, and as ours is asked for it."""

    recipe: str
    options: tuple[str, ...]
    changes: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return "-".join(option.lstrip("-") for option in self.options)


def clip(arch: str, kind: str, value: float, name: str = "clip_score") -> tuple[str, ...]:
    more = ("--image_based_scale", "small") if name != "clip_score" else ()
    return ("--name", name, "--arch", arch, kind, str(value), *more)


IMAGE = ("--name", "image_based", "--image_based_scale", "small")
BOTH = "image_based_intersect_clip_score"
CASES = [
    Case("no_filter", ("--name", "no_filter")),
    Case("basic_filter", ("--name", "basic_filter")),
    Case("text_based", ("--name", "text_based")),
    Case("laion2b", ("--name", "laion2b")),
    Case("image_based", IMAGE),
    Case(f"{BOTH}_l14_30", clip("l14", "--fraction", 0.3, BOTH)),
    Case(
        f"{BOTH}_l14_30",
        clip("b32", "--threshold", 0.21, BOTH),
        {"rules.0.score": B32, "rules.0.at_least": 0.21},
    ),
    Case("clip_score_l14_30", clip("l14", "--fraction", 0.3)),
    Case("clip_score_l14_30", clip("b32", "--fraction", 0.3), {"rules.0.score": B32}),
    Case(
        "clip_score_l14_30",
        clip("b32", "--fraction", 0.77),
        {"rules.0.score": B32, "rules.0.at_least.top": 0.77},
    ),
    Case("clip_score_l14_30", clip("l14", "--fraction", 0.001), {"rules.0.at_least.top": 0.001}),
    *(
        Case(
            "clip_score_l14_30",
            clip(arch, "--threshold", value),
            {"rules.0.score": column, "rules.0.at_least": value},
        )
        for arch, column in (("b32", B32), ("l14", L14))
        for value in (0.28, 0.0, -0.5)
    ),
]

#: What the peer stops at, or keeps nothing of, and what ours does instead.
ALL = Case("clip_score_l14_30", clip("l14", "--fraction", 1.0), {"rules.0.at_least.top": 1.0})
AMONG_NAN = Case("clip_score_l14_30", clip("l14", "--fraction", 0.95), {"rules.0.at_least.top": 0.95})
NONE = Case("clip_score_l14_30", clip("l14", "--threshold", 9.0), {"rules.0.at_least": 9.0})


def nasty_rows(captions: list[str | None], seed: int) -> dict[str, Any]:
    """Columns of a part: every caption, side, score and uid that has ever made trouble, mixed."""
    draw = np.random.default_rng(seed)
    sides = [[int(x) for x in draw.choice(SIDES, ROWS)] for _ in range(2)]
    width: list[int | None] = [*sides[0]]
    width[:3] = [None, None, 640]
    height: list[int | None] = [*sides[1]]
    height[1:4] = [None, None, 480]
    uids = [f"{high:016x}{low:016x}" for high, low in draw.integers(0, 2**63, (ROWS, 2), np.uint64).tolist()]
    uids[:6] = ["0" * 32, "f" * 32, "0" * 31 + "1", "f" * 16 + "0" * 16, "0" * 16 + "f" * 16, "8" + "0" * 31]
    uids[7:9] = [uids[6]] * 2  # three times in the part, and the first six in every part
    scores = [draw.choice(SCORES, ROWS).astype(np.float32) for _ in range(2)]
    return {
        "uid": uids,
        "text": pa.array([captions[i] for i in draw.integers(0, len(captions), ROWS)], pa.string()),
        "original_width": pa.array(width, pa.int64()),
        "original_height": pa.array(height, pa.int64()),
        "clip_b32_similarity_score": scores[0],
        "clip_l14_similarity_score": scores[1],
    }


def write_pool(folder: Path, captions: list[str | None], *, parts: int = PARTS, damaged: bool = True) -> Path:
    """Write parts whose embeddings lie at a centre, between two, at none, or are damaged."""
    (folder / "metadata").mkdir(parents=True)
    for part in range(parts):
        file = folder / "metadata" / f"{part:032x}.parquet"
        pq.write_table(pa.table(nasty_rows(captions, part)), file)
        draw = np.random.default_rng([part, 1])
        near = CENTRES[draw.integers(0, len(CENTRES), ROWS)] + draw.normal(0, 0.05, (ROWS, WIDTH))
        near[:2], near[3] = 0, (CENTRES[0] + CENTRES[1]) / 2
        near[2, int(damaged) :] = np.nan if damaged else 1
        np.savez(file.with_suffix(".npz"), l14_img=near.astype(np.float16))
    return folder


@dataclass(frozen=True)
class World:
    """The pools, the assets that both sides read, and what the peer made of each case.

    with_nulls has null captions, where blank has empty ones; clean is one part without damage.
    """

    pool: Path
    with_nulls: Path
    blank: Path
    clean: Path
    assets: Path
    peer: Path
    repeat_suffixes: bool

    def ours(self, case: Case, pool: Path, folder: Path) -> Path:
        changes: dict[str, Any] = dict(case.changes)
        if case.recipe.startswith("image_based"):
            changes["operators.cluster.centroids"] = str(self.assets / "small_centroids_l14.pt")
            changes["operators.cluster.targets"] = [
                str(self.assets / f"in1k_clip_vit_l14_{i}.pt") for i in range(5)
            ]
        if case.recipe == "text_based":
            changes["operators.wordnet.repeat_suffixes"] = self.repeat_suffixes
        out = folder / "ours.npy"
        curate_pool(case.recipe, pool, out, work=folder / "work", jobs=0, device="cpu", overrides=changes)
        return out

    def theirs(self, case: Case, pool: Path) -> tuple[Path, str | None]:
        """Return the peer's subset, and the exception that ended it."""
        path = self.peer / f"{pool.name}-{case.name}.npy"
        ended: str | None = json.loads(Path(f"{path}.json").read_text())
        return path, ended


@pytest.fixture(scope="module")
def python() -> str:
    """A Python that has the peer's packages."""
    if not (Path(os.environ.get("DATACOMP_HOME", "")) / "baselines.py").is_file():
        pytest.skip("no checkout of DataComp (set DATACOMP_HOME)")
    chosen = os.environ.get("DATACOMP_PYTHON", sys.executable)
    code = "import faiss, fasttext, fsspec, nltk, pandas, torch, tqdm"
    check = [chosen, "-c", code]
    done = subprocess.run(check, env=environment(), capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"{chosen} lacks what the peer imports: {done.stderr.strip().splitlines()[-1]}")
    return chosen


def make_assets(folder: Path) -> None:
    """Write the files that the peer would download, under the names by which its layer finds them."""
    folder.mkdir()
    (folder / "lid.176.bin").symlink_to(find_model("lid.176.ftz"))
    torch.save(CENTRES, folder / "small_centroids_l14.pt", pickle_protocol=4)
    for i in range(5):
        targets = torch.from_numpy(CENTRES[3 * i : 3 * i + 2]) + 0.01
        torch.save({"image_features": targets}, folder / f"in1k_clip_vit_l14_{i}.pt")


def make_nltk_data(folder: Path, assets: Path) -> None:
    """Lay WordNet out as NLTK wants it, with what Debian has of it, and the ids of ImageNet-21k."""
    operator = require_wordnet()
    source = operator.assets["wordnet"][0].parent
    if not (source / "data.noun").is_file() or not (source / "index.sense").is_file():
        pytest.skip(f"{source} has not all of WordNet: Debian's wordnet-base and wordnet-sense-index have")
    target = folder / "corpora" / "wordnet"
    target.mkdir(parents=True)
    for file in source.iterdir():
        shutil.copy(file, target)  # NLTK follows no links
    if not (target / "lexnames").exists():
        lines = [f"{i:02d}\t" + name.replace(":", "\t") for i, name in enumerate(LEXNAMES.split())]
        (target / "lexnames").write_text("\n".join(lines) + "\n")
    (assets / "imagenet21k_wordnet_ids.txt").symlink_to(operator.assets["ids"][0])


def places(pool: Path, subset: Path) -> list[str]:
    """Return the peer's options for where to read and write; NLTK's reader is not made for threads."""
    given = {"metadata_dir": pool / "metadata", "save_path": subset, "num_workers": 1, "num_gpus": 1}
    return [text for key, value in given.items() for text in (f"--{key}", str(value))]


@pytest.fixture(scope="module")
def world(python: str, tmp_path_factory: pytest.TempPathFactory) -> World:
    """Make the pools, and let the peer run every case on them."""
    folder = tmp_path_factory.mktemp("baselines")
    pool = write_pool(folder / "pool", [*CAPTIONS])
    with_nulls = write_pool(folder / "with_nulls", [*CAPTIONS, None])
    blank = write_pool(folder / "blank", [*CAPTIONS, ""])
    clean = write_pool(folder / "clean", [*CAPTIONS], parts=1, damaged=False)
    make_assets(folder / "assets")
    make_nltk_data(folder / "nltk_data", folder / "assets")
    peer = folder / "peer"
    peer.mkdir()
    wanted = [(each, case) for each in (pool, with_nulls, blank) for case in CASES]
    wanted += [(pool, case) for case in (ALL, AMONG_NAN, NONE)]
    jobs = [
        ["baselines.py", *case.options, *places(each, peer / f"{each.name}-{case.name}.npy")]
        for each, case in wanted
    ]
    clusters = ["--num_clusters", "12", *places(clean, peer / "centres.pt")]
    jobs.append(["baselines/image_based_clustering.py", *clusters])
    (folder / "jobs.json").write_text(json.dumps(jobs))
    command = [python, str(DRIVER), os.environ["DATACOMP_HOME"], str(folder / "jobs.json")]
    variables = {
        **environment(on_cpu=True),
        "ECODATUM_ASSETS": str(folder / "assets"),
        "NLTK_DATA": str(folder / "nltk_data"),
        "HTTPS_PROXY": "http://127.0.0.1:9",  # nltk.download then fails at once, as it may
    }
    done = subprocess.run(command, env=variables, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    version = subprocess.check_output([python, "-c", "import nltk; print(nltk.__version__)"], text=True)
    repeat = tuple(map(int, version.split(".")[:2])) < (3, 9)
    return World(pool, with_nulls, blank, clean, folder / "assets", peer, repeat)


def skip_without_gcld3(case: Case) -> None:
    if case.recipe == "laion2b" and importlib.util.find_spec("gcld3") is None:
        pytest.skip("the extra gcld3 is not installed")


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_subset_is_the_peers_byte_for_byte(case: Case, world: World, tmp_path: Path) -> None:
    skip_without_gcld3(case)
    theirs, ended = world.theirs(case, world.pool)
    assert ended is None
    kept = len(np.load(theirs))
    assert kept == ROWS * PARTS if case.recipe == "no_filter" else 0 < kept < ROWS * PARTS
    assert world.ours(case, world.pool, tmp_path).read_bytes() == theirs.read_bytes()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_null_caption_counts_as_an_empty_one_where_the_peer_stops(
    case: Case, world: World, tmp_path: Path
) -> None:
    skip_without_gcld3(case)
    _, ended = world.theirs(case, world.with_nulls)
    assert (ended is None) == (case.recipe in {"no_filter", "clip_score_l14_30"})
    theirs, _ = world.theirs(case, world.with_nulls if ended is None else world.blank)
    assert world.ours(case, world.with_nulls, tmp_path).read_bytes() == theirs.read_bytes()


@pytest.mark.parametrize(("case", "peer"), [(ALL, "IndexError"), (AMONG_NAN, None)], ids=["all", "among NaN"])
def test_a_share_that_reaches_into_the_nan_keeps_all_that_is_a_number(
    case: Case, peer: str | None, world: World, tmp_path: Path
) -> None:
    theirs, ended = world.theirs(case, world.pool)
    assert (ended or "").startswith(peer or "")
    assert peer or len(np.load(theirs)) == 0  # compared with NaN, nothing passes there
    files = sorted((world.pool / "metadata").glob("*.parquet"))
    scores = np.concatenate([pq.read_table(file)["clip_l14_similarity_score"].to_numpy() for file in files])
    assert len(np.load(world.ours(case, world.pool, tmp_path))) == int((~np.isnan(scores)).sum())


def test_an_empty_selection_is_an_error_where_the_peer_writes_an_empty_subset(
    world: World, tmp_path: Path
) -> None:
    theirs, ended = world.theirs(NONE, world.pool)
    assert ended is None and len(np.load(theirs)) == 0
    with pytest.raises(RunError, match="the selection is empty: 0 of 720 rows pass"):
        world.ours(NONE, world.pool, tmp_path)


def test_centres_are_the_peers_bit_for_bit(world: World) -> None:
    ended = json.loads((world.peer / "centres.pt.json").read_text())
    assert ended is None
    settings = Settings(12)
    sample = sample_embeddings(open_pool(world.clean), settings, lambda rows: None)
    assert 12 < len(sample.vectors) < ROWS  # the peer, too, leaves out what its caption filter does
    assert np.array_equal(kmeans(sample.vectors, settings), read_centroids(world.peer / "centres.pt"))
