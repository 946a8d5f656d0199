import subprocess
import sys
from pathlib import Path

import pytest

from ecodatum.errors import AssetError, ConfigError
from ecodatum.operators.language import find_model
from ecodatum.operators.operator import create

#: The operators that need no file besides what is installed.
BARE = ("caption", "image_quality", "image_size", "language", "metadata", "repetition")


def test_an_unknown_operator_is_answered_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"r\.yaml: unknown operator 'blury'\n.*image_quality, image_size"):
        create("blury", {}, where="r.yaml")


@pytest.mark.parametrize(
    ("name", "parameters", "message"),
    [
        ("language", {"modell": "x"}, "unknown key 'modell': did you mean 'model'"),
        ("language", {"lowercase": "yes"}, "lowercase: input should be a valid boolean"),
        ("caption", {"longest": 5}, "unknown key 'longest'"),
        ("repetition", {"words": 0}, "words: input should be greater than or equal to 1"),
        ("metadata", {"columns": []}, "columns: tuple should have at least 1 item"),
        ("clip", {"flips": ["sideways"]}, "flips.*'none', 'horizontal' or 'vertical'"),
        ("clip", {"model": "ViT-B-3"}, r"no model of this name\n.*ViT-B-32"),
        ("clip", {"precision": "fp64"}, "precision: input should be 'fp32' or 'bf16'"),
    ],
)
def test_a_bad_parameter_is_named_with_what_is_allowed(
    name: str, parameters: dict[str, object], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        create(name, parameters)


def test_missing_weights_are_named() -> None:
    with pytest.raises(AssetError, match=r"nowhere\.pt: no such weights"):
        create("clip", {"weights": "nowhere.pt"})


def test_every_operator_declares_a_name_a_version_and_columns() -> None:
    for name in BARE:
        operator = create(name, {})
        assert operator.name == name
        assert operator.version >= 1
        assert len({column.name for column in operator.columns}) == len(operator.columns) > 0


def test_a_fingerprint_follows_the_parameters() -> None:
    marks = {
        create("repetition", {}).fingerprint,
        create("repetition", {"words": 5}).fingerprint,
        create("metadata", {}).fingerprint,
        create("language", {}).fingerprint,
        create("language", {"lowercase": True}).fingerprint,
    }
    assert len(marks) == 5
    assert create("repetition", {"words": 10}).fingerprint == create("repetition", {}).fingerprint


def test_a_fingerprint_follows_the_content_of_an_asset_and_not_its_place(tmp_path: Path) -> None:
    content = find_model("lid.176.ftz").read_bytes()
    same, other = tmp_path / "copy.bin", tmp_path / "other.bin"
    same.write_bytes(content)
    other.write_bytes(content + b"x")
    shipped = create("language", {}).fingerprint
    assert create("language", {"model": str(same)}).fingerprint == shipped
    assert create("language", {"model": str(other)}).fingerprint != shipped


def test_planning_with_every_operator_imports_neither_torch_nor_open_clip() -> None:
    program = (
        "import sys; from ecodatum.operators.operator import create;"
        f"[create(name, {{}}).fingerprint for name in {BARE}];"
        "print({'torch', 'open_clip'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
