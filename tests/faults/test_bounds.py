"""Files of strangers that claim much: memory and time are bounded by what a command may take."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ctrecorder import uapi
from ctrecorder.columns import Event, Table, bits
from ctrecorder.ctlog.frame import FRAME, MAGIC, MAX_ROWS, NO_HASH, Kind, pack_block
from ctrecorder.ctlog.header import Header
from ctrecorder.segment.writer import SegmentWriter
from tests.support.faulttable import Table as Faults
from tests.support.router import CHECKOUT

SECOND = 1_000_000_000
T = 1_700_000_000 * SECOND
PEAK_KIB = 300 << 10
# It takes less than one; more than a minute without the bound.
BAD_BLOCKS_SECONDS = 10


def measured(*command: str | Path, folder: Path) -> int:
    """Run a command of ours that must succeed; its peak memory in KiB."""
    # By a small process: a child's peak is at least the memory of the process that started it.
    code = (
        "import os, resource, subprocess, sys\n"
        "code = subprocess.call(sys.argv[1:])\n"
        "os.write(2, b'\\n%d %d' % (code, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss))"
    )
    with (folder / "out").open("wb") as out:
        done = subprocess.run(
            [sys.executable, "-c", code, CHECKOUT / "bin" / str(command[0]), *command[1:]],
            stdout=out,
            stderr=subprocess.PIPE,
            text=True,
            timeout=300,
        )
    code, peak = done.stderr.splitlines()[-1].split()
    assert code in ("0", "1"), done.stderr[-500:]
    (folder / "err").write_text(done.stderr)
    return int(peak)


def opening(first: int, count: int, kind: str) -> Table:
    """Flows that are never closed."""
    numbers = np.arange(first, first + count)
    columns = {
        "time": np.full(count, T, np.int64) + (0 if kind == "one key" else numbers * 1000),
        "event": np.full(count, Event.NEW, np.uint8),
        "l4proto": np.full(count, 6, np.uint8),
    }
    if kind == "one key":
        present = bits(["time", "l4proto"])
    else:
        columns["id"] = (numbers + 1).astype(np.uint32)
        columns["orig_src"] = (numbers // 60_000 + 0x0A000000).astype(np.uint32)
        columns["orig_sport"] = (numbers % 60_000).astype(np.uint16)
        present = bits(["time", "l4proto", "id", "orig_src", "orig_sport"])
    return Table(uapi.AF_INET, count, {**columns, "present": np.full(count, present, np.uint32)})


@pytest.mark.claim("bomb")
@pytest.mark.unmeasured
@pytest.mark.parametrize("kind", ["one key", "many keys"])
def test_open_flows(tmp_path: Path, kind: str, table: Faults) -> None:
    """Three million of them, for which a file needs no more than 20 KB."""
    path = tmp_path / "a.ctlog"
    writer = SegmentWriter.create(str(path), Header())
    rows = 3_000_000
    for first in range(0, rows, MAX_ROWS):
        writer.append(opening(first, min(MAX_ROWS, rows - first), kind))
    writer.close()
    assert measured("ctlist", "-s", path, folder=tmp_path) < PEAK_KIB
    assert (tmp_path / "out").read_bytes().count(b"\n") >= rows
    new = tmp_path / "new"
    assert measured("ctsqueeze", "-f", path, "-o", new, folder=tmp_path) < PEAK_KIB
    assert f"{rows:,} connections" in (tmp_path / "err").read_text()
    table.add_row(f"open flows, {kind}")


@pytest.mark.unmeasured
@pytest.mark.claim("bad-blocks")
def test_bad_blocks(tmp_path: Path, table: Faults) -> None:
    """Thousands between good ones, each of which claims all of the file: 8 MiB took minutes."""
    path, size = tmp_path / "a.ctlog", 8 << 20
    SegmentWriter.create(str(path), Header()).abandon()
    data = bytearray(path.read_bytes())
    good = pack_block(Kind.GAP, b'{"reason":"x"}', NO_HASH, (1, 1))
    while len(data) < size:
        lie = (MAGIC, Kind.GAP, 0, 1, 0, 0, size - len(data), 1, 1, NO_HASH, b"\1" * 16)
        data += FRAME.pack(*lie) + good
    path.write_bytes(data + bytes(4096))
    for command in ("cttest", "ctlist"):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run(
            [CHECKOUT / "bin" / command, path], capture_output=True, text=True, timeout=60
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert "too many false blocks" in done.stdout + done.stderr
        assert after.ru_utime - before.ru_utime < BAD_BLOCKS_SECONDS
    table.add_row("bad blocks between good ones", tried=2)
