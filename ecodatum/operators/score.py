"""Scores a part: one pass each over its metadata, embeddings and images, for all operators that need it."""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypedDict

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ecodatum.errors import PoolError
from ecodatum.files import replacing
from ecodatum.operators.images import Look, look_at_images
from ecodatum.operators.operator import (
    EmbeddingsOperator,
    Fault,
    ImageBatch,
    ImageOperator,
    MetadataOperator,
    Operator,
    Scores,
)
from ecodatum.pool import uids as uid_arrays
from ecodatum.pool.embeddings import open_embeddings
from ecodatum.pool.pool import Part, read_columns
from ecodatum.pool.uids import UidArray

MISSING: Final = "image missing"

_NAMED_FAILURES = 5
_METADATA_ROWS = 65536

_UID_FIELDS = [pa.field("uid_high", pa.uint64()), pa.field("uid_low", pa.uint64())]
_ERRORS = pa.schema([(name, pa.string()) for name in ("uid", "shard", "key", "reason")])

Progress = Callable[[int], None]


class Counts(TypedDict):
    """What became of a part's rows: all columns scored, without an image, or null for another reason.

    `first` names the first few of the last kind. Goes into manifests as it is.
    """

    rows: int
    scored: int
    missing: int
    failed: int
    first: list[str]


def score(
    part: Part,
    operators: Mapping[str, Operator],
    outputs: Mapping[str, Path],
    *,
    device: str = "auto",
    batch_size: int = 256,
    progress: Progress | None = None,
) -> dict[str, Counts]:
    """Score a part with the operators and write to each one's output, by its key.

    An output is a parquet with a row for each metadata row, in their order: `uid_high`, `uid_low` and
    the operator's columns. Beside it, `errors_path` has uid, shard, key and reason of the rows that
    have a null score. A uid that is twice in the metadata gets the scores of its first sample twice.

    device: where operators that run on a GPU work: `cpu`, `cuda`, or `auto` for `cuda` if there is one.
    batch_size: images a batch. progress: is told of every few rows done; in all, the part's rows for
    each kind of reading.
    Returns the counts by key. Raises PoolError for a missing column, a damaged file, or a sample that
    isn't of this part.
    """
    if any(operator.runs_on == "gpu" for operator in operators.values()):
        from ecodatum.operators.clip_models import choose_device

        device = choose_device(device)
    for operator in operators.values():
        operator.prepare(device)
    metadata = {key: op for key, op in operators.items() if isinstance(op, MetadataOperator)}
    embeddings = {key: op for key, op in operators.items() if isinstance(op, EmbeddingsOperator)}
    image = {key: op for key, op in operators.items() if isinstance(op, ImageOperator)}
    with contextlib.ExitStack() as files:
        writers = {key: files.enter_context(_writing(op, outputs[key])) for key, op in operators.items()}
        if metadata:
            _score_metadata(part, metadata, writers, progress or _silent)
        if embeddings:
            _score_embeddings(part, embeddings, writers, progress or _silent)
        if image:
            _score_images(part, image, writers, batch_size, progress or _silent)
        return {key: writer.finish() for key, writer in writers.items()}


def errors_path(output: Path) -> Path:
    """Return where the reasons for an output's null scores lie."""
    return output.with_name(f"{output.stem}.errors.parquet")


class _Writer:
    """Writes one operator's scores and errors as they come, and counts."""

    def __init__(self, operator: Operator, scores: pq.ParquetWriter, errors: pq.ParquetWriter) -> None:
        self._names = [column.name for column in operator.columns]
        self._scores, self._errors = scores, errors
        self._rows = self._scored = self._missing = 0
        self._first: list[str] = []
        self._waiting: list[pa.Table] = []

    def scores(self, uids: UidArray, values: Sequence[pa.Array | pa.ChunkedArray]) -> None:
        """Append rows: uids, (n,), and the operator's columns, each (n,)."""
        identity = [np.ascontiguousarray(uids["f0"]), np.ascontiguousarray(uids["f1"])]
        table = pa.table([*identity, *values], schema=self._scores.schema)
        self._scores.write_table(table)
        self._rows += table.num_rows
        whole = pa.array(np.ones(table.num_rows, bool))
        for name in self._names:
            whole = pc.and_(whole, pc.is_valid(table.column(name)))
        self._scored += pc.sum(whole).as_py() or 0

    def errors(
        self,
        uids: UidArray,
        reason: str,
        shards: Sequence[str] | None = None,
        keys: Sequence[str] | None = None,
    ) -> None:
        """Append the rows, (k,) uids, that failed for one reason, with their samples if they have any."""
        hexes = uid_arrays.to_hex(uids)
        empty = pa.nulls(len(uids), pa.string())
        columns = [hexes, shards or empty, keys or empty, pa.repeat(reason, len(uids))]
        self._waiting.append(pa.table(columns, schema=_ERRORS))
        if reason == MISSING:
            self._missing += len(uids)
            return
        for row in range(min(len(uids), _NAMED_FAILURES - len(self._first))):
            place = f"{shards[row]}:{keys[row]}" if shards and keys else f"uid {hexes[row]}"
            self._first.append(f"{place}: {reason}")

    def finish(self) -> Counts:
        """Write the errors, which come a few at a time, at once; return the counts."""
        self._errors.write_table(pa.concat_tables([_ERRORS.empty_table(), *self._waiting]))
        failed = self._rows - self._scored - self._missing
        return Counts(
            rows=self._rows, scored=self._scored, missing=self._missing, failed=failed, first=self._first
        )


