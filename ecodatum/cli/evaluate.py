"""`ecodatum evaluate`: an evaluation by itself."""

from pathlib import Path
from typing import Annotated, Any, Literal

import pandas as pd
import typer

from ecodatum.cli.console import err, out, table
from ecodatum.cli.counting import counting
from ecodatum.errors import ConfigError


def evaluate(
    model: Annotated[str, typer.Option(help="A name of open_clip's (ViT-B-32), or your own JSON config.")],
    checkpoint: Annotated[
        Path, typer.Option(help="What a training wrote: epoch_latest.pt, or a state dict.")
    ],
    data: Annotated[
        Path, typer.Option(help="The folder of all evaluation sets (`ecodatum evalsets fetch`).")
    ],
    out_folder: Annotated[Path, typer.Option("--out", help="The folder to write eval_results.jsonl into.")],
    tasks: Annotated[
        str | None, typer.Option(help="Only these, by key or name, joined by commas: imagenet1k,mnist")
    ] = None,
    task_list: Annotated[
        str, typer.Option(help="DataComp's forty, or a YAML file of your own.")
    ] = "datacomp",
    engine: Annotated[
        Literal["builtin", "datacomp"], typer.Option(help="Ours, or DataComp's own evaluate.py.")
    ] = "builtin",
    precision: Annotated[Literal["fp32", "bf16"], typer.Option(help="bf16 is faster on a GPU.")] = "fp32",
    device: Annotated[str, typer.Option(help="cpu, cuda, or auto.")] = "auto",
    batch_size: Annotated[int, typer.Option(min=1, help="Images, or prompts, at a time.")] = 64,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Decoding threads; by default the cores.")
    ] = None,
    threads: Annotated[
        int | None, typer.Option(min=1, help="The model's threads on the CPU; by default half of the cores.")
    ] = None,
) -> None:
    """Evaluate a checkpoint zero-shot, and write DataComp's eval_results.jsonl.

    Results that are there already, of the same checkpoint and data, are kept. A damaged set is named at
    the end, when the other tasks are finished; exit status 1. No code in a checkpoint is ever run.

    Example: `ecodatum evaluate --model ViT-B-32 --checkpoint epoch_latest.pt --data EVALSETS --out results`
    """
    from ecodatum.evaluate.tasks import load_tasks, select

    chosen = load_tasks(task_list)
    if engine == "datacomp" and (tasks or task_list != "datacomp" or precision != "fp32"):
        raise ConfigError(
            "DataComp's evaluate.py evaluates its own forty tasks, all of them, in fp32",
            where="--engine datacomp",
            todo="leave out --tasks, --task-list and --precision, or use the builtin engine",
        )
    if tasks:
        chosen = select(chosen, tuple(name.strip() for name in tasks.split(",")))
    with counting("evaluate", len(chosen), "tasks") as count:
        finished = 0

        def tell(result: dict[str, Any]) -> None:
            nonlocal finished
            finished += 1
            count(finished, result["dataset"])

        if engine == "datacomp":
            from ecodatum.evaluate.datacomp_scripts import evaluate_with_datacomp

            results = evaluate_with_datacomp(
                model, checkpoint, data, out_folder, batch_size=batch_size, device=device, on_result=tell
            )
        else:
            from ecodatum.evaluate.evaluator import evaluate as evaluate_all

            results = evaluate_all(
                model,
                checkpoint,
                data,
                chosen,
                out_folder,
                batch_size=batch_size,
                device=device,
                workers=workers,
                threads=threads,
                precision=precision,
                on_result=tell,
            )
    scores = [line["metrics"]["main_metric"] for line in results]
    shown = {
        "Task": [line["dataset"] for line in results],
        "Score": ["–" if s is None else s for s in scores],
    }
    out.print(table(pd.DataFrame(shown, dtype=object)))
    err.print(f"{len(results) - finished} were there already; written: {out_folder / 'eval_results.jsonl'}")
