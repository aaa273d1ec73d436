"""Files of the C ctrecorder as segments: against struct, cut at every byte, out of step,
compressed, damaged, foreign.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import re
import resource
import time
from collections.abc import Callable
from itertools import accumulate
from pathlib import Path

import numpy as np
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from ctrecorder import uapi
from ctrecorder.archive.open import open_segment
from ctrecorder.columns import ADDRESSES, PORTS, Table, bit, bits, concat
from ctrecorder.ctlog.frame import Kind
from ctrecorder.errors import ArchiveError, FormatError
from ctrecorder.legacy.format import EVENT, parse_header
from ctrecorder.legacy.resync import Fault, Run, Steps
from ctrecorder.legacy.segment import LegacySegment
from ctrecorder.segment.recording import Recording
from tests.support import c_ctrecorder as old
from tests.support.c_ctrecorder import RAW, SAMPLES, SQUEEZED, START, Old, Pair
from tests.support.tables import ints

ENDS = (
    "orig_src",
    "orig_sport",
    "orig_dst",
    "orig_dport",
    "reply_src",
    "reply_sport",
    "reply_dst",
    "reply_dport",
)
PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "bzip2": lambda data: bz2.compress(data, 1),
    "xz": lzma.compress,
    "zstd": zstandard.ZstdCompressor(write_checksum=True).compress,
}
u32, u16, usec = st.integers(0, 2**32 - 1), st.integers(0, 2**16 - 1), st.integers(0, 999_999)
ends = st.tuples(u32, u16, u32, u16, u32, u16, u32, u16)
# Nothing but the type and the time says what a record is, so only those are held to what can be.
events = st.builds(
    Old, st.sampled_from([1, 2, 3, 5, 6, 7]), st.integers(START, START + 40_000), usec, ends
)
moments = st.tuples(st.integers(START, START + 40_000), usec)
pairs = st.builds(Pair, moments, moments | st.just((0, 0)), ends)


def write(folder: Path, data: bytes) -> str:
    path = folder / "old.ct"
    path.write_bytes(data)
    return str(path)


def read(segment: Recording) -> Table:
    """All rows."""
    blocks = segment.blocks_of(Kind.EVENTS, Kind.CONNECTIONS)
    return (
        concat([segment.read(block) for block in blocks]) if blocks else Table(uapi.AF_INET, 0, {})
    )


def read_file(folder: Path, data: bytes) -> tuple[Table, LegacySegment]:
    with LegacySegment(write(folder, data)) as segment:
        return read(segment), segment


def raw_rows(table: Table) -> list[Old]:
    """The events of a table as they were in the file."""
    kinds = (table["event"] | table["status"] << np.uint32(1)).tolist()
    times = [divmod(time, 10**9) for time in ints(table["time"])]
    rows = zip(*(table[name].tolist() for name in ENDS), strict=True)
    return [
        Old(kind, sec, ns // 1000, tuple(row))
        for kind, (sec, ns), row in zip(kinds, times, rows, strict=True)
    ]


def cut_up(data: bytes, piece: int = 1 << 20, proto: int = 6) -> tuple[bytes, list[Fault]]:
    """The records that `Steps` finds in what stands behind a header, end to end, and the faults;
    runs must not lie.
    """
    steps = Steps(parse_header(old.header(proto), ""), 256)
    records, faults, place = [], [], 256
    found = [
        each
        for first in range(0, len(data), piece)
        for each in steps.feed(data[first : first + piece])
    ]
    for each in [*found, *steps.close()]:
        assert each.offset == place
        if isinstance(each, Run):
            records.append(each.records.tobytes())
            assert records[-1] == data[place - 256 : place - 256 + len(records[-1])]
            place += len(records[-1])
        else:
            faults.append(each)
            place += each.length
    assert place == 256 + len(data)
    return b"".join(records), faults


@given(st.lists(events, max_size=40))
@settings(max_examples=3 * settings().max_examples // 5)
def test_events_are_what_struct_reads(
    tmp_path_factory: pytest.TempPathFactory, wanted: list[Old]
) -> None:
    table, segment = read_file(
        tmp_path_factory.mktemp("old"), old.header() + b"".join(event.pack() for event in wanted)
    )
    assert raw_rows(table) == wanted
    assert segment.state == "closed"
    assert not segment.findings
    assert not segment.gaps
    if wanted:
        (block,) = segment.blocks_of(Kind.EVENTS)
        assert (block.time_min, block.time_max) == (
            int(table["time"].min()),
            int(table["time"].max()),
        )


@given(st.lists(pairs, max_size=40), st.sampled_from([0x00010000, 0x00000001]))
def test_connections_are_what_struct_reads(
    tmp_path_factory: pytest.TempPathFactory, wanted: list[Pair], flags: int
) -> None:
    data = old.header(17, flags=flags) + b"".join(pair.pack() for pair in wanted)
    table, segment = read_file(tmp_path_factory.mktemp("old"), data)
    for side in ("start", "end"):
        times = [getattr(pair, side) for pair in wanted]
        assert table[side].tolist() == [
            sec * 10**9 + usec * 1000 if sec else 0 for sec, usec in times
        ]
        assert table[f"{side}_source"].tolist() == [2 if sec else 0 for sec, _ in times]
    assert list(zip(*(table[name].tolist() for name in ENDS), strict=True)) == [
        pair.ends for pair in wanted
    ]
    assert not (table["present"] & np.uint32(bit("status"))).any()
    assert [block.kind for block in segment.blocks] == [
        Kind.HEADER,
        Kind.MARK,
        *([Kind.CONNECTIONS] if wanted else []),
    ]


def test_what_was_not_recorded_is_not_known(tmp_path: Path) -> None:
    rows = [
        Old(1, START, 0, (9, 80, 9, 80, 9, 80, 9, 80)),
        Old(7, START, 1, (0, 80, 0, 80, 0, 80, 0, 80)),
        Old(1, START, 2, (0,) * 8),
    ]
    known = {}
    for proto in (6, 1):
        table, _ = read_file(tmp_path, old.header(proto) + b"".join(row.pack() for row in rows))
        known[proto] = table["present"].tolist()
        assert table["status"].tolist() == [0, uapi.IPS_SEEN_REPLY, 0]
    base = bits(("event", "l4proto", "status"))
    assert known[6] == [
        base | bits(ADDRESSES) | bits(PORTS),
        base | bits(PORTS),
        base | bits(PORTS),
    ]
    assert known[1] == [base | bits(ADDRESSES) | bits(PORTS), base | bits(PORTS), base]


def test_the_header_keeps_host_zone_and_protocol() -> None:
    with open_segment(str(SAMPLES / "legacy-014-icmp.ct")) as segment:
        assert isinstance(segment, LegacySegment)
        assert (
            segment.header.host,
            segment.header.utc_offset,
            segment.header.protocols,
        ) == ("vm", 3600, ("icmp",))
        assert segment.times[0] == segment.marks[0].begin == 1_795_457_837_331_233_000


@pytest.mark.slow
@pytest.mark.parametrize("path", [*RAW, *SQUEEZED], ids=lambda path: path.name)
def test_a_file_cut_at_every_byte_gives_all_whole_records(path: Path, tmp_path: Path) -> None:
    data = path.read_bytes()[:400]
    size = 40 if path in SQUEEZED else 33
    for length in range(len(data)):
        if length < 256:
            with pytest.raises(FormatError, match=f"header .* is cut: {length} of 256 bytes"):
                LegacySegment(write(tmp_path, data[:length]))
            continue
        rows, left = divmod(length - 256, size)
        table, segment = read_file(tmp_path, data[:length])
        assert len(table) == rows
        assert segment.state == ("crashed" if left else "closed")
        assert [(finding.offset, finding.subject) for finding in segment.findings] == [
            (length - left, segment.path)
        ] * bool(left)
        assert [gap.reason for gap in segment.gaps] == ["crashed"] * bool(left)


@given(st.data())
def test_behind_every_write_error_the_records_are_found_again(data: st.DataObject) -> None:
    """Some records are cut somewhere, and what followed them in their buffers is missing: all
    others must be kept.

    Between two cut ones is a whole one: two parts of records can be a record that can be.
    """
    icmp = data.draw(st.booleans())
    records = [event.pack() for event in old.traffic(160, icmp=icmp)]
    cuts = sorted(data.draw(st.sets(st.integers(0, len(records) - 1), max_size=6)))
    kept = [data.draw(st.integers(1, 32)) for _ in cuts]
    skipped = [data.draw(st.integers(0, 5)) for _ in cuts]
    body, whole, place = b"", [], 0
    for cut, length, skip in zip(cuts, kept, skipped, strict=True):
        if cut <= place and body:
            continue
        whole += records[place:cut]
        body += b"".join(records[place:cut]) + records[cut][:length]
        place = cut + 1 + skip
    whole += records[place:]
    body += b"".join(records[place:])
    found, faults = cut_up(body, data.draw(st.sampled_from([1 << 20, 4000, 97])), 1 if icmp else 6)
    assert found == b"".join(whole)
    assert sum(fault.length for fault in faults) == len(body) - len(found)


@pytest.mark.slow
@pytest.mark.parametrize("path", RAW, ids=lambda path: path.name)
def test_a_cut_at_every_byte_in_the_middle_of_real_records(path: Path) -> None:
    body, proto = path.read_bytes()[256:][: 33 * 20], path.read_bytes()[18]
    steps = len(body) // 33
    for cut in range(33, len(body)):
        record, length = divmod(cut, 33)
        found, faults = cut_up_after(path, body[:cut] + body[(record + (length > 0)) * 33 :], proto)
        assert len(found) // 33 == steps - (length > 0), (record, length)
        assert len(faults) == (length > 0)


def cut_up_after(path: Path, body: bytes, proto: int) -> tuple[bytes, list[Fault]]:
    """`cut_up`, with the header of the sample, whose time its records follow."""
    steps = Steps(parse_header(path.read_bytes()[:256], ""), 256)
    found = [*steps.feed(body), *steps.close()]
    records = b"".join(each.records.tobytes() for each in found if isinstance(each, Run))
    return records, [each for each in found if isinstance(each, Fault)]


def test_a_write_error_is_a_finding_and_a_gap(tmp_path: Path) -> None:
    records = [event.pack() for event in old.traffic(300)]
    data = old.header() + b"".join(records[:100]) + records[100][:20] + b"".join(records[130:])
    table, segment = read_file(tmp_path, data)
    assert raw_rows(table) == old.events_of(old.header() + b"".join(records[:100] + records[130:]))
    (finding,), (gap,) = segment.findings, segment.gaps
    assert finding.offset == 256 + 3300
    assert f"in step again at byte {256 + 3320}" in finding.what
    before, after = (int(table["time"][row]) for row in (99, 100))
    assert (gap.begin, gap.end, gap.reason, gap.lost) == (before, after, "write-error", None)
    kinds = [block.kind for block in segment.blocks]
    assert kinds == [Kind.HEADER, Kind.MARK, Kind.EVENTS, Kind.GAP, Kind.EVENTS]
    assert segment.state == "closed"


def test_a_hole_of_zeros_and_one_of_noise(tmp_path: Path) -> None:
    """As a power cut leaves them: later records are found, also in the next piece."""
    records = [event.pack() for event in old.traffic(400)]
    noise = bytes(np.random.default_rng(7).integers(0, 256, 70_001, np.uint8))
    for hole in (bytes(4_000_007), noise):
        found, faults = cut_up(b"".join(records[:200]) + hole + b"".join(records[200:]), 100_000)
        assert found == b"".join(records)
        assert [(fault.offset, fault.length) for fault in faults] == [(256 + 200 * 33, len(hole))]


def test_a_clock_that_was_set_is_no_fault() -> None:
    """No battery: it begins in 1970, is set by years, back, and by an hour; no record may be lost,
    and none made.
    """
    rng = np.random.default_rng(11)
    for _ in range(8):
        clock = [0]
        for jump in (1_300_000_000, -7_300, 86_400 * 40, -900_000_000, 5):
            clock += [clock[-1] + jump + second for second in range(int(rng.integers(1, 90)))]
        records = [
            event._replace(sec=sec).pack()
            for event, sec in zip(old.traffic(len(clock), icmp=True), clock, strict=True)
        ]
        found, faults = cut_up(b"".join(records), 5000, 1)
        assert found == b"".join(records)
        assert not faults


def test_two_records_behind_a_cut_late_in_a_long_piece() -> None:
    """So few are only records because their time is near that of the last one."""
    events = [
        event._replace(sec=START + 20_000 * number) for number, event in enumerate(old.traffic(300))
    ]
    records = [event.pack() for event in events]
    found, faults = cut_up(
        b"".join(records[:57])
        + records[57][:20]
        + b"".join(records[58:60])
        + records[60][:9]
        + b"".join(records[61:])
    )
    assert found == b"".join(records[:57] + records[58:60] + records[61:])
    assert [fault.length for fault in faults] == [20, 9]


# Its addresses and ports are, from the last byte of the first one on, another record of the time
# START.
_DOUBLE = (0x0A000001, START >> 16, (START & 0xFFFF) << 16 | 2, 80, 0x0A000002, 80, 0x0A000001, 5)


def test_bytes_that_merely_repeat_are_no_records() -> None:
    """ICMP between two hosts has only addresses, of which two look like a record of the first hour
    of 1970; and that is when it is.
    """
    ends = (0x0A090001, 0, 0x0A090002, 0, 0x0A090002, 0, 0x0A090001, 0)
    clock = [*range(60, 90), *range(START, START + 90)]
    records = [Old(1, sec, number, ends).pack() for number, sec in enumerate(clock)]
    found, faults = cut_up(b"".join(records), proto=1)
    assert found == b"".join(records)
    assert not faults
    found, faults = cut_up(
        b"".join(records[:40]) + records[40][:15] + b"".join(records[41:]), proto=1
    )
    assert found == b"".join(records[:40] + records[41:])


def test_a_lone_record_elsewhere_is_chance() -> None:
    """The clock is set twice; one record then contains bytes that could be one of the old time."""
    events = old.traffic(60)
    events[30:] = [event._replace(sec=event.sec + 200_000_000) for event in events[30:]]
    events[31:] = [event._replace(sec=event.sec + 200_000_000) for event in events[31:]]
    events[30] = events[30]._replace(ends=_DOUBLE)
    records = b"".join(event.pack() for event in events)
    assert cut_up(records) == (records, [])


def test_the_longer_row_wins_where_two_overlap() -> None:
    """The part that is left of a cut record holds bytes that could be one too."""
    records = [event.pack() for event in old.traffic(60)]
    cut = Old(1, START + 10, 1, _DOUBLE).pack()
    for length in range(21, 33):
        found, faults = cut_up(b"".join(records[:30]) + cut[:length] + b"".join(records[31:]))
        assert found == b"".join(records[:30] + records[31:])
        assert [fault.length for fault in faults] == [length]


def test_one_possible_record_in_a_hole_is_chance() -> None:
    records = [event.pack() for event in old.traffic(400)]
    lone = Old(1, 5, 5, (0,) * 8).pack()
    for before in (3300, 3301, 70_000):
        hole = bytes(before) + lone + bytes(5000)
        found, faults = cut_up(b"".join(records[:200]) + hole + b"".join(records[200:]))
        assert found == b"".join(records)
        assert [fault.length for fault in faults] == [len(hole)]


def test_one_changed_byte_costs_one_record() -> None:
    records = [event.pack() for event in old.traffic(300)]
    for place, value in ((0, 0), (0, 9), (1, 0), (5, 0xFF)):  # type, seconds, microseconds
        changed = bytearray(records[150])
        changed[place] = value
        found, faults = cut_up(b"".join(records[:150]) + bytes(changed) + b"".join(records[151:]))
        kept = place == 1  # a time that could be: the clock may have been set
        assert found == b"".join(records[:150]) + bytes(changed) * kept + b"".join(records[151:])
        assert len(faults) == (not kept)


@pytest.mark.slow
def test_a_strangers_file_neither_hangs_nor_grows(tmp_path: Path) -> None:
    """Every second record is none: the most faults that a file can have for its size."""
    records = (
        np.frombuffer(b"".join(event.pack() for event in old.traffic(6_000)), np.uint8)
        .reshape(-1, 33)
        .copy()
    )
    records[1::2, 0] = 0xFF
    begun = time.process_time()
    found, faults = cut_up(records.tobytes())
    assert len(faults) == 3_000
    assert len(found) == 3_000 * 33
    assert time.process_time() - begun < 5


@pytest.mark.parametrize("kind", PACKERS)
def test_a_compressed_file_is_the_same(kind: str, tmp_path: Path) -> None:
    for path in [*RAW, *SQUEEZED]:
        data = path.read_bytes()
        plain, packed = (
            LegacySegment(str(path)),
            LegacySegment(write(tmp_path, PACKERS[kind](data[:900]) + PACKERS[kind](data[900:]))),
        )
        assert packed.header == plain.header
        assert packed.state == "closed"
        assert not packed.findings
        assert (packed.index == plain.index).all()
        one, other = read(plain), read(packed)
        assert one.columns.keys() == other.columns.keys()
        assert all((one[name] == other[name]).all() for name in one.columns)


@pytest.mark.slow
@pytest.mark.parametrize("kind", PACKERS)
def test_blocks_of_a_compressed_file_in_any_order(kind: str, tmp_path: Path) -> None:
    """Three blocks: read forwards, backwards, and one twice."""
    records = np.frombuffer(b"".join(event.pack() for event in old.traffic(1000)) * 132, EVENT)
    with LegacySegment(write(tmp_path, PACKERS[kind](old.header() + records.tobytes()))) as segment:
        blocks = segment.blocks_of(Kind.EVENTS)
        firsts = list(accumulate((block.rows for block in blocks), initial=0))
        assert len(blocks) == 3
        assert firsts[-1] == len(records)
        for place in (0, 2, 1, 1):
            ports = segment.read(blocks[place], ["orig_sport"])["orig_sport"]
            assert (ports == records["orig_sport"][firsts[place] : firsts[place + 1]]).all()


@pytest.mark.slow
@pytest.mark.parametrize("kind", PACKERS)
def test_what_a_cut_or_damaged_compressed_file_still_gives(kind: str, tmp_path: Path) -> None:
    """One line says what is wrong; what was unpacked before is there.  bzip2 gives nothing of a
    block that is not whole; the others may give nonsense of a damaged one until a checksum tells,
    and `Steps` takes from that what can be a record.
    """
    rng = np.random.default_rng(3)
    records = np.frombuffer(b"".join(event.pack() for event in old.traffic(30_000)), EVENT).copy()
    records["orig_src"] = rng.integers(0, 1 << 32, len(records))
    packed = PACKERS[kind](old.header() + records.tobytes())
    for share in (0.6, 0.95):
        place = int(len(packed) * share)
        table, segment = read_file(tmp_path, packed[:place])
        assert (table["orig_src"] == records["orig_src"][: len(table)]).all()
        assert segment.state == ("crashed" if kind == "gzip" else "closed")
        assert [gap.reason for gap in segment.gaps] == ["crashed" if kind == "gzip" else "damaged"]
        line = f"the {kind} data is cut: its end is missing"
        assert [(finding.what, finding.offset) for finding in segment.findings] == [(line, place)]
        assert share * 30_000 - len(table) < 7_000
        damaged = bytearray(packed)
        damaged[place] ^= 0x55
        table, segment = read_file(tmp_path, bytes(damaged))
        told = [
            finding
            for finding in segment.findings
            if finding.what.startswith(f"the {kind} data is damaged")
        ]
        assert len(told) == 1
        assert (told[0].offset or 0) > place - 4096
        assert segment.state == "closed"
        assert segment.torn is None
        assert segment.gaps[-1].reason == "damaged"
        same = (table["orig_src"][:11_000] == records["orig_src"][:11_000]).all()
        assert same
        assert len(table) > 11_000


@pytest.mark.slow
def test_a_compressed_bomb_takes_no_memory(tmp_path: Path) -> None:
    """256 MiB of zeros after a header, in some KiB of zstd: memory is that of its window."""
    packer = zstandard.ZstdCompressor().compressobj()
    pieces = (
        [packer.compress(old.header())]
        + [packer.compress(bytes(1 << 24)) for _ in range(16)]
        + [packer.flush()]
    )
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    table, segment = read_file(tmp_path, b"".join(pieces))
    assert not len(table)
    assert "268,435,456 bytes up to the end" in segment.findings[0].what
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 150 << 10


@pytest.mark.parametrize(
    ("data", "line"),
    [
        (
            old.header(version=1),
            "at byte 4: format 1 of the C ctrecorder is not known, only format 2 (0.1.3 to 0.1.6)",
        ),
        (
            old.header(version=1 << 24),
            "at byte 4: format 16777216 of the C ctrecorder is not known, "
            "only format 2 (0.1.3 to 0.1.6)",
        ),
        (
            old.header(sizes=(256, 34, 0)),
            "at byte 8: header, record and footer of 256, 34 and 0 bytes are not known, "
            "only 256, 33 and 0",
        ),
        (old.header(flags=2), "at byte 14: flags 0x00000002 are not known"),
        (
            old.header()[:255],
            "at byte 0: the header of a C ctrecorder's file is cut: 255 of 256 bytes",
        ),
        (
            gzip.compress(old.header(), mtime=0)[:40],
            "at byte 40: the gzip data is cut: its end is missing",
        ),
    ],
)
def test_foreign_versions_are_refused_with_one_line(data: bytes, line: str, tmp_path: Path) -> None:
    with pytest.raises(FormatError) as caught:
        LegacySegment(write(tmp_path, data))
    assert str(caught.value) == f"{tmp_path}/old.ct: {line}"


def test_a_file_that_is_being_written_is_live(tmp_path: Path) -> None:
    path = write(tmp_path, old.header() + b"".join(event.pack() for event in old.traffic(10))[:-3])
    with Path(path).open("ab"), LegacySegment(path) as segment:
        assert segment.state == "live"
        assert not segment.findings
        assert len(read(segment)) == 9
        os.utime(path, (1, 1))
        assert LegacySegment(path).state == "crashed"
    os.utime(path)
    with LegacySegment(path) as segment:
        assert segment.state == "crashed"


def test_a_file_that_shrinks_meanwhile_is_an_error(tmp_path: Path) -> None:
    path = write(tmp_path, old.header() + b"".join(event.pack() for event in old.traffic(10)))
    with LegacySegment(path) as segment:
        os.truncate(path, 300)
        with pytest.raises(FormatError, match="286 bytes are missing"):
            read(segment)
    with pytest.raises(ArchiveError, match="No such file"):
        LegacySegment(path + "x")


def test_the_hosts_name_cannot_steer_a_terminal() -> None:
    text = parse_header(old.header(host=b"\x1b]0;evil\x07\xff"), "").classic()
    assert re.fullmatch(r"[ -~\n]*", text)
    assert ".hostname: \\x1b]0;evil\\x07\\xff\n" in text
