"""Verdicts: what each labelling function, or each rule, of a filter says of a few rows of a part."""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from ecodatum.curate.recipe import Condition, Recipe
from ecodatum.curate.selection import NO_CANDIDATE
from ecodatum.curate.voting import ABSTAIN, REJECT, SELECT, holds, unpack
from ecodatum.pipeline.curation_jobs import VOTES
from ecodatum.report.curated import Curated, read_patterns
from ecodatum.report.zones import number

_WORDS: Final = {SELECT: "select", REJECT: "reject", ABSTAIN: "abstain"}


@dataclass(frozen=True)
class Verdict:
    """What a filter says of a sample.

    votes: (what, who), as in ("select", ("clip", "hclip")): of an ensemble select, reject and abstain; of
    rules passes and fails, with the scores. probability: P(SELECT), None of rules. remark: why there is no
    vote.
    """

    votes: tuple[tuple[str, tuple[str, ...]], ...] = ()
    probability: float | None = None
    remark: str = ""


def verdicts(judge: Curated, part: int, rows: npt.NDArray[np.int64]) -> list[Verdict]:
    """Return the verdicts of a filter on rows of its part number `part`, (n,).

    Nothing is said where votes or scores are no longer there.
    """
    if judge.recipe is None:
        return [Verdict()] * len(rows)
    if judge.ensemble:
        return _of_votes(judge, judge.recipe, part, rows)
    return _of_rules(judge, judge.recipe, part, rows)


def _of_votes(judge: Curated, recipe: Recipe, part: int, rows: npt.NDArray[np.int64]) -> list[Verdict]:
    if not judge.votes or judge.model is None:
        return [Verdict()] * len(rows)
    column = pq.read_table(judge.votes[part] / VOTES).column("pattern")
    patterns = column.take(pa.array(rows)).to_numpy()
    names = [function.name for function in recipe.labelling_functions]
    matrix = unpack(patterns, len(names))
    chances = read_patterns(judge.model).probability(patterns)
    found = []
    for pattern, votes, chance in zip(patterns, matrix, chances.tolist(), strict=True):
        if pattern == NO_CANDIDATE:
            why = "a rule, or deduplication" if recipe.deduplicate and recipe.rules else ""
            why = why or ("deduplication" if recipe.deduplicate else "a rule")
            found.append(Verdict(remark=f"no candidate: dropped by {why}"))
            continue
        said = [
            (word, tuple(name for name, vote in zip(names, votes, strict=True) if vote == label))
            for label, word in _WORDS.items()
        ]
        found.append(Verdict(tuple((word, who) for word, who in said if who), chance))
    return found


def _of_rules(judge: Curated, recipe: Recipe, part: int, rows: npt.NDArray[np.int64]) -> list[Verdict]:
    files, rules = judge.parts[part], recipe.rules
    if not all(path.exists() for path in files.files.values()):
        return [Verdict()] * len(rows)
    scores, chosen = files.scores(), pa.array(rows)
    columns = [scores.column(rule.score).take(chosen) for rule in rules]
    passed = [holds(rule, column) for rule, column in zip(rules, columns, strict=True)]
    values = [
        [_told(rule, value) for value in column.to_pylist()]
        for rule, column in zip(rules, columns, strict=True)
    ]
    unique = files.survive()[rows]
    found = []
    for row in range(len(rows)):
        said = [
            (word, tuple(told[row] for told, mask in zip(values, passed, strict=True) if mask[row] == label))
            for word, label in (("fails", False), ("passes", True))
        ]
        remark = "" if unique[row] else "dropped by deduplication"
        found.append(Verdict(tuple((word, who) for word, who in said if who), remark=remark))
    return found


def _told(rule: Condition, value: object) -> str:
    """Return a score as in `words 2`."""
    shown = number(value) if isinstance(value, float) else "none" if value is None else str(value).lower()
    return f"{rule.score.partition('.')[2]} {shown}"
