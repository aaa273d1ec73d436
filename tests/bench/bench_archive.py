"""The archive: how small and how fast ctsqueeze is, and how fast months of it answer; against
nfdump on the same flows.

CTRECORDER_FLOWS names a file of real flows (see archive_flows); without it they are made up, and
the sizes say less.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import socket
import statistics
import struct
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ctrecorder.columns import ADDRESSES, Array
from ctrecorder.connections.pairing import Pairer
from ctrecorder.ctlog.bloom import Collector
from ctrecorder.ctlog.encoder import encode_columns
from ctrecorder.ctlog.frame import Kind, Mark
from ctrecorder.ctlog.header import Header
from ctrecorder.ctlog.plans import SQUEEZED
from ctrecorder.maintain.ordering import BlockOrdering
from ctrecorder.maintain.squeeze import SqueezeOptions, squeeze
from ctrecorder.segment.reader import Segment
from ctrecorder.segment.writer import SegmentWriter
from tests.bench import archive_flows
from tests.bench.load import LISTENER_CPU
from tests.bench.measure import Cost, timed
from tests.bench.report import Report
from tests.support.router import CHECKOUT, wait_until

SECOND = archive_flows.SECOND
ROUNDS = 5
# A day of hourly segments is made and written 90 times, shifted, with other ports and other hosts
# outside: 100,000,000 connections.
DAYS, A_DAY = 90, 1_111_112
LATE = archive_flows.BEGIN // SECOND + 60 * 86_400
PEER_FLOWS = 10_000_000
# What the C program's page gives as a figure: so many events in 34 MB with xz.
SEED_EVENTS, SEED_MBYTES = 6_248_471, 26
CTLIST, CTWHO = CHECKOUT / "bin/ctlist", CHECKOUT / "bin/ctwho"
# NetFlow v5: what a packet holds, and how many may be on their way in the socket's buffer.
V5_HEADER, V5_RECORD, V5_FLOWS = struct.Struct(">HHIIIIBBH"), 48, 30


def run(report: Report) -> None:
    """Size, speed, questions, and the peer."""
    with tempfile.TemporaryDirectory(prefix="ctrecorder-bench-") as name:
        folder = Path(name)
        squeezing(report, folder)
        questions(report, folder)
        peer(report, folder)


def squeezing(report: Report, folder: Path) -> None:
    """Bytes and microseconds a connection."""
    flows = archive_flows.real()
    real = flows is not None
    if flows is None:
        flows = archive_flows.made(550_000)
    count = len(flows["start"])
    report.heading(
        f"Squeezing {count:,} connections"
        + ("" if real else " that are made up (CTRECORDER_FLOWS names a file of real ones)")
    )
    raw = folder / "raw.ctlog"
    archive_flows.record(raw, archive_flows.events(flows))
    report.note(f"recorded: {raw.stat().st_size / count:.2f} bytes a connection, with ids")
    for resolution, most in (("us", 8.2), ("ms", 5.7), ("s", None)):
        new = folder / f"{resolution}.ctlog"
        result = squeeze(str(raw), SqueezeOptions(resolution), str(new))
        assert result is not None
        assert result.connections == count
        report.figure(
            f"bytes a connection at {resolution}",
            result.bytes_after / count,
            "B",
            most=most if real else None,
        )
        os.unlink(new)
    whole, rest = divmod(SEED_EVENTS, 2 * count)
    part = folder / "part.ctlog"
    archive_flows.record(part, archive_flows.events(flows).slice(0, rest))
    sizes = [
        result.bytes_after
        for path in (raw, part)
        if (result := squeeze(str(path), SqueezeOptions(), f"{path}.new")) is not None
    ]
    report.figure(
        f"{SEED_EVENTS:,} events: {whole} such segments and a part",
        (whole * sizes[0] + sizes[1]) / 1e6,
        "MB",
        most=SEED_MBYTES if real else None,
    )
    report.note(
        "tuples and both times, as the C format holds them: its raw log is 66, gzip of it 25.9, "
        "its squeezed log with xz 10.7"
    )
    best = min(pair_and_encode(raw) for _ in range(ROUNDS))
    report.figure(
        "pairing, arranging and encoding, one core, best of 5", best / count * 1e6, "us", most=1.0
    )
    cost = timed(
        [CHECKOUT / "bin/ctsqueeze", "-f", raw, "-o", folder / "new.ctlog"],
        folder / "out",
        LISTENER_CPU,
    )
    report.figure(
        "ctsqueeze in all (read, pair, write, read back, compare)", cost.cpu / count * 1e6, "us"
    )
    report.figure("peak memory of ctsqueeze", cost.peak_kbytes / 1024, "MiB", most=300)


def pair_and_encode(path: Path) -> float:
    """Seconds of CPU from decoded events to the bytes of blocks."""
    with Segment(str(path)) as segment:
        tables = [segment.read(block) for block in segment.blocks_of(Kind.EVENTS)]
    begin = time.thread_time()
    pairer, shelves, addresses = Pairer(), BlockOrdering(1000, keep_ids=False), Collector()
    blocks = [
        block for table in tables for done in pairer.feed(table) for block in shelves.add(done)
    ]
    blocks += [block for done in pairer.finish() for block in shelves.add(done)] + shelves.finish()
    for block in blocks:
        encode_columns(block, SqueezeOptions().level, SQUEEZED)
        addresses.add(block)
    addresses.payload()
    return time.thread_time() - begin


def questions(report: Report, folder: Path) -> None:
    """ctwho and searches over 90 days."""
    report.heading(
        f"An archive of {DAYS * A_DAY:,} connections over {DAYS} days, in {DAYS * 24:,} segments"
    )
    days = folder / "days"
    quarter = folder / "quarter"
    days.mkdir()
    quarter.mkdir()
    size, seldom = build(days)
    for number in range(DAYS * 24 // 4):
        os.link(days / f"{number:05}.ctlog", quarter / f"{number:05}.ctlog")
    report.note(f"{size / 1e6:.0f} MB; flows that are made up; a first run warms the caches")
    for what, query in (
        ("somebody", somebody(days / f"{60 * 24 + 10:05}.ctlog")),
        ("nobody", ["192.0.2.1:2077", f"@{LATE}"]),
    ):
        command = [CTWHO, *query, "--trust-clock", "-d", days]
        found = [timed(command, folder / "out", None, (0, 1)) for _ in range(ROUNDS + 1)]
        assert ("NOBODY" in (folder / "out").read_text()) == (what == "nobody")
        show(report, f"ctwho, {what}, from start to answer", found[1:], most=0.6)
        report.figure("CPU of it", statistics.median(cost.cpu for cost in found[1:]), "s")
        report.figure(
            "peak memory of it", max(cost.peak_kbytes for cost in found) / 1024, "MiB", most=200
        )
    for what, address in (
        ("an address that is not there", "8.8.4.4"),
        ("an address that is seen 4 times a day", seldom),
    ):
        for where, part in ((quarter, "a quarter"), (days, "all")):
            costs = [
                timed([CTLIST, "-s", "-i", address, where], folder / "out", None, (0, 1))
                for _ in range(4)
            ]
            lines = (folder / "out").read_bytes().count(b"\n")
            show(report, f"ctlist -s -i, {what}, {part} of it: {lines:,} lines", costs[1:])
            report.figure("CPU of it", statistics.median(cost.cpu for cost in costs[1:]), "s")


def show(report: Report, name: str, costs: list[Cost], most: float | None = None) -> None:
    report.figure(name, statistics.median(cost.wall for cost in costs), "s", most=most)


def dotted(address: int) -> str:
    """An address as text."""
    return str(ipaddress.ip_address(int(address)))


def somebody(path: Path) -> list[str]:
    """The question who one of the connections in this segment was, from its public end and its
    start.
    """
    with Segment(str(path)) as segment:
        table = segment.read(segment.blocks_of(Kind.CONNECTIONS)[0])
    row = int(
        np.flatnonzero((table["reply_dst"] != table["orig_src"]) & (table["l4proto"] == 6))[0]
    )
    return [
        f"{dotted(table['reply_dst'][row])}:{table['reply_dport'][row]}",
        f"@{int(table['start'][row]) // SECOND}",
    ]


def build(folder: Path) -> tuple[int, str]:
    """Write the archive as ctsqueeze leaves it; returns its bytes, and an inside address that
    begins four connections a day.
    """
    day = archive_flows.made(A_DAY, seconds=86_400)
    hours = np.searchsorted(day["start"], archive_flows.BEGIN + np.arange(25) * 3600 * SECOND)
    previous, size = bytes(16), 0
    for number in range(DAYS * 24):
        shift = number // 24 * 86_400 * SECOND
        begin = archive_flows.BEGIN + number % 24 * 3600 * SECOND
        flows = {
            name: values[hours[number % 24] : hours[number % 24 + 1]]
            for name, values in day.items()
        }
        flows |= {name: archive_flows.elsewhere(flows[name], number // 24) for name in ADDRESSES}
        flows |= {"start": flows["start"] + shift, "end": flows["end"] + shift}
        flows["orig_sport"] = flows["reply_dport"] = (
            (flows["orig_sport"].astype(np.uint32) * 7 + number) % 64_512 + 1024
        ).astype("<u2")
        path = folder / f"{number:05}.ctlog"
        writer = SegmentWriter.create(
            str(path), Header(host="bench", chain="bench"), previous, time_ns=begin + shift
        )
        archive_flows.put(writer, archive_flows.connections(flows), 1000, level=1)
        writer.mark(
            Mark(begin + shift + 1, begin + shift + 1000, "dump", {"rows": 0, "complete": True})
        )
        writer.mark(Mark.at(begin + shift + 3600 * SECOND - 1, "heartbeat"))
        previous = writer.close()
        size += path.stat().st_size
    hosts, counts = np.unique(day["orig_src"], return_counts=True)
    return size, dotted(hosts[(counts == 4) & (hosts >> 16 == archive_flows.INSIDE)][0])


def peer(report: Report, folder: Path) -> None:
    """nfdump on the same flows: fed to nfcapd on loopback as NetFlow v5."""
    report.heading(f"Against nfdump, {PEER_FLOWS:,} flows")
    flows = archive_flows.made(PEER_FLOWS, seconds=10 * 7750)
    ours = folder / "ours.ctlog"
    writer = SegmentWriter.create(
        str(ours), Header(host="bench", chain="peer"), time_ns=archive_flows.BEGIN
    )
    archive_flows.put(writer, archive_flows.connections(flows), 1_000_000, SqueezeOptions().level)
    writer.close()
    theirs = folder / "nfcapd"
    theirs.mkdir()
    kept = feed_nfcapd(flows, theirs)
    report.note(f"nfcapd kept {kept:,} of {PEER_FLOWS:,} flows; figures are by the flow")
    sizes(report, ours, theirs, kept)
    hosts, counts = np.unique(flows["orig_src"], return_counts=True)
    order = np.argsort(-counts, kind="stable")
    for what, rank, least in (
        ("address search", 20_000, 2.0),
        ("the same for a busy host, in every block", 200, 2.0),
    ):
        address = dotted(hosts[order[rank]])
        compare(
            report,
            what,
            ours,
            theirs,
            kept,
            ["-s", "-i", address],
            ["-q", "-o", "line", f"ip {address}"],
            folder,
            least,
        )
    compare(report, "text output", ours, theirs, kept, ["-s"], ["-q", "-o", "line"], folder, 2.0)


def sizes(report: Report, ours: Path, theirs: Path, kept: int) -> None:
    stored = sum(path.stat().st_size for path in theirs.iterdir())
    report.figure(
        "bytes a flow, squeezed at ms, with NAT and both tuples",
        ours.stat().st_size / PEER_FLOWS,
        "B",
    )
    report.figure("bytes a flow, nfcapd with LZO", stored / kept, "B")
    with tempfile.TemporaryDirectory(prefix="ctrecorder-bench-") as name:
        packed = 0
        for path in sorted(theirs.iterdir()):
            new = Path(name) / path.name
            new.write_bytes(path.read_bytes())
            subprocess.run(["nfdump", "-J", "2", "-r", new], check=True, capture_output=True)
            packed += new.stat().st_size
        report.figure("bytes a flow, nfdump with bz2", packed / kept, "B")


def compare(
    report: Report,
    what: str,
    ours: Path,
    theirs: Path,
    kept: int,
    mine: list[str],
    other: list[str],
    folder: Path,
    least: float | None,
) -> None:
    """Flows a second of both, one after the other, on one CPU."""
    rates: dict[str, list[float]] = {"ctlist": [], "nfdump": []}
    for _ in range(3):
        rates["ctlist"].append(
            PEER_FLOWS / timed([CTLIST, *mine, ours], folder / "out", LISTENER_CPU, (0, 1)).wall
        )
        with (folder / "out").open() as shown:
            assert "?" not in shown.readline(), "what is listed is not the whole connection"
        rates["nfdump"].append(
            kept / timed(["nfdump", "-R", theirs, *other], folder / "out", LISTENER_CPU).wall
        )
    best = {name: max(found) for name, found in rates.items()}
    report.note(
        f"{what}: ctlist {best['ctlist']:,.0f}, nfdump {best['nfdump']:,.0f} flows a second"
    )
    report.figure(
        f"{what}, times nfdump's flows a second", best["ctlist"] / best["nfdump"], "", least=least
    )


def feed_nfcapd(flows: dict[str, Array], folder: Path) -> int:
    """Send `flows` to an nfcapd of our own; returns how many it kept."""
    with nfcapd(folder) as port, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.connect(("127.0.0.1", port))
        for number, packet in enumerate(packets(flows)):
            sender.send(packet)
            if number % 200 == 0:
                time.sleep(0.005)  # nothing tells the sender that the collector is behind
        time.sleep(2)
    said = subprocess.run(
        ["nfdump", "-R", folder, "-I"], check=True, capture_output=True, text=True
    ).stdout
    return next(int(line.split()[1]) for line in said.splitlines() if line.startswith("Flows:"))


@contextlib.contextmanager
def nfcapd(folder: Path) -> Iterator[int]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    option = (
        "-w"
        if "-w <flowdir>" in subprocess.run(["nfcapd", "-h"], capture_output=True, text=True).stdout
        else "-l"
    )
    command = [
        "nfcapd",
        option,
        str(folder),
        "-b",
        "127.0.0.1",
        "-p",
        str(port),
        "-z",
        "-B",
        str(64 << 20),
        "-t",
        "86400",
    ]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            wait_until(
                lambda: any(
                    f":{port:04X} " in line
                    for line in Path("/proc/net/udp").read_text().splitlines()
                ),
                "nfcapd",
            )
            yield port
        finally:
            process.terminate()
            process.wait(30)


def packets(flows: dict[str, Array]) -> Iterator[bytes]:
    """NetFlow v5."""
    count = len(flows["start"])
    boot = int(flows["start"].min()) // 1_000_000 - 1000
    layout = [
        ("src", ">u4"),
        ("dst", ">u4"),
        ("hop", ">u4"),
        ("interfaces", ">u4"),
        ("packets", ">u4"),
        ("bytes", ">u4"),
        ("first", ">u4"),
    ]
    layout += [
        ("last", ">u4"),
        ("sport", ">u2"),
        ("dport", ">u2"),
        ("pad", "u1"),
        ("flags", "u1"),
        ("proto", "u1"),
        ("rest", "V9"),
    ]
    records = np.zeros(count, layout)
    assert records.itemsize == V5_RECORD
    for field, values in (
        ("src", flows["orig_src"]),
        ("dst", flows["orig_dst"]),
        ("sport", flows["orig_sport"]),
        ("dport", flows["orig_dport"]),
        ("proto", flows["l4proto"]),
        ("packets", 10),
        ("bytes", 1000),
        ("first", flows["start"] // 1_000_000 - boot),
        ("last", np.minimum(flows["end"] // 1_000_000 - boot, (1 << 32) - 1)),
    ):
        records[field] = values
    data = records.tobytes()
    seconds, sequence = boot // 1000, 0
    for first in range(0, count, V5_FLOWS):
        here = min(V5_FLOWS, count - first)
        head = V5_HEADER.pack(5, here, 0, seconds, boot % 1000 * 1_000_000, sequence, 0, 0, 0)
        yield head + data[first * V5_RECORD : (first + here) * V5_RECORD]
        sequence += here
