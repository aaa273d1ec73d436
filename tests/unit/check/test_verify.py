"""cttest: finds every change to a segment and to a chain; reports whole segments as whole."""

from __future__ import annotations

import fcntl
import os
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ctrecorder import uapi
from ctrecorder.check import verify
from ctrecorder.check.collect import check_segment
from ctrecorder.check.repair import repair
from ctrecorder.cli import cttest
from ctrecorder.columns import Table
from ctrecorder.ctlog.bloom import Collector
from ctrecorder.ctlog.encoder import encode_columns, encode_small
from ctrecorder.ctlog.frame import (
    FRAME,
    NO_HASH,
    Gap,
    Kind,
    Mark,
    pack_block,
    pack_footer,
    parse_frame,
)
from ctrecorder.ctlog.header import Header
from ctrecorder.ctlog.index import FORM_COLUMNS, FORM_SMALL
from ctrecorder.folder import Folder
from ctrecorder.kept.retention import Receipt, add_receipt
from ctrecorder.segment.pending import PendingBlock, addresses_block
from ctrecorder.segment.reader import Segment
from ctrecorder.segment.writer import SegmentWriter
from tests.support import tables
from tests.support.tables import NOON, SECOND

ROOT = Path(__file__).resolve().parents[3]
HOUR = 3600 * SECOND


def with_addresses(path: Path, *told: Table, rows: Table) -> None:
    """A whole segment of `rows`, whose filter of addresses is one of `told`."""
    collector = Collector()
    for table in told:
        collector.add(table)
    payload = collector.payload()
    assert payload is not None
    writer = SegmentWriter.create(str(path), Header(chain="c", sequence=1), time_ns=NOON)
    writer.append(rows, kind=Kind.CONNECTIONS)
    writer.write(addresses_block(payload, writer.times))
    writer.close()


class Heard:
    """What a check says."""

    def __init__(self, *paths: Path, quiet: bool = False, key: bytes = b"") -> None:
        self.lines: list[str] = []
        self.code = verify.check(
            [str(path) for path in paths], self.lines.append, quiet=quiet, key=key
        )

    @property
    def text(self) -> str:
        return "\n".join(self.lines)


def segment(
    path: Path,
    seed: int = 0,
    previous: tuple[str, bytes] = ("", NO_HASH),
    close: bool = True,
    key: bytes = b"",
) -> bytes:
    """A segment of the recording "c", number `seed` of it; returns its last hash."""
    header = {"chain": "c", "sequence": seed + 1, "previous": previous[0] or None}
    writer = SegmentWriter.create(
        str(path), Header.from_json(header), previous[1], time_ns=NOON + seed * HOUR, key=key
    )
    writer.append(tables.events(uapi.AF_INET, 2, seed).select(("time", "event", "id", "present")))
    writer.append(tables.events(uapi.AF_INET6, 257, seed).select(("time", "event")))
    writer.gap(Gap(NOON, NOON, "overrun", 7))
    writer.mark(Mark.at(NOON, "heartbeat"))
    if close:
        return writer.close()
    writer.sync()
    last_hash = writer.last_hash
    writer.abandon()
    return last_hash


def chain(folder: Path, count: int = 4) -> list[Path]:
    """`count` segments, each following on the one before."""
    paths = [folder / f"{number}.ctlog" for number in range(count)]
    before = ("", NO_HASH)
    for number, path in enumerate(paths):
        before = (path.name, segment(path, number, before))
    return paths


def blocks_of(data: bytes) -> list[bytes]:
    blocks, at = [], 0
    while at < len(data):
        length = FRAME.size + parse_frame(data[at:]).length
        blocks.append(data[at : at + length])
        at += length
    return blocks


@pytest.mark.parametrize("close", [True, False])
def test_a_whole_segment_is_called_whole(tmp_path: Path, close: bool) -> None:
    segment(tmp_path / "a", close=close)
    heard = Heard(tmp_path)
    assert heard.code == verify.WHOLE
    assert heard.lines[0].startswith(
        f"{tmp_path / 'a'}: whole, {'closed' if close else 'crashed'}: 5 blocks, 259 rows, 1 gap, "
        "2026.09.21"
    )
    assert heard.lines[1:] == ["1 segment checked: 1 whole, 0 damaged"]
    assert Heard(tmp_path, quiet=True).lines == []


