"""Expiry: what must go goes, oldest first, and nothing else; interrupted anywhere, each segment
that is gone has one receipt.
"""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ctrecorder.archive import chain
from ctrecorder.archive import find as archive
from ctrecorder.cli.ctexpire import main
from ctrecorder.ctlog.frame import Mark
from ctrecorder.ctlog.header import Header
from ctrecorder.errors import ArchiveError
from ctrecorder.filelock import Holder
from ctrecorder.folder import Folder
from ctrecorder.kept import acknowledged, retention
from ctrecorder.kept.acknowledged import Shipment
from ctrecorder.kept.retention import Hold
from ctrecorder.maintain import expire
from ctrecorder.maintain.ages import Age
from ctrecorder.maintain.expire import Expiry, ExpiryCandidate, Limits, choose
from ctrecorder.maintain.squeeze import SqueezeOptions, squeeze
from ctrecorder.segment.pending import mark_block
from ctrecorder.segment.reader import Segment
from ctrecorder.segment.writer import SegmentWriter
from ctrecorder.service import messages
from ctrecorder.service.log import Log
from tests.support import folders
from tests.support.slow_pairing import DESTROY, EXISTING, NEW, SECOND, Row, T, row, table
from tests.support.told import Told

DAY = 86_400 * SECOND
NOW = T + 100 * DAY


def record(folder: Path, day: int, previous: bytes = bytes(16)) -> str:
    """A segment of that day."""
    path = folder / f"{day:03}.ctlog"
    writer = SegmentWriter.create(
        str(path), Header(previous="before"), previous, time_ns=T + day * DAY
    )
    writer.append(table([row(NEW, T + day * DAY), row(DESTROY, T + day * DAY + SECOND)]))
    writer.close()
    return str(path)


def days(folder: Path) -> list[int]:
    return sorted(int(name[:3]) for name in os.listdir(folder) if name.endswith(".ctlog"))


def run(folder: Path, **limits: Any) -> int:
    return Expiry(str(folder), Limits(**limits), NOW, Log("ctexpire")).run()


def test_by_age_and_only_then(tmp_path: Path) -> None:
    for day in (5, 9, 10, 11, 99):
        record(tmp_path, day)
    # Day 10 ended one second after the limit.
    assert run(tmp_path, max_age=90 * 86_400) == 0
    assert days(tmp_path) == [10, 11, 99]
    assert run(tmp_path) == 0
    assert days(tmp_path) == [10, 11, 99]


def test_the_receipt_tells_what_was_there(tmp_path: Path) -> None:
    path = record(tmp_path, 3, b"p" * 16)
    result = squeeze(path, SqueezeOptions())
    assert result is not None
    size = os.path.getsize(path)
    run(tmp_path, max_age=1)
    (receipt,) = retention.receipts(Folder(str(tmp_path)))
    assert (receipt.name, receipt.rows, receipt.bytes, receipt.deleted) == (
        "003.ctlog",
        1,
        size,
        NOW,
    )
    assert receipt.hashes == [result.last_hash, result.replaced_hash]
    assert (receipt.previous, receipt.previous_hash) == ("before", (b"p" * 16).hex())
    assert (receipt.since, receipt.until) == (T + 3 * DAY, T + 3 * DAY + SECOND)


def test_by_size_the_oldest_go(tmp_path: Path) -> None:
    for day in range(5):
        record(tmp_path, day)
    size = os.path.getsize(tmp_path / "000.ctlog")
    run(tmp_path, max_size=3 * size)
    assert days(tmp_path) == [2, 3, 4]
    run(tmp_path, max_size=3 * size - 1)
    assert days(tmp_path) == [3, 4]


def candidates(count: int, *, live: int = -1) -> list[ExpiryCandidate]:
    return [
        ExpiryCandidate(
            str(day),
            day == live,
            0,
            Age(T + day * DAY, T + day * DAY + SECOND, T + day * DAY + SECOND, True),
            100,
            512,
        )
        for day in reversed(range(count))
    ]


def names(
    found: list[ExpiryCandidate],
    limits: Limits,
    space: tuple[int, int] = (0, 1),
    holds: list[Hold] | None = None,
) -> list[str]:
    return [one.path for one, _ in choose(found, holds or [], limits, NOW, space)]


