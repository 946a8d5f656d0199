"""What is read from the trainer's log."""

from pathlib import Path

import pytest

from ecodatum.errors import RunError
from ecodatum.train.progress import parse_line, read_progress, training_curve

LINE = (
    "2026-01-01,00:00:00 | INFO | Train Epoch: {epoch} [{done:>3}/160 (10%)] Data (t): 0.1 "
    "Batch (t): 0.2, 512.5/s, 512.5/s/gpu LR: 0.000500 Logit Scale: 14.28 "
    "Contrastive_loss: {loss} ({loss}) Loss: {loss} (2.0)\n"
)


def line(epoch: int, done: int, loss: str = "2.5") -> str:
    return LINE.format(epoch=epoch, done=done, loss=loss)


def test_a_line_tells_where_the_training_is() -> None:
    progress = parse_line(line(1, 80))
    assert progress is not None
    assert (progress.samples_seen, progress.loss, progress.learning_rate) == (240, 2.5, 5e-4)
    assert progress.images_per_second == 512.5
    assert parse_line("2026-01-01,00:00:00 | INFO | Start epoch 1") is None


def test_a_loss_that_is_no_number_is_noticed() -> None:
    progress = parse_line(line(0, 8, "nan"))
    assert progress is not None
    assert progress.diverged


def test_the_last_progress_is_read_from_a_log_that_still_grows(tmp_path: Path) -> None:
    log = tmp_path / "out.log"
    assert read_progress(log) is None
    log.write_text("x" * 200_000 + "\n" + line(0, 8) + line(0, 80) + "half a li")
    progress = read_progress(log)
    assert progress is not None
    assert progress.samples_seen == 80


def test_what_a_resumption_repeats_counts_once(tmp_path: Path) -> None:
    first = line(0, 16, "4") + line(0, 160, "3") + line(1, 16, "2") + line(1, 80, "1")
    (tmp_path / "out.log").write_text(first + line(1, 16, "2.2") + line(1, 160, "1.1"))
    curve = training_curve(tmp_path)
    assert list(curve["loss"]) == [4, 3, 2.2, 1.1]
    assert list(curve["step"]) == [1, 10, 11, 20]


def test_a_folder_without_a_log_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no log"):
        training_curve(tmp_path)
