"""The timelines of many seeds have each fault often enough."""

from __future__ import annotations

from collections import Counter

from tests.model.faults import FAULTS
from tests.model.timeline import plan

SEEDS = 100
# A run of a minute applies the first ones: at least so many on a machine that is not busy.
APPLIED = 6
LEAST = 20


def test_each_fault_is_in_a_fifth_of_the_seeds() -> None:
    found = Counter(kind for seed in range(SEEDS) for kind in plan(seed).kinds[:APPLIED])
    assert {kind: found[kind] for kind in FAULTS if found[kind] < LEAST} == {}


def test_seeds_run_with_and_without_times_of_the_kernel() -> None:
    plans = [plan(seed) for seed in range(SEEDS)]
    undated = [each for each in plans if not each.dated]
    assert LEAST < len(undated) < SEEDS - LEAST
    assert any(not each.stepped for each in undated)
    assert all(not each.dated for each in plans if each.stepped)
