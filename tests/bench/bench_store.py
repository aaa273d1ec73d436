"""ClickHouse: shipping beside insertion alone and beside rsync, bytes a row, and who was it.

The engine is chdb behind the tests' HTTP interface.  The questions of tests/faults/test_store.py
are asked too, some thousands instead of 300.
"""

from __future__ import annotations

import ipaddress
import os
import subprocess
import sys
import tempfile
import time
import uuid
from dataclasses import replace
from pathlib import Path

from ctrecorder.archive.open import open_segment
from ctrecorder.ctlog.frame import Kind
from ctrecorder.ctlog.plans import GROUPS
from ctrecorder.ctlog.predicate import Term
from ctrecorder.segment.pending import mark_block
from ctrecorder.segment.writer import SegmentWriter
from ctrecorder.shipping.clickhouse import _ONE_PART
from ctrecorder.shipping.rowbinary import COLUMNS, rows
from ctrecorder.shipping.server import Server as Asked
from ctrecorder.shipping.target import parse
from ctrecorder.times import SECOND
from tests.bench import made_archive
from tests.bench.bench_many import questions
from tests.bench.measure import timed
from tests.bench.report import Report
from tests.support.clickhouse import Server
from tests.support.router import CHECKOUT

BY_NAME = True
CONNECTIONS, SEGMENTS = 100_000_000, 24
QUESTIONS = 5_000


def run(report: Report) -> None:
    """A day of a router with 100,000,000 connections in 90 days."""
    measure(report, made_archive.archive(CONNECTIONS))
    report.heading(f"{QUESTIONS:,} questions to ClickHouse and to the segments")
    done = subprocess.run(
        ["/usr/bin/python3", "-B", "-m", "pytest", "-q", "tests/faults/test_store.py"],
        env={**os.environ, "STORE_QUESTIONS": str(QUESTIONS)},
        cwd=CHECKOUT,
        stdout=sys.stderr,
    )
    report.figure("tests that found a difference", done.returncode, "", most=0)


def measure(report: Report, made: Path) -> None:
    """Ship the segments of a day, and ask."""
    with tempfile.TemporaryDirectory(prefix="bench-store-", dir=made.parent) as name:
        folder, out = Path(name) / "log", Path(name) / "out"
        folder.mkdir()
        previous, paths = bytes(16), []
        for path in sorted(made.glob("*.ctlog"))[:SEGMENTS]:
            previous = named(path, folder / path.name, previous)
            paths.append(folder / path.name)
        size = sum(path.stat().st_size for path in paths)
        server = Server(Path(name) / "clickhouse")
        try:
            _ship(report, server, folder, out, size)
            for what, where in (
                ("ClickHouse", ["--store", f"{server.target}/edge1"]),
                ("the folder", ["-d", folder]),
            ):
                asked = [one for one in questions(paths) if one.public.ports][:5]
                costs = []
                for one in asked:
                    end = _end(one.public)
                    words = [*where, end, f"@{one.since // SECOND}"]
                    costs.append(timed([CHECKOUT / "bin/ctwho", *words], out, None, (0, 1, 3)))
                walls = sorted(cost.wall for cost in costs)
                report.figure(f"ctwho of {what}, median", walls[len(walls) // 2], "s", most=1)
                most = max(cost.peak_kbytes for cost in costs) / 1024
                report.figure("most memory", most, "MiB", most=200)
        finally:
            server.close()


def named(path: Path, there: Path, previous: bytes) -> bytes:
    """Copy a segment whose chain has no name that ctship can send; returns the last hash."""
    with open_segment(str(path)) as old:
        header = replace(old.header, chain="0123456789abcdef")
        begun = int(old.index["time_min"][0])
        writer = SegmentWriter.create(str(there), header, previous, time_ns=begun)
        for block in old.blocks_of(Kind.CONNECTIONS):
            writer.append(old.read(block), kind=Kind.CONNECTIONS, level=6, plan=GROUPS)
        *marks, last = old.marks
        for mark in marks:
            writer.mark(mark)
        writer.write(mark_block(last).with_watermark(old.watermark or last.end))
        return writer.close()


def _end(public: Term) -> str:
    (network,), ((port, _),) = public.networks, public.ports
    return f"{ipaddress.ip_address(network.low)}:{port}"


def _ship(report: Report, server: Server, folder: Path, out: Path, size: int) -> None:
    made, number = [], 0
    for path in sorted(folder.iterdir()):
        with open_segment(str(path)) as segment:
            upload, begun = uuid.uuid4().bytes, int(segment.index["time_min"][0])
            tables = [segment.read(block) for block in segment.blocks_of(Kind.CONNECTIONS)]
            number += sum(map(len, tables))
            made.append(b"".join(rows(each, upload, begun, "alone") for each in tables))
    report.heading(f"{number:,} connections in {len(made)} segments, {size:,} bytes, to ClickHouse")
    names = ", ".join(name for name, _ in COLUMNS)
    begin = time.monotonic()
    for data in made:
        asked = Asked(parse(server.target))
        query = f"INSERT INTO connections ({names}) FORMAT RowBinary"
        asked.insert(query, [data], len(data), _ONE_PART)
    alone = time.monotonic() - begin
    server.ask("TRUNCATE TABLE connections")
    cost = timed([CHECKOUT / "bin/ctship", "--router", "edge1", "--to", server.target, folder], out)
    begin = time.monotonic()
    subprocess.run(["rsync", "-a", f"{folder}/", out.with_name("copy")], check=True)
    copied = time.monotonic() - begin
    report.figure("ctship", number / cost.wall, "connections a second")
    report.figure("CPU of ctship", cost.cpu / number * 1e6, "us a connection")
    report.figure("most memory", cost.peak_kbytes / 1024, "MiB", most=300)
    report.figure("insertion alone", number / alone, "connections a second")
    report.figure("ctship, times insertion alone", cost.wall / alone, "", most=2)
    report.figure("rsync of the segments", number / copied, "connections a second")
    server.ask("OPTIMIZE TABLE connections FINAL")
    ((bytes_a_row,),) = server.ask(
        "SELECT sum(bytes_on_disk) / sum(rows) FROM system.parts WHERE table = 'connections' "
        "AND active"
    )
    report.figure("bytes a row in ClickHouse", float(bytes_a_row), "bytes")
    report.figure("bytes a row in the segments", size / number, "bytes")
    ((of_column,),) = server.ask(
        "SELECT sum(data_compressed_bytes) / any(rows_) FROM system.columns, (SELECT count() AS "
        "rows_ FROM connections) AS n WHERE table = 'connections' AND name IN ('block', 'turn', "
        "'family')"
    )
    report.figure("of these the order of the rows", float(of_column), "bytes")