def test_a_live_segment_is_checked_as_far_as_it_is_written(tmp_path: Path) -> None:
    segment(tmp_path / "a", close=False)
    with (tmp_path / "a").open("r+b") as recorder:
        fcntl.flock(recorder, fcntl.LOCK_EX)
        os.truncate(tmp_path / "a", os.stat(tmp_path / "a").st_size - 10)
        heard = Heard(tmp_path)
    assert heard.code == verify.WHOLE
    assert "whole, live: 4 blocks" in heard.lines[0]


@pytest.mark.slow
def test_every_changed_byte_is_found(tmp_path: Path) -> None:
    """In a closed segment, whatever the byte says; with a place in the file, and never an error of
    another kind.
    """
    path = tmp_path / "a"
    segment(path)
    data = bytearray(path.read_bytes())
    for offset in range(len(data)):
        data[offset] ^= 1 << offset * 5 % 8
        path.write_bytes(data)
        data[offset] ^= 1 << offset * 5 % 8
        heard = Heard(tmp_path, quiet=True)
        assert heard.code == verify.DAMAGED, offset
        assert all(line.startswith(f"{path}: at byte ") for line in heard.lines), heard.text


@pytest.mark.slow
def test_every_changed_byte_of_a_crashed_segment_is_found(tmp_path: Path) -> None:
    """But one that makes its last block seem unfinished, as a crash leaves it: that is a note."""
    path = tmp_path / "a"
    segment(path, close=False)
    data = bytearray(path.read_bytes())
    last = len(data) - len(blocks_of(bytes(data))[-1])
    for offset in range(len(data)):
        data[offset] ^= 1 << offset * 3 % 8
        path.write_bytes(data)
        data[offset] ^= 1 << offset * 3 % 8
        heard = Heard(tmp_path)
        if heard.code != verify.DAMAGED:
            assert last + 12 <= offset < last + 16
            assert "torn off by a crash" in heard.text


@pytest.mark.parametrize("cut", [1, 15, 16, 60, 200])
def test_a_closed_segment_that_was_shortened_is_no_longer_closed(tmp_path: Path, cut: int) -> None:
    """By itself it looks like one that a crash left; the segment after it knows better."""
    paths = chain(tmp_path, 2)
    os.truncate(paths[0], os.stat(paths[0]).st_size - cut)
    assert "crashed" in Heard(paths[0]).text
    heard = Heard(tmp_path)
    assert heard.code == verify.DAMAGED
    assert f"{paths[1]}: at byte 32: 0.ctlog does not end as it did" in heard.text


def removed(blocks: list[bytes]) -> list[bytes]:
    return blocks[:2] + blocks[3:]


def repeated(blocks: list[bytes]) -> list[bytes]:
    return [*blocks[:2], blocks[1], *blocks[2:]]


def swapped(blocks: list[bytes]) -> list[bytes]:
    return [blocks[0], blocks[2], blocks[1], *blocks[3:]]


def headed_twice(blocks: list[bytes]) -> list[bytes]:
    return [*blocks[:3], blocks[0], *blocks[3:]]


def without_header(blocks: list[bytes]) -> list[bytes]:
    return blocks[1:]


@pytest.mark.parametrize("change", [removed, repeated, swapped, headed_twice, without_header])
@pytest.mark.parametrize("close", [True, False])
def test_blocks_that_are_moved_about_are_found(
    tmp_path: Path, change: Callable[[list[bytes]], list[bytes]], close: bool
) -> None:
    """Each is right in itself; also where a footer is made for them."""
    path = tmp_path / "a"
    segment(path, close=close)
    path.write_bytes(b"".join(change(blocks_of(path.read_bytes()))))
    assert Heard(tmp_path).code == verify.DAMAGED


def test_a_block_of_another_segment_is_found(tmp_path: Path) -> None:
    for number in range(2):
        segment(tmp_path / str(number), number, close=False)
    one, other = (blocks_of((tmp_path / str(number)).read_bytes()) for number in range(2))
    (tmp_path / "0").write_bytes(b"".join([*one[:2], other[2], *one[3:]]))
    heard = Heard(tmp_path / "0")
    assert heard.code == verify.DAMAGED
    assert "does not follow on the block before it" in heard.text


def test_blocks_behind_the_footer_are_found(tmp_path: Path) -> None:
    path = tmp_path / "a"
    last_hash = segment(path)
    payload = encode_small(tables.events(uapi.AF_INET, 2))
    more = pack_block(Kind.EVENTS, payload, last_hash, (0, 0), family=2, form=FORM_SMALL, rows=2)
    path.write_bytes(path.read_bytes() + more)
    heard = Heard(path)
    assert heard.code == verify.DAMAGED
    assert "a footer before the end of the file" in heard.text


