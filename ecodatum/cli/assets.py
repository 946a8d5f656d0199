"""`ecodatum assets`: lists, fetches and verifies the models and lists that operators need."""

import contextlib
import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from ecodatum.cli.console import err, out
from ecodatum.errors import AssetError, ConfigError, MissingAssetError

if TYPE_CHECKING:
    from ecodatum.curate.recipe import Recipe
    from ecodatum.operators.assets import Asset

app = typer.Typer(
    no_args_is_help=True,
    help="List, fetch and verify the models and lists that operators need.\n\n"
    "They lie in one folder, ECODATUM_ASSETS, by default in the user's cache folder. Fetch them where there"
    " is a network; nothing else needs one. To use a file of your own in an asset's place, set"
    " `ECODATUM_ASSET_<NAME>=PATH`: it is used as it is, and its checksum is in every manifest.",
)

_NAMES = "Names or patterns, such as 'in1k_*'; an operator, for all it may use"
Names = Annotated[list[str] | None, typer.Argument(help=f"{_NAMES}.")]


@app.command(name="list")
def list_assets(names: Names = None) -> None:
    """Show every asset with its size, checksum, licence and source, and where it is.

    Examples: `ecodatum assets list`, `ecodatum assets list cluster`
    """
    from ecodatum.operators.assets import assets_folder

    for asset in _chosen(names):
        for line in _lines(asset):
            out.print(escape(line))
    err.print(f"\nassets folder: {assets_folder()}")


@app.command()
def fetch(
    names: Annotated[
        list[str] | None, typer.Argument(help=f"{_NAMES}; also a recipe or an experiment, for all it needs.")
    ] = None,
) -> None:
    """Fetch assets, and verify them. An interrupted download goes on where it was.

    Examples: `ecodatum assets fetch ecodatum_released`, `ecodatum assets fetch experiments/small.yaml`,
    `ecodatum assets fetch lid.176.bin small_centroids_l14.pt 'in1k_*'`
    """
    if not names:
        raise ConfigError("which ones?", where="ecodatum assets fetch", todo="see: ecodatum assets list")
    known = [name for name in names if _matching(name)]
    recipes = [recipe for name in names if name not in known for recipe in _recipes(name)]
    failed = [asset.name for asset in _chosen(known) if not _fetched(asset)] if known else []
    for recipe in recipes:
        failed += _fetch_for(recipe)
    if failed:
        raise AssetError("not fetched", where=", ".join(failed))


def _fetched(asset: "Asset") -> bool:
    """Fetch one asset, telling from where; return whether it is here."""
    from ecodatum.operators.asset_fetching import fetch as fetch_asset

    err.print(escape(f"{asset.name}: {asset.what}, from {asset.source} (licence: {asset.licence})"))
    try:
        place, is_new = fetch_asset(asset)
    except AssetError as error:
        err.print(escape(str(error)), style="red")
        return False
    out.print(escape(f"{asset.name}: {'fetched to' if is_new else 'is already'} {place}"))
    return True


def _recipes(name: str) -> "list[Recipe]":
    """Return the recipe of that name, or an experiment's; raises ConfigError where there is neither."""
    from ecodatum.content import find, read_yaml
    from ecodatum.curate.recipe import load_recipe
    from ecodatum.operators.assets import declared
    from ecodatum.pipeline.experiment import load_experiment, load_filters

    for folder in ("baselines", "experiments"):
        with contextlib.suppress(ConfigError):
            path = find(name, folder)
            break
    else:
        known = ", ".join(declared())
        raise ConfigError(
            "neither an asset nor a recipe or an experiment", where=name, todo=f"assets: {known}"
        )
    if {"filters", "extends"} & set(read_yaml(path)):
        found = load_filters(load_experiment(str(path)))
        return [item.recipe for item in found if item.recipe is not None]
    return [load_recipe(str(path))]


