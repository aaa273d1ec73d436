"""The proofs of silent loss in a folder of segments."""

from __future__ import annotations

import socket
from pathlib import Path

from ctrecorder import times
from ctrecorder.archive.open import open_segment
from ctrecorder.columns import Table
from ctrecorder.connections.pairing import Pairer
from ctrecorder.connections.unheard import Dump, Proof, Unheard
from ctrecorder.ctlog.frame import Kind, Mark
from ctrecorder.segment.recording import Recording


def proofs_of(folder: Path, watermark: int = times.END) -> tuple[list[Proof], int]:
    """The proofs in the one recording in `folder`, and how many connections it has.

    `watermark`: as if all until then had been recorded.  (Of a recorder that was stopped it has.)
    """
    unheard = Unheard()
    pairer = Pairer(unheard.add_repeats)
    connections = 0
    for path in sorted(folder.iterdir()):
        with open_segment(str(path)) as segment:
            pairer.add_gaps(segment.spans_of_gaps)
            for begin, end, family in segment.spans_of_gaps:
                unheard.add_gap(begin, end, family)
            for done in _feed(segment, pairer, unheard):
                unheard.add_connections(done)
                connections += len(done)
    for done in pairer.finish():
        unheard.add_connections(done)
        connections += len(done)
    return unheard.proofs(watermark), connections


def _feed(segment: Recording, pairer: Pairer, unheard: Unheard) -> list[Table]:
    """Feed a segment to both; the connections that ended."""
    done: list[Table] = []
    protocols = frozenset(socket.getprotobyname(name) for name in segment.header.protocols or ())
    marks, dumps = iter(segment.marks), 0
    for group in segment.in_recording_order(
        segment.blocks_of(Kind.EVENTS, Kind.CONNECTIONS, Kind.MARK)
    ):
        first = group[0]
        if first.kind == Kind.MARK:
            mark = next(marks)
            if mark.what == "dump":
                dumps += 1
                unheard.add_dump(
                    Dump(
                        mark.begin,
                        mark.end,
                        mark.is_complete_dump,
                        protocols,
                        bool(segment.header.nat_only),
                    )
                )
                if mark.is_complete_dump:
                    done += pairer.snapshot(mark.begin, mark.end)
            elif mark.what == "clock":
                unheard.add_step(*_step(mark))
            continue
        for table in segment.read_small(group) if first.joins else [segment.read(first)]:
            unheard.add_events(table)
            done += pairer.feed(table)
    if not dumps:
        begin, end = segment.times
        unheard.add_dump(Dump(begin, end, complete=False))
    return done


def _step(mark: Mark) -> tuple[int, int]:
    step = abs(int(mark.facts["step_ns"]))
    return mark.begin - step, mark.begin + step
