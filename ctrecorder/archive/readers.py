"""Forked processes that read segments for one that needs them in order.

A process takes the segments whose names have its hash: by their number they would fall in step with
the hours of a day, and one process would have all the busy ones.  What it reads goes through a
pipe, so it is never further ahead than a pipe holds.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO, Self

from ctrecorder.errors import ArchiveError, CtrecorderError, ExitCode
from ctrecorder.findings import Finding
from ctrecorder.orphans import die_with
from ctrecorder.segment.reader import Segment
from ctrecorder.segment.recording import Recording

Read = Callable[[Recording], Iterator[Any]]
# With less to read, to fork costs more than it saves.
_LEAST_BYTES = 8 << 20
_LENGTH = struct.Struct("<I")
_ENDING = (signal.SIGTERM, signal.SIGINT)


@dataclass
class _End:
    """All was read of a segment.

    `findings`, `unknown`: what reading it added to `findings` and `unknown_columns`.  `error`: what
    ended it early.
    """

    findings: list[Finding]
    unknown: set[int]
    error: ArchiveError | None = None


@dataclass
class _Found:
    """What is read next, and the findings so far."""

    item: Any
    findings: list[Finding]


class Readers:
    """Reads segments in `jobs` processes, or in this one."""

    def __init__(self, segments: Sequence[Recording], jobs: int, read: Read) -> None:
        """`read`: yields what is read of a segment.  It runs in a process of its own, so all that
        it changes stays there, but for the findings of the segment.
        """
        self._read = read
        # The position in a file of the C ctrecorder is shared by all processes.
        mine = [one for one in segments if isinstance(one, Segment)]
        if sum(one.size for one in mine) < _LEAST_BYTES:
            jobs = 1
        self._jobs, self._known = jobs, {id(one) for one in mine}
        self._pipes: list[BinaryIO] = []
        self._children: list[int] = []
        if jobs > 1:
            for number in range(jobs):
                self._fork([one for one in mine if self._number(one) == number])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        for child in self._children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
        for pipe in self._pipes:
            pipe.close()
        self._children, self._pipes = [], []

    def read(self, segment: Recording) -> Iterator[Any]:
        """What is read of a segment, with its findings.  To be asked in the order of the segments,
        of each once, and exhausted.  Raises ArchiveError, also if a process was killed.
        """
        if self._jobs == 1 or id(segment) not in self._known:
            yield from self._read(segment)
            return
        pipe = self._pipes[self._number(segment)]
        while True:
            found: _Found | _End = pickle.loads(_received(pipe))
            segment.findings += found.findings
            if isinstance(found, _End):
                segment.unknown_columns |= found.unknown
                if found.error is not None:
                    raise found.error
                return
            yield found.item

    def _number(self, segment: Recording) -> int:
        """Of the process that reads the segment."""
        return zlib.crc32(os.path.basename(segment.path).encode(errors="surrogateescape")) % (
            self._jobs
        )

    def _fork(self, segments: list[Recording]) -> None:
        """Start a process that reads these segments."""
        read_end, write_end = os.pipe()
        parent = os.getpid()
        child = os.fork()
        if child == 0:
            os.close(read_end)
            _work(parent, write_end, segments, self._read)
        os.close(write_end)
        self._children.append(child)
        self._pipes.append(os.fdopen(read_end, "rb"))


def _received(pipe: BinaryIO) -> bytes:
    """The next message of a process."""
    head = pipe.read(_LENGTH.size)
    data = pipe.read(_LENGTH.unpack(head)[0]) if len(head) == _LENGTH.size else b""
    if len(head) < _LENGTH.size or len(data) < _LENGTH.unpack(head)[0]:
        raise ArchiveError(
            "a process that read segments was killed, by a signal or because memory was short: the "
            "answer is not complete; try again with fewer at once (-j)"
        )
    return data


def _work(parent: int, pipe: int, segments: list[Recording], read: Read) -> None:
    """Read the segments and send what is found.  Never returns: nothing of the parent runs."""
    code = ExitCode.FAILED
    try:
        for number in _ENDING:
            signal.signal(number, signal.SIG_DFL)
        if die_with(parent):
            with os.fdopen(pipe, "wb", buffering=1 << 16) as out:
                for segment in segments:
                    _send_all(out, segment, read)
            code = ExitCode.OK
    finally:
        os._exit(code)


def _send_all(out: BinaryIO, segment: Recording, read: Read) -> None:
    known, unknown = len(segment.findings), set(segment.unknown_columns)
    error = None
    try:
        for item in read(segment):
            _send(out, _Found(item, segment.findings[known:]))
            known = len(segment.findings)
    except CtrecorderError as caught:
        error = ArchiveError(str(caught))
    _send(out, _End(segment.findings[known:], segment.unknown_columns - unknown, error))
    out.flush()


def _send(out: BinaryIO, message: _Found | _End) -> None:
    data = pickle.dumps(message, pickle.HIGHEST_PROTOCOL)
    out.write(_LENGTH.pack(len(data)))
    out.write(data)
