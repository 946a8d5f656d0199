from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecodatum.pool import uids as uid_arrays
from ecodatum.pool import uniqueness
from ecodatum.pool.uids import from_words, to_hex

UIDS = st.lists(st.lists(st.sampled_from([0, 1, 7, 2**63, 2**63 + 1, 2**64 - 1]), max_size=8), max_size=4)


@settings(deadline=None)
@given(UIDS, st.integers(1, 4))
def test_a_uid_is_repeated_when_it_is_there_twice_in_whatever_files(
    tmp_path_factory: pytest.TempPathFactory, parts: list[list[int]], together: int
) -> None:
    folder = tmp_path_factory.mktemp("uids")
    files: list[Path] = []
    for number, words in enumerate(parts):
        low = np.array(words, np.uint64) % np.uint64(3)
        uids = from_words(np.array(words, np.uint64), low)
        files.append(folder / f"{number}.npy")
        np.save(files[-1], uids[uid_arrays.order(uids)])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(uniqueness, "_TOGETHER", together)
        count, found = uniqueness.repeated_uids(files, show=2)
    owners: dict[int, list[int]] = {}
    for number, words in enumerate(parts):
        for word in words:
            owners.setdefault(word, []).append(number)
    expected = {word: tuple(sorted(owner)) for word, owner in sorted(owners.items()) if len(owner) > 1}
    assert count == len(expected)
    hexes = to_hex(
        from_words(np.array([*expected], np.uint64), np.array([*expected], np.uint64) % np.uint64(3))
    )
    assert [(r.uid, r.files) for r in found] == list(zip(hexes.to_pylist(), expected.values(), strict=True))[
        :2
    ]
