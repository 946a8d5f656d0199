"""`ecodatum assets` as a user types it, with a hub on this machine."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.operators.loopback import COMMIT, Site, serving

FILES = {"config.json": b"{}", "model.safetensors": b"weights" * 1000, "README.md": b"no part of it"}
RESOLVED = f"/moranyanuka/icc/resolve/{COMMIT}"


@pytest.fixture
def hub() -> Iterator[Site]:
    with serving() as site:
        site.add_repository("moranyanuka/icc", FILES)
        yield site


def run(folder: Path, hub: Site | None, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run `ecodatum assets`; without a hub, where nothing listens."""
    address = hub.address if hub else "http://127.0.0.1:9"
    environment = {
        **{key: value for key, value in os.environ.items() if not key.startswith(("HF_", "ECODATUM_ASSET"))},
        "ECODATUM_ASSETS": str(folder / "assets"),
        "HF_ENDPOINT": address,
        "HF_HOME": str(folder / "home"),
        "HF_HUB_DISABLE_XET": "1",
        **variables,
    }
    command = [sys.executable, "-m", "ecodatum", "assets", *words]
    return subprocess.run(command, capture_output=True, text=True, env=environment, cwd=folder, check=False)


def test_a_model_is_fetched_at_one_commit_verified_and_mended(hub: Site, tmp_path: Path) -> None:
    place = tmp_path / "assets" / "icc"
    assert run(tmp_path, hub, "verify", "icc").returncode == 1
    first = run(tmp_path, hub, "fetch", "icc")
    assert f"icc: fetched to {place}" in first.stdout
    assert (place / "model.safetensors").read_bytes() == FILES["model.safetensors"]
    assert not (place / "README.md").exists()
    record = json.loads((tmp_path / "assets" / "checksums.json").read_text())
    assert record["revisions"] == {"icc": COMMIT}
    assert set(record["files"]) == {"icc/config.json", "icc/model.safetensors"}
    assert f"icc: ok, {place}" in run(tmp_path, hub, "verify").stdout

    (place / "model.safetensors").write_bytes(b"changed")
    wrong = run(tmp_path, hub, "verify", "icc")
    assert wrong.returncode == 1
    assert "not the file that it should be" in wrong.stderr
    assert "run: ecodatum assets fetch icc" in wrong.stderr
    hub.asked.clear()
    assert f"icc: fetched to {place}" in run(tmp_path, hub, "fetch", "icc").stdout
    assert [path for path, _ in hub.asked if "/resolve/" in path] == [f"{RESOLVED}/model.safetensors"]
    assert run(tmp_path, hub, "verify", "icc").returncode == 0


def test_what_is_damaged_on_the_way_is_not_kept(hub: Site, tmp_path: Path) -> None:
    good = hub.files[f"{RESOLVED}/model.safetensors"]
    hub.files[f"{RESOLVED}/model.safetensors"] = good[::-1]
    done = run(tmp_path, hub, "fetch", "icc")
    assert done.returncode == 1
    assert "damaged on the way" in done.stderr
    assert not (tmp_path / "assets" / "icc" / "model.safetensors").exists()


def test_without_a_network_what_is_here_is_listed_and_the_rest_is_an_error(hub: Site, tmp_path: Path) -> None:
    run(tmp_path, hub, "fetch", "icc")
    listed = run(tmp_path, None, "list", "icc", "lid.176.*")
    assert f"icc: here\n    {'image caption concreteness'}" in listed.stdout
    assert "licence: MIT; source: https://huggingface.co/moranyanuka/icc" in listed.stdout
    assert "model.safetensors, as recorded" in listed.stdout
    assert "lid.176.bin: not here; ecodatum assets fetch lid.176.bin" in listed.stdout
    assert "7e69ec5451bc261cc7844e49e4792a85d7f09c06789ec800fc4a44aec362764e" in listed.stdout
    assert run(tmp_path, None, "fetch", "icc").returncode == 0  # it is here: nobody is asked
    failed = run(tmp_path, None, "fetch", "grounding_dino_tiny")
    assert failed.returncode == 1
    assert "go on with: ecodatum assets fetch grounding_dino_tiny" in failed.stderr
    assert "Traceback" not in failed.stderr


def test_a_replaced_asset_is_told_as_such(tmp_path: Path) -> None:
    mine = tmp_path / "mine.bin"
    mine.write_bytes(b"mine")
    shown = run(tmp_path, None, "list", "lid.176.bin", ECODATUM_ASSET_LID_176_BIN=str(mine))
    assert f"lid.176.bin: replaced by {mine} (ECODATUM_ASSET_LID_176_BIN)" in shown.stdout
    wrong = run(tmp_path, None, "list", ECODATUM_ASSET_LID_176_BIM=str(mine))
    assert wrong.returncode == 1
    assert "no asset has this variable" in wrong.stderr


def test_unknown_names_and_none_are_refused(tmp_path: Path) -> None:
    for words, message in (
        (["fetch", "nosuch"], "nosuch: neither an asset nor a recipe or an experiment"),
        (["fetch"], "which ones?"),
    ):
        done = run(tmp_path, None, *words)
        assert done.returncode == 1
        assert message in done.stderr


def test_all_that_a_recipe_needs_is_fetched_by_its_name(hub: Site, tmp_path: Path) -> None:
    recipe = tmp_path / "mine.yaml"
    recipe.write_text(
        "{name: mine, title: M, source: s, operators: {a: {operator: icc}, language: {}},"
        " rules: [{score: a.score, above: 0.1}]}"
    )
    done = run(tmp_path, hub, "fetch", "mine.yaml")
    assert "mine: all its assets are here" in done.stdout, done.stderr
    assert "icc: fetched to" in done.stdout
    (tmp_path / "all.yaml").write_text(
        "{name: all, pool: p, filters: [no_filter, mine.yaml], train: {scale: small}, evaluate: {data: e}}"
    )
    done = run(tmp_path, hub, "fetch", "all.yaml")
    assert "mine: all its assets are here" in done.stdout and "no_filter: all" in done.stdout, done.stderr
    failed = run(tmp_path, hub, "fetch", "image_based")
    assert failed.returncode == 1
    assert "small_centroids_l14.pt: cannot be fetched" in failed.stderr
