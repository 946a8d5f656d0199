"""Sends a bundle through DataComp's own evaluate.py, and remembers what has arrived."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from ecodatum.datacomp import scripts
from ecodatum.datacomp.checkout import find_checkout
from ecodatum.datacomp.layer.submission import DATABASE, HUB, LEADERBOARD_VARIABLE, NOTIFICATION, read_notes
from ecodatum.errors import RunError
from ecodatum.files import locked
from ecodatum.submission.bundle import Bundle

#: What is sent, in evaluate.py's order, with what each step is.
STEPS: Final = {
    HUB: "the files, to the hub",
    DATABASE: "the record, to the leaderboard's database",
    NOTIFICATION: "a notification to DataComp's organisers",
}
_SENT: Final = "sent.jsonl"


def destinations() -> dict[str, str]:
    """Return where each step goes: HF_ENDPOINT and ECODATUM_LEADERBOARD name other places, for trials."""
    board = os.environ.get(LEADERBOARD_VARIABLE)
    return {
        HUB: os.environ.get("HF_ENDPOINT") or "https://huggingface.co",
        DATABASE: board or "DataComp's database, as evaluate.py has it",
        NOTIFICATION: board or "DataComp's chat, as evaluate.py has it",
    }


def arrived(folder: Path) -> Mapping[str, str]:
    """Return when each step of a bundle arrived; steps that did not are left out."""
    return {note["step"]: note["at"] for note in read_notes(folder / _SENT) if note["state"] == "arrived"}


def send(bundle: Bundle) -> Mapping[str, str]:
    """Send a bundle by DataComp's unmodified evaluate.py, and return when each step arrived.

    What arrived before is not sent again. Keys are where the hub's own client looks for them (HF_TOKEN,
    or its login). Raises AssetError without DataComp's pinned checkout, RunError when not all arrived.
    """
    checkout = find_checkout()
    checkout.require_pinned()
    with locked(bundle.folder.with_name(f"{bundle.folder.name}.lock")):
        if set(arrived(bundle.folder)) == set(STEPS):
            return arrived(bundle.folder)
        try:
            scripts.run(
                checkout,
                "evaluate.py",
                _arguments(bundle),
                own_scale=None,
                on_cpu=True,
                sent=bundle.folder / _SENT,
                watch=lambda: None,
            )
        except RunError as error:
            raise _incomplete(bundle.folder, str(error)) from error
        if set(arrived(bundle.folder)) != set(STEPS):  # evaluate.py ends with 0 when a step is refused
            raise _incomplete(bundle.folder, "evaluate.py ended before all was sent")
    return arrived(bundle.folder)


def _incomplete(folder: Path, why: str) -> RunError:
    there = arrived(folder)
    answers = {note["step"]: note.get("told", "") for note in read_notes(folder / _SENT)}
    lines = [why]
    for step in STEPS:
        state = f"arrived {there[step]}" if step in there else f"not arrived {answers.get(step, '')}"
        lines.append(f"  {step}: {state.rstrip()}")
    return RunError(
        "\n".join(lines),
        where=folder,
        todo="give the same command again: what has arrived is not sent again",
    )


def _arguments(bundle: Bundle) -> list[str]:
    details = bundle.details
    options = {
        "--train_output_dir": bundle.entry.training,
        "--output_dir": bundle.folder,
        "--track": "filtering",
        "--samples": bundle.samples,
        "--dataset-size": bundle.size,
        "--method_name": details.method_name,
        "--author": details.author,
        "--email": details.email,
        "--hf_username": details.hf_username,
        "--hf_repo_name": details.hf_repo_name,
        "--writeup": details.writeup,
    }
    flat = [f"{option}={value}" for option, value in options.items() if value is not None]
    return ["--submit", *flat, *(["--upload_checkpoint"] if details.upload_checkpoint else [])]
