"""Forked processes that read segments for one that needs them in order.

A process takes the segments whose names have its hash: by their number they would fall in step with
the hours of a day, and one process would have all the busy ones.  What it reads goes through a
pipe, so it is never further ahead than a pipe holds.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Self

from ctrecorder.findings import Finding
from ctrecorder.forked import Worker
from ctrecorder.segment.reader import Segment
from ctrecorder.segment.recording import Recording

Read = Callable[[Recording], Iterator[Any]]
Rest = Callable[[], Iterator[Any]]
# With less to read, to fork costs more than it saves.
_LEAST_BYTES = 8 << 20


@dataclass
class _Found:
    """What was read, if it is not the end of a segment; and what reading it added to `findings` and
    `unknown_columns`.
    """

    item: Any
    is_end: bool
    findings: list[Finding]
    unknown: set[int]


class Readers:
    """Reads segments in `jobs` processes, or in this one."""

    def __init__(
        self, segments: Sequence[Recording], jobs: int, read: Read, rest: Rest | None = None
    ) -> None:
        """`read`: yields what is read of a segment.  It runs in a process of its own, so all that
        it changes stays there, but for the findings of the segment.  `rest`: yields what such a
        process kept, when it has read all its segments.
        """
        self._read = read
        # The position in a file of the C ctrecorder is shared by all processes.
        mine = [one for one in segments if isinstance(one, Segment)]
        if sum(one.size for one in mine) < _LEAST_BYTES:
            jobs = 1
        self._jobs, self._known = jobs, {id(one) for one in mine}
        self._workers: list[Worker] = []
        for number in range(jobs if jobs > 1 else 0):
            share = [one for one in mine if self._number(one) == number]
            self._workers.append(Worker(partial(_read_all, share, read, rest)))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        for worker in self._workers:
            worker.close()
        self._workers = []

    def read(self, segment: Recording) -> Iterator[Any]:
        """What is read of a segment, with its findings.  To be asked in the order of the segments,
        of each once, and exhausted, but for one that `reads_here`.  Raises ArchiveError, also if a
        process was killed.
        """
        if self.reads_here(segment):
            yield from self._read(segment)
            return
        worker = self._workers[self._number(segment)]
        while True:
            found: _Found = worker.receive()
            segment.findings += found.findings
            segment.unknown_columns |= found.unknown
            if found.is_end:
                return
            yield found.item

    def reads_here(self, segment: Recording) -> bool:
        """Whether this process reads the segment."""
        return self._jobs == 1 or id(segment) not in self._known

    def rest(self) -> Iterator[Any]:
        """What the other processes kept, when all segments were read.  Raises ArchiveError."""
        for worker in self._workers:
            while not (found := worker.receive()).is_end:
                yield found.item

    def _number(self, segment: Recording) -> int:
        """Of the process that reads the segment."""
        name = os.path.basename(segment.path).encode(errors="surrogateescape")
        return zlib.crc32(name) % self._jobs


def _read_all(segments: list[Segment], read: Read, rest: Rest | None) -> Iterator[_Found]:
    for segment in segments:
        known = len(segment.findings)
        for item in read(segment):
            yield _Found(item, False, segment.findings[known:], set())
            known = len(segment.findings)
        yield _Found(None, True, segment.findings[known:], segment.unknown_columns)
    for item in rest() if rest is not None else ():
        yield _Found(item, False, [], set())
    yield _Found(None, True, [], set())
