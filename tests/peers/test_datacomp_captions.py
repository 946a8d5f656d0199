"""Languages and caption lengths are those of DataComp's own code, and so is what they select."""

import ast
import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ecodatum.operators.language import find_model
from ecodatum.operators.operator import MetadataOperator, create
from ecodatum.pool import uids as uid_arrays


@pytest.fixture
def metadata(reference: Path) -> Any:
    files = sorted((reference / "datacomp" / "pool" / "metadata").glob("*.parquet"))
    return pa.concat_tables(pq.read_table(file) for file in files).combine_chunks()


def scored(name: str, table: Any) -> dict[str, Any]:
    operator = create(name, {})
    assert isinstance(operator, MetadataOperator)
    (batch,) = table.select(list(operator.inputs)).to_batches()
    values = operator.score(batch).values
    return {column: values.column(column).to_numpy(zero_copy_only=False) for column in values.schema.names}


def test_languages_equal_datacomps_row_for_row(metadata: Any) -> None:
    script = Path(os.environ.get("DATACOMP_HOME", "")) / "baselines" / "apply_filter.py"
    if not script.is_file():
        pytest.skip("no checkout of DataComp (set DATACOMP_HOME)")
    import fasttext

    # Its module needs gcld3 and NLTK, which this function doesn't: take the function alone.
    functions: list[ast.stmt] = [
        node
        for node in ast.parse(script.read_text(encoding="utf-8")).body
        if isinstance(node, ast.FunctionDef) and node.name == "get_fasttext_language"
    ]
    names: dict[str, Any] = {"Any": Any}
    exec(compile(ast.Module(functions, []), str(script), "exec"), names)
    model = fasttext.load_model(str(find_model("lid.176.ftz")))
    wanted = [names["get_fasttext_language"](text, model) for text in metadata.column("text").to_pylist()]
    assert scored("language", metadata)["lang"].tolist() == wanted


def test_the_operators_make_datacomps_basic_filter(metadata: Any, reference: Path) -> None:
    language, caption, size = (scored(name, metadata) for name in ("language", "caption", "image_size"))
    with np.errstate(invalid="ignore"):
        kept = (
            (language["lang"] == "en")
            & (caption["words"] > 2)
            & (caption["characters"] > 5)
            & (size["short_side"] >= 200)
            & (size["aspect"] <= 3.0)
        )
    uids = uid_arrays.from_hex(metadata.column("uid"))[kept]
    wanted = np.load(reference / "datacomp" / "subsets" / "basic_filter.npy")
    assert np.array_equal(uids[uid_arrays.order(uids)], wanted)
