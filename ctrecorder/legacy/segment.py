"""Files of the C ctrecorder, 0.1.3 to 0.1.6, as segments: plain or compressed, whole, cut or out of
step.

A `LegacySegment` offers what a `reader.Segment` does, so what reads, lists, tests and squeezes
segments takes these files too. They have no blocks and no index: opening one reads it once, finds
its records (`legacy_steps`), cuts them into blocks and keeps the places and times of these alone.
A block is read when it is asked for.  A compressed file is unpacked as it is read: twice if its
blocks are taken in order, and once more for each step back.

Memory: the index (32 bytes for 65,536 records), what was found wrong (at most `MOST_FAULTS`), a
piece of 2 MiB and its arrays, and while a compressed file is read its decoder (see `packed`).
"""

from __future__ import annotations

import fcntl
import os
import signal
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict

import numpy as np

from ctrecorder import labels, uapi
from ctrecorder.columns import Table
from ctrecorder.ctlog.frame import INDEX, NO_HASH, ROWS_WRITTEN, TABLES, Gap, Json, Kind, Mark
from ctrecorder.ctlog.index import FORM_COLUMNS, WHOLE
from ctrecorder.errors import ArchiveError, FormatError
from ctrecorder.legacy.decompress import Stream
from ctrecorder.legacy.format import HEADER_BYTES, Records, parse_header, record_times, to_table
from ctrecorder.legacy.resync import Fault, Run, Steps
from ctrecorder.segment.blockfile import BlockFile
from ctrecorder.segment.reader import Block, Query, Segment

# A write error makes one fault, a disk that stays full some hundreds.  A stranger's file could have
# one after every record, at 0.1 ms each.
MOST_FAULTS = 100_000
# A lease is refused while a file is open for writing, and always by NFS: what has not grown for a
# day is not being written.
_WRITTEN_SECONDS = 86_400
# OpenWrt's recorder writes gzip itself, so that a crash leaves such a file without its end.  The
# other kinds are made of finished files: without its end such a file is damaged, and the whole one
# may exist.
_WRITTEN_PACKED = "gzip"


