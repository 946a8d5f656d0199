"""The steps of a recipe's `deduplicate`, each over the whole pool and over what those above it leave."""

from collections.abc import Iterator
from typing import Annotated, Any

from pydantic import Discriminator, Field, Tag

from ecodatum.curate.schema import Fraction, Model, ScoreName

#: A score of which the highest is the best, or chance.
Quality = Annotated[str, Field(pattern=r"^(random|[a-z][a-z0-9_]*\.[a-z][a-z0-9_]*)$")]


class _Step(Model):
    """name: what the manifest calls it. keep_best: the score whose highest value in a group stays.

    Nulls are the lowest; samples of equal quality stay by ascending uid. `random` lets chance decide,
    by `seed` and the uids alone.
    """

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
    keep_best: Quality
    seed: Annotated[int, Field(ge=0)] = 0

    def scores(self) -> Iterator[str]:
        """Name the score columns that the step reads."""
        if self.keep_best != "random":
            yield self.keep_best


class NearDuplicates(_Step):
    """Of the samples whose hashes differ in at most `within` of 64 bits, the best stays.

    Groups are transitive: a chain of near-duplicates is one group (see near_duplicates.group). A sample
    without a hash is in no group. The work grows quickly with `within`: 12.8 M hashes take 40 seconds
    of one core at 4.
    """

    hash: ScoreName
    within: Annotated[int, Field(ge=0, le=8)] = 0

    def scores(self) -> Iterator[str]:
        """Name the hash and the quality."""
        yield self.hash
        yield from super().scores()


class SemanticDuplicates(_Step):
    """Of the samples of a cluster, those are removed that have a better one with a cosine above `above`.

    SemDeDup (Abbas et al. 2023, arXiv 2303.09540), where `keep_best` is the distance to the centre.
    Not transitive, as there: also one that is removed itself removes those that are worse than it.
    """

    embeddings: str
    clusters: ScoreName
    above: Annotated[float, Field(ge=-1, le=1)]

    def scores(self) -> Iterator[str]:
        """Name the clusters and the quality."""
        yield self.clusters
        yield from super().scores()


class DensityPruning(_Step):
    """The share `top` stays, more of the clusters that are wide and lie apart; of each its best.

    Density-based pruning (Abbas et al. 2024, arXiv 2401.04578), where `keep_best` is the distance to the
    centre. Samples without a cluster are dropped. distance: to the centre; its mean is d_intra.
    isolation: of the centre from its nearest others, d_inter.
    """

    clusters: ScoreName
    distance: ScoreName
    isolation: ScoreName
    top: Fraction
    temperature: Annotated[float, Field(gt=0)] = 0.5

    def scores(self) -> Iterator[str]:
        """Name what describes the clusters, and the quality."""
        yield from (self.clusters, self.distance, self.isolation)
        yield from super().scores()


class TopShare(_Step):
    """The share `top` with the highest quality stays, exactly int(n·top) of n, nulls last."""

    top: Fraction


def _kind(step: Any) -> str | None:
    """Tell a step's kind by the key that no other kind has."""
    if isinstance(step, _Step):
        return type(step).__name__
    if not isinstance(step, dict):
        return None
    for key, kind in (
        ("hash", NearDuplicates),
        ("embeddings", SemanticDuplicates),
        ("isolation", DensityPruning),
        ("top", TopShare),
    ):
        if key in step:
            return kind.__name__
    return None


Step = Annotated[
    Annotated[NearDuplicates, Tag("NearDuplicates")]
    | Annotated[SemanticDuplicates, Tag("SemanticDuplicates")]
    | Annotated[DensityPruning, Tag("DensityPruning")]
    | Annotated[TopShare, Tag("TopShare")],
    Discriminator(
        _kind,
        custom_error_type="kind_of_step",
        custom_error_message="a step needs one of hash, embeddings, isolation or top",
    ),
]