def _fetch_for(recipe: "Recipe") -> list[str]:
    """Fetch what a recipe's operators miss, as they ask for it; return what could not be fetched."""
    from ecodatum.operators.assets import declared
    from ecodatum.operators.operator import create

    failed: list[str] = []
    for key, parameters in recipe.operators.items():
        plain = {name: value for name, value in parameters.items() if name != "operator"}
        while True:
            try:
                create(parameters.get("operator", key), plain, where=recipe.name)
                break
            except MissingAssetError as error:
                lacking = [name for name in error.names if not _fetched(declared()[name])]
                if lacking:
                    failed += lacking
                    break
            except ConfigError as error:  # it lacks more than files: the others are fetched all the same
                err.print(escape(str(error)), style="red")
                failed.append(key)
                break
    if not failed:
        out.print(f"{recipe.name}: all its assets are here")
    return failed


@app.command()
def verify(names: Names = None) -> None:
    """Read the assets that are here whole, and compare their checksums. Named ones must be here.

    Example: `ecodatum assets verify`
    """
    wrong = [asset.name for asset in _chosen(names) if not _verified(asset, required=bool(names))]
    if wrong:
        raise AssetError("missing or wrong", where=", ".join(wrong), todo=_fetch(wrong))


def _verified(asset: "Asset", *, required: bool) -> bool:
    """Print what was found of an asset; return whether it is as it should be."""
    from ecodatum.operators.assets import Record, assets_folder, is_whole, locate, replacement

    try:
        own = replacement(asset)
        place = assets_folder() / asset.place
        if own is not None:
            out.print(f"{asset.name}: replaced by {own}, used as it is")
        elif is_whole(asset, place):
            Record.read().verify(asset, place, reread=True)
            out.print(f"{asset.name}: ok, {place}")
        elif (other := locate(asset)) is not None:
            out.print(f"{asset.name}: ok, {other}")
        else:
            if required:
                out.print(f"{asset.name}: not here")
            return not required
    except AssetError as error:
        err.print(escape(str(error)), style="red")
        return False
    return True


def _lines(asset: "Asset") -> list[str]:
    """Describe an asset: where it is, what it is, its size, licence, checksum and source."""
    from ecodatum.operators.assets import Record, assets_folder, files_of

    state, place = _state(asset)
    record = Record.read()
    files = files_of(asset, place) if place is not None else ()
    size = sum(path.stat().st_size for path in files) or asset.size
    lines = [
        f"{asset.name}: {state}",
        f"    {asset.what}; for {', '.join(asset.used_by)}; {_bytes(size) if size else 'size not known yet'}",
        f"    licence: {asset.licence}; source: {asset.source}",
    ]
    if asset.sha256 and not asset.is_folder:
        return [*lines, f"    sha256: {asset.sha256}"]
    recorded = [
        f"    sha256: {record.expected(asset, path)}  {path.name}, as recorded"
        for path in files
        if path.is_relative_to(assets_folder()) and record.expected(asset, path)
    ]
    return [*lines, *(recorded or ["    sha256: not known beforehand; the first fetch records it"])]


def _state(asset: "Asset") -> tuple[str, Path | None]:
    """Tell in a few words where an asset is, without reading it."""
    from ecodatum.operators.assets import assets_folder, locate, replacement

    try:
        own = replacement(asset)
        place = own or locate(asset)
    except AssetError as error:
        return f"wrong: {error.what}", None
    if own is not None:
        return f"replaced by {own} ({asset.variable})", own
    if place is None:
        return f"not here; {asset.command}", None
    return ("here" if place.is_relative_to(assets_folder()) else f"here, {place}"), place


def _chosen(names: list[str] | None) -> list["Asset"]:
    """Return the assets that names, patterns or operators stand for; all by default."""
    chosen: dict[str, Asset] = {}
    for name in names or ["*"]:
        found = _matching(name)
        if not found:
            from ecodatum.operators.assets import declared

            raise ConfigError("no such asset", where=name, todo=f"there are: {', '.join(declared())}")
        chosen |= found
    return list(chosen.values())


def _matching(name: str) -> dict[str, "Asset"]:
    from ecodatum.operators.assets import declared

    return {
        asset.name: asset
        for asset in declared().values()
        if fnmatch.fnmatchcase(asset.name, name) or name in asset.used_by
    }


def _fetch(names: list[str]) -> str:
    return f"run: ecodatum assets fetch {' '.join(names)}"


def _bytes(size: int) -> str:
    number, units = float(size), ["B", "kB", "MB", "GB"]
    while number >= 1000 and len(units) > 1:
        number, units = number / 1000, units[1:]
    return f"{number:.3g} {units[0]}"
