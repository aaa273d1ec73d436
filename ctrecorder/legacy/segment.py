"""Files of the C ctrecorder, 0.1.3 to 0.1.6: plain or compressed, whole, cut or out of step.

They have no blocks and no index: opening one reads it once, finds its records (`resync`), cuts them
into blocks and keeps only the offsets and times of these.  A block is read again for each use.  A
compressed file is unpacked while it is read: twice if its blocks are read in order, and once more
for each step back.

Memory: the index (32 bytes for 65,536 records), at most `MAX_FINDINGS` findings, a piece of 2 MiB
and its arrays, and the decoder of a compressed file (see `decompress`).
"""

from __future__ import annotations

import fcntl
import os
import signal
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict

import numpy as np
from numpy.typing import NDArray

from ctrecorder import labels, uapi
from ctrecorder.columns import Table
from ctrecorder.ctlog.frame import INDEX, ROWS_WRITTEN, TABLES, Gap, Kind, Mark
from ctrecorder.ctlog.header import NOT_COUNTED, Header
from ctrecorder.ctlog.index import FORM_COLUMNS, WHOLE
from ctrecorder.ctlog.predicate import Query
from ctrecorder.errors import ArchiveError
from ctrecorder.findings import Finding
from ctrecorder.legacy.decompress import Stream
from ctrecorder.legacy.format import HEADER_BYTES, Records, parse_header, record_times, to_table
from ctrecorder.legacy.resync import Fault, Run, Steps
from ctrecorder.segment.blockfile import BlockFile
from ctrecorder.segment.recording import Block, Recording

# A write error makes one finding, a disk that stays full some hundreds.  A stranger's file could
# have one after every record, at 0.1 ms each.
MAX_FINDINGS = 100_000
# A lease is refused while a file is open for writing, and always by NFS: a file that has not grown
# for a day is not being written.
_WRITTEN_SECONDS = 86_400
# OpenWrt's recorder writes gzip itself, so that a crash leaves such a file without its end.  Files
# of the other kinds are made of finished files: without its end such a file is damaged, and the
# whole one may exist.
_WRITTEN_PACKED = "gzip"


