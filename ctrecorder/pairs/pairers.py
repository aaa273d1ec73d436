"""The pairers of the runs of an archive."""

from __future__ import annotations

from collections.abc import Callable

from ctrecorder import spill, times
from ctrecorder.archive.silent_loss import SilentLoss
from ctrecorder.columns import Table
from ctrecorder.connections.open_flows import Memory
from ctrecorder.connections.pairing import Pairer
from ctrecorder.ctlog.frame import Mark
from ctrecorder.pairs.runs import Runs

# Of recordings, by their pairing key.
Losses = dict[str, SilentLoss]


class Pairers:
    """A Pairer for each run: a dump of one recorder says nothing about the flows of another."""

    def __init__(
        self,
        runs: Runs,
        losses: Losses,
        missing: list[tuple[int, int, None]],
        add: Callable[[int, Table], None],
    ) -> None:
        """`missing`: gaps of all runs.  `add`: is called with the number of a run and connections
        of it.
        """
        self._runs, self._losses, self._missing, self._given = runs, losses, missing, add
        self._pairers: dict[int, Pairer] = {}
        self._memory = Memory(spill.Store)

    def of(self, run: int) -> Pairer:
        if run not in self._pairers:
            self._pairers[run] = Pairer(self.loss_of(run).add_repeats, self._memory)
            self._pairers[run].add_gaps(self._missing)
        return self._pairers[run]

    def add_gap(self, begin: int, end: int) -> None:
        """Add a gap of all runs."""
        self._missing.append((begin, end, None))
        for pairer in self._pairers.values():
            pairer.add_gaps([(begin, end, None)])

    def loss_of(self, run: int) -> SilentLoss:
        """What the recording of a run proves about silent loss."""
        return self._losses.setdefault(self._runs.recordings[run], SilentLoss())

    def _add(self, run: int, table: Table) -> None:
        self.loss_of(run).add_connections(table)
        self._given(run, table)

    def feed(self, run: int, item: Table | Mark) -> None:
        """Take the next rows of a run, or a complete dump, which also ends the flows of the earlier
        runs of its recording.
        """
        if isinstance(item, Mark):
            for number, pairer in self._related(self._runs.recordings[run]):
                for table in pairer.snapshot(item.begin, item.end):
                    self._add(number, table)
        else:
            self.loss_of(run).add_events(item)
            for table in self._pairers[run].feed(item):
                self._add(run, table)

    def settle(self) -> None:
        """Add the connections that have ended so far: some wait until more rows are fed."""
        for number, pairer in self._pairers.items():
            for table in pairer.settle():
                self._add(number, table)

    def finish(self) -> None:
        """Add the connections that remain."""
        for number, pairer in self._pairers.items():
            for table in pairer.finish():
                self._add(number, table)

    def earliest(self, recording: str | None = None) -> int:
        """The earliest start, ns, of a flow of a recording or of all that is open or waits; else
        END.
        """
        starts = [pairer.earliest() for _, pairer in self._related(recording)]
        return min((start for start in starts if start is not None), default=times.END)

    def _related(self, recording: str | None) -> list[tuple[int, Pairer]]:
        """The runs of a recording; None: all."""
        return [
            (number, pairer)
            for number, pairer in self._pairers.items()
            if recording in (None, self._runs.recordings[number])
        ]