def forged(
    path: Path,
    table: Table,
    payload: bytes,
    form: int,
    times: tuple[int, int],
    kind: Kind = Kind.EVENTS,
) -> None:
    """A segment with right checksums and a block that lies."""
    writer = SegmentWriter.create(str(path), Header())
    writer.write(PendingBlock(kind, payload, times, table.family, form, len(table)))
    writer.close()


def test_a_footer_that_hides_a_block_is_found(tmp_path: Path) -> None:
    """With right checksums: whoever believes it would never see those rows."""
    path = tmp_path / "a"
    segment(path)
    with Segment(str(path)) as whole:
        index = np.delete(whole.index, 2)
    blocks = blocks_of(path.read_bytes())
    at = sum(map(len, blocks[:-1]))
    frame = parse_frame(blocks[-1])
    footer = pack_block(
        Kind.FOOTER, pack_footer(index, {}, at), frame.previous, (frame.time_min, frame.time_max)
    )
    path.write_bytes(b"".join([*blocks[:-1], footer]))
    heard = Heard(path)
    assert heard.code == verify.DAMAGED
    assert f"{path}: at byte {at}: the footer does not list the blocks of the file" in heard.lines


def test_a_frame_whose_times_are_not_its_rows_is_found(tmp_path: Path) -> None:
    """A search by time would pass it over."""
    table = tables.events(uapi.AF_INET, 300)
    times = (int(table["time"].min()), int(table["time"].max()))
    for number, wrong in enumerate(((times[0] + 1, times[1]), (times[0], times[1] - 1))):
        forged(tmp_path / str(number), table, encode_columns(table), FORM_COLUMNS, wrong)
        assert "its rows have times from" in Heard(tmp_path / str(number)).text


@pytest.mark.parametrize("name", ["orig_sport", "orig_bytes"])
def test_bounds_that_do_not_hold_are_found(tmp_path: Path, name: str) -> None:
    """A search by port would pass it over."""
    table = tables.events(uapi.AF_INET, 300).select(("time", "event", "present", name))
    payload = bytearray(encode_columns(table))
    at = next(
        at
        for at in range(8, len(payload), 56)
        if payload[at] == {"orig_sport": 8, "orig_bytes": 19}[name]
    )
    high = struct.unpack_from("<q", payload, at + 32)[0]
    struct.pack_into("<q", payload, at + 32, high - 1)
    forged(
        tmp_path / "a",
        table,
        bytes(payload),
        FORM_COLUMNS,
        (int(table["time"].min()), int(table["time"].max())),
    )
    assert f"column {name} has values outside the bounds" in Heard(tmp_path / "a").text


def test_totals_that_are_wrong_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = SegmentWriter.create(str(tmp_path / "a"), Header())
    writer.rows = 5
    writer.close()
    assert "the footer counts 5 rows, the blocks have 0" in Heard(tmp_path).text


def test_a_whole_chain(tmp_path: Path) -> None:
    chain(tmp_path)
    heard = Heard(tmp_path)
    assert heard.code == verify.WHOLE
    assert heard.lines[-1] == "4 segments checked: 4 whole, 0 damaged"


def test_the_first_that_is_there_may_follow_on_one_that_expired(tmp_path: Path) -> None:
    paths = chain(tmp_path)
    paths[0].unlink()
    heard = Heard(tmp_path)
    assert heard.code == verify.WHOLE
    assert (
        f"{paths[1]}: the recording begins earlier; 0.ctlog, before it, is not here (expired?)"
        in heard.lines
    )


def expire(path: Path) -> None:
    """Delete a segment as ctexpire does: with a receipt."""
    one = check_segment(str(path))
    previous = one.link.previous
    add_receipt(
        Folder(str(path.parent)),
        Receipt(
            path.name,
            0,
            1,
            one.rows,
            1,
            list(one.link.hashes),
            previous,
            one.link.previous_hash,
            NOON,
            "age",
        ),
    )
    path.unlink()


