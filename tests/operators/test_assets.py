import hashlib
import io
import os
import stat
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ecodatum.errors import AssetError, ConfigError, RunError
from ecodatum.operators import assets as assets_module
from ecodatum.operators.asset_fetching import fetch
from ecodatum.operators.assets import Asset, declared, find_asset, find_assets
from tests.operators.loopback import Site, serving

CONTENT = bytes(range(256)) * 4000
SHA = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture(scope="module")
def server() -> Iterator[Site]:
    with serving() as site:
        yield site


@pytest.fixture
def site(server: Site, monkeypatch: pytest.MonkeyPatch) -> Site:
    """The server, emptied; retries do not wait."""
    server.files, server.redirects, server.cut, server.asked, server.ranges = {}, {}, [], [], True
    monkeypatch.setattr("huggingface_hub.file_download.time.sleep", lambda seconds: None)
    return server


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An assets folder that does not exist yet."""
    monkeypatch.setenv("ECODATUM_ASSETS", str(tmp_path / "assets"))
    return tmp_path / "assets"


@pytest.fixture
def declare(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a function that declares an asset for the test, `some.pt` by default."""

    def add(name: str = "some.pt", **entry: Any) -> Asset:
        plain = {"what": "something", "for": ["cluster"], "licence": "MIT", "source": "a page"}
        asset = Asset.model_validate({"name": name, **plain, **entry})
        monkeypatch.setattr(assets_module, "declared", lambda: {**declared(), name: asset})
        return asset

    return add


def test_a_file_is_fetched_verified_and_found(site: Site, folder: Path, declare: Any) -> None:
    site.files["/some.pt"] = CONTENT
    asset = declare(url=f"{site.address}/some.pt", sha256=SHA)
    assert fetch(asset) == (folder / "some.pt", True)
    assert find_asset("some.pt", what="it").read_bytes() == CONTENT
    assert fetch(asset) == (folder / "some.pt", False)
    assert len(site.asked) == 1
    assert sorted(path.name for path in folder.iterdir()) == ["checksums.json", "some.pt"]


def test_a_cut_download_goes_on_where_it_was(
    site: Site, folder: Path, declare: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 100_000)  # what a cut may lose
    site.files["/some.pt"] = CONTENT
    asset = declare(url=f"{site.address}/some.pt", sha256=SHA)
    site.cut = [300_000, 200_000]
    fetch(asset)
    assert [asked for _, asked in site.asked] == [None, "bytes=300000-", "bytes=500000-"]
    assert (folder / "some.pt").read_bytes() == CONTENT


def test_what_a_killed_fetch_left_is_not_fetched_again(site: Site, folder: Path, declare: Any) -> None:
    site.files["/some.pt"] = CONTENT
    asset = declare(url=f"{site.address}/some.pt", sha256=SHA)
    folder.mkdir()
    (folder / "some.pt.part").write_bytes(CONTENT[:700_000])
    assert assets_module.locate(asset) is None
    fetch(asset)
    assert site.asked == [("/some.pt", "bytes=700000-")]
    assert (folder / "some.pt").read_bytes() == CONTENT


@pytest.mark.parametrize("left", [CONTENT, CONTENT + b"more"])
def test_a_part_that_is_whole_already_is_taken_or_fetched_anew(
    left: bytes, site: Site, folder: Path, declare: Any
) -> None:
    site.files["/some.pt"] = CONTENT
    asset = declare(url=f"{site.address}/some.pt", sha256=SHA)
    folder.mkdir()
    (folder / "some.pt.part").write_bytes(left)
    if left != CONTENT:
        with pytest.raises(AssetError, match=r"try again: ecodatum assets fetch some\.pt"):
            fetch(asset)
    assert fetch(asset)[0].read_bytes() == CONTENT


def test_a_server_that_forgets_ranges_gives_the_file_from_its_start(
    site: Site, folder: Path, declare: Any
) -> None:
    site.files["/some.pt"], site.ranges = CONTENT, False
    asset = declare(url=f"{site.address}/some.pt", sha256=SHA)
    folder.mkdir()
    (folder / "some.pt.part").write_bytes(CONTENT[:1000])
    assert fetch(asset)[0].read_bytes() == CONTENT


