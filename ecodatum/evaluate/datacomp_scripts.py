"""Evaluates with DataComp's own evaluate.py: every task of its list, one after another."""

from collections.abc import Callable
from pathlib import Path

from ecodatum.datacomp import scripts
from ecodatum.datacomp.checkout import find_checkout
from ecodatum.datacomp.scripts import OwnScale
from ecodatum.errors import AssetError
from ecodatum.evaluate.record import Record, Result
from ecodatum.evaluate.sets import data_fingerprint
from ecodatum.evaluate.tasks import load_tasks
from ecodatum.files import remove
from ecodatum.operators.clip_models import choose_device, register


def evaluate_with_datacomp(
    model: str | Path,
    checkpoint: Path,
    evalsets: Path,
    out: Path,
    *,
    training: Path | None = None,
    batch_size: int = 64,
    device: str = "auto",
    on_result: Callable[[Result], None] | None = None,
) -> list[Result]:
    """Score `checkpoint` on all of DataComp's tasks by its unmodified evaluate.py, and return the lines.

    `training` is the checkpoint's own training folder, whose info.pkl the script then reads: only for
    trainings of one's own, since a pickle can run code. Otherwise it is told model and checkpoint alone.
    Results that are there from the same checkpoint are kept, as `ecodatum.evaluate.evaluator` keeps them.

    Raises AssetError when the checkpoint or DataComp's pinned checkout is not here, PoolError when a set is
    missing, RunError when the script fails: it ends at the first set that is damaged.
    """
    import open_clip

    checkout = find_checkout()
    checkout.require_pinned()
    if not checkpoint.is_file():
        raise AssetError("no such checkpoint", where=checkpoint)
    tasks = load_tasks("datacomp")
    marks = {task.key: data_fingerprint(task, evalsets / task.data) for task in tasks}
    name = register(str(model))
    record = Record.of(out, checkpoint, name, "fp32")
    record.open()
    known = record.expect(marks)
    if not known:
        remove(out / "info.pkl")  # of another checkpoint, which evaluate.py would refuse
    own = None
    if str(model).endswith(".json"):
        own = OwnScale("own", {}, (name, open_clip.get_model_config(name))).write(out)
    if training is None:
        which = ["--use_model", f"{name} {checkpoint.resolve()}", "--train_output_dir", str(out)]
    else:
        which = ["--train_output_dir", str(training)]
    seen = known

    def watch() -> None:
        nonlocal seen
        for line in record.read_lines()[seen:]:
            seen += 1
            if on_result is not None:
                on_result(line)

    scripts.run(
        checkout,
        "evaluate.py",
        [*which, "--output_dir", str(out), "--data_dir", str(evalsets), "--batch_size", str(batch_size)],
        own_scale=own,
        on_cpu=choose_device(device) == "cpu",
        watch=watch,
    )
    return record.results(tasks)
