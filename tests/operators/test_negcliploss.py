from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
import pytest
import torch
from scipy.special import logsumexp

from ecodatum.errors import ConfigError, PoolError
from ecodatum.operators.operator import EmbeddingsOperator, create
from ecodatum.operators.score import errors_path, score
from tests.operators.tiny_samples import Row, make_part

Floats = npt.NDArray[Any]


def operator(**parameters: Any) -> EmbeddingsOperator:
    made = create("negcliploss", parameters)
    assert isinstance(made, EmbeddingsOperator)
    return made


def pairs(rows: int, seed: int = 0) -> dict[str, Floats]:
    """Images and captions of length one that resemble one another a little, in half precision."""
    draw = np.random.default_rng(seed)
    image, noise = (draw.normal(size=(rows, 16)) + 1 for _ in range(2))
    both = {"l14_img": image, "l14_txt": image + noise}
    return {k: (v / np.linalg.norm(v, axis=1, keepdims=True)).astype(np.float16) for k, v in both.items()}


def scored(arrays: dict[str, Floats], **parameters: Any) -> Floats:
    found: Floats = operator(**parameters).score(arrays).values.column(0).to_numpy(zero_copy_only=False)
    return found


def reference(arrays: dict[str, Floats], temperature: float) -> Floats:
    """The paper's formula over one batch, in double precision."""
    f, g = (arrays[name].astype(np.float64) for name in ("l14_img", "l14_txt"))
    logits = f @ g.T / temperature
    normaliser = temperature / 2 * (logsumexp(logits, 1) + logsumexp(logits, 0))
    return np.asarray(np.diagonal(f @ g.T) - normaliser)


@pytest.mark.parametrize("temperature", [0.01, 0.07, 1.0])
def test_in_a_full_batch_it_is_the_papers_formula(temperature: float) -> None:
    arrays = pairs(300)
    found = scored(arrays, batch_size=300, temperature=temperature, repeats=3)
    assert found == pytest.approx(reference(arrays, temperature), abs=2e-6)


def test_it_is_the_negative_clip_loss_of_open_clip() -> None:
    from open_clip.loss import ClipLoss

    arrays = pairs(64)
    image, text = (torch.from_numpy(arrays[name]).float() for name in ("l14_img", "l14_txt"))
    loss = ClipLoss()(image, text, torch.tensor(1 / 0.07))
    found = scored(arrays, batch_size=64, temperature=0.07, repeats=1)
    assert -found.mean() / 0.07 == pytest.approx(float(loss), abs=1e-5)


def test_similarities_that_overflow_a_plain_exponential_are_no_trouble() -> None:
    same = np.eye(4, dtype=np.float16)[[0, 0, 1, 2]]
    found = scored({"l14_img": same, "l14_txt": same}, batch_size=4, temperature=0.001)
    assert found == pytest.approx([-0.001 * np.log(2)] * 2 + [0, 0], abs=1e-7)


def test_small_batches_estimate_a_large_one() -> None:
    arrays = pairs(512)
    whole = scored(arrays, batch_size=512, temperature=0.1)
    split = scored({name: array[:256] for name, array in arrays.items()}, batch_size=512, temperature=0.1)
    assert split == pytest.approx(whole[:256], abs=0.02)
    assert abs((split - whole[:256]).mean()) < 0.002  # without the weights it would be 0.07


def test_batches_depend_on_seed_and_rows_alone() -> None:
    arrays = pairs(200)
    settings = {"batch_size": 64, "temperature": 0.1, "repeats": 2}
    first = scored(arrays, **settings)
    assert np.array_equal(first, scored(arrays, **settings))
    assert not np.array_equal(first, scored(arrays, **settings, seed=1))


def test_more_repeats_come_nearer_to_the_mean_over_all_batches() -> None:
    arrays, settings = pairs(128), {"batch_size": 32, "temperature": 0.1}
    mean = scored(arrays, **settings, repeats=200, seed=1)
    errors = [np.abs(scored(arrays, **settings, repeats=n) - mean).mean() for n in (1, 20)]
    assert errors[1] < errors[0] / 2


def test_a_damaged_embedding_has_no_score_and_touches_no_other() -> None:
    arrays = pairs(40)
    broken = {name: np.insert(array, [3, 17], np.nan, axis=0) for name, array in arrays.items()}
    broken["l14_img"][3] = arrays["l14_img"][0]  # its caption alone is damaged
    result = operator(batch_size=16).score(broken)
    found = result.values.column(0)
    assert np.flatnonzero(found.is_null()).tolist() == [3, 18]
    assert np.array_equal(found.drop_null().to_numpy(), scored(arrays, batch_size=16))
    assert [(f.rows.tolist(), f.reason) for f in result.faults] == [([3, 18], "an embedding is not finite")]


def test_a_sample_alone_has_nothing_to_compare_with() -> None:
    result = operator().score(pairs(1))
    assert result.values.column(0).null_count == 1
    assert result.faults[0].reason == "no other sample to compare with"
    assert operator().score(pairs(0)).values.num_rows == 0


def test_windows_are_as_equal_as_can_be_and_hold_four_batches() -> None:
    made = operator(batch_size=10)
    assert [made.rows_at_once(rows) for rows in (0, 1, 40, 41, 100)] == [1, 1, 40, 21, 34]


def scored_part(folder: Path, rows: int, arrays: dict[str, Floats], *others: str, **parameters: Any) -> Any:
    part = make_part(folder, [Row(n, "a") for n in range(rows)])
    np.savez(part.embeddings, **arrays)  # type: ignore[arg-type]
    operators = {"negcliploss": operator(**parameters), **{name: create(name, {}) for name in others}}
    outputs = {name: folder / f"{name}.parquet" for name in operators}
    told: list[int] = []
    score(part, operators, outputs, device="cpu", progress=told.append)
    assert sum(told) == rows
    return outputs


def test_a_part_is_scored_window_by_window_whatever_threads_there_are(tmp_path: Path) -> None:
    arrays, settings = pairs(100), {"batch_size": 10, "temperature": 0.1}
    expected = np.concatenate(
        [scored({k: v[at : at + 34] for k, v in arrays.items()}, **settings) for at in (0, 34, 68)]
    )
    threads = torch.get_num_threads()
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            output = scored_part(tmp_path / str(count), 100, arrays, **settings)["negcliploss"]
            assert np.array_equal(pq.read_table(output).column("negcliploss").to_numpy(), expected)
    finally:
        torch.set_num_threads(threads)


def test_a_damaged_row_is_named_in_the_errors(tmp_path: Path) -> None:
    arrays = pairs(20)
    arrays["l14_txt"][4, 2] = np.inf
    output = scored_part(tmp_path, 20, arrays)["negcliploss"]
    (error,) = pq.read_table(errors_path(output)).to_pylist()
    assert (int(error["uid"], 16), error["reason"]) == (4, "an embedding is not finite")


def test_images_and_captions_of_different_models_are_refused(tmp_path: Path) -> None:
    arrays = {**pairs(8), "b32_txt": np.zeros((8, 5), np.float16)}
    with pytest.raises(PoolError, match=r"part\.npz: l14_img is 16 wide, b32_txt 5"):
        scored_part(tmp_path, 8, arrays, text="b32_txt")


@pytest.mark.parametrize("wrong", [{"batch_size": 1}, {"temperature": 0}, {"repeats": 0}, {"seed": -1}])
def test_settings_out_of_range_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        operator(**wrong)
