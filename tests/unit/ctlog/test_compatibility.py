"""The rules of ctlog(5) for what a reader does not know: passed over, kept or refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ctrecorder.archive import find
from ctrecorder.archive.open import open_segment
from ctrecorder.asking import ctwho
from ctrecorder.check.collect import check_segment
from ctrecorder.check.repair import repair
from ctrecorder.cli import ctsqueeze, cttest
from ctrecorder.columns import BY_NAME, Table
from ctrecorder.ctlog.encoder import encode_columns
from ctrecorder.ctlog.entry import ENTRY, body_hash
from ctrecorder.ctlog.frame import NO_HASH, Gap, Kind, Mark, block_times, dump_json, pack_block
from ctrecorder.ctlog.header import Header
from ctrecorder.ctlog.index import FORM_COLUMNS, FORM_SMALL, HEAD
from ctrecorder.ctlog.plans import LIVE
from ctrecorder.errors import FormatError, NewerError
from ctrecorder.listing import ctlist
from ctrecorder.maintain import squeeze_all
from ctrecorder.maintain.squeeze import SqueezeOptions, squeeze
from ctrecorder.segment.pending import PendingBlock
from ctrecorder.segment.reader import Segment
from ctrecorder.segment.writer import SegmentWriter
from ctrecorder.spool.target import newest_segment
from tests.support import ctlog_reader, folders, tables
from tests.support.tables import FAMILIES, NOON

UNKNOWN_KIND, UNKNOWN_COLUMN, UNKNOWN_ENCODING = 99, 200, 0x4000
HEADER = {"chain": "c", "sequence": 1, "template": "a-%s.ctlog", "from_2030": {"a": [1]}}
GAP = {"reason": "of-2030", "lost": 3, "detail": "", "family": 2, "from_2030": {"a": 1}}
MARK = {"what": "of-2030", "from_2030": [1]}


def events(family: int = 2) -> Table:
    return tables.events(family, 20, seed=1)


def write(path: Path, *drafts: PendingBlock, close: bool = True, **header: Any) -> bytes:
    """A segment of `drafts` and a block of events; returns its last hash."""
    writer = SegmentWriter.create(str(path), Header.from_json({**HEADER, **header}), time_ns=NOON)
    for draft in drafts:
        writer.write(draft)
    writer.append(events())
    if close:
        return writer.close()
    writer.sync()
    writer.abandon()
    return writer.last_hash


def unknown_block() -> PendingBlock:
    return PendingBlock(UNKNOWN_KIND, b"of 2030", (NOON, NOON))  # type: ignore[arg-type]


def notes() -> list[PendingBlock]:
    return [
        PendingBlock(Kind.GAP, dump_json(GAP), (NOON, NOON + 5)),
        PendingBlock(Kind.MARK, dump_json(MARK), (NOON, NOON)),
    ]


def more_columns(table: Table, form: int) -> PendingBlock:
    """A block of `table` with a column that no version knows behind the others."""
    values = bytes(range(1, len(table) + 1))
    if form == FORM_SMALL:
        names = sorted(table.columns, key=lambda name: BY_NAME[name].id)
        pairs = b"".join(bytes((BY_NAME[name].id, table[name].dtype.itemsize)) for name in names)
        layout = bytes((len(names) + 1,)) + pairs + bytes((UNKNOWN_COLUMN, 1))
        run = b"".join(table[name].tobytes() for name in names) + values
        return _draft(table, layout + run, form)
    payload = encode_columns(table, 1, LIVE)
    count, _, length = HEAD.unpack_from(payload)
    entry = ENTRY.pack(UNKNOWN_COLUMN, 0, 1, 0, 0, 0, 0, len(values), 0, 0, body_hash(values))
    entries = HEAD.size + count * ENTRY.size
    head = HEAD.pack(count + 1, 0, length + ENTRY.size)
    return _draft(
        table, head + payload[HEAD.size : entries] + entry + payload[entries:] + values, form
    )


def unknown_encoding(table: Table) -> PendingBlock:
    """A block of `table` whose first column has an encoding that no version knows."""
    payload = bytearray(encode_columns(table, 1, LIVE))
    number, encoding, *rest = ENTRY.unpack_from(payload, HEAD.size)
    ENTRY.pack_into(payload, HEAD.size, number, encoding | UNKNOWN_ENCODING, *rest)
    return _draft(table, bytes(payload), FORM_COLUMNS)


def _draft(table: Table, payload: bytes, form: int) -> PendingBlock:
    times = block_times(Kind.EVENTS, table)
    return PendingBlock(Kind.EVENTS, payload, times, table.family, form, len(table))


def of_version(version: int) -> bytes:
    """A whole segment whose blocks are all of `version`."""
    previous, data = NO_HASH, b""
    for draft in (
        PendingBlock(Kind.HEADER, dump_json({"format": "ctlog"}), (NOON, NOON)),
        *notes(),
    ):
        block = pack_block(draft.kind, draft.payload, previous, draft.times, version=version)
        previous, data = block[48:64], data + block
    return data


def test_a_later_version_is_refused_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "a.ctlog"
    path.write_bytes(of_version(3))
    assert find.find([str(tmp_path)]).segments == [str(path)]
    with pytest.raises(
        NewerError, match=r"a\.ctlog: at byte 6: a block of version 3: made by a newer"
    ):
        open_segment(str(path))
    for command in (ctlist.main, cttest.main, ctsqueeze.main):
        assert command([str(tmp_path)]) == 2
        out, err = capsys.readouterr()
        assert (out + err).count("version 3") == 1


def test_one_flipped_version_is_damage_and_no_later_version(tmp_path: Path) -> None:
    path = tmp_path / "a.ctlog"
    write(path)
    data = bytearray(path.read_bytes())
    data[6] = 3
    path.write_bytes(data)
    with open_segment(str(path)) as segment:
        assert segment.findings
        assert sum(len(segment.read(block)) for block in segment.blocks_of(Kind.EVENTS)) == 20


@pytest.mark.parametrize("requires", [["of-2030"], ["b", "a"], "omit", [7], {}, None])
def test_a_feature_that_is_not_known_is_refused_in_one_line(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], requires: object
) -> None:
    path = tmp_path / "a.ctlog"
    write(path, requires=requires)
    with pytest.raises(NewerError, match=r"requires .*made by a newer version"):
        open_segment(str(path))
    for command, args in (
        (ctlist.main, [str(path)]),
        (ctlist.main, ["-s", str(path)]),
        (ctwho.main, ["192.0.2.1:80", "2026-11-24 12:00:00", "-d", str(path)]),
        (cttest.main, [str(path)]),
        (cttest.main, ["--repair", str(path), "-o", str(tmp_path / "new")]),
        (ctsqueeze.main, ["-f", str(path)]),
        (ctsqueeze.main, [str(tmp_path)]),
    ):
        assert command(args) == 2, args
        out, err = capfd.readouterr()
        assert (out + err).count("made by a newer version of ctrecorder") == 1, args
        assert command is not ctwho.main or out.startswith("NOBODY KNOWN (not proved)\n")
    assert folders.names(tmp_path) == ["a.ctlog"]


def test_squeezing_in_a_worker_names_a_newer_segment(tmp_path: Path) -> None:
    path = tmp_path / "a.ctlog"
    write(path, requires=["of-2030"])
    error = squeeze_all._attempt(str(path), SqueezeOptions(), None)
    assert isinstance(error, Exception)
    assert not isinstance(error, FormatError)


def test_a_recorder_goes_on_behind_a_segment_that_it_cannot_read(tmp_path: Path) -> None:
    """What the rows mean is no matter for the chain."""
    last_hash = write(tmp_path / "a-1.ctlog", requires=["of-2030"])
    tail = newest_segment(str(tmp_path / str(HEADER["template"])))
    assert tail is not None
    assert (tail.last_hash, tail.chain, tail.sequence) == (last_hash, "c", 1)


def test_what_is_required_and_known_is_read_and_stays_of_version_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ctrecorder.ctlog.header.FEATURES", frozenset({"of-2030"}))
    path = tmp_path / "a.ctlog"
    write(path, *notes(), requires=["of-2030"])
    repair(str(path), str(tmp_path / "repaired"))
    squeeze(str(path), SqueezeOptions())
    for each in (path, tmp_path / "repaired"):
        assert check_segment(str(each)).findings == []
        with Segment(str(each)) as segment:
            assert segment.version == 2
            assert segment.header.requires == ("of-2030",)
            frames = [segment.file.frame(block.offset) for block in segment.blocks]
        assert {frame.version for frame in frames} == {2}
        blocks = ctlog_reader.read(each.read_bytes(), known=frozenset({"of-2030"}))
        assert len(blocks) == len(frames) + 1


def test_without_requires_a_segment_is_of_version_1(tmp_path: Path) -> None:
    write(tmp_path / "a.ctlog", *notes())
    data = (tmp_path / "a.ctlog").read_bytes()
    assert {data[block.offset + 6] for block in ctlog_reader.read(data)} == {1}


def test_the_other_reader_refuses_what_it_does_not_know(tmp_path: Path) -> None:
    write(tmp_path / "a.ctlog", requires=["of-2030"])
    with pytest.raises(AssertionError, match="of-2030"):
        ctlog_reader.read((tmp_path / "a.ctlog").read_bytes())
    write(tmp_path / "b.ctlog", unknown_encoding(events()))
    with pytest.raises(AssertionError, match="encoding"):
        ctlog_reader.read((tmp_path / "b.ctlog").read_bytes())


@pytest.mark.parametrize("close", [True, False], ids=["closed", "crashed"])
def test_unknown_kinds_columns_and_members_are_passed_over(tmp_path: Path, close: bool) -> None:
    path = tmp_path / "a.ctlog"
    blocks = [
        more_columns(events(family), form)
        for family in FAMILIES
        for form in (FORM_COLUMNS, FORM_SMALL)
    ]
    write(path, unknown_block(), *notes(), *blocks, close=close)
    found = check_segment(str(path))
    assert found.findings == []
    assert f"blocks of kind {UNKNOWN_KIND}, column {UNKNOWN_COLUMN}" in "".join(found.notes)
    with open_segment(str(path)) as segment:
        for block in segment.blocks_of(Kind.EVENTS):
            read, wanted = segment.read(block), events(block.family)
            assert all((read[name] == array).all() for name, array in wanted.columns.items())
        small = segment.read_small(
            [block for block in segment.blocks_of(Kind.EVENTS) if block.form == FORM_SMALL]
        )
        assert sum(map(len, small)) == 60
        (gap,), (mark,) = segment.gaps, segment.marks
    assert (gap.reason, gap.lost, mark.what) == ("of-2030", 3, "of-2030")
    told = [
        block
        for block in ctlog_reader.read(path.read_bytes())
        if block.kind in (Kind.EVENTS, UNKNOWN_KIND)
    ]
    assert [block.rows for block in told] == [0, 20, 20, 20, 20, 20]


def test_a_search_reads_small_blocks_with_columns_that_are_not_known(tmp_path: Path) -> None:
    path = tmp_path / "a.ctlog"
    write(path, more_columns(events(), FORM_SMALL))
    with open_segment(str(path)) as segment:
        segment.read_small(segment.blocks_of(Kind.EVENTS))
        assert segment.unknown_columns == {UNKNOWN_COLUMN}


def test_an_encoding_that_is_not_known_is_refused_and_hides_no_other_block(tmp_path: Path) -> None:
    path = tmp_path / "a.ctlog"
    write(path, unknown_encoding(events()))
    with open_segment(str(path)) as segment:
        first, second = segment.blocks_of(Kind.EVENTS)
        with pytest.raises(NewerError, match=r"encoding 0x40.*newer version"):
            segment.read(first)
        assert len(segment.read(second)) == 20


def test_squeezing_keeps_members_that_are_not_known(tmp_path: Path) -> None:
    path = tmp_path / "a.ctlog"
    write(path, *notes())
    squeeze(str(path), SqueezeOptions())
    _holds_what_it_did(path)


def test_repairing_keeps_members_and_columns_and_leaves_unknown_kinds_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, new = tmp_path / "a.ctlog", tmp_path / "new.ctlog"
    write(path, unknown_block(), *notes(), more_columns(events(), FORM_COLUMNS))
    assert cttest.main(["--repair", str(path), "-o", str(new)]) == 1
    assert "left out 1 block of kinds that this version" in capsys.readouterr().out
    _holds_what_it_did(new)
    with open_segment(str(new)) as segment:
        for block in segment.blocks:
            if block.kind == Kind.EVENTS:
                segment.read(block)
        assert segment.unknown_parts == f"column {UNKNOWN_COLUMN}"


def _holds_what_it_did(path: Path) -> None:
    assert check_segment(str(path)).findings == []
    with Segment(str(path)) as segment:
        assert segment.header.extra["from_2030"] == HEADER["from_2030"]
        told = {
            kind: json.loads(bytes(segment.file.payload(block.offset, segment.frame(block))))
            for kind in (Kind.GAP, Kind.MARK)
            for block in segment.blocks_of(kind)
        }
        assert segment.gaps == [
            Gap(NOON, NOON + 5, "of-2030", 3, "", {"family": 2, "from_2030": {"a": 1}})
        ]
        assert segment.marks == [Mark(NOON, NOON, "of-2030", {"from_2030": [1]})]
    assert told == {Kind.GAP: GAP, Kind.MARK: MARK}


@pytest.mark.parametrize(
    ("draft", "part"),
    [
        (unknown_block, f"blocks of kind {UNKNOWN_KIND}"),
        (lambda: more_columns(events(), FORM_COLUMNS), f"column {UNKNOWN_COLUMN}"),
        (lambda: more_columns(events(), FORM_SMALL), f"column {UNKNOWN_COLUMN}"),
    ],
)
def test_squeezing_refuses_what_it_would_lose(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], draft: Callable[[], PendingBlock], part: str
) -> None:
    path = tmp_path / "a.ctlog"
    write(path, draft())
    before = path.read_bytes()
    for where in (["-f", str(path)], [str(tmp_path)]):
        assert ctsqueeze.main(where) == 2
        assert f"has {part}, which this version" in capsys.readouterr().err
    assert path.read_bytes() == before
    assert folders.names(tmp_path) == ["a.ctlog"]


def test_squeezing_again_keeps_the_members_of_what_was_replaced(tmp_path: Path) -> None:
    path = tmp_path / "a.ctlog"
    entry = {
        "name": "b",
        "last_hash": "",
        "rows": 1,
        "bytes": 2,
        "state": "closed",
        "program": "",
        "of_2030": 7,
    }
    write(path, replaces=[entry, "no entry"])
    squeeze(str(path), SqueezeOptions())
    with open_segment(str(path)) as segment:
        first, second = segment.header.replaces
    assert first.to_json() == entry
    assert second.name == "a.ctlog"


def test_repairing_without_a_header_requires_all_that_this_version_knows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ctrecorder.check.repair.FEATURES", frozenset({"b", "a"}))
    path = tmp_path / "a.ctlog"
    write(path, requires=["a"])
    data = bytearray(path.read_bytes())
    data[data.index(b"chain")] ^= 1
    path.write_bytes(data)
    repair(str(path), str(tmp_path / "new"))
    with Segment(str(tmp_path / "new")) as segment:
        assert (segment.version, segment.header.requires) == (2, ("a", "b"))
