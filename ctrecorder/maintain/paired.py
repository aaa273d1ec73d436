"""A segment whose events are paired by themselves, and what pairing shows beside the connections:
events that came again, and proofs that events were lost in silence.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from ctrecorder import spill, times
from ctrecorder.archive import chain
from ctrecorder.archive.silent_loss import SilentLoss
from ctrecorder.columns import Table
from ctrecorder.connections.grouping import RACE_NS
from ctrecorder.connections.open_flows import Memory
from ctrecorder.connections.pairing import Pairer
from ctrecorder.connections.parts import with_possible_beginnings
from ctrecorder.ctlog.frame import Gap, Kind, Mark
from ctrecorder.maintain.fingerprint import Fingerprint
from ctrecorder.segment.recording import Recording

# Called with the bytes of the old segment that were read since the last call.
Progress = Callable[[int], None]


class PairedSegment:
    """The segment `old`, whose MARKs are `marks`.

    When all `connections` were taken, these attributes are of all of them:
    `fingerprint`: the NEW and DESTROY that were received.
    `repeats`: how many events came again.
    """

    def __init__(self, old: Recording, marks: list[Mark], progress: Progress) -> None:
        self._old, self._marks, self._progress = old, marks, progress
        self._loss = SilentLoss()
        self._loss.add_segment(old)
        self._repeated: list[tuple[int, int]] = []  # least and greatest time of repeats
        # A NEW that came again, of a flow of the segment before, joins that flow's row of the first
        # dump, or that dump overtook it.
        ends = [min(mark.end, times.END - RACE_NS) for mark in marks if mark.is_complete_dump]
        is_first = chain.is_start(old.previous_hash.hex())
        self._repeats_until = times.BEGIN if is_first or not ends else ends[0] + RACE_NS
        self.fingerprint = Fingerprint()
        self.repeats = 0

    def connections(self) -> Iterator[Table]:
        """All connections, in no order.

        Raises FormatError and ArchiveError as `old` does.
        """
        pairer = Pairer(self._add_repeats, Memory(spill.Store))
        pairer.add_gaps(self._old.spans_of_gaps)
        if self._old.header.is_squeezed:  # the dumps come last
            pairer.add_dumps((one.begin, one.end) for one in self._marks if one.is_complete_dump)
        for item in self._in_recording_order():
            if isinstance(item, Table):
                self.fingerprint.add_received(item)
                self._loss.add_events(item)
                ended: Iterable[Table] = pairer.feed(item)
            elif item.is_complete_dump:
                ended = pairer.snapshot(item.begin, item.end)
            else:
                continue
            for table in ended:
                yield self._noted(table)
        for table in pairer.finish():
            yield self._noted(table)

    def _noted(self, table: Table) -> Table:
        """Connections that pairing found."""
        self._loss.add_connections(table)
        return with_possible_beginnings(table, self._repeats_until)

    def gaps(self) -> list[Gap]:
        """The GAPs that pairing proves."""
        return self._loss.gaps()

    def marks(self) -> list[Mark]:
        """The MARK of the events that came again, if there are any."""
        if not self.repeats:
            return []
        begins, ends = zip(*self._repeated, strict=True)
        return [Mark(min(begins), max(ends), "repeats", {"events": self.repeats})]

    def _add_repeats(self, table: Table) -> None:
        self.fingerprint.drop_received(table)
        self._loss.add_repeats(table)
        self.repeats += len(table)
        self._repeated.append((int(table["time"].min()), int(table["time"].max())))

    def _in_recording_order(self) -> Iterator[Table | Mark]:
        """The tables and the marks of `old`, in the order of the file.

        Tables hold events, or connections if a squeezed file of the C ctrecorder is read.
        """
        old, marks, read = self._old, iter(self._marks), 0
        blocks = old.blocks_of(Kind.EVENTS, Kind.CONNECTIONS, Kind.MARK)
        for group in old.in_recording_order(blocks):
            first = group[0]
            if first.offset > read:
                self._progress(first.offset - read)
                read = first.offset
            if first.kind == Kind.MARK:
                yield next(marks)
            elif first.joins:
                yield from old.read_small(group)
            else:
                yield old.read(first)
        self._progress(old.size - read)
