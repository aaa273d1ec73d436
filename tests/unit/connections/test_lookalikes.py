"""Flows of one key that are open at once: numbered so that they pair in turn, against queues."""

from __future__ import annotations

import random
from collections import defaultdict, deque

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ctrecorder import uapi
from ctrecorder.columns import ADDRESSES, PORTS, Array, Table, bits
from ctrecorder.connections import lookalikes

KEY_BITS = bits(("l4proto", *ADDRESSES, *PORTS))


def table(ports: list[int], known: int) -> Table:
    rows = len(ports)
    columns: dict[str, Array] = {
        "orig_sport": np.array(ports, np.uint16),
        "l4proto": np.full(rows, 1, np.uint8),
        "present": np.full(rows, known, np.uint32),
    }
    return Table(uapi.AF_INET, rows, columns)


@given(
    st.lists(st.tuples(st.integers(0, 3), st.booleans()), min_size=1, max_size=80),
    st.randoms(use_true_random=False),
)
def test_each_end_has_the_number_of_the_earliest_start_left(
    steps: list[tuple[int, bool]], shuffled: random.Random
) -> None:
    """In any order of the rows in the table: `arrival` is the order of the events."""
    positions = list(range(len(steps)))
    shuffled.shuffle(positions)
    mixed = [steps[position] for position in positions]
    begins = np.array([begin for _, begin in mixed])
    found = lookalikes.number(
        table([port for port, _ in mixed], bits(("l4proto",))), np.array(positions), begins, ~begins
    )
    numbers = dict(zip(positions, found["id"].tolist(), strict=True))
    waiting: dict[int, deque[int]] = defaultdict(deque)
    partners: dict[int, int] = {}
    for position, (port, begin) in enumerate(steps):
        if begin:
            waiting[port].append(position)
        elif waiting[port]:
            partners[position] = waiting[port].popleft()
    flows: dict[tuple[int, int], list[int]] = defaultdict(list)
    for position, (port, _) in enumerate(steps):
        flows[port, numbers[position]].append(position)
    pairs = {tuple(flow) for flow in flows.values() if len(flow) > 1}
    assert pairs == {(start, end) for end, start in partners.items()}
    assert all(numbers.values())


def test_what_can_be_told_apart_is_left_alone() -> None:
    begins = np.array([True, False, True])
    arrival = np.arange(3)
    for known in (KEY_BITS, bits(("l4proto", "id")), 0):
        rows = table([1, 1, 1], known)
        assert lookalikes.number(rows, arrival, begins, ~begins) is rows
    rows = table([1, 1, 1], bits(("l4proto", *PORTS)))
    assert lookalikes.number(rows, arrival, begins, ~begins)["id"].tolist() == [1, 1, 2]
    assert lookalikes.number(rows, arrival, begins, begins) is rows