class LegacySegment(Recording):
    """An open file of the C ctrecorder.

    `header`: `host`, `protocols`, `utc_offset`, and under `legacy` all of the file's header.
    `state`: "live" if a process has it open for writing, "crashed" if its end is cut as a crash
    leaves it, else "closed".  A failed checksum or an invalid stream of a compressed file is
    damage.  Where records are missing there is a GAP.  There are no hashes and no footer.

    Opening raises ArchiveError if the file cannot be read, FormatError if it is no file of
    the C ctrecorder.
    """

    def __init__(self, path: str) -> None:
        super().__init__(path, BlockFile(path))
        self._gaps: list[Gap] = []
        self._entries: list[tuple[int, ...]] = []
        self._stream: Stream | None = None
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
        self._index = np.array(self._entries, INDEX)
        self.state = "live" if live else "crashed" if self.torn else "closed"
        self.header = Header(
            format="CTNL",
            # Flows go on from file to file of one host and protocol: they pair as one recording.
            recording=f"{self.facts.host} {self.facts.protocol}",
            host=self.facts.host,
            protocols=(labels.protocol(self.facts.l4proto),),
            utc_offset=self.facts.utc_offset,
            losses=NOT_COUNTED,
            legacy=asdict(self.facts),
        )

    def _find_blocks(self, stream: Stream, live: bool) -> None:
        """Read the whole file; note its blocks and its damage.

        A cut end of a live file is no damage.
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
                self.torn = self._finding(found, stream)
            else:
                fault = found
                self._note_fault(self._finding(found, stream))
        if fault:
            self._note_gap(fault, "write-error", last, last)
        if stream.error and stream.cut and (live or stream.kind == _WRITTEN_PACKED):
            self.torn = self.file.finding(stream.error, 0)
        elif stream.error:
            self.torn = None
            self._note_fault(self.file.finding(stream.error, 0))
            self._note_gap(Fault(stream.position, 0, stream.error.reason), "damaged", last, last)
        if self.torn and not live:
            self.findings.append(self.torn)
            self._note_gap(Fault(stream.position, 0, self.torn.what), "crashed", last, last)

    def _pieces(self, stream: Stream) -> Iterator[Run | Fault]:
        """The runs of records and the faults, in the order of the file."""
        steps = Steps(self.facts, HEADER_BYTES)
        while data := stream.read(ROWS_WRITTEN * self.facts.layout.itemsize):
            yield from steps.feed(data)
        yield from steps.close()

    def _note_run(self, run: Run) -> int:
        """Note the blocks of `run`; its first records fill up the block directly before it.

        Returns the time of the last record.
        """
        for first in range(0, len(run.records), ROWS_WRITTEN):
            records = run.records[first : first + ROWS_WRITTEN]
            earliest, latest = record_times(records)
            offset = run.offset + first * records.dtype.itemsize
            # The last entry is a GAP if something is between.
            before, begin, end, rows, kind, *_ = self._entries[-1]
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
        """Note that records may be missing between two times; after a clock step the second one can
        be earlier.
        """
        begin, end = sorted((before, after))
        self._note(fault.offset, begin, end, Kind.GAP)
        self._gaps.append(Gap(begin, end, reason, None, fault.reason))

    def _note_fault(self, finding: Finding) -> None:
        if len(self.findings) >= MAX_FINDINGS:
            raise self.file.wrong(
                f"out of step in over {MAX_FINDINGS:,} places: "
                "this is not a file of the C ctrecorder",
                finding.offset or 0,
            )
        self.findings.append(finding)

    def _finding(self, fault: Fault, stream: Stream) -> Finding:
        """The finding of `fault`.  `torn` of a compressed file is at the end of the file."""
        if stream.kind and fault.partial:
            return self.file.damage(fault.reason, self.file.size)
        where = " (all counted in the unpacked data)" if stream.kind else ""
        return self.file.damage(fault.reason + where, fault.offset)

    @property
    def index(self) -> NDArray[np.void]:
        """INDEX records of the blocks that the records were cut into."""
        return self._index

    @property
    def gaps(self) -> list[Gap]:
        """Where records are missing: from the time of the record before to that of the next one."""
        return list(self._gaps)

    @property
    def marks(self) -> list[Mark]:
        """The start of the recording."""
        return [Mark(self.facts.start_ns, self.facts.start_ns, "start", {})]

    def read(self, block: Block, names: Iterable[str] | None = None) -> Table:
        """The columns `names` (default: all) of a block.  Raises FormatError."""
        return to_table(self._records(block), self.facts, names)

    def read_small(
        self, blocks: Iterable[Block], names: Iterable[str] | None = None
    ) -> list[Table]:
        """No blocks of these files join: a table for each of `blocks`."""
        return [self.read(block, names) for block in blocks]

    def may_contain(self, query: Query) -> bool:
        """True: these files have no filter of addresses."""
        return True

    def ask(self, block: Block, names: Iterable[str] | None, query: Query) -> Table | None:
        """The wanted rows of a block, with the columns `names` (None: all) and those that the query
        needs; None if there are none.  Raises FormatError.
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
        """The records of a block.  Raises FormatError if the file has become shorter."""
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
                f"{length - len(data)} bytes are missing: the file was changed meanwhile",
                block.offset,
            )
        records: Records = np.frombuffer(data, self.facts.layout)
        return records

    def _unpacked(self, offset: int, length: int) -> bytes:
        """Up to `length` bytes at `offset` of the unpacked data."""
        if self._stream is None or self._stream.position > offset:
            self._stream = Stream(self.file.descriptor)
        self._stream.skip_to(offset)
        data = self._stream.read(length)
        if self._stream.position >= self._end:
            self._stream = None  # its decoder may hold 128 MiB
        return data


def is_written(descriptor: int) -> bool:
    """Whether a process has this file open for writing: the C ctrecorder takes no lock.

    A lease for reading is refused while one has.  False if the caller may not take a lease (it is
    not the owner), or if the file system has none.
    """
    try:
        # Another process may open the file for writing while we hold the lease.  The kernel then
        # sends a signal: one that is ignored by default.
        fcntl.fcntl(descriptor, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    except BlockingIOError:
        return time.time() - os.fstat(descriptor).st_mtime < _WRITTEN_SECONDS
    except OSError:
        return False
    fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    return False
