"""Hashes of keys: equal for equal keys of any two tables."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from ctrecorder import uapi
from ctrecorder.columns import Table
from ctrecorder.connections import flowkey
from tests.support.rows import random_events, table

ZONES = ("zone", "orig_zone", "reply_zone")


@pytest.mark.parametrize("family", [uapi.AF_INET, uapi.AF_INET6])
def test_a_zone_that_a_table_lacks_is_0(family: int) -> None:
    plain = table(random_events(5, 50, family), family)
    plain = plain.select([name for name in plain.columns if name not in ZONES])
    expected = flowkey.hashes(plain)
    assert len(np.unique(expected)) > 1
    for some in itertools.product((False, True), repeat=3):
        zones = {
            name: np.zeros(len(plain), np.uint16)
            for name, there in zip(ZONES, some, strict=True)
            if there
        }
        same = Table(family, len(plain), {**plain.columns, **zones})
        assert np.array_equal(flowkey.hashes(same), expected)


def test_zones_of_different_kinds_differ() -> None:
    plain = table(random_events(6, 1, uapi.AF_INET), uapi.AF_INET)
    plain = plain.select([name for name in plain.columns if name not in ZONES])
    found = {
        int(
            flowkey.hashes(Table(uapi.AF_INET, 1, {**plain.columns, name: np.array([7], "<u2")}))[0]
        )
        for name in ZONES
    }
    assert len(found | {int(flowkey.hashes(plain)[0])}) == 4
