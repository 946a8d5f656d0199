"""Where the pictures and names come from: icon sets on npm, and the tables of emoji names."""

import json
import re
import subprocess
import tarfile
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final, Literal

import emoji

Role = Literal["pool", "scorer", "evaluation"]


@dataclass(frozen=True)
class Vendor:
    """An icon set: what it is used for, and under which licence its images may be passed on."""

    name: str
    version: str
    role: Role
    licence: str
    author: str
    url: str

    @property
    def package(self) -> str:
        """The name of its npm package."""
        return f"@iconify-json/{self.name}"


_GOOGLE: Final = ("Apache-2.0", "Google Inc", "https://github.com/googlefonts/noto-emoji")
_MICROSOFT: Final = ("MIT", "Microsoft Corporation", "https://github.com/microsoft/fluentui-emoji")

#: The three roles share no vendor. Images of the scorer's vendors (share-alike) are never passed on.
VENDORS: Final = (
    Vendor("noto", "1.2.9", "pool", *_GOOGLE),
    Vendor("noto-v1", "1.2.5", "pool", *_GOOGLE),
    Vendor("fxemoji", "1.2.2", "pool", "Apache-2.0", "Mozilla", "https://github.com/mozilla/fxemoji"),
    Vendor("twemoji", "1.2.5", "pool", "CC-BY-4.0", "Twitter", "https://github.com/jdecked/twemoji"),
    Vendor("emojione", "1.2.3", "pool", "CC-BY-4.0", "Emoji One", "https://github.com/EmojiTwo/emojitwo"),
    Vendor(
        "streamline-emojis",
        "1.2.4",
        "pool",
        "CC-BY-4.0",
        "Streamline",
        "https://github.com/webalys-hq/streamline-vectors",
    ),
    Vendor(
        "openmoji", "1.2.29", "scorer", "CC-BY-SA-4.0", "OpenMoji", "https://github.com/hfg-gmuend/openmoji"
    ),
    Vendor(
        "emojione-v1",
        "1.2.3",
        "scorer",
        "CC-BY-SA-4.0",
        "Emoji One",
        "https://github.com/joypixels/emojione-legacy",
    ),
    Vendor("fluent-emoji-flat", "1.2.6", "evaluation", *_MICROSOFT),
    Vendor("fluent-emoji", "1.2.7", "evaluation", *_MICROSOFT),
)
NAMES_PACKAGE: Final = ("emoji-datasource", "16.0.0")

_CATEGORIES: Final = ("Animals & Nature", "Food & Drink", "Travel & Places", "Activities", "Objects")
_LEFT_OUT: Final = ("time",)  # two dozen clock faces and moons that no 48-pixel model tells apart
_LANGUAGES: Final = ("de", "es", "fr", "it", "pt", "id", "tr", "ru", "ar", "fa", "ja", "ko", "zh")


@dataclass(frozen=True)
class Concept:
    """Something that has a picture in the icon sets, with its names."""

    name: str
    category: str
    subcategory: str
    translations: tuple[tuple[str, str], ...]
    icons: tuple[tuple[str, str], ...]

    def icon(self, vendor: str) -> str | None:
        """The name of its icon in a vendor's set, or None where the set lacks it."""
        return dict(self.icons).get(vendor)


def vendors(role: Role) -> list[Vendor]:
    """The vendors of a role, in the order of the table."""
    return [vendor for vendor in VENDORS if vendor.role == role]