class LegacySegment(Segment):
    """An open file of the C ctrecorder.

    `header`: `host`, `protocols`, `utc_offset`, and under `legacy` all that the file's header says.
    `state`: "live" if a process has it open for writing, "crashed" if its end is cut as a crash
    leaves it, else "closed".  A failed checksum or an invalid stream of a compressed file is
    damage. Where records are missing there is a GAP.  There are no hashes and no footer. Raises as
    `Segment` does.
    """

    hashed = False

    def __init__(self, path: str) -> None:
        self.path = path
        self.unknown_columns: set[int] = set()
        self.findings: list[FormatError] = []
        self.torn: FormatError | None = None
        self.totals: Json = {}
        self.previous_hash = self.last_hash = NO_HASH
        self._gaps: list[Gap] = []
        self._entries: list[tuple[int, ...]] = []
        self._stream: Stream | None = None
        self.file = BlockFile(path)
        try:
            self._open()
        except OSError as error:
            self.close()
            raise ArchiveError(f"{path}: cannot be read: {error.strerror}") from error
        except BaseException:
            self.close()
            raise

    def _open(self) -> None:
        live = is_written(self.file.descriptor)
        stream = Stream(self.file.descriptor)
        head = stream.read(HEADER_BYTES)
        if stream.error:
            raise self.file.placed(stream.error, 0)
        self.facts = parse_header(head, self.path)
        self._packed = bool(stream.kind)
        self._find_blocks(stream, live)
        self._end = stream.position
        self.index = np.array(self._entries, INDEX)
        self.state = "live" if live else "crashed" if self.torn else "closed"
        self.header = {
            "format": "CTNL",
            # Flows go on from file to file of one host and protocol: they pair as one recording.
            "recording": f"{self.facts.host} {self.facts.protocol}",
            "host": self.facts.host,
            "protocols": [labels.protocol(self.facts.l4proto)],
            "utc_offset": self.facts.utc_offset,
            "losses": "not counted",
            "legacy": asdict(self.facts),
        }

    def _find_blocks(self, stream: Stream, live: bool) -> None:
        """Read all; note the blocks, and what is wrong.

        That the end of a live one is cut is not.
        """
        last = self.facts.start_ns
        fault: Fault | None = None
        self._note(0, last, last, Kind.HEADER)
        self._note(0, last, last, Kind.MARK)
        for found in self._pieces(stream):
            if isinstance(found, Run):
                if fault:
                    self._note_gap(fault, "write-error", last, record_times(found.records[:1])[0])
                last, fault = self._note_run(found), None
            elif found.partial:
                self.torn = self._wrong(found, stream)
            else:
                fault = found
                self._note_fault(self._wrong(found, stream))
        if fault:
            self._note_gap(fault, "write-error", last, last)
        if stream.error and stream.cut and (live or stream.kind == _WRITTEN_PACKED):
            self.torn = self.file.placed(stream.error, 0)
        elif stream.error:
            self.torn = None
            self._note_fault(self.file.placed(stream.error, 0))
            self._note_gap(Fault(stream.position, 0, stream.error.reason), "damaged", last, last)
        if self.torn and not live:
            self.findings.append(self.torn)
            self._note_gap(Fault(stream.position, 0, self.torn.reason), "crashed", last, last)

    def _pieces(self, stream: Stream) -> Iterator[Run | Fault]:
        """The runs of records and the faults of the file."""
        steps = Steps(self.facts, HEADER_BYTES)
        while data := stream.read(ROWS_WRITTEN * self.facts.layout.itemsize):
            yield from steps.feed(data)
        yield from steps.close()

    def _note_run(self, run: Run) -> int:
        """Note the blocks of `run`; what follows on a block that is not full joins it.

        Returns the time of the last record.
        """
        for first in range(0, len(run.records), ROWS_WRITTEN):
            records = run.records[first : first + ROWS_WRITTEN]
            earliest, latest = record_times(records)
            offset = run.offset + first * records.dtype.itemsize
            before, begin, end, rows, kind, *_ = self._entries[
                -1
            ]  # a GAP, if it does not follow on it
            if kind in TABLES and rows + len(records) <= ROWS_WRITTEN:
                self._entries.pop()
                self._note(
                    before, min(begin, earliest), max(end, latest), kind, rows + len(records)
                )
            else:
                self._note(
                    offset,
                    earliest,
                    latest,
                    Kind.CONNECTIONS if self.facts.squeezed else Kind.EVENTS,
                    len(records),
                )
        return record_times(run.records[-1:])[1]

    def _note(self, offset: int, earliest: int, latest: int, kind: int, rows: int = 0) -> None:
        """Note a block in the index."""
        family, form = (uapi.AF_INET, FORM_COLUMNS) if rows else (0, WHOLE)
        self._entries.append((offset, earliest, latest, rows, kind, family, form, 0))

    def _note_gap(self, fault: Fault, reason: str, before: int, after: int) -> None:
        """Note that records may be missing between two times, of which the second is the earlier
        one if the clock was set.
        """
        begin, end = sorted((before, after))
        self._note(fault.offset, begin, end, Kind.GAP)
        self._gaps.append(Gap(begin, end, reason, None, fault.reason))

    def _note_fault(self, error: FormatError) -> None:
        if len(self.findings) >= MOST_FAULTS:
            raise self.file.wrong(
                f"out of step in over {MOST_FAULTS:,} places: this is no C ctrecorder's file any more",
                error.offset,
            )
        self.findings.append(error)

    def _wrong(self, fault: Fault, stream: Stream) -> FormatError:
        if stream.kind and fault.partial:
            return self.file.wrong(
                fault.reason, self.file.size
            )  # an offset is one of the file, as `torn` is used
        return self.file.wrong(
            fault.reason + (" (all counted in the unpacked data)" if stream.kind else ""),
            fault.offset,
        )

    @property
    def gaps(self) -> list[Gap]:
        """Where records are missing: not from when to when, but between which two."""
        return list(self._gaps)

    @property
    def marks(self) -> list[Mark]:
        """The start of the recording."""
        return [Mark(self.facts.start_ns, self.facts.start_ns, "start", {})]

    def read(self, block: Block, names: Iterable[str] | None = None) -> Table:
        """The columns `names` (default: all that there are) of a block.  Raises FormatError."""
        return to_table(self._records(block), self.facts, names)

    def ask(self, block: Block, names: Iterable[str] | None, query: Query) -> Table | None:
        """The rows of a block that are wanted, with the columns `names`; None if there are none.

        Raises FormatError.
        """
        if not query.may_contain_time(block.time_min, block.time_max):
            return None
        records = self._records(block)
        needed = list(query.columns_needed())
        table = to_table(records, self.facts, needed)
        wanted = query.evaluate(table)
        if not wanted.any():
            return None
        if not wanted.all():
            records, table = records[wanted], table.take(wanted)
        rest = to_table(
            records,
            self.facts,
            None if names is None else [name for name in names if name not in table],
        )
        return Table(table.family, len(table), {**rest.columns, **table.columns})

    def _records(self, block: Block) -> Records:
        """The records of a block.  Raises FormatError if they are not there any more."""
        length = block.rows * self.facts.layout.itemsize
        try:
            data = (
                self._unpacked(block.offset, length)
                if self._packed
                else self.file.pread(block.offset, length)
            )
        except OSError as error:
            raise ArchiveError(f"{self.path}: cannot be read: {error.strerror}") from error
        if len(data) < length:
            raise self.file.wrong(
                f"{length - len(data)} bytes are not there any more: the file was changed meanwhile",
                block.offset,
            )
        records: Records = np.frombuffer(data, self.facts.layout)
        return records

    def _unpacked(self, offset: int, length: int) -> bytes:
        """Up to `length` bytes at `offset` of what the compressed file holds."""
        if self._stream is None or self._stream.position > offset:
            self._stream = Stream(self.file.descriptor)
        self._stream.skip_to(offset)
        data = self._stream.read(length)
        if self._stream.position >= self._end:
            self._stream = None  # its decoder may hold 128 MiB
        return data


def is_written(descriptor: int) -> bool:
    """Whether a process has this open file open for writing, as far as one may know: the C
    ctrecorder takes no lock.

    A lease for reading is refused while it is.  It is refused to strangers too, and by some file
    systems: then the answer is no.
    """
    try:
        # Someone may open the file for writing while we hold the lease: the signal for that is one
        # that is ignored.
        fcntl.fcntl(descriptor, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    except BlockingIOError:
        return time.time() - os.fstat(descriptor).st_mtime < _WRITTEN_SECONDS
    except OSError:
        return False
    fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    return False
