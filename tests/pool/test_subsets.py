from pathlib import Path

import numpy as np
import pytest

from ecodatum.errors import PoolError
from ecodatum.pool.subsets import read_subset, write_subset
from ecodatum.pool.uids import UID, from_words


def _uids(*low: int) -> np.ndarray:
    return from_words(np.zeros(len(low), np.uint64), np.array(low, np.uint64))


def test_a_subset_is_sorted_and_keeps_repeats(tmp_path: Path) -> None:
    write_subset(tmp_path / "s.npy", _uids(3, 1, 3, 2))
    assert read_subset(tmp_path / "s.npy")["f1"].tolist() == [1, 2, 3, 3]
    assert np.load(tmp_path / "s.npy").dtype == UID


def test_an_unsorted_subset_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "s.npy", _uids(3, 1))
    with pytest.raises(PoolError, match="not sorted"):
        read_subset(tmp_path / "s.npy")


def test_another_dtype_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "s.npy", np.arange(3))
    with pytest.raises(PoolError, match="u8,u8"):
        read_subset(tmp_path / "s.npy")


def test_a_truncated_subset_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "s.npy"
    write_subset(path, _uids(*range(100)))
    path.write_bytes(path.read_bytes()[:700])
    with pytest.raises(PoolError, match="cannot be read"):
        read_subset(path)


def test_a_missing_subset_is_named(tmp_path: Path) -> None:
    with pytest.raises(PoolError, match="no such subset"):
        read_subset(tmp_path / "s.npy")