def test_by_free_space_as_bytes_or_as_a_share() -> None:
    found = candidates(5)
    assert names(found, Limits(min_free=2000), (1000, 100_000)) == ["0", "1"]
    assert names(found, Limits(min_free=0.02), (1000, 100_000)) == ["0", "1"]
    assert names(found, Limits(min_free=0.02), (2000, 100_000)) == []


def test_never_a_live_one_though_it_counts() -> None:
    assert names(candidates(3, live=0), Limits(max_size=200)) == ["1"]
    assert names(candidates(3, live=2), Limits(max_age=0)) == ["0", "1"]


def test_what_a_hold_keeps_frees_nothing() -> None:
    hold = Hold(1, T + 1 * DAY, T + 2 * DAY + SECOND, "case", T, "root")
    found = list(choose(candidates(5), [hold], Limits(max_size=300), NOW, (0, 1)))
    assert [one.path for one, _ in found] == ["0", "1", "2", "3"]
    assert [one.path for one, _ in found if one.held_by([hold])] == ["1", "2"]


@pytest.mark.parametrize(
    ("since", "until", "kept"), [(0, 0, [0]), (1, 1, [1]), (0, 4, [0, 1, 2, 3]), (5, 9, [])]
)
def test_holds_keep_what_they_touch(
    tmp_path: Path, since: int, until: int, kept: list[int]
) -> None:
    for day in range(4):
        record(tmp_path, day)
    with retention.exclusive(str(tmp_path)) as folder:
        retention.add_hold(
            folder, T + since * DAY + SECOND, T + until * DAY + SECOND, "case", NOW, "root"
        )
    run(tmp_path, max_age=1)
    assert days(tmp_path) == kept


