"""CSV: what a spreadsheet would compute is text."""

from __future__ import annotations

import csv
import io

import pytest

from ctrecorder.inquiry import table
from ctrecorder.terminal import printable


@pytest.mark.parametrize(
    "cell",
    ["=1+1", "+49", "-2", "@x", "\t=1", "\r=1", " =1", "\n=1", '=HYPERLINK("x")', "\u00a0=1"],
)
def test_no_cell_is_a_formula(cell: str) -> None:
    (row,) = csv.reader(io.StringIO(table.lines([("a", cell)]), newline=""))
    assert row[0] == "a"
    assert row[1] == f"'{printable(cell)}"


@pytest.mark.parametrize("cell", ["", "198.51.100.1", "a=b", "2026-11-24", 'say "so", twice'])
def test_other_cells_stay_as_they_are(cell: str) -> None:
    (row,) = csv.reader(io.StringIO(table.lines([("a", cell)]), newline=""))
    assert row == ["a", cell]
