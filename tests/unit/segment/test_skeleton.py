"""A segment without its connections: all that its reader sees but rows."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import pytest

from ctrecorder.ctlog.frame import Kind
from ctrecorder.errors import FormatError
from ctrecorder.maintain.squeeze import SqueezeOptions, squeeze
from ctrecorder.segment.reader import Segment
from ctrecorder.segment.skeleton import parse, pieces
from ctrecorder.times import HOUR, SECOND
from tests.support import holders
from tests.support.holders import Log, T


@pytest.mark.parametrize(("flows", "is_listed", "share"), [(300, False, 1.1), (3000, True, 0.3)])
def test_what_a_reader_sees_of_it(
    tmp_path: Path, flows: int, is_listed: bool, share: float
) -> None:
    """A small segment, whose footer lists no blocks, is stored with all that hashes cover."""
    log = Log(tmp_path, deaf=[(T + SECOND, T + 9 * SECOND)])
    log.write(holders.flows(1, flows, 1), 1)
    squeeze(log.paths[0], SqueezeOptions())
    with Segment(log.paths[0]) as whole:
        assert whole.is_listed is is_listed
        data = pieces(whole)
        assert len(data) < whole.size * share
        descriptor = os.memfd_create("segment")
        for offset, piece in parse(data):
            os.pwrite(descriptor, piece, offset)
        with Segment("stored", descriptor=descriptor) as found:
            assert (found.header, found.totals) == (whole.header, whole.totals)
            assert found.last_hash == whole.last_hash
            assert (found.gaps, found.marks) == (whole.gaps, whole.marks)
            assert len(found.gaps) == 1
            assert found.blocks == whole.blocks
            assert (found.times, found.watermark) == (whole.times, whole.watermark)
            assert found.watermark == T + HOUR - 1
            assert not found.findings
            (first, *_) = found.blocks_of(Kind.CONNECTIONS)
            if is_listed:
                with pytest.raises(FormatError):
                    found.read(first)


HEAD = struct.Struct("<QQ")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"abc",
        HEAD.pack(0, 5) + b"abcd",
        HEAD.pack(0, 4) + b"abcd" + HEAD.pack(3, 1) + b"e",
        HEAD.pack((1 << 34) + 1, 1) + b"a",
        HEAD.pack(0, 1 << 63) + b"a",
    ],
)
def test_what_is_none(data: bytes) -> None:
    with pytest.raises(FormatError):
        parse(data)