def test_holds_from_the_command_line(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for day in range(3):
        record(tmp_path, day)
    folder = str(tmp_path)
    assert main(["--holds", folder]) == 1
    assert (
        main(
            [
                "--hold",
                "--since",
                f"@{(T + DAY) // SECOND}",
                "--until",
                f"@{(T + DAY) // SECOND}",
                "--reason",
                "case \x1b[31m17",
                folder,
            ]
        )
        == 0
    )
    assert "hold 1 set: " in (said := capfd.readouterr().err)
    assert ", keeps 1 segment: case" in said
    assert main(["--hold", "--since", "2200-01-01", "--reason", "later", folder]) == 0
    assert ", keeps 0 segments: later" in capfd.readouterr().err
    assert main(["--holds", "--utc", folder]) == 0
    listed = capfd.readouterr().out.splitlines()
    assert len(listed) == 2
    assert "2023.11.15 22:13:20" in listed[0]
    assert listed[0].split("\t")[2::2] == ["keeps 1 segment", "case \\x1b[31m17"]
    assert "for ever\tkeeps 0 segments\t" in listed[1]
    assert main(["--held", folder]) == 0
    assert capfd.readouterr().out == f"{tmp_path}/001.ctlog\n"
    assert main(["--max-age", "1s", folder]) == 0
    assert days(tmp_path) == [1]
    assert "a hold keeps it" in capfd.readouterr().err
    assert main(["--release", "7", folder]) == 2
    assert main(["--release", "1", folder]) == 0
    assert [hold.id for hold in retention.holds(Folder(folder))] == [2]
    assert main(["--max-age", "1s", folder]) == 0
    assert days(tmp_path) == []


@pytest.mark.parametrize(
    "period",
    [
        ["--since", "2026-11-24", "--until", "2026-11-23"],
        ["--since", "2026-11-24", "--until", "2026-11-20"],
        ["--since", "18:17", "--until", "18:16:59.999999999"],
        ["--since", "now", "--until", "now"],
    ],
)
def test_a_reversed_or_empty_hold_is_refused(
    tmp_path: Path, period: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["--hold", *period, "--reason", "x", str(tmp_path)]) == 2
    assert "the hold ends before or where it begins" in capfd.readouterr().err
    assert retention.holds(Folder(str(tmp_path))) == []


def test_a_reason_is_listed_as_it_was_given(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    reason = "Fall \u201e17\u201c, \"Müller\" 'x' a\\b"
    assert main(["--hold", "--reason", reason, str(tmp_path)]) == 0
    assert main(["--hold", "--reason", "\x1b[31m\tred\u202e", str(tmp_path)]) == 0
    capfd.readouterr()
    assert main(["--holds", str(tmp_path)]) == 0
    first, second = capfd.readouterr().out.splitlines()
    assert first.split("\t")[4] == reason
    assert first.replace("a\\b", "").count("\\") == 0
    assert second.split("\t")[4] == "\\x1b[31m\\tred\\u202e"


@pytest.mark.parametrize("resolution", ["us", "ms", "s"])
@pytest.mark.parametrize("seed", range(6))
def test_a_hold_keeps_the_same_before_and_after_squeezing(
    tmp_path: Path, seed: int, resolution: str
) -> None:
    """Also by connections that began before the segment: their end or a dump shows it."""
    chance = random.Random(seed)
    begin, end = T + DAY, T + DAY + 3600 * SECOND
    rows = []
    for number in range(30):
        time = begin + chance.randrange(3600 * SECOND)
        facts: Row = {"id": number + 1, "orig_sport": 1000 + number}
        if chance.random() < 0.3:
            facts["start"] = time - chance.randrange(2 * DAY)
        rows.append(row(chance.choice([NEW, DESTROY, EXISTING]), time, **facts))
    rows.sort(key=lambda one: one["time"])
    path = str(tmp_path / "001.ctlog")
    writer = SegmentWriter.create(path, Header(), bytes(16), time_ns=begin)
    writer.append(table(rows))
    writer.write(mark_block(Mark.at(end, "stop", {})))
    writer.close()
    edges = [begin - 2 * DAY + number * 3600 * SECOND for number in range(0, 52, 2)]
    edges += [one["start"] for one in rows if "start" in one] + [begin, end, end + SECOND]
    holds = [
        Hold(1, since, until, "", 0, "") for since in edges for until in edges if since < until
    ]

    def kept() -> list[bool]:
        ((one,), _) = expire.candidates(str(tmp_path), NOW, with_starts=True)
        return [one.held_by([hold]) is not None for hold in holds]

    raw = kept()
    assert squeeze(path, SqueezeOptions(resolution=resolution)) is not None
    assert kept() == raw
    assert 0 < raw.count(True) < len(raw)


def test_a_dry_run_deletes_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    record(tmp_path, 1)
    assert main(["--max-age", "1s", "--dry-run", str(tmp_path)]) == 0
    assert "would delete" in capfd.readouterr().out
    assert folders.names(tmp_path) == ["001.ctlog"]


def test_a_holds_file_that_cannot_be_read_stops_expiry(tmp_path: Path) -> None:
    record(tmp_path, 1)
    for data in (
        b"",
        b"{}",
        b"[]",
        b'{"holds": [{"id": 1}]}',
        b'{"holds": [3]}',
        b'{"holds": [{"id": "1"}]}',
        b"\xff",
        b"[" * 100_000,
    ):
        (tmp_path / retention.HOLDS).write_bytes(data)
        assert main(["--max-age", "1s", str(tmp_path)]) == 2
    assert days(tmp_path) == [1]


def test_live_and_busy_segments_and_other_files_stay(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    record(tmp_path, 1)
    busy = record(tmp_path, 2)
    writer = SegmentWriter.create(str(tmp_path / "003.ctlog"), Header(), time_ns=T, live=True)
    writer.append(table([row(NEW, T)]))
    (tmp_path / "notes.txt").write_text("keep me")
    (tmp_path / "004.ctlog").write_bytes(b"not a segment, whatever its name")
    outside = record(tmp_path.parent, 5)
    os.symlink(outside, tmp_path / "005.ctlog")
    for holder in (Holder.EXPIRE, Holder.SQUEEZE):
        with folders.locked(busy, holder):
            run(tmp_path, max_age=1)
        said = "is busy: ctsqueeze works on it" in capfd.readouterr().err
        assert said == (holder is Holder.SQUEEZE)
    writer.abandon()
    assert days(tmp_path) == [2, 3, 4, 5]
    assert os.path.exists(outside)
    assert (tmp_path / "notes.txt").exists()
    os.unlink(outside)


def test_a_crashed_segment_goes_in_its_time(tmp_path: Path) -> None:
    writer = SegmentWriter.create(str(tmp_path / "001.ctlog"), Header(), time_ns=T)
    writer.append(table([row(NEW, T)]))
    writer.sync()
    last = writer.last_hash.hex()
    writer.abandon()
    with (tmp_path / "001.ctlog").open("ab") as file:
        file.write(b"torn")
    run(tmp_path, max_age=1)
    assert days(tmp_path) == []
    assert retention.receipts(Folder(str(tmp_path)))[0].hashes == [last]


def test_a_segment_that_is_replaced_meanwhile_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = record(tmp_path, 1)
    link = chain.link

    def replace_first(segment: Segment) -> chain.Link:
        squeeze(path, SqueezeOptions())
        return link(segment)

    monkeypatch.setattr(chain, "link", replace_first)
    assert run(tmp_path, max_age=1) == 0
    assert days(tmp_path) == [1]
    assert retention.receipts(Folder(str(tmp_path))) == []


def test_segments_that_go_meanwhile_are_no_failure(tmp_path: Path) -> None:
    """By hand, or renamed: after the look into the folder, and after the first was deleted."""
    first, _, last = [record(tmp_path, day) for day in (1, 2, 3)]

    class Rival(Log):
        def send(self, kind: messages.Message, text: str, **fields: object) -> None:
            assert kind == messages.EXPIRED
            os.unlink(last)

    find = archive.find

    def find_and_lose(paths: list[str], *, routers: bool) -> archive.FolderListing:
        found = find(paths, routers=routers)
        os.unlink(first)
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(archive, "find", find_and_lose)
        assert Expiry(str(tmp_path), Limits(max_age=1), NOW, Rival("ctexpire")).run() == 0
    assert days(tmp_path) == []
    assert [receipt.name for receipt in retention.receipts(Folder(str(tmp_path)))] == ["002.ctlog"]


def test_a_receipt_that_cannot_be_written_keeps_the_segment(tmp_path: Path) -> None:
    record(tmp_path, 1)
    (tmp_path / "elsewhere").write_text("precious")
    os.symlink(tmp_path / "elsewhere", tmp_path / retention.RECEIPTS)
    assert run(tmp_path, max_age=1) == 2
    os.unlink(tmp_path / retention.RECEIPTS)
    os.mkdir(tmp_path / retention.RECEIPTS)
    assert run(tmp_path, max_age=1) == 2
    assert days(tmp_path) == [1]
    assert (tmp_path / "elsewhere").read_text() == "precious"


def test_torn_and_strange_receipts_are_passed_over(tmp_path: Path) -> None:
    record(tmp_path, 1)
    strange = [b"", b"null", b"3", b"{}", b'{"name": 1}', b"\xff\xfe", b"[" * 100_000]
    (tmp_path / retention.RECEIPTS).write_bytes(b"\n".join(strange) + b'\n{"name": "torn')
    run(tmp_path, max_age=1)
    assert [receipt.name for receipt in retention.receipts(Folder(str(tmp_path)))] == ["001.ctlog"]


def test_files_belong_to_the_folder_s_owner(tmp_path: Path) -> None:
    record(tmp_path, 1)
    os.chown(tmp_path, 1234, 2345)
    with retention.exclusive(str(tmp_path)) as folder:
        retention.add_hold(folder, NOW, NOW, "case", NOW, "root")
    run(tmp_path, max_age=1)
    for name in (retention.HOLDS, retention.RECEIPTS):
        status = os.stat(tmp_path / name)
        assert (status.st_uid, status.st_gid, status.st_mode & 0o777) == (1234, 2345, 0o640)


CALLS = ("write", "fsync", "unlink", "rename", "fchown")


class Stop(BaseException):
    pass


def counted(patch: pytest.MonkeyPatch, step: int, after: bool) -> list[int]:
    """Let the `step`th of CALLS raise Stop, before or after it; the count of calls."""
    count = [0]

    def wrap(call: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*arguments: Any, **options: Any) -> Any:
            if arguments and arguments[0] == 2:  # stderr
                return call(*arguments, **options)
            count[0] += 1
            if count[0] != step:
                return call(*arguments, **options)
            if after:
                call(*arguments, **options)
            raise Stop

        return wrapped

    for name in CALLS:
        patch.setattr(os, name, wrap(getattr(os, name)))
    return count


@pytest.mark.slow
def test_interrupted_at_every_step(tmp_path: Path) -> None:
    """What is gone has a receipt; after another run all is gone, each with exactly one."""
    step, steps = 0, 1
    while step < steps:
        step += 1
        for after in (False, True):
            folder = tmp_path / f"{step}-{after}"
            folder.mkdir()
            for day in range(3):
                record(folder, day)
            with pytest.MonkeyPatch.context() as patch:
                count = counted(patch, step, after)
                try:
                    run(folder, max_age=1)
                    steps = 0
                except Stop:
                    steps = step + 1
            assert count[0] >= min(step, count[0])
            gone = {f"{day:03}.ctlog" for day in range(3)} - set(os.listdir(folder))
            assert gone <= {receipt.name for receipt in retention.receipts(Folder(str(folder)))}
            run(folder, max_age=1)
            assert days(folder) == []
            assert sorted(receipt.name for receipt in retention.receipts(Folder(str(folder)))) == [
                "000.ctlog",
                "001.ctlog",
                "002.ctlog",
            ]
    assert step > 12


def test_a_hold_interrupted_at_every_step_is_set_or_not(tmp_path: Path) -> None:
    folder = str(tmp_path)
    retention.add_hold(Folder(folder), 1, 2, "first", 3, "root")
    for step in range(1, 20):
        with pytest.MonkeyPatch.context() as patch:
            counted(patch, step, step % 2 == 0)
            try:
                retention.add_hold(Folder(folder), 1, 2, "second", 3, "root")
                done = True
            except Stop:
                done = False
        assert len(retention.holds(Folder(folder))) in ((2,) if done else (1, 2))
        if len(retention.holds(Folder(folder))) == 2:
            retention.release_hold(Folder(folder), 2)
    assert json.loads((tmp_path / retention.HOLDS).read_text())["holds"][0]["reason"] == "first"


@pytest.mark.parametrize(
    "arguments",
    [
        ["--hold"],
        ["--hold", "--holds"],
        ["--since", "today"],
        ["--max-age", "soon"],
        ["--min-free", "200%"],
        ["/nonexistent"],
    ],
)
def test_bad_arguments_end_in_one_line(
    arguments: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    assert capfd.readouterr().err.count("\n") == 1


def test_what_is_not_shipped_is_kept_from_size_but_not_from_age(tmp_path: Path) -> None:
    """keep_until_shipped: max_age is law."""
    for day in range(1, 4):
        record(tmp_path, day)
    targets = ("ssh://a:/b", "ssh://c:/d")
    with Folder(str(tmp_path)) as folder, Segment(str(tmp_path / "001.ctlog")) as first:
        shipments = [
            Shipment(to, first.last_hash.hex(), "n", "001.ctlog", 1, 1, "checked") for to in targets
        ]
        acknowledged.add(folder, shipments[0])
        run(tmp_path, max_size=1, shipped_to=targets)
        assert days(tmp_path) == [1, 2, 3], "one target lacks it"
        acknowledged.add(folder, shipments[1])
        run(tmp_path, max_size=1, shipped_to=())
        assert days(tmp_path) == [1, 2, 3], "without a target nothing is shipped"
        told = Told("ctexpire")
        limits = Limits(max_size=1, shipped_to=targets)
        Expiry(str(tmp_path), limits, NOW, told).run()
        assert days(tmp_path) == [2, 3]
        assert "2 segments would be deleted, but keep_until_shipped keeps them" in told.lines[0]
        told = Told("ctexpire")
        Expiry(str(tmp_path), Limits(1, shipped_to=targets[:1]), NOW, told).run()
        assert days(tmp_path) == []
    said = [line for line in told.lines if "was never shipped to ssh://a:/b" in line]
    assert len(said) == 2
    assert not [line for line in told.lines if "keep_until_shipped" in line]


def test_what_cannot_be_read_of_shipments_deletes_nothing(tmp_path: Path) -> None:
    record(tmp_path, 1)
    (tmp_path / acknowledged.SHIPPED).mkdir()
    with pytest.raises(ArchiveError, match="cannot be read: is not a file"):
        run(tmp_path, max_size=1, shipped_to=("ssh://a:/b",))
    assert days(tmp_path) == [1]
