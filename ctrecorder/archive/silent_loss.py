"""Proofs of silent loss in a recording: what its segments tell `Unheard`."""

from __future__ import annotations

import numpy as np

from ctrecorder import spill, times
from ctrecorder.archive import chain
from ctrecorder.columns import Event, Table
from ctrecorder.connections.parts import DESTROY
from ctrecorder.connections.proof import Proof, gaps_of
from ctrecorder.connections.unheard import QUEUED_NS, Dump, Unheard
from ctrecorder.ctlog.frame import Gap, Mark
from ctrecorder.segment.recording import Recording, family_of

# In these the clock was set, or the machine was suspended.
_STEPS = ("clock", "not-recording")
# A packet that is not tracked has no entry in the table: this explains no flow.
_EXPLAINS_NOTHING = "notrack"


class SilentLoss:
    """Collects what is read of one recording.

    Add each segment before it is read, in the order of recording, also one that is passed over
    because nothing wanted is in it.  Add all events of the wanted flows, as they are fed to a
    `Pairer`, and all connections that it returns.  Its `on_repeats` is `add_repeats`.  If only some
    flows are read, the proofs are about these.
    """

    def __init__(self) -> None:
        self._unheard = Unheard(spill.Store)
        self.add_repeats = self._unheard.add_repeats
        self._segments: list[Recording] = []
        self._open: dict[object, tuple[int, int | None]] = {}  # GAPs, by their number
        self._proofs: list[Proof] | None = None

    def add_segment(self, segment: Recording) -> None:
        """Add a segment, which must be open until `proofs` is called."""
        self._segments.append(segment)

    @property
    def may_prove(self) -> bool:
        """Whether there is a flow so far that may prove something."""
        return self._unheard.has_flows

    def add_events(self, table: Table, segment: Recording | None = None) -> None:
        """Add rows of a segment; None: of the last one.

        A DESTROY of a flow that ended before the segment began may have come again.  In a squeezed
        segment before it, the first one is part of a connection, and nothing compares the two.
        """
        self._unheard.add_events(table)
        begin = int((segment or self._segments[-1]).index["time_min"][0])
        if "event" in table:
            is_end, end = table["event"] == Event.DESTROY, table["stop"]
        else:
            is_end, end = (table["seen"] & DESTROY) != 0, table["end"]
        doubtful = np.flatnonzero(is_end & (end > 0) & (end <= begin + QUEUED_NS))
        if len(doubtful):
            self._unheard.add_doubtful(table.take(doubtful))

    def add_connections(self, *tables: Table) -> None:
        """Add connections that the `Pairer` returned."""
        for table in tables:
            self._unheard.add_connections(table)

    def gaps(self) -> list[Gap]:
        """The proofs as GAPs."""
        return gaps_of(self.proofs())

    def proofs(self, watermark: int | None = None) -> list[Proof]:
        """The proofs in what was added; call it at the end.

        `watermark`: as if all until then had been recorded; None: that of the last segment.
        MARKs are read only if a flow was found that may prove something.
        """
        if self._proofs is None:
            self._proofs = self._find(watermark) if self._unheard.has_flows else []
        return self._proofs

    def _find(self, watermark: int | None) -> list[Proof]:
        before: chain.Link | None = None
        for segment in self._segments:
            link = chain.link(segment)
            if before is not None and not link.follows(before):
                self._add_break()
            before = link
            self._add_notes(segment)
        for begin, family in self._open.values():
            self._unheard.add_gap(begin, times.END, family)
        reached = self._segments[-1].watermark if watermark is None else watermark
        return [] if reached is None else self._unheard.proofs(reached)

    def _add_break(self) -> None:
        """What is missing here may explain everything."""
        self._unheard.add_dump(Dump(times.BEGIN, times.BEGIN, complete=False))

    def _add_notes(self, segment: Recording) -> None:
        """Add the GAPs and the MARKs of a segment.

        One without watermarks, of version 1.0 or before, proves nothing.
        """
        marks, gaps = segment.marks, segment.gaps
        if marks and marks[0].what == "start":  # what was open is not known any more
            for begin, family in self._open.values():
                self._unheard.add_gap(begin, max(begin, marks[0].begin), family)
            self._open.clear()
        if any(finding is not segment.torn for finding in segment.findings):
            self._unheard.add_gap(*segment.times)
        for gap in gaps:
            self._add_gap(gap)
        dumps = [mark for mark in marks if mark.what == "dump"]
        if not dumps or not segment.has_coverage:
            self._add_break()
        for mark in marks:
            self._add_mark(mark, segment)

    def _add_gap(self, gap: Gap) -> None:
        if gap.reason == _EXPLAINS_NOTHING:
            return
        told, family = gap.facts.get("number"), family_of(gap.facts)
        # One without a number is another one each time.
        number = told if type(told) is int else object()
        if gap.facts.get("open") is True:
            self._open[number] = gap.begin, family
            return
        self._open.pop(number, None)
        self._unheard.add_gap(gap.begin, max(gap.begin, gap.end), family)
        if gap.reason in _STEPS:
            self._unheard.add_step(gap.begin, gap.end)

    def _add_mark(self, mark: Mark, segment: Recording) -> None:
        if mark.what == "dump" and segment.has_coverage:
            self._unheard.add_dump(
                Dump(
                    mark.begin,
                    mark.end,
                    mark.is_complete_dump,
                    segment.protocols,
                    segment.header.nat_only is True,
                )
            )
        elif mark.what == "repeats":
            self._unheard.add_repeats_between(mark.begin, mark.end)
        elif mark.what == "clock":
            step = mark.facts.get("step_ns")
            if type(step) is int:
                self._unheard.add_step(mark.begin - abs(step), mark.begin + abs(step))
            else:
                self._add_break()