@contextlib.contextmanager
def _writing(operator: Operator, output: Path) -> Iterator[_Writer]:
    schema = pa.schema([*_UID_FIELDS, *(pa.field(column.name, column.type) for column in operator.columns)])
    texts: Any = [column.name for column in operator.columns if pa.types.is_string(column.type)]
    with (
        replacing(errors_path(output)) as errors_file,
        replacing(output) as scores_file,
        # Numbers hardly repeat; to look for those that do costs more than all else about writing them.
        pq.ParquetWriter(scores_file, schema, compression="zstd", use_dictionary=texts) as scores,
        pq.ParquetWriter(errors_file, _ERRORS, compression="zstd") as errors,
    ):
        yield _Writer(operator, scores, errors)


def _score_metadata(
    part: Part, operators: Mapping[str, MetadataOperator], writers: Mapping[str, _Writer], progress: Progress
) -> None:
    """Stream the columns that any operator needs, and give each operator its own."""
    needed = dict.fromkeys(["uid", *(name for op in operators.values() for name in op.inputs)])
    for batch in read_columns(part, list(needed), _METADATA_ROWS):
        with _located(part.metadata):
            uids = uid_arrays.from_hex(batch.column("uid"))
            for key, operator in operators.items():
                scores = _without_nan(operator.score(batch.select(list(operator.inputs))))
                _write(writers[key], uids, scores)
        progress(batch.num_rows)


def _score_embeddings(
    part: Part,
    operators: Mapping[str, EmbeddingsOperator],
    writers: Mapping[str, _Writer],
    progress: Progress,
) -> None:
    """Stream the arrays that any operator needs, in blocks of as many rows as it wants to see together."""
    uids = _uids(part)
    blocks: dict[int, list[str]] = {}
    for key, operator in operators.items():
        blocks.setdefault(operator.rows_at_once(part.rows), []).append(key)
    for rows, keys in sorted(blocks.items()):
        some = {key: operators[key] for key in keys}
        needed = dict.fromkeys(name for operator in some.values() for name in operator.inputs)
        with open_embeddings(part, list(needed)) as arrays:
            for start in range(0, part.rows, rows):
                block = uids[start : start + rows]
                with _located(part.embeddings):
                    values = arrays.read(len(block))
                    for key, operator in some.items():
                        scores = operator.score({name: values[name] for name in operator.inputs})
                        _write(writers[key], block, _without_nan(scores))
                if rows == max(blocks):
                    progress(len(block))


def _uids(part: Part) -> UidArray:
    """Return the part's uids in the order of its rows."""
    with _located(part.metadata):
        batches = [uid_arrays.from_hex(batch.column("uid")) for batch in read_columns(part, ["uid"])]
    return np.concatenate([np.empty(0, uid_arrays.UID), *batches])


def _write(writer: "_Writer", uids: UidArray, scores: Scores) -> None:
    """Hand a batch's scores, and why some are null, to the operator's writer."""
    writer.scores(uids, scores.values.columns)
    for fault in scores.faults:
        writer.errors(uids[fault.rows], fault.reason)


