"""Runs: a run is what is paired by itself, most often the segments of a recording."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from ctrecorder.ctlog.frame import Kind
from ctrecorder.segment.recording import Recording
from ctrecorder.spans import Span
from ctrecorder.times import BEGIN, END


@dataclass
class Runs:
    """The runs of segments.

    A recording whose connection table has recordings beside it has a run for each of its tables.

    `of_segment`: the number of the run of each segment.
    `recordings`: of each run the pairing key.
    `tables`: of each run the number of its connection table.  Runs of one boot and one network
    namespace have the same; where these are not known, no other run has it.
    `spans`: when each run was recorded, if `has_twins`.
    """

    of_segment: list[int]
    recordings: list[str]
    tables: list[int]
    spans: list[Span] = field(default_factory=list)

    @property
    def has_twins(self) -> bool:
        """Whether two runs have one connection table."""
        return len(set(self.tables)) < len(self.tables)

    @classmethod
    def of(cls, segments: Iterable[Recording]) -> Runs:
        """The runs of segments, of which those of a recording are in order."""
        split = cls._split(segments)
        if split.has_twins:
            return split
        numbers: dict[str, int] = {}
        of_segment = [
            numbers.setdefault(split.recordings[run], len(numbers)) for run in split.of_segment
        ]
        return cls(of_segment, list(numbers), list(range(len(numbers))))

    @classmethod
    def _split(cls, segments: Iterable[Recording]) -> Runs:
        """The recordings cut where the connection table changes."""
        runs: list[_Run] = []
        last: dict[str, int] = {}
        of_segment = []
        for segment in segments:
            header, recording = segment.header, segment.pairing_key
            table = header.boot_id or "", header.netns or ""
            if recording not in last or not runs[last[recording]].continues(table):
                last[recording] = len(runs)
                runs.append(_Run(recording))
            of_segment.append(last[recording])
            runs[last[recording]].learn(table, _recorded(segment))
        numbers: dict[object, int] = {}
        tables = [
            numbers.setdefault(run.table if all(run.table) else number, len(numbers))
            for number, run in enumerate(runs)
        ]
        return cls(of_segment, [run.recording for run in runs], tables, [run.span for run in runs])


@dataclass
class _Run:
    """Segments of a recording; `table`: boot id and network namespace, "" while unknown.

    `span`: of all of them.
    """

    recording: str
    table: tuple[str, str] = ("", "")
    span: Span = (END, BEGIN)

    def continues(self, table: tuple[str, str]) -> bool:
        """Whether nothing shows that `table` is another one."""
        return all(
            not mine or not theirs or mine == theirs
            for mine, theirs in zip(self.table, table, strict=True)
        )

    def learn(self, table: tuple[str, str], span: Span) -> None:
        self.span = min(self.span[0], span[0]), max(self.span[1], span[1])
        self.table = self.table[0] or table[0], self.table[1] or table[1]


def _recorded(segment: Recording) -> Span:
    """From when to when something in a segment was received, ns UTC: a GAP can be of any time."""
    index = segment.index
    received = index[np.isin(index["kind"], (Kind.EVENTS, Kind.CONNECTIONS, Kind.MARK))]
    if not len(index) or segment.header.format is None:
        return BEGIN, END
    start = int(index["time_min"][0])
    return start, max(start, int(received["time_max"].max(initial=start)))