def test_one_that_expired_is_told_from_one_that_is_missing(tmp_path: Path) -> None:
    """By ctexpire's receipts, which stand in for the segments in the chain, at its beginning and
    inside it.
    """
    paths = chain(tmp_path, 6)
    expire(paths[0])
    expire(paths[1])
    heard = Heard(tmp_path)
    assert heard.code == verify.WHOLE
    assert (
        f"{paths[2]}: the recording begins earlier; what is before it has expired, as ctexpire's "
        "receipts say" in heard.lines
    )
    expire(paths[3])
    expire(paths[4])
    assert Heard(tmp_path).code == verify.WHOLE
    paths[2].unlink()
    heard = Heard(tmp_path)
    assert (
        heard.code == verify.WHOLE
    )  # the receipts lead back to it, and nothing that is there says that it was kept
    paths[5].rename(tmp_path / "away")
    (tmp_path / "away").unlink()
    assert Heard(tmp_path).code == verify.UNCHECKED


def test_one_without_a_receipt_is_missing_where_there_are_receipts(tmp_path: Path) -> None:
    paths = chain(tmp_path, 4)
    expire(paths[0])
    paths[1].unlink()
    heard = Heard(tmp_path)
    assert heard.code == verify.DAMAGED
    assert f"{paths[2]}: at byte 32: 1.ctlog, before it, is missing" in heard.lines


def test_a_receipt_does_not_cover_what_lies_before_it(tmp_path: Path) -> None:
    """2 has expired, 1 was taken away."""
    paths = chain(tmp_path, 4)
    expire(paths[2])
    paths[1].unlink()
    heard = Heard(tmp_path)
    assert heard.code == verify.DAMAGED
    assert f"{paths[3]}: at byte 32: 1.ctlog, before it, is missing" in heard.lines


def test_a_segment_that_is_missing_in_the_middle_is_found(tmp_path: Path) -> None:
    paths = chain(tmp_path)
    paths[2].unlink()
    heard = Heard(tmp_path)
    assert heard.code == verify.DAMAGED
    assert f"{paths[3]}: at byte 32: 2.ctlog, before it, is missing" in heard.lines


def test_a_segment_that_was_made_anew_is_found(tmp_path: Path) -> None:
    """With right checksums, the same name and number in the recording, and another history."""
    paths = chain(tmp_path)
    for previous in (bytes.fromhex(check_segment(str(paths[0])).link.hashes[0]), NO_HASH):
        paths[1].unlink()
        SegmentWriter.create(
            str(paths[1]), Header(chain="c", sequence=2, previous="0.ctlog"), previous
        ).close()
        heard = Heard(tmp_path)
        assert heard.code == verify.DAMAGED
        assert f"{paths[2]}: at byte 32: 1.ctlog does not end as it did" in heard.text
        anew = f"{paths[1]}: at byte 32: starts a new recording"
        assert (anew in heard.text) == (previous == NO_HASH)


def test_a_segment_of_another_recorder_in_its_place_is_found(tmp_path: Path) -> None:
    paths = chain(tmp_path)
    (tmp_path / "elsewhere").mkdir()
    other = chain(tmp_path / "elsewhere")
    data = other[1].read_bytes().replace(b'"chain":"c"', b'"chain":"d"')
    paths[1].write_bytes(data)
    assert Heard(tmp_path).code == verify.DAMAGED
    shutil.copy(other[2], paths[1])
    heard = Heard(tmp_path)
    assert heard.code == verify.DAMAGED
    assert "has the same contents as" in heard.text


def test_two_that_follow_on_one_are_found(tmp_path: Path) -> None:
    paths = chain(tmp_path, 2)
    before = check_segment(str(paths[0])).link.hashes[0]
    segment(tmp_path / "9.ctlog", 9, ("0.ctlog", bytes.fromhex(before)))
    assert (
        f"{tmp_path / '9.ctlog'}: at byte 32: follows on 0.ctlog, and so does 1.ctlog"
        in Heard(tmp_path).lines
    )


def test_names_do_not_matter(tmp_path: Path) -> None:
    """An operator may rename segments; the chain is of hashes."""
    for number, path in enumerate(chain(tmp_path)):
        path.rename(tmp_path / "zyxw"[number])
    assert Heard(tmp_path).code == verify.WHOLE