def load_concepts(cache_folder: Path, wanted: int) -> list[Concept]:
    """The concepts of the benchmark, sorted by name.

    A concept is drawn by at least four of the pool's vendors and by every other vendor. Of those, the
    `wanted` are taken that most of the pool's vendors draw, categories in turn.
    """
    emoji.config.load_language()
    sets = {vendor.name: _icon_keys(cache_folder, vendor) for vendor in VENDORS}
    rows = json.loads(_member(cache_folder, *NAMES_PACKAGE, "emoji.json"))
    found: dict[str, Concept] = {}
    for row in sorted(rows, key=lambda row: int(row["sort_order"])):
        concept = _concept(row, sets)
        if concept is not None:
            found.setdefault(concept.name, concept)
    ranked: dict[str, list[Concept]] = {category: [] for category in _CATEGORIES}
    for concept in sorted(found.values(), key=lambda concept: (-len(concept.icons), concept.name)):
        ranked[concept.category].append(concept)
    chosen: list[Concept] = []
    while len(chosen) < wanted and any(ranked.values()):
        chosen += [ranked[category].pop(0) for category in _CATEGORIES if ranked[category]]
    return sorted(chosen[:wanted], key=lambda concept: concept.name)


def svg(cache_folder: Path, vendor: Vendor, icon: str) -> str:
    """The SVG document of an icon."""
    icons = _icon_set(cache_folder, vendor)
    entry = icons["icons"].get(icon) or icons["icons"][icons["aliases"][icon]["parent"]]
    width, height = (entry.get(side, icons.get(side, 16)) for side in ("width", "height"))
    left, top = entry.get("left", 0), entry.get("top", 0)
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'viewBox="{left} {top} {width} {height}" width="{width}" height="{height}">{entry["body"]}</svg>'
    )


def _concept(row: dict[str, Any], sets: dict[str, dict[str, str]]) -> Concept | None:
    if row["category"] not in _CATEGORIES or row["subcategory"] in _LEFT_OUT:
        return None
    character = "".join(chr(int(code, 16)) for code in row["unified"].split("-"))
    names = emoji.EMOJI_DATA.get(character, {})
    if "en" not in names:
        return None
    spellings = [names["en"], row["name"] or "", *row["short_names"], *names.get("alias", [])]
    keys = list(dict.fromkeys(_key(spelling) for spelling in spellings))
    icons = {vendor: icon for vendor, known in sets.items() if (icon := _first(known, keys)) is not None}
    others = [vendor.name for vendor in VENDORS if vendor.role != "pool"]
    if len(icons) - len(others) < 4 or not all(vendor in icons for vendor in others):
        return None
    return Concept(
        name=_plain(names["en"]),
        category=row["category"],
        subcategory=row["subcategory"].replace("-", " "),
        translations=tuple((code, _plain(names[code])) for code in _LANGUAGES if code in names),
        icons=tuple(icons.items()),
    )


def _first(known: dict[str, str], keys: Iterable[str]) -> str | None:
    return next((known[key] for key in keys if key in known), None)


def _plain(short_name: str) -> str:
    """`:cat_face:` as words: "cat face"."""
    return short_name.strip(":").replace("_", " ").replace("’", "'")


def _key(name: str) -> str:
    """A spelling that is the same in every set: sets differ in hyphens, case and spaces."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


@cache
def _icon_set(cache_folder: Path, vendor: Vendor) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(_member(cache_folder, vendor.package, vendor.version, "icons.json"))
    return loaded


def _icon_keys(cache_folder: Path, vendor: Vendor) -> dict[str, str]:
    icons = _icon_set(cache_folder, vendor)
    return {_key(name): name for name in [*icons.get("aliases", {}), *icons["icons"]]}


def _member(cache_folder: Path, package: str, version: str, name: str) -> bytes:
    """A file of an npm package, which is fetched into the cache when it is not there."""
    archive = cache_folder / f"{package.removeprefix('@').replace('/', '-')}-{version}.tgz"
    if not archive.exists():
        cache_folder.mkdir(parents=True, exist_ok=True)
        subprocess.run(
            ["npm", "pack", "--silent", f"{package}@{version}"],
            cwd=cache_folder,
            check=True,
            stdout=subprocess.PIPE,
        )
    with tarfile.open(archive) as tar:
        stream = tar.extractfile(f"package/{name}")
        if stream is None:
            raise FileNotFoundError(f"{archive}: no file {name}")
        return stream.read()