def test_a_redirect_is_followed(site: Site, folder: Path, declare: Any) -> None:
    site.files["/elsewhere"], site.redirects["/some.pt"] = CONTENT, f"{site.address}/elsewhere"
    assert fetch(declare(url=f"{site.address}/some.pt", sha256=SHA))[0].read_bytes() == CONTENT


def test_another_file_than_the_declared_never_gets_its_name(site: Site, folder: Path, declare: Any) -> None:
    site.files["/some.pt"] = b"another"
    asset = declare(url=f"{site.address}/some.pt", sha256=SHA)
    with pytest.raises(AssetError, match=rf"its sha256 is [0-9a-f]{{64}}, not {SHA}\n.*fetch some\.pt"):
        fetch(asset)
    assert list(folder.iterdir()) == []


def test_no_server_is_an_error_that_says_how_to_go_on(site: Site, folder: Path, declare: Any) -> None:
    asset = declare(url="http://127.0.0.1:9/some.pt", sha256=SHA)
    with pytest.raises(
        AssetError, match=r"cannot be fetched from http:.*\n.*fetch some\.pt\n.*ECODATUM_ASSET_SOME_PT"
    ):
        fetch(asset)


def test_a_file_that_the_server_has_not_is_an_error(site: Site, folder: Path, declare: Any) -> None:
    with pytest.raises(AssetError, match="404"):
        fetch(declare(url=f"{site.address}/some.pt", sha256=SHA))


def test_a_folder_that_cannot_be_written_to_is_named(site: Site, folder: Path, declare: Any) -> None:
    folder.parent.joinpath("assets").write_text("a file where the folder should be")
    with pytest.raises(RunError, match=rf"{folder}: cannot write here.*\n.*set ECODATUM_ASSETS"):
        fetch(declare(url=f"{site.address}/some.pt", sha256=SHA))
    assert site.asked == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_folder_is_named(site: Site, folder: Path, declare: Any) -> None:
    folder.mkdir(mode=stat.S_IRUSR | stat.S_IXUSR)
    with pytest.raises(RunError, match="cannot write here"):
        fetch(declare(url=f"{site.address}/some.pt", sha256=SHA))


def test_a_file_that_was_changed_is_an_error_and_fetched_again(
    site: Site, folder: Path, declare: Any
) -> None:
    site.files["/some.pt"] = CONTENT
    asset = declare(url=f"{site.address}/some.pt", sha256=SHA)
    place, _ = fetch(asset)
    place.write_bytes(b"changed")
    with pytest.raises(AssetError, match=rf"{place}: not the file that it should be.*\n.*fetch some\.pt"):
        find_asset("some.pt", what="it")
    assert fetch(asset) == (place, True)
    assert find_asset("some.pt", what="it").read_bytes() == CONTENT


def test_the_checksum_of_the_first_fetch_counts_where_none_is_declared(
    site: Site, folder: Path, declare: Any
) -> None:
    site.files["/some.pt"] = CONTENT
    asset = declare(url=f"{site.address}/some.pt")
    place, _ = fetch(asset)
    place.write_bytes(b"changed")
    with pytest.raises(AssetError, match=f"not {SHA}"):
        find_asset("some.pt", what="it")


