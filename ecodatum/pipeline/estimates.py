"""What units will cost before they run: GPU hours from earlier units and from limits, bytes on disk."""

from collections.abc import Sequence
from dataclasses import dataclass

from ecodatum.launch.profile import Profile
from ecodatum.pipeline.curation_jobs import Score, Vote
from ecodatum.pipeline.submission import Packed
from ecodatum.pipeline.training_jobs import Reshard, Train
from ecodatum.pipeline.units import Unit
from ecodatum.train.scales import Scale

#: Bytes of a score and its row's share of the file; of a vote pattern.
_SCORE_BYTES, _VOTE_BYTES = 16, 8
#: A parameter's weight and Adam's two moments, in 32 bits.
_CHECKPOINT_BYTES = 12


@dataclass(frozen=True)
class StageCost:
    """What is to run of a stage: units, tasks, arrays, GPU hours, and bytes that it leaves on disk.

    gpu_hours_likely: from the seconds that units of the stage took here before; None where none did.
    gpu_hours_most: if every task reaches its time limit once.
    """

    stage: str
    units: int
    tasks: int
    arrays: int
    gpu_hours_likely: float | None
    gpu_hours_most: float
    bytes: int


def stage_costs(units: Sequence[Unit], packed: Packed, profile: Profile) -> list[StageCost]:
    """Return a row per kind of machine in a stage, for what is to be submitted."""
    costs: dict[str, StageCost] = {}
    parameters: dict[str, int] = {}
    for group, tasks in packed.arrays:
        resources = profile.resources(group.resources)
        members = [unit for task in tasks for unit in task]
        gpus = resources.gpus * resources.nodes
        speed = _seconds_per_size(units, members[0])
        likely = speed and speed * sum(unit.size for unit in members) * gpus / 3600
        before = costs.get(group.resources, StageCost(group.resources, 0, 0, 0, 0.0, 0.0, 0))
        costs[group.resources] = StageCost(
            group.resources,
            before.units + len(members),
            before.tasks + len(tasks),
            before.arrays + 1,
            None if likely is None or before.gpu_hours_likely is None else before.gpu_hours_likely + likely,
            before.gpu_hours_most + len(tasks) * gpus * resources.minutes / 60,
            before.bytes + sum(_bytes(unit, parameters) for unit in members),
        )
    return list(costs.values())


def _seconds_per_size(units: Sequence[Unit], like: Unit) -> float | None:
    """Return the seconds that the finished units of the same kind took, over their sizes."""
    kind = (like.stage, like.resources)
    done = [unit for unit in units if (unit.stage, unit.resources) == kind and unit.done()]
    size = sum(unit.size for unit in done)
    return sum(max(o.read()["seconds"] for o in unit.outputs) for unit in done) / size if size else None


def _bytes(unit: Unit, parameters: dict[str, int]) -> int:
    """Return what a unit leaves on disk: at most for shards, about for the rest."""
    job = unit.job
    if isinstance(job, Reshard):
        return sum(shard.path.stat().st_size for shard in job.part.shards)
    if isinstance(job, Train):
        if job.scale.model not in parameters:
            parameters[job.scale.model] = _parameters(job.scale)
        return parameters[job.scale.model] * _CHECKPOINT_BYTES
    if isinstance(job, Score):
        return job.part.rows * _SCORE_BYTES * len(unit.missing())
    return unit.size * _VOTE_BYTES if isinstance(job, Vote) else 0


def _parameters(scale: Scale) -> int:
    """Count the parameters of a scale's model, without making their values."""
    import open_clip
    import torch

    from ecodatum.operators.clip_models import register

    config = open_clip.get_model_config(register(scale.model, scale.folder))
    with torch.device("meta"):
        model = open_clip.model.CLIP(**config)
    return sum(parameter.numel() for parameter in model.parameters())
