"""Sort rows by time in bounded memory, with a temporary file.

Rows wait in memory.  When more than `HELD_ROWS` wait, all of them are sorted and written to the
file as one run.  Runs are merged when rows are taken out.  The file has no name; it is in the
folder TMPDIR, else in /var/tmp.  It takes 60 to 120 bytes a row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from ctrecorder import spill
from ctrecorder.columns import Table, concat
from ctrecorder.spill import Piece

# Numbers, or bytes of one length.
Keys = NDArray[Any]
Key = Callable[[Table], Keys]

# Rows in memory, and their bytes: 20 columns of 524,288 rows of IPv4 are 50 MiB.  With fewer, rows
# are written to the disk sooner; with more, a router with little memory runs out of it.
HELD_ROWS, HELD_BYTES = 1 << 19, 50 << 20
# Rows of a run that are read at once: with 100,000,000 rows, in 190 runs, 780,000 are in memory.
# With fewer, reads are small and slow.
_PART_ROWS = 1 << 12


class Sorter:
    """Sorts tables of any family: `add` them, then take rows out by `ready`.

    `key(table)`: (rows,), by which rows are sorted: times, int64, or bytes.
    `held_rows`: rows in memory at most.
    Leaving its `with` closes the temporary file.
    """

    def __init__(self, key: Key, held_rows: int = HELD_ROWS) -> None:
        self._key, self._held_rows = key, held_rows
        self._held: list[Table] = []
        self._rows = self._bytes = 0
        self._least: int | None = None  # of the times in memory
        self._runs: list[_Run] = []
        self._file: IO[bytes] | None = None

    def __enter__(self) -> Sorter:
        return self

    def __exit__(self, *error: object) -> None:
        if self._file is not None:
            self._file.close()

    def __len__(self) -> int:
        """The rows that were not taken out, those in the file included."""
        return self._rows + sum(run.rows for run in self._runs)

    def add(self, table: Table) -> None:
        """Add rows in any order.

        Raises ArchiveError if the temporary file cannot be written.
        """
        if not len(table):
            return
        keys = self._key(table)
        if keys.dtype.kind == "i":
            least = int(keys.min())
            self._least = least if self._least is None else min(self._least, least)
        self._held.append(table)
        self._rows += len(table)
        self._bytes += sum(array.nbytes for array in table.columns.values())
        if self._rows > self._held_rows or self._bytes > HELD_BYTES:
            self._spill()

    def ready(self, before: int | None = None) -> Iterator[list[Table]]:
        """Take out the rows of times before `before`; None: all rows.

        Yields lists of tables: one table for each family, sorted; no row is earlier than a row of
        the list before.  The caller must exhaust the iterator before it adds rows again.
        """
        runs = [*self._runs, *self._take_held(before)]
        while True:
            due = [run for run in runs if run.is_due(before)]
            if not due:
                break
            cuts = [] if before is None else [before - 1]
            cut = min([*cuts, *(last for run in due for last in run.loaded_until())], default=None)
            parts = [part for run in due if len(part := run.take(cut))]
            families = sorted({part.family for part in parts})
            yield [
                _sorted(concat([part for part in parts if part.family == family]), self._key)
                for family in families
            ]
        self._runs = [run for run in self._runs if run.rows]

    def _take_held(self, before: int | None) -> list[_Run]:
        """The rows in memory of times before `before`, as runs."""
        if before is None:
            due, self._held, self._rows, self._bytes = self._held, [], 0, 0
            return self._sorted_runs(due)
        if self._least is None or self._least >= before:
            return []
        due, held = [], []
        for table in self._held:
            is_due = self._key(table) < before
            if is_due.all():
                due.append(table)
            elif is_due.any():
                due.append(table.take(is_due))
                held.append(table.take(~is_due))
            else:
                held.append(table)
        self._held, self._rows = held, sum(map(len, held))
        self._bytes = sum(array.nbytes for table in held for array in table.columns.values())
        self._least = min((int(self._key(table).min()) for table in held), default=None)
        return self._sorted_runs(due)

    def _sorted_runs(self, tables: list[Table]) -> list[_Run]:
        """All rows as one run in memory for each family."""
        families = sorted({table.family for table in tables})
        return [
            _Run(
                self._key,
                _sorted(concat([table for table in tables if table.family == family]), self._key),
            )
            for family in families
        ]

    def _spill(self) -> None:
        """Move all rows in memory to the file."""
        try:
            if self._file is None:
                self._file = spill.temporary_file()
            file = self._file
            for run in self._sorted_runs(self._held):
                run.store(file)
                self._runs.append(run)
        except OSError as error:
            raise spill.full(error) from error
        self._held, self._rows, self._bytes, self._least = [], 0, 0, None


class _Run:
    """Sorted rows of one family, in memory or in a file; `rows`: how many were not taken out."""

    def __init__(self, key: Key, table: Table) -> None:
        self._key, self.rows = key, len(table)
        self._table, self._times = table, key(table)
        self._rest: list[Piece] = []

    def store(self, file: IO[bytes]) -> None:
        """Move the rows to the end of `file`, except the first _PART_ROWS."""
        for first in range(_PART_ROWS, self.rows, _PART_ROWS):
            part = self._table.slice(first, first + _PART_ROWS)
            self._rest.append(Piece(part.columns, file))
        # A copy: a view would keep all of the rows.
        self._table = self._table.take(np.arange(min(_PART_ROWS, self.rows)))
        self._times = self._key(self._table)

    def is_due(self, before: int | None) -> bool:
        """Whether there is a row before `before`."""
        return len(self._times) > 0 and (before is None or int(self._times[0]) < before)

    def loaded_until(self) -> list[Any]:
        """[the time up to which all rows are in memory]; [] if all are."""
        return [self._times[-1]] if self._rest else []

    def take(self, cut: Any) -> Table:
        """Take out the next rows in memory, up to the time `cut`, which is included; None: all."""
        all_rows = len(self._times)
        count = all_rows if cut is None else int(np.searchsorted(self._times, cut, side="right"))
        taken = self._table.slice(0, count)
        self._table, self._times = self._table.slice(count, len(self._times)), self._times[count:]
        self.rows -= count
        if not len(self._times) and self._rest:
            columns = self._rest.pop(0).load()
            self._table = Table(self._table.family, len(next(iter(columns.values()))), columns)
            self._times = self._key(self._table)
        return taken


def _sorted(table: Table, key: Key) -> Table:
    """The rows sorted by time.  Equal times keep their order."""
    times = key(table)
    return (
        table if (times[1:] >= times[:-1]).all() else table.take(np.argsort(times, kind="stable"))
    )
