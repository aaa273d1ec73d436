"""The proofs of silent loss in a folder of segments."""

from __future__ import annotations

import contextlib
from pathlib import Path

from ctrecorder import times
from ctrecorder.archive.open import open_segment
from ctrecorder.archive.silent_loss import SilentLoss
from ctrecorder.columns import Table
from ctrecorder.connections.pairing import Pairer
from ctrecorder.connections.proof import Proof
from ctrecorder.ctlog.frame import Kind
from ctrecorder.record.sample import FlowSample
from tests.support.folders import paths


def proofs_of(folder: Path, watermark: int = times.END) -> tuple[list[Proof], int]:
    """The proofs in the one recording in `folder`, and how many connections it has.

    `watermark`: as if all until then had been recorded.  (Of a recorder that was stopped it has.)
    """
    loss = SilentLoss()
    pairer = Pairer(loss.add_repeats)
    connections = 0
    with contextlib.ExitStack() as opened:
        for path in paths(folder):
            segment = opened.enter_context(open_segment(str(path)))
            pairer.add_gaps(segment.spans_of_gaps)
            loss.add_segment(segment)
            marks = iter(segment.marks)
            kinds = (Kind.EVENTS, Kind.CONNECTIONS, Kind.MARK)
            for group in segment.in_recording_order(segment.blocks_of(*kinds)):
                done: list[Table] = []
                if group[0].kind == Kind.MARK:
                    mark = next(marks)
                    if mark.is_complete_dump:
                        done += pairer.snapshot(mark.begin, mark.end)
                else:
                    joins = group[0].joins
                    tables = segment.read_small(group) if joins else [segment.read(group[0])]
                    for table in tables:
                        loss.add_events(table)
                        done += pairer.feed(table)
                loss.add_connections(*done)
                connections += sum(map(len, done))
        rest = list(pairer.finish())
        loss.add_connections(*rest)
        return loss.proofs(watermark), connections + sum(map(len, rest))


def sampled_proofs_of(folder: Path) -> list[Proof]:
    """What the recorder's own sample would have proved if it had all flows."""
    found, sample = list[Proof](), FlowSample(mask=0)
    for path in paths(folder):
        with open_segment(str(path)) as segment:
            marks = iter(segment.marks)
            kinds = (Kind.EVENTS, Kind.MARK)
            for group in segment.in_recording_order(segment.blocks_of(*kinds)):
                if group[0].kind == Kind.EVENTS:
                    joins = group[0].joins
                    for table in segment.read_small(group) if joins else [segment.read(group[0])]:
                        sample.take(table)
                    continue
                mark = next(marks)
                if mark.what == "start":
                    found += sample.proofs(times.END, [])
                    sample = FlowSample(mask=0)
                elif mark.what == "dump":
                    sample.add_dump(mark.begin, mark.end, complete=mark.is_complete_dump)
                    for gap in segment.gaps:
                        sample.add_gap(gap)
                elif mark.what == "clock":
                    sample.add_step(mark.begin, mark.begin)
    return found + sample.proofs(times.END, [])