def _score_images(
    part: Part,
    operators: Mapping[str, ImageOperator],
    writers: Mapping[str, _Writer],
    batch_size: int,
    progress: Progress,
) -> None:
    """Stream the shards once; put the scores, which come in the shards' order, into the metadata's."""
    if not part.shards:
        raise PoolError(
            f"the pool has no shards of this part, and {', '.join(operators)} needs its images",
            where=part.metadata,
        )
    rows = _uids(part)
    known = uid_arrays.UidIndex(rows[uid_arrays.order(rows)])
    gathered = {key: _Gathered() for key in operators}
    seen: list[UidArray] = []
    done = 0
    for looks in look_at_images(part.shards, list(operators.values()), batch_size):
        uids = uid_arrays.from_hex(pa.array([look.uid for look in looks], pa.string()))
        _require_of_part(uids, known, looks, part)
        for position, (key, operator) in enumerate(operators.items()):
            _score_batch(operator, position, looks, uids, gathered[key], writers[key])
        seen.append(uids)
        done += len(looks)
        progress(len(looks))
    present = _first_match(rows, np.concatenate(seen) if seen else rows[:0]) >= 0
    for key, operator in operators.items():
        writers[key].scores(rows, gathered[key].in_order_of(rows, operator))
        if not present.all():
            writers[key].errors(rows[~present], MISSING)
    progress(max(0, part.rows - done))


class _Gathered:
    """The scores of one operator in the order of the samples; those that failed are left out."""

    def __init__(self) -> None:
        self._uids: list[UidArray] = []
        self._values: list[pa.RecordBatch] = []

    def add(self, uids: UidArray, values: pa.RecordBatch) -> None:
        self._uids.append(uids)
        self._values.append(values)

    def in_order_of(self, rows: UidArray, operator: Operator) -> list[pa.ChunkedArray | pa.Array]:
        """Return the score columns for the metadata rows, (n,) uids; null where there is no score."""
        if not self._values:
            return [pa.nulls(len(rows), column.type) for column in operator.columns]
        sources = _first_match(rows, np.concatenate(self._uids))
        table = pa.Table.from_batches(self._values).combine_chunks()
        return list(table.take(pa.array(sources, mask=sources < 0)).columns)


def _score_batch(
    operator: ImageOperator,
    position: int,
    looks: Sequence[Look],
    uids: UidArray,
    gathered: _Gathered,
    writer: _Writer,
) -> None:
    """Score what the operator could see of a batch, and note what it could not."""
    reasons = [look.faults[position] for look in looks]
    for row, reason in enumerate(reasons):
        if reason is not None:
            writer.errors(uids[row : row + 1], reason, [looks[row].shard], [looks[row].key])
    good = [look for look in looks if look.faults[position] is None]
    if not good:
        return
    scored = uids[[reason is None for reason in reasons]]
    scores = _without_nan(
        operator.score(ImageBatch([look.views[position] for look in good], [look.caption for look in good]))
    )
    gathered.add(scored, scores.values)
    for fault in scores.faults:
        chosen = [good[row] for row in fault.rows]
        writer.errors(
            scored[fault.rows],
            fault.reason,
            [look.shard for look in chosen],
            [look.key for look in chosen],
        )


def _require_of_part(uids: UidArray, known: uid_arrays.UidIndex, looks: Sequence[Look], part: Part) -> None:
    start, stop = known.runs(uids)
    strangers = np.flatnonzero(start == stop)
    if len(strangers):
        look = looks[strangers[0]]
        raise PoolError(
            f"sample {look.key} has the uid {look.uid}, which is not in {part.metadata.name}",
            where=look.shard,
            todo="shards and metadata are of different pools, or not in the same order",
        )


def _first_match(rows: UidArray, samples: UidArray) -> npt.NDArray[np.int64]:
    """Return for each row the position of the first sample with its uid, (n,), or -1."""
    order = uid_arrays.order(samples)  # stable: equal uids stay in the samples' order
    start, stop = uid_arrays.UidIndex(samples[order]).runs(rows)
    found = np.full(len(rows), -1, np.int64)
    found[start < stop] = order[start[start < stop]]
    return found


def _without_nan(scores: Scores) -> Scores:
    """Replace NaN scores by nulls, with a reason."""
    columns: list[Any] = []
    faults = list(scores.faults)
    for name, column in zip(scores.values.schema.names, scores.values.columns, strict=True):
        if pa.types.is_floating(column.type):
            undefined = pc.fill_null(pc.is_nan(column), False).to_numpy(zero_copy_only=False)
            if undefined.any():
                faults.append(Fault(np.flatnonzero(undefined), f"{name} is not a number"))
                column = pc.if_else(undefined, pa.scalar(None, column.type), column)
        columns.append(column)
    return Scores(pa.RecordBatch.from_arrays(columns, schema=scores.values.schema), tuple(faults))


@contextlib.contextmanager
def _located(path: Path) -> Iterator[None]:
    """Name the file in an error that was raised by code that sees only columns."""
    try:
        yield
    except PoolError as error:
        raise PoolError(error.what, where=error.where or path, todo=error.todo) from error


def _silent(rows: int) -> None:
    """Report no progress."""
