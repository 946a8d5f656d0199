"""Packing keeps every item, in order, within the limits."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecodatum.errors import ConfigError
from ecodatum.launch.packing import items_per_task, pack


@given(count=st.integers(1, 3000), per_task=st.integers(1, 50), size=st.integers(2, 1001))
def test_packed_items_are_all_there_in_order_and_within_the_limits(
    count: int, per_task: int, size: int
) -> None:
    arrays = pack(range(count), per_task, size)
    tasks = [task for array in arrays for task in array]
    assert [item for task in tasks for item in task] == list(range(count))
    assert max(map(len, arrays)) < size
    assert max(map(len, tasks)) <= per_task
    assert max(map(len, tasks)) - min(map(len, tasks)) <= 1


@given(counts=st.lists(st.integers(1, 5000), min_size=1, max_size=8), room=st.integers(8, 2000))
def test_tasks_are_as_small_as_the_room_allows(counts: list[int], room: int) -> None:
    def tasks(shares: list[int]) -> int:
        return sum(-(-count // share) for count, share in zip(counts, shares, strict=True))

    shares = items_per_task(counts, [None] * len(counts), room)
    assert tasks(shares) <= room
    smaller = [share - 1 for share in shares]
    assert 0 in smaller or tasks(smaller) > room


def test_a_stage_keeps_its_own_limit() -> None:
    assert items_per_task([100, 100], [1, None], 150) == [1, 2]


def test_too_many_tasks_are_told_with_the_way_out() -> None:
    with pytest.raises(ConfigError, match="max_tasks"):
        items_per_task([100], [1], 99)
