"""ctlist from end to end, on segments made by the writer: what it lists, in which order, what it
says is missing, how it ends.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ctrecorder.archive import find as archive
from ctrecorder.arguments import screen_options
from ctrecorder.connections.pairing import Pairer
from ctrecorder.ctlog.frame import NO_HASH, Gap, Kind, Mark
from ctrecorder.ctlog.header import Header
from ctrecorder.ctlog.predicate import EVERY_EVENT
from ctrecorder.labels import EVENTS
from ctrecorder.listing import ctlist
from ctrecorder.render.renderer import FORMATS
from ctrecorder.segment import live
from ctrecorder.segment.live import LiveState
from ctrecorder.segment.pending import mark_block
from ctrecorder.segment.writer import SegmentWriter
from ctrecorder.uapi import AF_INET, AF_INET6
from tests.support.rows import Row, event, table

S = 10**9
BEGIN = 1795455437 * S  # 2026-11-23 17:37:17 UTC
SIX: dict[str, Any] = {
    "orig_src": "fd00::1",
    "orig_dst": "2001:db8::1",
    "reply_src": "2001:db8::1",
    "reply_dst": "2001:db8::2",
}

Run = Callable[..., tuple[int, list[str], list[str]]]


@pytest.fixture(autouse=True)
def in_utc() -> Iterator[None]:
    os.environ["TZ"] = "UTC"
    time.tzset()
    yield
    del os.environ["TZ"]
    time.tzset()


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str]) -> Run:
    """Calls ctlist; returns exit code and the lines of stdout and stderr."""

    def call(*arguments: object) -> tuple[int, list[str], list[str]]:
        code = ctlist.main([str(argument) for argument in arguments])
        out, err = capfd.readouterr()
        return code, out.splitlines(), err.splitlines()

    return call


def at(seconds: float, number: int = 1, kind: int = 1, **fields: Any) -> Row:
    """An event of connection `number`."""
    return event(
        **{
            "time": BEGIN + round(seconds * S),
            "event": kind,
            "orig_sport": 1000 + number,
            "id": number,
            **fields,
        }
    )


def shown(row: Row) -> str:
    """The beginning of a row's line."""
    moment = row["time"]
    letter = {1: "S", 2: "U", 3: "E", 4: "R"}[row["event"]]
    seconds = time.strftime("%Y.%m.%d %H:%M:%S", time.gmtime(moment // S))
    return f"{seconds}.{moment // 1000 % 10**6:06} {letter}"


class Recording:
    """Segments of one chain in a folder."""

    def __init__(self, folder: Path, chain: str = "c1") -> None:
        self.folder, self.chain, self.hash = folder, chain, NO_HASH

    def segment(self, name: str, *items: Any, close: bool = True, begin: float = 0) -> Path:
        """A segment of rows, lists of rows (a block), tables of connections, ("gap", ...) and
        ("dump", begin, end).
        """
        path = self.folder / name
        facts = {"host": "router", "chain": self.chain, "boot_id": "b"}
        writer = SegmentWriter.create(
            str(path), Header.from_json(facts), self.hash, time_ns=BEGIN + round(begin * S)
        )
        for item in items:
            if isinstance(item, tuple) and item[0] == "gap":
                writer.gap(Gap(BEGIN + round(item[1] * S), BEGIN + round(item[2] * S), *item[3:]))
            elif isinstance(item, tuple):
                writer.mark(
                    Mark(
                        BEGIN + round(item[1] * S),
                        BEGIN + round(item[2] * S),
                        "dump",
                        {"complete": True, "rows": 0},
                    ),
                )
            elif isinstance(item, list):
                writer.append(table(item, AF_INET6 if ":" in item[0]["orig_src"] else AF_INET))
            else:
                writer.append(item, kind=Kind.CONNECTIONS)
        if close:
            self.hash = writer.close()
        else:
            writer.sync()
            writer.abandon()
        return path


@pytest.fixture
def recording(tmp_path: Path) -> Recording:
    (tmp_path / "log").mkdir()
    return Recording(tmp_path / "log")


def test_events_of_all_segments_in_order_of_time(run: Run, recording: Recording) -> None:
    """Blocks and segments overlap, families are mixed, rows of a block are out of order; EXISTING
    rows are no events.
    """
    four = [at(number % 7 * 10 + number / 100, number, number % 3 + 1) for number in range(300)]
    six = [at(number % 5 * 12 + number / 90, number, **SIX) for number in range(200)]
    recording.segment("a", [at(-1, kind=4)], four[100:], six[:50], begin=-1)
    recording.segment("b", six[50:], four[:100])
    code, out, err = run(recording.folder)
    assert (code, err) == (0, [])
    assert [line[:28] for line in out] == [
        shown(row) for row in sorted(four + six, key=lambda row: row["time"])
    ]
    assert sum("[fd00::1]:1" in line for line in out) == len(six)
    assert run("--event", "existing", recording.folder)[1] == [
        run("--event", "new,existing", recording.folder)[1][0]
    ]


def test_files_and_folders_named_once_in_any_order(run: Run, recording: Recording) -> None:
    first, second = recording.segment("a", [at(1)]), recording.segment("b", [at(2, kind=3)])
    assert [line[27] for line in run(second, "-f", first)[1]] == ["S", "E"]
    assert len(run(second)[1]) == 1
    (recording.folder.parent / "link").symlink_to(recording.folder)
    assert len(run(recording.folder, first, recording.folder.parent / "link", first)[1]) == 2


def flows(count: int) -> list[Row]:
    """Connections of two families that begin, change and end; those of three numbers never end."""
    rows = []
    for number in range(count):
        fields = SIX if number % 3 == 0 else {}
        rows += [
            at(number, number, status=8, **fields),
            at(number + 1.5, number, 2, status=10, **fields),
        ]
        if number % 7:
            rows.append(at(number + number % 11 * 10 + 2, number, 3, status=14, **fields))
    return sorted(rows, key=lambda row: row["time"])


def squeezed(rows: list[Row], into: Recording, name: str) -> Path:
    """The connections of `rows` as a segment, in blocks that are in no order inside."""
    pairer = Pairer()
    done = [
        part
        for row in rows
        for part in pairer.feed(table([row], AF_INET6 if ":" in row["orig_src"] else AF_INET))
    ]
    return into.segment(name, *done, *pairer.finish())


def by_family(rows: list[Row]) -> list[list[Row]]:
    return [[row for row in rows if (":" in row["orig_src"]) == six] for six in (False, True)]


def other(recording: Recording, name: str) -> Recording:
    """Another folder, with a recording of the same chain."""
    folder = recording.folder.parent / name
    folder.mkdir()
    return Recording(folder)


def test_squeezing_changes_no_listing_but_updates(run: Run, recording: Recording) -> None:
    """All raw, all squeezed, and the first half squeezed, of which some ends come after the second
    half began.
    """
    rows = flows(150)
    raw, mixed = other(recording, "raw"), other(recording, "mixed")
    raw.segment("r", *by_family(rows))
    squeezed(rows, recording, "s")
    parts = [[row for row in rows if (row["id"] < 75) == first] for first in (True, False)]
    squeezed(parts[0], mixed, "s")
    mixed.segment("r", *by_family(parts[1]))
    code, expected, _ = run(raw.folder, "--event", "new,destroy")
    assert code == 0
    assert len(expected) > 250
    for folder in (recording.folder, mixed.folder):
        code, out, err = run(folder, "--event", "new,destroy")
        assert (code, err) == (0, [])
        assert sorted(out) == sorted(expected)
        assert [line[:26] for line in out] == [line[:26] for line in expected]
    assert len(run(mixed.folder, "--event", "update")[1]) == 75
    assert (
        run(recording.folder, "--event", "destroy")[1] == run(raw.folder, "--event", "destroy")[1]
    )


def test_events_of_a_squeezed_connection_tell_what_was_told_then(
    run: Run, recording: Recording
) -> None:
    """No counters and no replies at the start; no start where none was heard, although its time is
    known.
    """
    counters = {
        "orig_packets": 5,
        "orig_bytes": 300,
        "reply_packets": 4,
        "reply_bytes": 240,
        "tcp_state": 7,
    }
    ended = at(5, 1, 3, status=0x39E, mark=9, start=BEGIN, stop=BEGIN + 5 * S, **counters)
    squeezed(
        [at(0.001, 1, status=0x198), ended, at(1, 2, 4, start=BEGIN), at(2, 2, 3, start=BEGIN)],
        recording,
        "s",
    )
    start, first_end, end = [
        json.loads(line) for line in run("--format", "json", recording.folder)[1]
    ]
    assert (start["event"], start["time"], start["id"]) == (
        "NEW",
        "2026-11-23T17:37:17.000000000Z",
        1,
    )  # the kernel's time
    assert not {"start", "stop", "seen", "end", *counters} & set(start)
    assert start["status"] == ["SRC_NAT"]
    assert (first_end["event"], first_end["id"]) == ("DESTROY", 2)
    expected = {
        "event": "DESTROY",
        "mark": 9,
        "orig_packets": 5,
        "reply_bytes": 240,
        "tcp_state": "TIME_WAIT",
        "start": "2026-11-23T17:37:17.000000000Z",
        "stop": "2026-11-23T17:37:22.000000000Z",
    }
    assert {name: end[name] for name in expected} == expected


def test_connections_of_raw_and_squeezed_segments_are_the_same(
    run: Run, recording: Recording
) -> None:
    rows = flows(150)
    raw, mixed = other(recording, "raw"), other(recording, "mixed")
    raw.segment("r", *by_family(rows))
    squeezed(rows, recording, "s")
    early = [row for row in rows if row["time"] < BEGIN + 70 * S]
    squeezed(early, mixed, "s")
    mixed.segment("r", *by_family([row for row in rows if row["time"] >= BEGIN + 70 * S]), begin=70)
    code, expected, err = run("-s", raw.folder)
    assert (code, err, len(expected)) == (0, [], 150)
    assert [line[:26] for line in expected] == sorted(line[:26] for line in expected)
    for folder in (recording.folder, mixed.folder):
        assert run("-s", folder)[1] == expected
    open_ones = [line for line in expected if "-          -" in line]
    assert len(open_ones) == 22
    assert all(line[54:57] == "r-+" for line in open_ones)


def test_what_was_there_already_and_what_vanished(run: Run, recording: Recording) -> None:
    """A flow of the first dump began before it; one that the next dump lacks ended before that; the
    next segment goes on with the rest.
    """
    there, kept = (
        [at(0.1, 1, 4), at(0.15, 2, 4), at(0.1, 3, 4, start=BEGIN - 5 * S)],
        [at(400.1, 2, 4)],
    )
    recording.segment("a", there, ("dump", 0, 0.2), [at(1, 4), at(2, 4, 3)])
    recording.segment("b", kept, ("dump", 400, 400.2), [at(401, 2, 3)], begin=400)
    code, out, _ = run("-s", "--format", "json", recording.folder)
    found = {row["orig_sport"] - 1000: row for row in map(json.loads, out)}
    assert code == 0
    assert {number: (row["start_source"], row["end_source"]) for number, row in found.items()} == {
        1: ("bound", "bound"),
        2: ("bound", "receipt"),
        3: ("kernel", "bound"),
        4: ("receipt", "receipt"),
    }
    assert found[1]["end"] == "2026-11-23T17:43:57.200000000Z"
    assert [line[54:56] for line in run("-s", recording.folder)[1]] == ["k<", "<<", "<r", "rr"]


def test_a_start_that_is_only_told_at_the_end_is_in_order(run: Run, recording: Recording) -> None:
    """The NEW was lost, and the kernel tells at the DESTROY that the connection is older than
    others that were complete by then.
    """
    recording.segment(
        "a",
        [at(1, 1), at(2, 1, 3)],
        ("dump", 2.1, 2.2),
        [at(3, 2, 3, start=BEGIN - 5 * S, stop=BEGIN)],
    )
    assert [
        json.loads(line)["orig_sport"]
        for line in run("-s", "--format", "json", recording.folder)[1]
    ] == [1002, 1001]


def test_recorders_in_one_folder_do_not_end_each_others_flows(
    run: Run, recording: Recording
) -> None:
    """A dump of a recorder of UDP says nothing of TCP."""
    recording.segment("tcp", [at(1, 1), at(2, 2)])
    Recording(recording.folder, "c2").segment("udp", [at(1.5, 3, l4proto=17)], ("dump", 300, 300.1))
    rows = [json.loads(line) for line in run("-s", "--format", "json", recording.folder)[1]]
    assert [(row["protocol"], row["end_source"]) for row in rows] == [
        ("tcp", "unknown"),
        ("udp", "bound"),
        ("tcp", "unknown"),
    ]


def test_a_window_of_events(run: Run, recording: Recording) -> None:
    recording.segment("a", [at(second, second) for second in range(120)])
    code, out, _ = run(
        "--since", "2026-11-23 17:37:27", "--until", "2026-11-23 17:37:29", recording.folder
    )
    assert (code, [line[17:19] for line in out]) == (0, ["27", "28", "29"])
    code, out, _ = run("--since", "2026-11-23", "--until", "2026-11-23", recording.folder)
    assert (code, len(out)) == (0, 120)


def test_a_window_of_connections_has_all_that_lived_in_it(run: Run, recording: Recording) -> None:
    """Also what began before and ends after it, in another segment; its end is looked for if it was
    asked for by more than time.
    """
    recording.segment("a", [at(-50, 1), at(0, 2), at(1, 2, 3), at(2, 3)], begin=-60)
    recording.segment("b", [at(100, 4), at(101, 1, 3)], begin=90)
    window = ("--since", f"@{BEGIN // S - 9}", "--until", f"@{BEGIN // S}")
    rows = [
        json.loads(line) for line in run("-s", "--format", "json", *window, recording.folder)[1]
    ]
    assert [(row["orig_sport"], "end" in row) for row in rows] == [(1001, False), (1002, True)]
    rows = [
        json.loads(line)
        for line in run("-s", "--format", "json", "--proto", "tcp", *window, recording.folder)[1]
    ]
    assert [(row["orig_sport"], "end" in row) for row in rows] == [(1001, True), (1002, True)]


NO_MATCH = "no match: the log covers the whole time that was asked"
UNPROVED = "no match, but the log does not prove that there was none: see ctlist --coverage"
ASKED = [
    (["-i", "192.168.1.0/24"], {1, 2, 3}),
    (["-i", "192.168.1.100", "-p", "25"], {1, 2, 3}),
    (["-i", "fd00::/8"], {4}),
    (["-i", "fd00::/8,1.2.3.4", "-i", "8.8.8.8"], {3, 4}),
    (["-i", "1.2.3.4"], {3}),
    (["-p", "1002"], {2}),
    (["-p", "1001-1002"], {1, 2}),
    (["-p", "1001,1004"], {1, 4}),
    (["--proto", "udp"], {2}),
    (["--proto", "udp,47", "--proto", "tcp"], {1, 2, 3, 4}),
    (["--event", "destroy"], {3}),
    (["-p", "1001", "--proto", "udp"], set()),
    (["-i", "203.0.113.1"], set()),
]


@pytest.mark.parametrize(
    ("arguments", "numbers"), ASKED, ids=[" ".join(arguments) for arguments, _ in ASKED]
)
def test_questions(run: Run, recording: Recording, arguments: list[str], numbers: set[int]) -> None:
    recording.segment(
        "a", [at(1, 1), at(2, 2, l4proto=17), at(3, 3, 3, reply_dst="1.2.3.4")], [at(4, 4, **SIX)]
    )
    code, out, err = run(*arguments, "--format", "json", recording.folder)
    assert {json.loads(line)["id"] for line in out} == numbers
    said = [] if numbers else [f"ctlist: {NO_MATCH}"]
    assert (code, err) == (0 if numbers else 1, said)


def test_gaps_of_the_window_and_no_others(run: Run, recording: Recording) -> None:
    gaps = [
        ("gap", 10, 20, "overrun", 1234),
        ("gap", 30, 40, "stopped", None),
        ("gap", 50, 60, "disk-full", None),
    ]
    recording.segment("a", [at(0)], *gaps, [at(100, 2)])
    said = [
        "ctlist: gap: 1,234 events lost from 2026.11.23 17:37:27.000000 +00:00 to "
        "2026.11.23 17:37:37.000000 +00:00: "
        "the kernel dropped events: the receive buffer was full",
        "ctlist: not recording from 2026.11.23 17:37:47.000000 +00:00 to "
        "2026.11.23 17:37:57.000000 +00:00: the recorder was stopped",
        "ctlist: gap: events lost from 2026.11.23 17:38:07.000000 +00:00 to "
        "2026.11.23 17:38:17.000000 +00:00: the disk was full",
    ]
    assert run(recording.folder) == (0, run(recording.folder)[1], said)
    assert run(
        "--since", f"@{BEGIN // S + 25}", "--until", f"@{BEGIN // S + 41}", recording.folder
    )[2] == [said[1], f"ctlist: {UNPROVED}"]
    assert run("-i", "203.0.113.1", recording.folder)[::2] == (
        1,
        [*said, f"ctlist: {UNPROVED}"],
    )  # an empty answer says most of all


def test_a_window_that_was_not_recorded_says_so(run: Run, recording: Recording) -> None:
    recording.segment("a", [at(0)], [at(100, 2)])
    before, after = (f"@{BEGIN // S + step}" for step in (-500, 500))
    code, out, err = run("--since", before, "--until", after, recording.folder)
    assert (code, len(out)) == (0, 2)
    assert err == [
        "ctlist: not recording from 2026.11.23 17:28:57.000000 +00:00 to "
        "2026.11.23 17:37:17.000000 +00:00: nothing was recorded",
        "ctlist: not recording from 2026.11.23 17:38:57.000000 +00:00 to "
        "2026.11.23 17:45:38.000000 +00:00: nothing was recorded "
        "(the recorder does not run, or cannot prove that it does)",
    ]
    assert run("--since", after, recording.folder)[2][1:] == [f"ctlist: {UNPROVED}"]


def test_a_recorder_that_is_alive_is_recording_now(
    run: Run, recording: Recording, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing happened for a while, and that is known; a lock alone proves nothing."""
    state = tmp_path / "run"
    state.mkdir()
    monkeypatch.setattr(live, "FOLDER", str(state))
    begin = time.time_ns() - 300 * S
    path = recording.folder / "a"
    writer = SegmentWriter.create(
        str(path), Header(chain="c", requires=("coverage",)), time_ns=begin
    )
    writer.append(table([event(time=begin), event(time=begin + 200 * S)]))
    writer.write(mark_block(Mark.at(begin, "heartbeat")).with_watermark(begin + 201 * S))
    writer.sync()
    asked = ("--since", "-150s", recording.folder)
    code, out, err = run(*asked)
    assert (code, len(out), len(err)) == (0, 1, 1)
    assert run("--strict", *asked)[0] == 3
    status = path.stat()
    publisher = live.Publisher(str(state))
    now = time.time_ns()
    publisher.publish(LiveState("c", str(path), status.st_dev, status.st_ino, now))
    assert [(code, len(out), err) for code, out, err in [run(*asked)]] == [(0, 1, [])]
    assert run("--strict", *asked)[::2] == (0, [])
    publisher.close()
    writer.close()
    code, out, err = run(*asked)
    assert (code, len(out), len(err)) == (0, 1, 1)
    assert "nothing was recorded" in err[0]


def test_no_line_that_was_asked_for_is_no_empty_archive(run: Run, recording: Recording) -> None:
    recording.segment("a", [at(1)])
    code, out, err = run("-n", "0", recording.folder)
    assert (code, out) == (0, [])
    assert not any("empty" in line for line in err)


def test_files_that_are_none_are_named_and_the_rest_is_listed(
    run: Run, recording: Recording
) -> None:
    good = recording.segment("good", [at(1)])
    (recording.folder / "notes.txt").write_text("no segment")
    (recording.folder / "empty").touch()
    code, out, err = run(recording.folder)
    assert (code, len(out), len(err)) == (0, 1, 2)
    assert all(f"{recording.folder}/{name}" in " ".join(err) for name in ("notes.txt", "empty"))
    assert all(line.endswith("not a segment of ctrecorder; passed over") for line in err)
    code, out, err = run(good, recording.folder / "notes.txt")
    assert (code, len(out), len(err)) == (2, 1, 1)
    code, out, err = run(good, recording.folder / "missing")
    assert (code, len(out)) == (2, 1)
    assert err == [f"ctlist: {recording.folder}/missing: No such file or directory"]


def test_a_segment_that_goes_meanwhile_is_named(
    run: Run, recording: Recording, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ctexpire may run between the look into the folder and the opening."""
    first = recording.segment("a", [at(1)])
    recording.segment("b", [at(2, 2)])
    find = archive.find

    def find_and_expire(paths: list[str], *, spans: bool) -> archive.FolderListing:
        found = find(paths, spans=spans)
        first.unlink()
        return found

    monkeypatch.setattr(archive, "find", find_and_expire)
    code, out, err = run(recording.folder)
    assert (code, len(out), err) == (2, 1, [f"ctlist: {first}: No such file or directory"])


def test_a_folder_without_segments(run: Run, tmp_path: Path) -> None:
    code, out, err = run(tmp_path)
    assert (code, out, len(err)) == (2, [], 1)
    assert f"{tmp_path}: no segments here" in err[0]


def test_damage_is_told_and_the_rest_is_listed(run: Run, recording: Recording) -> None:
    path = recording.segment("a", [at(1)], [at(2, 2)], [at(3, 3)])
    whole = path.read_bytes()
    middle = whole.index(b"\xc7CTB", whole.index(b"\xc7CTB", 100) + 1)
    path.write_bytes(whole[: middle + 70] + bytes([whole[middle + 70] ^ 1]) + whole[middle + 71 :])
    code, out, err = run(recording.folder)
    assert (code, len(out), len(err)) == (2, 2, 1)
    assert f"{path}: at byte {middle}:" in err[0]


def test_a_crash_between_blocks_is_no_damage_and_inside_one_is(
    run: Run, recording: Recording
) -> None:
    path = recording.segment("a", [at(1)], [at(2, 2)], close=False)
    assert (run(path)[0], len(run(path)[1]), run(path)[2]) == (0, 2, [])
    os.truncate(path, path.stat().st_size - 3)
    code, out, err = run(path)
    assert (len(out), len(err)) == (1, 1)
    assert code == 2


@pytest.mark.parametrize("form", FORMATS)
def test_every_format(run: Run, recording: Recording, form: str) -> None:
    recording.segment("a", [at(1), at(2, kind=3)], [at(1.5, **SIX)])
    code, out, err = run("--format", form, recording.folder)
    assert (code, len(out), err) == (0, 4 if form == "csv" else 3, [])
    code, out, err = run("-s", "--format", form, recording.folder)
    if form == "conntrack":
        assert (code, out, len(err)) == (2, [], 1)
    else:
        assert (code, len(out), err) == (0, 3 if form == "csv" else 2, [])


def test_headers(run: Run, recording: Recording) -> None:
    """A stranger's header does not steer the terminal."""
    path = recording.folder / "a"
    SegmentWriter.create(
        str(path), Header(host="r\x1b[2Jouter\n", sysctls={"x": 1}, nat_only=False)
    ).close()
    code, out, err = run("-H", path)
    assert (code, err) == (0, [])
    assert out[0] == f"{path}:"
    assert {"r\\x1b[2Jouter\\n", "x=1", "no", "closed"} <= {
        line.split(maxsplit=1)[-1] for line in out[1:]
    }
    code, out, err = run("-H", "--format", "json", path)
    assert json.loads(out[0])["host"] == "r\x1b[2Jouter\n"
    assert (len(out), "\x1b" in out[0]) == (1, False)


def test_verbose_tells_what_was_skipped(run: Run, recording: Recording) -> None:
    recording.segment(
        "a",
        [at(second / 100, second) for second in range(2000)],
        [at(30 + second / 100, second) for second in range(2000)],
    )
    recording.segment("b", [at(100)], begin=100)
    (said,) = run("-v", "--until", f"@{BEGIN // S + 25}", recording.folder)[2]
    segments, blocks, rows = said.split("; ")
    assert segments == "ctlist: 1 segment read, 1 skipped by time, 0 by their addresses"
    assert blocks == "blocks: 1 skipped by time, 0 by their index, 1 read"
    assert rows == "2,000 rows read, 2,000 wanted"
    err = run("-v", "-i", "10.0.0.0/8", recording.folder)[2]
    assert "2 by their index" in err[-1]


WRONG = [
    ["-i", "10.0.0.300"],
    ["-p", "nosuchservice"],
    ["--proto", "tcpp"],
    ["--event", "start"],
    ["--since", "noon"],
    ["--since", "-1h", "--until", "-2h"],
    ["--format", "xml"],
    ["-s", "--event", "new"],
    ["--no-such-option"],
    ["-i"],
]


@pytest.mark.parametrize("arguments", WRONG, ids=[" ".join(arguments) for arguments in WRONG])
def test_wrong_arguments_are_one_line(run: Run, recording: Recording, arguments: list[str]) -> None:
    recording.segment("a", [at(1)])
    code, out, err = run("-f", recording.folder, *arguments)
    assert (code, out, len(err)) == (2, [], 1)
    assert err[0].startswith("ctlist: ")


@pytest.mark.slow
def test_a_closed_pipe_is_no_error(recording: Recording) -> None:
    recording.segment("a", [at(number / 1000, number) for number in range(20_000)])
    line = f"ctlist {recording.folder} | head -n 1; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(
        ["bash", "-c", line], capture_output=True, text=True, timeout=60, check=True
    )
    assert (len(done.stdout.splitlines()), done.stdout.splitlines()[1], done.stderr) == (2, "0", "")


def test_help_into_a_closed_pipe_is_no_error() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        ["ctlist", "-h"], stdout=writing, stderr=subprocess.PIPE, timeout=60, check=False
    )
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("where", "said"), [(">/dev/full", "No space left"), (">&-", "Bad file descriptor")]
)
def test_output_that_cannot_be_written_is_one_line(
    recording: Recording, where: str, said: str
) -> None:
    recording.segment("a", [at(1)])
    done = subprocess.run(
        ["bash", "-c", f"ctlist {recording.folder} {where}"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert f"ctlist: standard output: {said}" in done.stderr


def test_the_parsers_words_are_the_modules_words() -> None:
    """The parser is built without numpy, so it has words of its own."""
    assert {*FORMATS, "screen"} == set(screen_options.FORMATS)
    assert frozenset(EVENTS) == EVERY_EVENT


@pytest.mark.slow
def test_listing_does_not_load_what_it_does_not_need(recording: Recording) -> None:
    recording.segment("a", [at(1)])
    line = (
        "import sys; from ctrecorder.listing import ctlist; "
        f"ctlist.main([{str(recording.folder)!r}]); print(*sorted(sys.modules))"
    )
    root = Path(ctlist.__file__).parents[2]
    done = subprocess.run(
        ["/usr/bin/python3", "-c", line],
        capture_output=True,
        text=True,
        cwd=root,
        timeout=60,
        check=True,
    )
    # systemd is for the entry in the journal, after the answer.
    assert not {
        "pyroute2",
        "argcomplete",
        "ctrecorder.record.recorder",
        "ctrecorder.kernel.decoder",
    } & set(done.stdout.split())


def test_an_unknown_local_zone_is_refused(
    tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The C library takes it for UTC: times would be read and printed wrong by hours."""
    monkeypatch.setenv("TZ", "Europe/Berlni")
    wanted = [
        "ctlist: the variable TZ: unknown time zone 'Europe/Berlni': "
        "did you mean Europe/Berlin or Europe/Dublin?"
    ]
    assert run("--since", "-2h", tmp_path) == (2, [], wanted)
    assert "TZ" not in run("--utc", "--since", "-2h", tmp_path)[2][0]


def test_a_time_with_several_readings_is_refused(tmp_path: Path, run: Run) -> None:
    code, out, err = run("--since", "09/10/2026 10:00", tmp_path)
    assert (code, out) == (2, [])
    assert "2026-10-09T10:00:00Z" in err[0]
    assert "2026-09-10T10:00:00Z" in err[0]
