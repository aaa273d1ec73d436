"""Squeezing: what goes in is all there afterwards, row by row; whatever interrupts it, nothing is
lost and nothing is there twice.
"""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ctrecorder.archive import chain, find, lock
from ctrecorder.archive.lock import BusyError
from ctrecorder.cli.ctsqueeze import main
from ctrecorder.columns import Table, bit
from ctrecorder.connections.pairing import Pairer
from ctrecorder.ctlog.entry import GROUPED
from ctrecorder.ctlog.frame import FRAME, INDEX, Gap, Kind, Mark
from ctrecorder.ctlog.header import Header
from ctrecorder.ctlog.index import FORM_SMALL
from ctrecorder.ctlog.predicate import Query
from ctrecorder.errors import ArchiveError, FormatError
from ctrecorder.filelock import Holder
from ctrecorder.listing.ctlist import main as ctlist
from ctrecorder.maintain import ordering, squeeze_all, successor
from ctrecorder.maintain import squeeze as squeezing
from ctrecorder.maintain.squeeze import SqueezeOptions, squeeze
from ctrecorder.query.connections import list_connections
from ctrecorder.query.open import open_archive
from ctrecorder.segment.pending import PendingBlock, mark_block, table_blocks
from ctrecorder.segment.reader import Segment
from ctrecorder.segment.writer import SegmentWriter
from ctrecorder.service import messages
from ctrecorder.service.log import Log
from tests.support.folders import locked, names, paths
from tests.support.proofs import proofs_of
from tests.support.slow_pairing import (
    DESTROY,
    EXISTING,
    NEW,
    RESULT,
    SECOND,
    V6,
    Row,
    Step,
    T,
    row,
    rows_of,
    slow,
    table,
    traffic,
)

PREVIOUS = bytes(range(16))
GAPS = [(T, T + 5, None)]  # of `record`


def record(path: Path, steps: list[Step], *, close: bool = True) -> str:
    """Write `steps` as a recorder would: small and large blocks, a MARK after each dump, a GAP, a
    heartbeat.  Returns the path.
    """
    writer = SegmentWriter.create(
        str(path), Header(host="router", previous="before", chain="c0"), PREVIOUS, time_ns=T
    )
    writer.mark(Mark.at(T, "start", {"version": "x"}))
    for step in steps:
        if isinstance(step, tuple):
            writer.mark(Mark(*step, "dump", {"rows": 1, "complete": True}))
            continue
        for family in sorted({each["family"] for each in step}):
            rows = [each for each in step if each["family"] == family]
            for first in range(0, len(rows), 700):
                writer.append(table(rows[first : first + 700]))
    writer.gap(Gap(T, T + 5, "overrun", 12, "the buffer was full"))
    writer.mark(Mark.at(T + 9, "heartbeat"))
    if close:
        writer.close()
    else:
        writer.sync()
        writer.abandon()
    return str(path)


def connections(path: str) -> Counter[tuple[Any, ...]]:
    """All connections of a squeezed segment; without ids, which are dropped."""
    with Segment(path) as segment:
        assert not segment.findings
        return without_ids(
            rows_of([segment.read(block) for block in segment.blocks_of(Kind.CONNECTIONS)])
        )


def without_ids(bag: Counter[tuple[Any, ...]]) -> Counter[tuple[Any, ...]]:
    result: Counter[tuple[Any, ...]] = Counter()
    for each, count in bag.items():
        result[(each[0], *each[2:-1], each[-1] & ~bit("id"))] += count
    return result


def repeats_of(steps: list[Step], bag: Counter[tuple[Any, ...]]) -> int:
    """How many NEW and DESTROY in `steps` are in none of the connections `bag`."""
    rows = [each for step in steps if isinstance(step, list) for each in step]
    seen = RESULT.index("seen") + 1  # behind the family
    known: int = sum(
        ((each[seen] & 1) + (each[seen] >> 2 & 1)) * count for each, count in bag.items()
    )
    return sum(each["event"] in (NEW, DESTROY) for each in rows) - known


