"""ctsqueeze on files of the C ctrecorder: they become segments, in which all that they said is
there, and nothing more.
"""

from __future__ import annotations

import gzip
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctrecorder.archive.lock import BusyError
from ctrecorder.check import verify
from ctrecorder.cli import ctsqueeze
from ctrecorder.columns import ADDRESSES, Table, bits, concat
from ctrecorder.ctlog.frame import Kind
from ctrecorder.errors import FormatError
from ctrecorder.listing import ctlist
from ctrecorder.maintain.squeeze import SqueezeOptions, squeeze
from ctrecorder.segment.reader import Segment
from tests.support import c_ctrecorder as old
from tests.support.c_ctrecorder import RAW, SQUEEZED, START, Old, Pair
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


def convert(folder: Path, data: bytes) -> Segment:
    """The segment that a file with `data` becomes."""
    path, new = folder / "old.ct", folder / "new.ct"
    path.write_bytes(data)
    assert squeeze(str(path), SqueezeOptions(), str(new)) is not None
    assert path.read_bytes() == data
    return Segment(str(new))


def rows(segment: Segment) -> Table:
    return concat([segment.read(block) for block in segment.blocks_of(Kind.CONNECTIONS)])


def pairs_of(table: Table) -> list[Pair]:
    """The connections, as the old squeezed format has them, sorted."""
    times = [
        [(ns // 10**9, ns % 10**9 // 1000) for ns in ints(table[name])] for name in ("start", "end")
    ]
    ends = zip(*(table[name].tolist() for name in ENDS), strict=True)
    return sorted(Pair(*row) for row in zip(*times, ends, strict=True))


def whole(path: str) -> bool:
    return verify.check([path], lambda line: None) == verify.WHOLE


@pytest.mark.parametrize("path", RAW, ids=lambda path: path.name)
def test_a_capture(path: Path, tmp_path: Path) -> None:
    data = path.read_bytes()
    events = old.events_of(data)
    with convert(tmp_path, data) as new:
        done, left = old.squeeze(events)
        table = rows(new)
        assert pairs_of(table) == sorted(done + left)
        # Replies were seen where the end says so; of what has no end, the start says it.
        replied = {event.ends for event in events if event.kind & old.REPLIED}
        seen = [
            tuple(row)
            for row in zip(
                *(table[name][table["status"] == 2].tolist() for name in ENDS), strict=True
            )
        ]
        assert set(seen) == replied
        assert new.gaps == []
        assert [(mark.what, mark.begin) for mark in new.marks] == [
            ("start", new.index["time_min"][0])
        ]
        assert (new.header.host, new.header.utc_offset) == ("vm", 3600)
        assert whole(new.path)


@pytest.mark.parametrize("flags", [0x00010000, 0x00000001])
@pytest.mark.parametrize("path", SQUEEZED, ids=lambda path: path.name)
def test_a_squeezed_file_of_either_byte_order(path: Path, flags: int, tmp_path: Path) -> None:
    data = path.read_bytes()
    records = [
        Pair((a, b), (c, d), tuple(ends))
        for a, b, c, d, *ends in old.CONNECTION.iter_unpack(data[256:])
    ]
    with convert(tmp_path, data[:14] + flags.to_bytes(4, "big") + data[18:]) as new:
        table = rows(new)
        assert pairs_of(table) == sorted(records)
        unknown = table["end"] == 0
        assert (table["end_source"] == np.where(unknown, 0, 2)).all()
        assert unknown.any() == ("ipv6-icmp" in path.name)
        assert not (
            table["present"] & np.uint32(bits(("status", "id", "zone", "mark", "orig_bytes")))
        ).any()
        zero = np.logical_and.reduce([table[name] == 0 for name in ADDRESSES])
        assert ((table["present"] & np.uint32(bits(ADDRESSES)) == 0) == zero).all()
        assert whole(new.path)


@pytest.mark.slow
@given(st.data())
def test_nothing_is_dropped_whatever_is_in_it(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """Every start, every end, each with its time to the us and its ends; however they pair."""
    proto = data.draw(st.sampled_from([6, 1, 58]))
    full, no_addresses, no_ports = (
        (1, 2, 3, 4, 3, 4, 5, 2),
        (0, 7, 0, 8, 0, 8, 0, 7),
        (9, 0, 8, 0, 8, 0, 9, 0),
    )
    ends = st.sampled_from([full, full[::-1], no_addresses, no_ports, (0,) * 8])
    kinds = st.sampled_from([old.NEW, old.DESTROY, old.DESTROY | old.REPLIED])
    steps = data.draw(st.lists(st.tuples(kinds, st.integers(0, 2_500_000), ends), max_size=40))
    moment, events = START * 1_000_000, []
    for kind, wait, end in steps:
        moment += wait
        events.append(Old(kind, moment // 1_000_000, moment % 1_000_000, end))
    with convert(
        tmp_path_factory.mktemp("squeeze"),
        old.header(proto) + b"".join(event.pack() for event in events),
    ) as new:
        found = []
        for block in new.blocks_of(Kind.CONNECTIONS):
            table = new.read(block)
            for name, bit, kind in (("start", 1, old.NEW), ("end", 4, old.DESTROY)):
                part = table.take((table["seen"] & np.uint8(bit)) != 0)
                assert (part[f"{name}_source"] == 2).all()
                ends_of_part = zip(*(part[column].tolist() for column in ENDS), strict=True)
                found += [
                    (kind, time // 1000, row)
                    for time, row in zip(part[name].tolist(), ends_of_part, strict=True)
                ]
        assert sorted(found) == sorted(
            (event.kind & 3, event.sec * 1_000_000 + event.usec, event.ends) for event in events
        )
        # What looks alike pairs in turn, as there.
        alike = {
            end
            for end in {event.ends for event in events}
            if not any(end[::2]) or (proto != 6 and not any(end[1::2]))
        }
        if alike:
            done, left = old.squeeze(event for event in events if event.ends in alike)
            assert [pair for pair in pairs_of(rows(new)) if pair.ends in alike] == sorted(
                done + left
            )


@pytest.mark.parametrize("kind", ["plain", "gzip"])
def test_a_file_whose_end_is_cut(kind: str, tmp_path: Path) -> None:
    """What is there is converted; that the end is missing stays in the log."""
    data = old.header() + b"".join(event.pack() for event in old.traffic(3000))
    cut = {"plain": data[:-5], "gzip": gzip.compress(data)[:-500]}[kind]
    with convert(tmp_path, cut) as new:
        table = rows(new)
        count = int((table["start_source"] != 0).sum() + (table["end_source"] != 0).sum())
        assert 2000 < count < 3000
        done, left = old.squeeze(old.traffic(count))
        assert pairs_of(table) == sorted(done + left)
        (gap,) = new.gaps
        assert (gap.reason, gap.begin, gap.lost) == ("crashed", gap.end, None)
        assert new.header.squeezed is not None
        assert new.header.squeezed["torn"] in range(500)
        assert new.state == "closed"
        assert whole(new.path)


def test_one_that_is_out_of_step_is_to_be_repaired_first(tmp_path: Path) -> None:
    records = [event.pack() for event in old.traffic(100)]
    path = tmp_path / "old.ct"
    path.write_bytes(
        old.header() + b"".join(records[:50]) + records[50][:9] + b"".join(records[51:])
    )
    with pytest.raises(
        FormatError,
        match=r"at byte 1906: 9 bytes are not records .* "
        r"\(cttest --repair saves its whole blocks\)",
    ):
        squeeze(str(path), SqueezeOptions(), str(tmp_path / "new.ct"))
    assert [each.name for each in tmp_path.iterdir()] == ["old.ct"]


def test_one_that_is_being_written_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "old.ct"
    with path.open("wb") as file:
        file.write(old.header())
        file.flush()
        with pytest.raises(BusyError):
            squeeze(str(path), SqueezeOptions())
    assert path.read_bytes() == old.header()


def test_a_folder_with_one_command_the_originals_kept(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """What ctrecorder(7) shows for the move."""
    folder = tmp_path / "ct"
    folder.mkdir()
    for path in RAW:
        shutil.copy(path, folder / path.name)
    (folder / "tcp.ct.gz").write_bytes(gzip.compress(RAW[0].read_bytes()))
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    ctlist.main(["-s", "--format", "classic", str(folder)])
    listed = capfd.readouterr().out
    assert ctsqueeze.main(["--keep", str(folder)]) == 0
    assert verify.check([str(folder)], print) == verify.WHOLE
    assert {path.name: path.read_bytes() for path in (folder / "replaced").iterdir()} == before
    for name in before:
        with Segment(str(folder / name)) as segment:
            assert segment.state == "closed"
    capfd.readouterr()
    ctlist.main(["-s", "--format", "classic", str(folder)])
    assert sorted(capfd.readouterr().out.splitlines()) == sorted(listed.splitlines())