def test_an_unchanged_file_is_not_read_again(
    site: Site, folder: Path, declare: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.files["/some.pt"] = CONTENT
    fetch(declare(url=f"{site.address}/some.pt", sha256=SHA))
    monkeypatch.setattr(assets_module, "checksum", lambda path: pytest.fail("it was read"))
    assert find_asset("some.pt", what="it") == folder / "some.pt"


def test_a_damaged_record_is_as_none(site: Site, folder: Path, declare: Any) -> None:
    site.files["/some.pt"] = CONTENT
    fetch(declare(url=f"{site.address}/some.pt", sha256=SHA))
    (folder / "checksums.json").write_text('{"files":')
    assert find_asset("some.pt", what="it") == folder / "some.pt"


def test_members_of_a_zip_become_a_folder(site: Site, folder: Path, declare: Any) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name in ("words/index.noun", "words/noun.exc", "words/other", "../index.noun.bad"):
            archive.writestr(name, name)
    site.files["/words.zip"] = packed.getvalue()
    asset = declare("words", url=f"{site.address}/words.zip", unpack=["index.noun", "noun.exc"])
    place, _ = fetch(asset)
    assert sorted(path.name for path in place.iterdir()) == ["index.noun", "noun.exc"]
    assert find_asset("words", what="words") == folder / "words"
    assert not (folder / "words.part").exists()


def test_what_is_no_zip_is_refused_and_not_kept(site: Site, folder: Path, declare: Any) -> None:
    site.files["/words.zip"] = b"<html>"
    asset = declare("words", url=f"{site.address}/words.zip", unpack=["index.noun"])
    with pytest.raises(AssetError, match="not a zip"):
        fetch(asset)
    assert list(folder.iterdir()) == []


def test_another_file_may_stand_in_an_assets_place(
    tmp_path: Path, folder: Path, declare: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = tmp_path / "mine.pt"
    mine.write_bytes(b"mine")
    asset = declare(url="http://127.0.0.1:9/some.pt", sha256=SHA)
    monkeypatch.setenv("ECODATUM_ASSET_SOME_PT", str(mine))
    assert find_asset("some.pt", what="it") == mine
    assert fetch(asset) == (mine, False)
    monkeypatch.setenv("ECODATUM_ASSET_SOME_PT", str(tmp_path / "absent"))
    for ask in (lambda: find_asset("some.pt", what="it"), lambda: fetch(asset)):
        with pytest.raises(AssetError, match=r"ECODATUM_ASSET_SOME_PT=.*absent: no such file"):
            ask()


def test_a_variable_that_names_no_asset_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ECODATUM_ASSET_LID_176_BINN", "x")
    with pytest.raises(ConfigError, match=r"no asset has this variable\n.*ECODATUM_ASSET_LID_176_BIN"):
        find_asset("lid.176.bin", what="language model")


def test_all_that_is_missing_is_in_one_command(folder: Path) -> None:
    with pytest.raises(AssetError, match=r"run: ecodatum assets fetch lid\.176\.bin icc\n  looked in"):
        find_assets(["lid.176.bin", "lid.176.ftz", "icc"], what="models")


def test_a_path_is_taken_as_it_is(tmp_path: Path, folder: Path) -> None:
    mine = tmp_path / "mine.pt"
    mine.write_bytes(b"mine")
    folder.mkdir()
    (folder / "ours.pt").write_bytes(b"ours")
    assert find_assets([str(mine), "ours.pt"], what="them") == (mine, folder / "ours.pt")
    with pytest.raises(AssetError, match=rf"theirs\.pt: them not found\n  looked for theirs\.pt, {folder}"):
        find_asset("theirs.pt", what="them")


def test_a_file_elsewhere_counts_only_if_it_is_the_declared_one(
    tmp_path: Path, folder: Path, declare: Any
) -> None:
    other = tmp_path / "other.pt"
    other.write_bytes(b"other")
    declare(url="http://127.0.0.1:9/some.pt", sha256=SHA, elsewhere=[str(other)])
    with pytest.raises(AssetError, match="it not found"):
        find_asset("some.pt", what="it")
    other.write_bytes(CONTENT)
    assert find_asset("some.pt", what="it") == other


def test_every_declared_asset_can_be_fetched_and_says_whose_it_is() -> None:
    from ecodatum.operators.operator import OPERATORS

    variables = [asset.variable for asset in declared().values()]
    assert len(set(variables)) == len(variables)
    for asset in declared().values():
        assert (asset.url is None) != (asset.hub is None), asset.name
        assert asset.licence and asset.source.startswith("https://"), asset.name
        assert set(asset.used_by) <= set(OPERATORS), asset.name


def test_the_models_and_lists_of_datacomps_baselines_have_its_checksums() -> None:
    for name in (
        "lid.176.bin",
        "imagenet21k_wordnet_ids.txt",
        "small_centroids_l14.pt",
        "in1k_clip_vit_l14_4.pt",
    ):
        assert declared()[name].sha256