def rounded(bag: Counter[tuple[Any, ...]], unit: int) -> Counter[tuple[Any, ...]]:
    """Connections without ids: `start` rounded down, `end` cut to microseconds and rounded up."""
    start, end = RESULT.index("start"), RESULT.index("end")
    result: Counter[tuple[Any, ...]] = Counter()
    for each, count in bag.items():
        changed = list(each)
        changed[start], changed[end] = (
            each[start] // unit * unit,
            -(-(each[end] // 1000 * 1000) // unit) * unit,
        )
        result[tuple(changed)] += count
    return result


def mixed(seed: int = 1, events: int = 3000, lost: float = 0.02) -> list[Step]:
    """Traffic of both families, with dumps."""
    steps = traffic(seed, events, lost)
    for step in steps:
        if isinstance(step, list):
            for number, each in enumerate(step):
                if each["orig_sport"] % 3 == 0:
                    each |= {
                        "family": V6,
                        "orig_src": b"\x20\x01" + bytes(13) + bytes([each["orig_sport"] % 7]),
                    }
                each["time"] += number % 1000
    return steps


@pytest.mark.slow
@pytest.mark.parametrize(("resolution", "unit"), ordering.RESOLUTIONS.items())
def test_what_goes_in_is_all_there_row_by_row(tmp_path: Path, resolution: str, unit: int) -> None:
    steps = mixed()
    path = record(tmp_path / "a", steps)
    with Segment(path) as old:
        gaps, marks, last_hash, size = old.gaps, old.marks, old.last_hash, old.size
    result = squeeze(path, SqueezeOptions(resolution))
    assert result is not None
    assert connections(path) == rounded(without_ids(slow(steps, GAPS)), unit)
    with Segment(path) as new:
        assert (new.gaps, new.marks[:-1]) == (gaps, marks)
        repeated = repeats_of(steps, slow(steps, GAPS))
        assert (new.marks[-1].what, new.marks[-1].facts) == ("repeats", {"events": repeated})
        assert result.repeats == repeated > 0
        assert new.state == "closed"
        assert new.previous_hash == PREVIOUS
        assert (new.header.host, new.header.previous, new.header.chain) == (
            "router",
            "before",
            "c0",
        )
        (replaced,) = new.header.replaces
        assert (replaced.name, replaced.last_hash, replaced.bytes) == ("a", last_hash.hex(), size)
        assert chain.link(new).hashes == (new.last_hash.hex(), last_hash.hex())
        assert result.replaced_hash == last_hash.hex()
    assert names(tmp_path) == ["a"]


def test_all_columns_stay(tmp_path: Path) -> None:
    """Random values in every column of both events: the DESTROY's are told."""
    random = np.random.default_rng(3)
    rows = 2000
    key = {
        "l4proto": random.integers(0, 255, rows).astype("u1"),
        **{
            name: random.integers(0, 1 << 32, rows).astype("<u4")
            for name in ("orig_src", "orig_dst", "reply_src", "reply_dst", "id")
        },
        **{
            name: random.integers(0, 1 << 16, rows).astype("<u2")
            for name in ("orig_sport", "orig_dport", "reply_sport", "reply_dport")
        },
        **{
            name: random.integers(0, 1 << 16, rows).astype("<u2")
            for name in ("zone", "orig_zone", "reply_zone")
        },
    }
    told = {
        "status": random.integers(0, 1 << 32, rows).astype("<u4"),
        "mark": random.integers(0, 1 << 32, rows).astype("<u4"),
        "tcp_state": random.integers(0, 10, rows).astype("u1"),
        **{
            name: random.integers(0, 1 << 63, rows).astype("<u8")
            for name in ("orig_packets", "orig_bytes", "reply_packets", "reply_bytes")
        },
    }
    known = np.full(rows, sum(bit(name) for name in (*key, *told, "start", "stop")), "<u4")
    start = T + random.integers(0, 3600, rows) * SECOND // 1000 * 1000
    ends = {
        "start": start,
        "stop": start + 10**12,
        "time": start + 2 * 10**12,
        "event": np.full(rows, DESTROY, "u1"),
        "present": known,
    }
    writer = SegmentWriter.create(str(tmp_path / "a"), Header(), time_ns=T)
    new = {
        **key,
        "time": start + 5,
        "event": np.full(rows, NEW, "u1"),
        "present": np.full(rows, bit("id"), "<u4"),
    }
    writer.append(Table(2, rows, new))
    writer.append(Table(2, rows, {**key, **told, **ends}))
    writer.close()
    squeeze(str(tmp_path / "a"), SqueezeOptions(keep_ids=True))
    with Segment(str(tmp_path / "a")) as segment:
        (block,) = segment.blocks_of(Kind.CONNECTIONS)
        found = segment.read(block)
    order = np.argsort(found["id"], kind="stable")
    before = np.argsort(key["id"], kind="stable")
    for name, values in {**key, **told, "start": start, "end": start + 10**12}.items():
        assert np.array_equal(found[name][order], values[before]), name


def test_ids_go_where_both_ends_were_seen_and_stay_in_parts(tmp_path: Path) -> None:
    rows = [
        row(NEW, T, id=5),
        row(DESTROY, T + 9, id=5),
        row(NEW, T, id=6),
        row(DESTROY, T, id=7),
        row(EXISTING, T, id=8),
    ]
    path = record(tmp_path / "a", [rows])
    squeeze(path, SqueezeOptions())
    with Segment(path) as segment:
        found = [segment.read(block) for block in segment.blocks_of(Kind.CONNECTIONS)]
    ids = {
        (int(seen), int(number), bool(known & bit("id")))
        for each in found
        for seen, number, known in zip(each["seen"], each["id"], each["present"], strict=True)
    }
    assert ids == {(5, 0, False), (1, 6, True), (4, 7, True), (8, 8, True)}
    kept = record(tmp_path / "b", [rows])
    squeeze(kept, SqueezeOptions(keep_ids=True))
    with Segment(kept) as segment:
        assert sorted(
            number
            for block in segment.blocks_of(Kind.CONNECTIONS)
            for number in segment.read(block)["id"].tolist()
        ) == [
            5,
            6,
            7,
            8,
        ]


def test_flows_open_across_three_segments_join_again(tmp_path: Path) -> None:
    """Each segment squeezed by itself, then paired as parts, is as if all events were paired
    together.
    """
    steps = mixed(4, 6000, 0.0)
    cuts = [0, len(steps) // 3, 2 * len(steps) // 3, len(steps)]
    pairer, done = Pairer(), []
    for number in range(3):
        path = record(tmp_path / str(number), steps[cuts[number] : cuts[number + 1]])
        squeeze(path, SqueezeOptions("us"))
        with Segment(path) as segment:
            for block in segment.blocks_of(Kind.CONNECTIONS):
                done += pairer.feed(segment.read(block))
            for mark in segment.marks:
                if mark.what == "dump":
                    done += pairer.snapshot(mark.begin, mark.end)
    done += pairer.finish()
    assert without_ids(rows_of(done)) == rounded(without_ids(slow(steps)), 1000)


@pytest.mark.parametrize("squeezed", ["neither", "first", "second", "both"])
@pytest.mark.parametrize("in_dump", [False, True])
def test_a_new_that_came_again_in_the_next_segment_is_one_event(
    tmp_path: Path, squeezed: str, in_dump: bool
) -> None:
    """`in_dump`: the dump of the next segment contains the flow, which else ended meanwhile."""
    start, begin = T + 9000, T + 3600 * SECOND
    dump, end = (begin, begin + SECOND), begin + 600 * SECOND
    parts = [
        [row(NEW, start, status=0x100)],
        [row(EXISTING, begin, status=0x102)] if in_dump else [],
        [row(NEW, dump[1] + SECOND // 3, status=0x102), row(DESTROY, end, status=0x306)],
    ]
    writer = SegmentWriter.create(str(tmp_path / "a"), Header(chain="c0"), time_ns=T)
    writer.append(table(parts[0]))
    writer.close()
    header = Header(chain="c0", previous="a", sequence=2)
    writer = SegmentWriter.create(str(tmp_path / "b"), header, writer.last_hash, time_ns=begin)
    if in_dump:
        writer.append(table(parts[1]))
    writer.mark(Mark(*dump, "dump", {"rows": 1, "complete": True}))
    writer.append(table(parts[2]))
    writer.close()
    for name, which in (("a", "first"), ("b", "second")):
        if squeezed in (which, "both"):
            squeeze(str(tmp_path / name), SqueezeOptions("us"))
    archive = open_archive([str(tmp_path / name) for name in ("a", "b")], Query())
    tables = [one for batch in list_connections(archive, ["id"]) for one in batch.tables]
    archive.close()
    assert [(each["start"][0], each["end"][0], len(each)) for each in tables] == [(start, end, 1)]


def test_long_lived_connections_have_blocks_of_their_own(tmp_path: Path) -> None:
    rows = [row(NEW, T, id=number) for number in range(5000)] + [
        row(NEW, T + SECOND, id=9000 + number) for number in range(5000)
    ]
    rows += [row(DESTROY, T + 2 * SECOND, id=9000 + number) for number in range(5000)]
    rows += [row(DESTROY, T + 5 * 3600 * SECOND, id=number) for number in range(5000)]
    path = record(tmp_path / "a", [rows])
    squeeze(path, SqueezeOptions())
    with Segment(path) as segment:
        spans = sorted(
            (block.rows, block.time_max - block.time_min)
            for block in segment.blocks_of(Kind.CONNECTIONS)
        )
    assert spans == [(5000, SECOND), (5000, 5 * 3600 * SECOND)]


def test_squeezing_twice_changes_nothing(tmp_path: Path) -> None:
    path = record(tmp_path / "a", mixed())
    squeeze(path, SqueezeOptions())
    before = Path(path).read_bytes()
    assert squeeze(path, SqueezeOptions("s")) is None
    assert Path(path).read_bytes() == before


def test_a_live_segment_is_let_be(tmp_path: Path) -> None:
    writer = SegmentWriter.create(str(tmp_path / "a"), Header(), time_ns=T, live=True)
    writer.append(table([row(NEW, T)]))
    with pytest.raises(BusyError, match="is being recorded"):
        squeeze(str(tmp_path / "a"), SqueezeOptions())
    writer.close()
    assert squeeze(str(tmp_path / "a"), SqueezeOptions()) is not None


def test_a_crashed_segment_is_squeezed_up_to_its_last_good_block(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    steps: list[Step] = [[row(NEW, T), row(DESTROY, T + 9)]]
    path = record(tmp_path / "a", steps, close=False)
    with Path(path).open("ab") as file:
        file.write(b"\xc7CTB torn off by a power cut")
    assert main([str(tmp_path)]) == 0
    assert connections(path) == rounded(without_ids(slow(steps)), 1000)
    said = capfd.readouterr().err
    assert "crashed" in said
    assert "without the 28 bytes after it" in said
    with Segment(path) as segment:
        assert segment.header.replaces[0].state == "crashed"


@pytest.mark.slow
def test_a_damaged_segment_stays_as_it_is(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = record(tmp_path / "a", mixed())
    data = bytearray(Path(path).read_bytes())
    data[len(data) // 2] ^= 1
    Path(path).write_bytes(data)
    with pytest.raises(FormatError, match="not squeezed"):
        squeeze(path, SqueezeOptions())
    good = record(tmp_path / "b", mixed(2))
    for jobs in ("1", "2"):
        assert main(["-j", jobs, str(tmp_path)]) == 1
        assert "cttest --repair" in capfd.readouterr().err
    assert Path(path).read_bytes() == data
    assert squeeze(good, SqueezeOptions()) is None
    assert names(tmp_path) == ["a", "b"]


@pytest.mark.parametrize("lose", ["a block", "a row", "a mark"])
def test_a_new_segment_that_lacks_something_is_thrown_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lose: str
) -> None:
    path = record(tmp_path / "a", mixed())
    before = Path(path).read_bytes()
    append, write = SegmentWriter.append, SegmentWriter.write

    def without_marks(self: SegmentWriter, draft: PendingBlock) -> None:
        if draft.kind != Kind.MARK:
            write(self, draft)

    def lossy(self: SegmentWriter, part: Table, **options: Any) -> None:
        if lose == "a row":
            part = part.take(np.append(np.zeros(1, np.int64), np.arange(len(part) - 1)))
        if lose != "a block" or part.family == V6:
            append(self, part, **options)

    if lose == "a mark":
        monkeypatch.setattr(SegmentWriter, "write", without_marks)
    else:
        monkeypatch.setattr(SegmentWriter, "append", lossy)
    with pytest.raises(ArchiveError, match="does not contain the same"):
        squeeze(path, SqueezeOptions())
    assert Path(path).read_bytes() == before
    assert names(tmp_path) == ["a"]


CALLS = (
    "pwrite",
    "fsync",
    "fdatasync",
    "rename",
    "link",
    "unlink",
    "mkdir",
    "fchmod",
    "fchown",
    "ftruncate",
)


class Interruption:
    """Ends the work at the `step`th of all CALLS: by `stop`, just before it or (`after`) just after
    it.
    """

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, step: int, after: bool, stop: Callable[[], None]
    ) -> None:
        self.step, self.after, self.stop, self.count = step, after, stop, 0
        for name in CALLS:
            monkeypatch.setattr(os, name, self.wrap(getattr(os, name)))

    def wrap(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*arguments: Any, **options: Any) -> Any:
            self.count += 1
            if self.count != self.step:
                return call(*arguments, **options)
            try:
                if self.after:
                    call(*arguments, **options)
            finally:
                self.stop()
            raise AssertionError("not stopped")

        return wrapped


def interrupt() -> None:
    raise KeyboardInterrupt


def no_space() -> None:
    raise OSError(28, "No space left on device")


def steps_of(work: Callable[[], object]) -> int:
    with pytest.MonkeyPatch.context() as patch:
        counter = Interruption(patch, 0, False, interrupt)
        work()
    return counter.count


def state_of(path: str, raw: bytes, wanted: Counter[tuple[Any, ...]]) -> str:
    """ "old" or "new", whichever is at `path`, whole; and nothing else counts as a segment."""
    assert find.find([os.path.dirname(path)]).segments == [path]
    if Path(path).read_bytes() == raw:
        return "old"
    assert connections(path) == wanted
    return "new"


@pytest.fixture(scope="module")
def small() -> tuple[list[Step], Counter[tuple[Any, ...]]]:
    steps = mixed(7, 300)
    return steps, rounded(without_ids(slow(steps)), 1000)


@pytest.mark.slow
@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("stop", [interrupt, no_space])
def test_interrupted_at_every_step(
    tmp_path: Path,
    small: tuple[list[Step], Counter[tuple[Any, ...]]],
    keep: bool,
    stop: Callable[[], None],
) -> None:
    steps, wanted = small
    settings = SqueezeOptions(keep=keep)
    raw = Path(record(tmp_path / "a", steps)).read_bytes()
    count = steps_of(lambda: squeeze(str(tmp_path / "a"), settings))
    assert count > 12
    seen = set()
    for step in range(1, count + 1):
        for after in (False, True):
            folder = tmp_path / f"{step}-{after}"
            folder.mkdir()
            path = str(folder / "a")
            Path(path).write_bytes(raw)
            with pytest.MonkeyPatch.context() as patch:
                Interruption(patch, step, after, stop)
                try:
                    squeeze(path, settings)
                except (KeyboardInterrupt, ArchiveError, OSError):
                    pass
            seen.add(state_of(path, raw, wanted))
            assert main([*(["--keep"] if keep else []), str(folder)]) == 0
            assert state_of(path, raw, wanted) == "new"
            assert names(folder) == (["a", "replaced"] if keep else ["a"])
            if keep:
                assert Path(folder / "replaced" / "a").read_bytes() == raw
    assert seen == {"old", "new"}


@pytest.mark.slow
def test_killed_at_every_step(
    tmp_path: Path, small: tuple[list[Step], Counter[tuple[Any, ...]]]
) -> None:
    """As by SIGKILL: what is left over is hidden, and the next run removes it."""
    steps, wanted = small
    raw = Path(record(tmp_path / "a", steps)).read_bytes()
    count = steps_of(lambda: squeeze(str(tmp_path / "a"), SqueezeOptions()))
    left = 0
    for step in range(1, count + 1):
        folder = tmp_path / str(step)
        folder.mkdir()
        path = str(folder / "a")
        Path(path).write_bytes(raw)
        with pytest.MonkeyPatch.context() as patch:
            Interruption(patch, step, bool(step % 2), lambda: os.kill(os.getpid(), signal.SIGKILL))
            child = os.fork()
            if child == 0:
                squeeze(path, SqueezeOptions())
                os._exit(0)
            assert os.waitpid(child, 0)[1] == signal.SIGKILL
        left += len(names(folder)) - 1
        state_of(path, raw, wanted)
        assert main([str(folder)]) == 0
        assert state_of(path, raw, wanted) == "new"
        assert names(folder) == ["a"]
    assert left > 3


def test_leavings_of_a_segment_that_is_gone_are_removed(tmp_path: Path) -> None:
    path = record(tmp_path / "a", mixed())
    (tmp_path / ".squeezing-1").write_bytes(b"left")
    (tmp_path / f".squeezing-{os.stat(path).st_ino}").write_bytes(b"may be at work")
    (tmp_path / ".other").write_bytes(b"not ours")
    lock.clear_leavings(str(tmp_path))
    assert names(tmp_path) == [".other", f".squeezing-{os.stat(path).st_ino}", "a"]


def test_four_at_once(tmp_path: Path) -> None:
    """Each segment is squeezed once, whoever comes first, and all is there."""
    for number in range(4):
        record(tmp_path / str(number), mixed(number, 600))
    children = []
    for _ in range(4):
        child = os.fork()
        if child == 0:
            os._exit(main([str(tmp_path)]))
        children.append(child)
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * 4
    assert main([str(tmp_path)]) == 0
    assert names(tmp_path) == ["0", "1", "2", "3"]
    for number in range(4):
        path = str(tmp_path / str(number))
        assert connections(path) == rounded(without_ids(slow(mixed(number, 600), GAPS)), 1000)
        with Segment(path) as segment:
            assert len(segment.header.replaces) == 1


def test_a_segment_that_another_command_holds_stays(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Live, or with another ctsqueeze, it is passed over; anything else is said."""
    path = record(tmp_path / "a", mixed())
    before = Path(path).read_bytes()
    for holder, code in ((Holder.SQUEEZE, 0), (Holder.RECORDER, 0), (Holder.EXPIRE, 2)):
        with locked(path, holder):
            with pytest.raises(BusyError):
                squeeze(path, SqueezeOptions())
            assert main([str(tmp_path)]) == code
        assert ("is busy: ctexpire works on it" in capfd.readouterr().err) == (code == 2)
    with locked(path, Holder.LOG):
        assert main([str(tmp_path)]) == 2
    assert "a program has locked" in capfd.readouterr().err
    assert Path(path).read_bytes() == before


def test_segments_that_go_meanwhile_are_no_failure(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """ctexpire may delete what was found: after the look into the folder, or once it is open,
    before it is locked.
    """
    paths = [record(tmp_path / name, mixed()) for name in "abc"]

    class Expirer(Log):
        def send(self, kind: messages.Message, text: str, **fields: object) -> None:
            super().send(kind, text, **fields)
            os.unlink(paths[2])

    is_done = squeezing.is_done

    def expired(segment: Segment, options: SqueezeOptions) -> bool:
        if segment.path == paths[0]:
            os.unlink(paths[0])
        return is_done(segment, options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(squeezing, "is_done", expired)
        assert (
            squeeze_all.ArchiveSqueeze(SqueezeOptions(), 1, Expirer("ctsqueeze")).folder(
                str(tmp_path)
            )
            == 0
        )
    assert names(tmp_path) == ["b"]
    assert [line.split(":")[1] for line in capfd.readouterr().err.splitlines()] == [
        f" squeezed {paths[1]}"
    ]


def test_planted_links_are_not_followed(tmp_path: Path) -> None:
    folder = tmp_path / "log"
    folder.mkdir()
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    path = record(folder / "a", mixed())
    os.symlink(victim, folder / f".squeezing-{os.stat(path).st_ino}")
    squeeze(path, SqueezeOptions())
    assert victim.read_bytes() == b"precious"
    other = record(tmp_path / "elsewhere", mixed())
    os.symlink(other, folder / "b")
    with pytest.raises(ArchiveError, match="symbolic link"):
        squeeze(str(folder / "b"), SqueezeOptions())


def test_output_is_never_overwritten_and_the_old_segment_stays(tmp_path: Path) -> None:
    path = record(tmp_path / "a", mixed())
    before = Path(path).read_bytes()
    new = tmp_path / "new"
    assert main(["-f", path, "-o", str(new)]) == 0
    assert connections(str(new)) == rounded(without_ids(slow(mixed(), GAPS)), 1000)
    assert main(["-f", path, "-o", str(new)]) == 2
    assert Path(path).read_bytes() == before
    assert names(tmp_path) == ["a", "new"]


def test_the_new_segment_has_the_owner_and_the_mode_of_the_old(tmp_path: Path) -> None:
    path = record(tmp_path / "a", mixed())
    os.chown(path, 1234, 2345)
    os.chmod(path, 0o644)
    squeeze(path, SqueezeOptions())
    status = os.stat(path)
    assert (status.st_uid, status.st_gid, status.st_mode & 0o777) == (1234, 2345, 0o644)


@pytest.mark.parametrize(
    "arguments",
    [
        ["-o", "x"],
        ["-f", "a", "b"],
        ["--resolution", "ns"],
        ["--level", "20"],
        ["-j", "0"],
        ["/nonexistent"],
    ],
)
def test_bad_arguments_end_in_one_line(
    arguments: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    assert capfd.readouterr().err.count("\n") == 1


@pytest.fixture(autouse=True)
def _no_signal_handlers_stay() -> Iterator[None]:
    before = signal.getsignal(signal.SIGTERM)
    yield
    assert signal.getsignal(signal.SIGTERM) == before
    assert successor.KEPT_FOLDER == "replaced"


@pytest.mark.parametrize("stamped", [False, True])
def test_squeezing_changes_no_line(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], stamped: bool
) -> None:
    """Times have nanoseconds, lists cut them to microseconds: at 1 us a squeezed segment lists as
    it did before, byte by byte.
    """
    random = np.random.default_rng(4)
    rows = []
    for number in range(600):
        start = T + int(random.integers(0, 3600 * SECOND))
        end = start + int(random.integers(1, 90 * SECOND))
        flow = {"id": number + 1, "orig_sport": number, "reply_dport": number, "l4proto": 17}
        kernel = bit("start") | bit("stop") if stamped else 0
        known = {"present": bit("id") | bit("l4proto") | bit("orig_sport")}
        rows.append(row(NEW, start, **flow, **known))
        told = {"start": start, "stop": end} if stamped else {}
        rows.append(row(DESTROY, end, **flow, **told, known=known["present"] | kernel))
    path = record(tmp_path / "a", [sorted(rows, key=lambda each: each["time"])])

    def listed(*options: str) -> list[str]:
        assert ctlist([*options, path]) == 0
        return sorted(line for line in capfd.readouterr().out.splitlines())

    before = listed(), listed("-s")
    squeeze(path, SqueezeOptions())
    assert (listed(), listed("-s")) == before


def test_few_connections_take_the_smaller_form(tmp_path: Path) -> None:
    """A router at home has segments of some connections: 56 bytes for each column's entry would be
    most of it.
    """
    sizes, forms = {}, {}
    for count in (5, 250):
        rows = [
            row(event, T + n * SECOND + event * 7 * SECOND, id=n + 1, orig_sport=n)
            for n in range(count)
            for event in (NEW, DESTROY)
        ]
        result = squeeze(
            record(tmp_path / str(count), [sorted(rows, key=lambda each: each["time"])]),
            SqueezeOptions(),
        )
        assert result is not None
        with Segment(result.path) as segment:
            forms[count] = {block.form for block in segment.blocks_of(Kind.CONNECTIONS)}
            sizes[count] = sum(
                segment.frame(block).length for block in segment.blocks_of(Kind.CONNECTIONS)
            )
    assert forms[5] == {FORM_SMALL}
    assert sizes[5] < 150
    assert sizes[250] < 250 * 8


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_worker_is_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    number: signal.Signals,
) -> None:
    for name in ("a", "b", "c"):
        record(tmp_path / name, mixed())
    before = {path.name: path.read_bytes() for path in paths(tmp_path)}

    def killed(*arguments: Any, **options: Any) -> None:
        os.kill(os.getpid(), number)

    monkeypatch.setattr(squeeze_all, "squeeze", killed)  # the workers are forked
    assert main(["-j", "2", str(tmp_path)]) == 2
    out, err = capfd.readouterr()
    assert (out, err.count("\n")) == ("", 1), err
    assert err.startswith("ctsqueeze: a worker process was killed")
    assert {path.name: path.read_bytes() for path in paths(tmp_path)} == before


HOUR = 3600 * SECOND
CLOCK = {"synchronised": True, "error_us": 4000, "offset_us": -3}


def covered(path: Path, *, ends_with: str, close: bool = True) -> int:
    """An hour that a recorder with watermarks wrote; returns its last watermark."""
    header = Header(requires=("coverage",), chain="c0", sequence=4, previous="before")
    writer = SegmentWriter.create(str(path), header, PREVIOUS, time_ns=T)
    writer.mark(Mark.at(T, "start", {"version": "x", "clock": CLOCK}))
    watermark = T
    for minute in range(60):
        now = T + minute * 60 * SECOND
        rows = [row(NEW, now), row(DESTROY, now + SECOND)]
        for block in table_blocks(table(rows)):
            watermark = now + 2 * SECOND
            writer.write(block.with_watermark(watermark))
        if minute < 59 or ends_with == "heartbeat":
            watermark = now + 40 * SECOND
            facts = {"clock": {**CLOCK, "error_us": minute}, "proved": True}
            block = mark_block(Mark.at(watermark, "heartbeat", facts))
            writer.write(block.with_watermark(watermark))
        writer.mark(Mark(now, now + 9, "statistics", {"drop": 2, "insert_failed": minute % 2}))
        writer.mark(Mark.at(now, "repeats", {"events": minute}))
        if minute % 20 == 5:
            writer.mark(Mark(now, now + 5, "state", {"tracking": {"ipv4": "on", "ipv6": "off"}}))
            writer.gap(Gap(now, now + 9, "not-tracked", None, "", {"number": minute, "open": True}))
    if close:
        writer.close({})
    else:
        writer.sync()
        writer.abandon()
        with path.open("ab") as file:
            file.write(b"\xc7CTB torn")
    return watermark


@pytest.mark.parametrize(
    ("ends_with", "close"), [("heartbeat", True), ("events", True), ("events", False)]
)
def test_coverage_is_kept_and_small(tmp_path: Path, ends_with: str, close: bool) -> None:
    path = tmp_path / "a"
    watermark = covered(path, ends_with=ends_with, close=close)
    with Segment(str(path)) as old:
        assert old.watermark == watermark
        gaps = old.gaps
        others = [one for one in old.marks if one.what in ("start", "state")]
    assert squeeze(str(path), SqueezeOptions()) is not None
    with Segment(str(path)) as new:
        assert new.header.requires == ("coverage",)
        assert (new.watermark, new.gaps, new.findings) == (watermark, gaps, [])
        assert new.marks[: len(others)] == others
        *summed, last = new.marks[len(others) :]
        assert summed == [
            Mark(T, T + 59 * 60 * SECOND + 9, "statistics", {"drop": 120, "insert_failed": 30}),
            Mark(T, T + 59 * 60 * SECOND, "repeats", {"events": 59 * 30}),
        ]
        assert (last.what, last.end) == ("heartbeat", watermark)
        # What a heartbeat proved it proved for its own time.
        assert last.facts["clock"]["error_us"] == (59 if ends_with == "heartbeat" else 58)
        assert ("proved" in last.facts) == (ends_with == "heartbeat")
        blocks = [block for block in new.blocks if block.kind in (Kind.GAP, Kind.MARK)]
        assert [block.watermark for block in blocks] == [False] * (len(blocks) - 1) + [True]
        assert blocks[-1].offset > new.blocks_of(Kind.CONNECTIONS)[-1].offset
        of_coverage = blocks[-3:]
        assert sum(FRAME.size + INDEX.itemsize + new.frame(b).length for b in of_coverage) < 1000


def test_a_segment_without_watermarks_keeps_every_mark(tmp_path: Path) -> None:
    """Of version 1.0; and one that required coverage, and whose recorder never wrote one."""
    for requires in (None, ("coverage",)):
        path = tmp_path / f"{requires}"
        writer = SegmentWriter.create(str(path), Header(requires=requires), time_ns=T)
        writer.append(table([row(NEW, T), row(DESTROY, T + SECOND)]))
        marks = [Mark.at(T + n, "heartbeat") for n in range(3)]
        for mark in marks:
            writer.mark(mark)
        writer.close()
        squeeze(str(path), SqueezeOptions())
        with Segment(str(path)) as new:
            assert (new.marks, new.watermark, new.header.requires) == (marks, None, requires)


@pytest.mark.parametrize(
    ("requires", "rows", "wanted"),
    [
        (None, 3000, None),
        (("coverage",), 1000, ("coverage",)),
        (("coverage",), 3000, ("coverage", "grouped")),
        ((), 3000, ("grouped",)),
    ],
)
def test_starts_in_groups_are_a_feature(
    tmp_path: Path, requires: tuple[str, ...] | None, rows: int, wanted: tuple[str, ...] | None
) -> None:
    """Named where a reader must know features anyway, and where a block is large enough."""
    path = tmp_path / "a"
    writer = SegmentWriter.create(str(path), Header(requires=requires), time_ns=T)
    flows = [
        row(
            event,
            T + number * 7_000_000 + late,
            id=number,
            orig_sport=number,
            orig_dport=number % 3,
        )
        for number in range(rows // 2)
        for event, late in ((NEW, 0), (DESTROY, 5 * SECOND))
    ]
    writer.append(table(sorted(flows, key=lambda one: int(one["time"]))))
    writer.close()
    squeeze(str(path), SqueezeOptions())
    with Segment(str(path)) as new:
        assert new.header.requires == wanted
        for block in new.blocks_of(Kind.CONNECTIONS):
            entry = new.read_index(block).columns["start"]
            assert bool(entry.encoding & GROUPED) == bool(wanted and "grouped" in wanted)


BEGAN = T + 20 * SECOND
UNHEARD = row(DESTROY, T + 30 * SECOND, id=8, start=BEGAN, stop=T + 30 * SECOND, status=0x206)


def recorded_with_dump(path: Path, rows: list[Row], requires: tuple[str, ...] | None) -> str:
    """A segment with a complete dump from T to T + 1 s, `rows`, and a watermark at T + 60 s."""
    writer = SegmentWriter.create(str(path), Header(requires=requires), time_ns=T)
    writer.mark(Mark(T, T + SECOND, "dump", {"rows": 0, "complete": True}))
    for block in table_blocks(table(rows)):
        writer.write(block)
    last = mark_block(Mark.at(T + 60 * SECOND, "heartbeat"))
    writer.write(last.with_watermark(T + 60 * SECOND) if requires else last)
    writer.close()
    return str(path)


def test_a_destroy_without_new_is_a_gap(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What pairing proves is kept, and is not proved again."""
    path = recorded_with_dump(tmp_path / "a", [UNHEARD], ("coverage",))
    assert main(["-f", path]) == 0
    text = " ".join(capsys.readouterr().err.split())
    assert "not reported, as dumps of the table show: at least 1 connection, a GAP" in text
    assert "came again" not in text
    with Segment(path) as new:
        assert new.gaps == [
            Gap(
                T,
                T + 60 * SECOND,
                "unheard",
                1,
                "1 of IPv4 (udp)",
                {
                    "at_least": True,
                    "unheard": [{"family": 2, "protocols": [17], "flows": 1}],
                },
            )
        ]
        assert (new.marks[-1].what, new.watermark) == ("heartbeat", T + 60 * SECOND)
    assert proofs_of(tmp_path) == ([], 1)


def test_no_gap_without_proof_or_watermark(tmp_path: Path) -> None:
    heard = [row(NEW, BEGAN, id=8), UNHEARD]
    for name, rows, requires in (("heard", heard, ("coverage",)), ("old", [UNHEARD], None)):
        path = recorded_with_dump(tmp_path / name, rows, requires)
        result = squeeze(path, SqueezeOptions())
        assert result is not None
        assert (result.unheard, result.repeats) == (0, 0)
        with Segment(path) as new:
            assert new.gaps == []
            assert "repeats" not in {mark.what for mark in new.marks}


def test_events_that_came_again_are_counted_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flow = [row(NEW, BEGAN, id=8), row(NEW, BEGAN + 5, id=8), UNHEARD, UNHEARD]
    path = recorded_with_dump(tmp_path / "a", flow, ("coverage",))
    assert main(["-f", path]) == 0
    assert "2 events came again and are counted once" in " ".join(capsys.readouterr().err.split())
    with Segment(path) as new:
        (mark,) = (mark for mark in new.marks if mark.what == "repeats")
        assert mark == Mark(BEGAN + 5, T + 30 * SECOND, "repeats", {"events": 2})
        assert new.gaps == []


@pytest.mark.parametrize("lost", ["watermark", "gap", "sum"])
def test_coverage_that_is_lost_on_the_way_keeps_the_old_segment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lost: str
) -> None:
    path = tmp_path / "a"
    covered(path, ends_with="events")
    before = path.read_bytes()
    if lost == "watermark":
        monkeypatch.setattr(PendingBlock, "with_watermark", lambda self, watermark: self)
    elif lost == "gap":
        monkeypatch.setattr(SegmentWriter, "gap", lambda self, gap: None)
    else:
        monkeypatch.setattr(
            squeezing, "mark_block", lambda mark: mark_block(Mark.at(mark.end, mark.what))
        )
    with pytest.raises(ArchiveError, match="does not contain the same"):
        squeeze(str(path), SqueezeOptions())
    assert path.read_bytes() == before
    assert names(tmp_path) == ["a"]