def test_a_recording_goes_on_after_a_crash(tmp_path: Path) -> None:
    """The next segment follows on the last whole block; what was torn off is told of, and is no
    damage.
    """
    last_hash = segment(tmp_path / "0.ctlog", close=False)
    with (tmp_path / "0.ctlog").open("ab") as file:
        file.write(pack_block(Kind.MARK, b"{}", last_hash, (0, 0))[:-1])
    segment(tmp_path / "1.ctlog", 1, ("0.ctlog", last_hash))
    heard = Heard(tmp_path)
    assert heard.code == verify.WHOLE
    assert "not a whole block: torn off by a crash" in heard.text
    os.truncate(tmp_path / "0.ctlog", os.stat(tmp_path / "0.ctlog").st_size - 90)
    assert Heard(tmp_path).code == verify.DAMAGED


def test_a_sealed_recording(tmp_path: Path) -> None:
    """Checked with its key; without it only its structure is, which is no check."""
    segment(tmp_path / "a", key=b"key")
    with_key = Heard(tmp_path, key=b"key")
    assert len(with_key.lines) == 3
    assert "one static key: whoever has it can make all anew" in with_key.lines[1]
    assert with_key.lines[-1] == "1 segment checked: 1 whole, 0 damaged"
    without = Heard(tmp_path)
    assert without.code == verify.UNCHECKED
    assert "is sealed: without its key (--key) only its structure could be checked" in without.text
    assert Heard(tmp_path, key=b"other").code == verify.UNCHECKED


def test_what_cannot_be_checked(tmp_path: Path) -> None:
    (tmp_path / "notes").write_bytes(b"hello")
    segment(tmp_path / "a")
    assert Heard(tmp_path).code == verify.WHOLE
    assert f"skipped, not segments: {tmp_path / 'notes'}" in Heard(tmp_path).lines
    for path in (tmp_path / "notes", tmp_path / "missing"):
        heard = Heard(path, tmp_path / "a", quiet=True)
        assert heard.code == verify.UNCHECKED
        assert heard.lines[0].startswith(f"{path}: ")
    (tmp_path / "empty").mkdir()
    assert Heard(tmp_path / "empty").code == verify.UNCHECKED


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = chain(tmp_path, 2)
    assert cttest.main([str(tmp_path)]) == 0
    assert "2 segments checked" in capsys.readouterr().out
    data = bytearray(paths[0].read_bytes())
    data[300] ^= 1
    paths[0].write_bytes(data)
    assert cttest.main(["-q", str(tmp_path)]) == 1
    assert f"{paths[0]}: at byte " in capsys.readouterr().out
    assert cttest.main([str(tmp_path / "missing")]) == 2
    assert cttest.main(["--nonsense"]) == 2


def test_a_hostile_name_does_not_reach_the_terminal(tmp_path: Path) -> None:
    (tmp_path / "\x1b[2Ja").write_bytes(b"hello")
    done = subprocess.run(
        [sys.executable, str(ROOT / "bin" / "cttest"), str(tmp_path)],
        capture_output=True,
        check=False,
    )
    assert b"\\x1b[2Ja" in done.stdout
    assert b"\x1b" not in done.stdout + done.stderr


def test_times_of_connections_are_checked_too(tmp_path: Path) -> None:
    writer = SegmentWriter.create(str(tmp_path / "a"), Header())
    table = tables.connections(uapi.AF_INET, 300)
    writer.append(table, kind=Kind.CONNECTIONS)
    writer.close()
    assert Heard(tmp_path).code == verify.WHOLE
    forged(
        tmp_path / "b",
        table,
        encode_columns(table),
        FORM_COLUMNS,
        (0, int(np.max(table["end"]))),
        Kind.CONNECTIONS,
    )
    assert Heard(tmp_path / "b").code == verify.DAMAGED


@pytest.mark.parametrize("family", [uapi.AF_INET, uapi.AF_INET6])
def test_a_filter_that_lacks_an_address_is_found_and_repaired(tmp_path: Path, family: int) -> None:
    """A search believes it: a row would be there, and not be found."""
    rows, others = (
        tables.connections(family, 5000, seed=1),
        tables.connections(family, 5000, seed=2),
    )
    whole, wrong, mended = (
        tmp_path / "whole.ctlog",
        tmp_path / "wrong.ctlog",
        tmp_path / "mended.ctlog",
    )
    with_addresses(whole, rows, rows=rows)
    assert Heard(whole).code == 0
    with_addresses(wrong, others, rows=rows)
    heard = Heard(wrong)
    assert heard.code == 1
    assert "has an address that the segment's ADDRESSES lack" in heard.text
    repair(str(wrong), str(mended))
    assert Heard(mended).code == 0
    with Segment(str(mended)) as segment:
        assert segment.index["rows"].sum() == 5000
