"""Who held an address and port: against a simulated network whose truth is known, raw and squeezed,
across segments.
"""

from __future__ import annotations

import ipaddress
import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ctrecorder.asking.ctwho import main
from ctrecorder.columns import BY_NAME, Table, bits
from ctrecorder.connections.parts import RECEIPT_LATE_NS
from ctrecorder.ctlog.frame import Gap, Mark
from ctrecorder.ctlog.header import Header
from ctrecorder.errors import UsageError
from ctrecorder.filelock import Holder
from ctrecorder.holders import candidates, who
from ctrecorder.holders.who import WhoQuery
from ctrecorder.maintain.squeeze import SqueezeOptions, squeeze
from ctrecorder.render import who as render_who
from ctrecorder.segment.reader import Segment
from ctrecorder.segment.writer import SegmentWriter
from tests.support.folders import locked
from tests.support.slow_pairing import DESTROY, EXISTING, NEW, SECOND, Row, T

HOUR = 3600 * SECOND
PUBLIC = (int(ipaddress.ip_address("192.0.2.1")), int(ipaddress.ip_address("192.0.2.2")))
NOW = T + 100 * HOUR


@dataclass(frozen=True)
class Flow:
    """The truth of a connection; `inbound`: DNAT."""

    inside: tuple[int, int]
    public: tuple[int, int]
    remote: tuple[int, int]
    inbound: bool
    start: int
    end: int
    id: int

    def row(self, event: int, time: int, **columns: Any) -> Row:
        (inside, inside_port), (public, public_port), (remote, remote_port) = (
            self.inside,
            self.public,
            self.remote,
        )
        if self.inbound:
            ends = (
                remote,
                remote_port,
                public,
                public_port,
                inside,
                inside_port,
                remote,
                remote_port,
            )
        else:
            ends = (
                inside,
                inside_port,
                remote,
                remote_port,
                remote,
                remote_port,
                public,
                public_port,
            )
        names = (
            "orig_src",
            "orig_sport",
            "orig_dst",
            "orig_dport",
            "reply_src",
            "reply_sport",
            "reply_dst",
            "reply_dport",
        )
        known = bits(("id", "l4proto", *names, *columns))
        return {
            "event": int(event),
            "time": time,
            "l4proto": 17,
            "id": self.id,
            "present": known,
            **dict(zip(names, ends, strict=True)),
            **columns,
        }


def flows(seed: int, count: int = 600) -> list[Flow]:
    """Few public ends, many holders: several at once, to different remote ends.

    Some last for hours.
    """
    random = np.random.default_rng(seed)
    made = []
    for number in range(count):
        start = T + int(random.integers(0, 5 * HOUR))
        life = int(random.choice([SECOND, 60 * SECOND, 3 * HOUR]) * (0.5 + random.random()))
        inside = (0x0A000000 + int(random.integers(1, 9)), int(random.integers(1024, 65536)))
        public = (int(random.choice(PUBLIC)), 40000 + int(random.integers(0, 6)))
        remote = (
            0xCB007100 + int(random.integers(0, 250)),
            int(random.choice([53, 443, number % 65536])),
        )
        made.append(
            Flow(inside, public, remote, random.random() < 0.3, start, start + life, number + 1)
        )
    return made


def table(rows: list[Row]) -> Table:
    names = [name for name in BY_NAME if any(name in each for each in rows)]
    return Table(
        2,
        len(rows),
        {
            name: np.array([each.get(name, 0) for each in rows], BY_NAME[name].dtype(2))
            for name in names
        },
    )


def record(
    folder: Path, network: list[Flow], *, hours: int = 6, dumps: bool = True, stamped: bool = False
) -> list[str]:
    """Hourly segments, each beginning with a dump, chained; `stamped`: with the kernel's start in
    dumps and at the end.
    """
    paths, previous, name = [], bytes(16), None
    for hour in range(hours):
        begin, end = T + hour * HOUR, T + (hour + 1) * HOUR
        path = folder / f"{hour:02}.ctlog"
        writer = SegmentWriter.create(
            str(path), Header(chain="c", previous=name), previous, time_ns=begin
        )
        if dumps:
            existing = [
                flow.row(EXISTING, begin + 5, **({"start": flow.start} if stamped else {}))
                for flow in network
                if flow.start < begin < flow.end
            ]
            if existing:
                writer.append(table(existing))
            writer.mark(
                Mark(begin + 1, begin + 9, "dump", {"rows": len(existing), "complete": True})
            )
        events = [
            (flow.start, flow.row(NEW, flow.start)) for flow in network if begin <= flow.start < end
        ]
        events += [
            (
                flow.end,
                flow.row(
                    DESTROY,
                    flow.end,
                    **({"start": flow.start, "stop": flow.end} if stamped else {}),
                ),
            )
            for flow in network
            if begin <= flow.end < end
        ]
        if events:
            writer.append(table([row for _, row in sorted(events, key=lambda event: event[0])]))
        writer.mark(Mark.at(end - 1, "heartbeat"))
        previous, name = writer.close(), path.name
        paths.append(str(path))
    return paths


def text_of(end: tuple[int, int]) -> str:
    return f"{ipaddress.ip_address(end[0])}:{end[1]}"


def found(folder: Path, asked: WhoQuery) -> tuple[set[tuple[Any, ...]], who.Answer]:
    """Candidates as (inside, remote, inbound, start, end)."""
    answer = who.answer([str(folder)], asked, NOW)
    holders = [
        one
        for each in answer.tables
        for one in render_who.holders(each, *candidates.roles(each, asked.held))
    ]
    facts = [
        ("{}:{}".format(*one.inside), "{}:{}".format(*one.remote), one.inbound, one.start, one.end)
        for one in holders
    ]
    assert len(facts) == len(set(facts))
    return set(facts), answer


def truth(
    network: list[Flow], asked: WhoQuery, last: int, *, stamped: bool = False
) -> set[tuple[Any, ...]]:
    """The candidates; `stamped`: the log has the kernel's starts but for those of the last hour."""
    wanted = set()
    public, to = asked.public, asked.to
    for flow in network:
        holds = _is(flow.public, public) and (to is None or _is(flow.remote, to))
        is_dated = stamped and (flow.end < last or flow.start < last - HOUR)
        late = 0 if is_dated else RECEIPT_LATE_NS
        if holds and flow.start - late < asked.until and flow.end >= asked.since:
            end = flow.end if flow.end < last else 0
            wanted.add((text_of(flow.inside), text_of(flow.remote), flow.inbound, flow.start, end))
    return wanted


def _cut(facts: set[tuple[Any, ...]], unit: int) -> set[tuple[Any, ...]]:
    return {(*one[:3], one[3] // unit * unit, one[4] // unit * unit) for one in facts}


def _is(end: tuple[int, int], term: Any) -> bool:
    (network,) = term.networks
    return end[0].to_bytes(4, "big") == network.low and (
        not term.ports or end[1] == term.ports[0][0]
    )


@pytest.mark.slow
@pytest.mark.parametrize("stamped", [False, True])
@pytest.mark.parametrize("squeezed", [(), (0, 2, 3), range(6)])
def test_all_candidates_and_no_others(tmp_path: Path, stamped: bool, squeezed: Any) -> None:
    network = flows(3)
    paths = record(tmp_path, network, stamped=stamped)
    for number in squeezed:
        squeeze(paths[number], SqueezeOptions())
    unit = 1000 if squeezed else 1
    random = np.random.default_rng(9)
    several = 0
    for _ in range(60):
        at = T + int(random.integers(0, 6 * HOUR))
        target = network[int(random.integers(0, len(network)))]
        to = who.parse_end(text_of(target.remote)) if random.random() < 0.3 else None
        asked = WhoQuery(who.parse_end(text_of(target.public)), at, at + 2 * SECOND, to)
        got, answer = found(tmp_path, asked)
        wanted = truth(network, asked, T + 6 * HOUR, stamped=stamped)
        assert _cut(got, unit) == _cut(wanted, unit)
        assert answer.verdict.proved
        several += len(wanted) > 1
    assert several > 10


def test_a_flow_open_over_many_segments_is_told_whole(tmp_path: Path) -> None:
    flow = Flow(
        (0x0A000001, 1234),
        (PUBLIC[0], 40000),
        (0xCB007101, 443),
        False,
        T + 5 * SECOND,
        T + 30 * HOUR + 7,
        1,
    )
    record(tmp_path, [flow], hours=40)
    asked = WhoQuery(who.parse_end("192.0.2.1:40000"), T + 15 * HOUR, T + 15 * HOUR + 1)
    got, answer = found(tmp_path, asked)
    assert got == {("10.0.0.1:1234", "203.0.113.1:443", False, flow.start, flow.end)}
    assert answer.verdict.proved
    assert (
        found(
            tmp_path, WhoQuery(who.parse_end("192.0.2.1:40000"), T + 31 * HOUR, T + 31 * HOUR + 1)
        )[0]
        == set()
    )


def test_without_dumps_a_long_flow_is_found_by_its_start(tmp_path: Path) -> None:
    flow = Flow(
        (0x0A000001, 1234),
        (PUBLIC[0], 40000),
        (0xCB007101, 443),
        False,
        T + 5 * SECOND,
        T + 5 * HOUR + 7,
        1,
    )
    record(tmp_path, [flow], dumps=False)
    got, _ = found(
        tmp_path, WhoQuery(who.parse_end("192.0.2.1:40000"), T + 4 * HOUR, T + 4 * HOUR + 1)
    )
    assert got == {("10.0.0.1:1234", "203.0.113.1:443", False, flow.start, flow.end)}


@pytest.mark.parametrize("squeezed", [False, True])
@pytest.mark.parametrize("before", [0, SECOND])
def test_a_start_that_was_dated_when_it_was_received_may_be_late(
    tmp_path: Path, squeezed: bool, before: int
) -> None:
    """`before`: ns from the start to the end of its segment: the question can be of the one before.

    A start of the kernel is never late.
    """
    begin = T + 2 * HOUR - before
    ends = (0x0A000001, 1234), (PUBLIC[0], 40000), (0xCB007101, 443)
    flow = Flow(*ends, False, begin, begin + HOUR // 2, 1)
    for stamped in (False, True):
        folder = tmp_path / str(stamped)
        folder.mkdir()
        paths = record(folder, [flow], hours=4, stamped=stamped)
        for path in paths[1:3] if squeezed else []:
            squeeze(path, SqueezeOptions("us"))
        for until, named in (
            (begin + 1, True),
            (begin, not stamped),
            (begin - RECEIPT_LATE_NS + 1, not stamped),
            (begin - RECEIPT_LATE_NS, False),
        ):
            asked = WhoQuery(who.parse_end("192.0.2.1:40000"), until - SECOND, until)
            got, answer = found(folder, asked)
            assert len(got) == named, (stamped, until - begin)
            assert answer.verdict.proved


@pytest.mark.parametrize("resolution", ["", "us", "ms", "s"])
def test_a_connection_that_was_open_at_a_nanosecond_is_found_after_squeezing(
    tmp_path: Path, resolution: str
) -> None:
    """A squeezed end is cut to microseconds, as lists show it."""
    ends = (0x0A000001, 1234), (PUBLIC[0], 40000), (0xCB007101, 443)
    flow = Flow(*ends, False, T + HOUR // 4, T + HOUR // 2 + 1_700, 1)
    paths = record(tmp_path, [flow], stamped=True)
    for path in paths if resolution else []:
        squeeze(path, SqueezeOptions(resolution))
    asked = WhoQuery(who.parse_end("192.0.2.1:40000"), flow.end - 200, flow.end - 199)
    assert len(found(tmp_path, asked)[0]) == 1


@pytest.mark.parametrize("squeezed", [False, True])
def test_nobody_is_named_for_a_time_before_the_clock_was_set_back_to_it(
    tmp_path: Path, squeezed: bool
) -> None:
    """A start that is a time of receipt may be late.  Not so: it was an hour after the question."""
    back, began = T + HOUR, T + HOUR + SECOND // 2
    ends = (0x0A000001, 1234), (PUBLIC[0], 40000), (0xCB007101, 443)
    flow = Flow(*ends, False, began, began + 20 * SECOND, 1)
    path = tmp_path / "a"
    writer = SegmentWriter.create(str(path), Header(chain="c"), time_ns=T)
    writer.mark(Mark(T + 1, T + 2, "dump", {"rows": 0, "complete": True}))
    writer.mark(Mark.at(back, "clock", {"step_ns": -HOUR}))
    writer.gap(Gap(back, back + HOUR, "clock", 0))
    writer.gap(Gap(back - RECEIPT_LATE_NS, back, "late", None))
    writer.append(table([flow.row(NEW, flow.start), flow.row(DESTROY, flow.end)]))
    writer.mark(Mark.at(T + 3 * HOUR, "heartbeat"))
    writer.close()
    if squeezed:
        squeeze(str(path), SqueezeOptions("us"))
    for until, named in ((began, True), (back + 1, True), (back, False)):
        asked = WhoQuery(who.parse_end("192.0.2.1:40000"), until - SECOND, until)
        got, answer = found(tmp_path, asked)
        assert len(got) == named
        # Someone else may have begun before the step, and have been received late.
        assert not answer.verdict.proved


def test_an_end_that_was_received_after_a_dump_can_be_before_it(tmp_path: Path) -> None:
    """The start was lost in a GAP.  The dump lacks the flow because it had ended."""
    ends = (0x0A000001, 1234), (PUBLIC[0], 40000), (0xCB007101, 443)
    flow = Flow(*ends, False, T, T + 20 * SECOND, 1)
    writer = SegmentWriter.create(str(tmp_path / "a"), Header(chain="c"), time_ns=T)
    writer.mark(Mark(T + 1, T + 2, "dump", {"rows": 0, "complete": True}))
    writer.gap(Gap(T + 5 * SECOND, T + 10 * SECOND, "overrun", 12))
    dump = T + 19 * SECOND, T + 19 * SECOND + 9
    writer.mark(Mark(*dump, "dump", {"rows": 0, "complete": True}))
    writer.append(table([flow.row(DESTROY, flow.end)]))
    writer.mark(Mark.at(T + HOUR, "heartbeat"))
    writer.close()
    asked = WhoQuery(who.parse_end("192.0.2.1:40000"), T + 12 * SECOND, T + 13 * SECOND)
    assert len(found(tmp_path, asked)[0]) == 1


def test_a_flow_whose_start_was_lost_may_have_begun_after_the_dump_that_lacks_it(
    tmp_path: Path,
) -> None:
    flow = Flow(
        (0x0A000001, 1234),
        (PUBLIC[0], 40000),
        (0xCB007101, 443),
        False,
        T + HOUR // 2,
        T + HOUR + HOUR // 2,
        1,
    )
    paths = record(tmp_path, [flow], hours=3)
    Path(paths[0]).unlink()
    writer = SegmentWriter.create(paths[0], Header(chain="c"), time_ns=T)
    writer.mark(Mark(T + 1, T + 9, "dump", {"rows": 0, "complete": True}))
    writer.gap(Gap(T + HOUR // 3, T + HOUR // 2 + 1, "overrun", 12))
    writer.close()
    end = who.parse_end("192.0.2.1:40000")
    (one,), answer = found(tmp_path, WhoQuery(end, T + 10 * SECOND, T + 11 * SECOND))
    assert one[3:] == (T + HOUR + 5, flow.end)  # a bound, not the start
    assert found(tmp_path, WhoQuery(end, T - 10 * SECOND, T))[0] == set()
    assert [hole.lost for hole in answer.verdict.holes if hole.reason == "overrun"] == []


def test_the_log_says_where_it_does_not_cover_the_time(tmp_path: Path) -> None:
    network = flows(5, 200)
    paths = record(tmp_path, network)
    end = who.parse_end("192.0.2.1:40000")

    def missing(hour: float) -> list[tuple[str, int | None]]:
        at = T + int(hour * HOUR)
        return [
            (hole.reason, hole.lost)
            for hole in found(tmp_path, WhoQuery(end, at, at + SECOND))[1].verdict.holes
        ]

    assert missing(2.5) == []
    Path(paths[2]).unlink()
    assert missing(2.5) == [("missing-segment", None)]
    assert missing(3.5) == []
    assert missing(-1) == [("not-recording", None)]
    assert missing(50) == [("not-recording", None)]


def test_events_lost_since_the_last_dump_are_told(tmp_path: Path) -> None:
    writer = SegmentWriter.create(str(tmp_path / "a"), Header(chain="c"), time_ns=T)
    writer.mark(Mark(T + 1, T + 9, "dump", {"rows": 0, "complete": True}))
    writer.gap(Gap(T + 60 * SECOND, T + 70 * SECOND, "overrun", 12))
    writer.mark(Mark.at(T + 1000 * SECOND, "heartbeat"))
    writer.mark(Mark(T + 1001 * SECOND, T + 1002 * SECOND, "dump", {"rows": 0, "complete": True}))
    writer.mark(Mark.at(T + 2000 * SECOND, "heartbeat"))
    writer.close()
    end = who.parse_end("192.0.2.1:40000")
    # At 500 s nothing is missing up to the next dump: what was open is in it, or its end is known.
    for seconds, wanted in ((30, []), (65, [12]), (500, []), (1500, [])):
        at = T + seconds * SECOND
        assert [
            hole.lost for hole in found(tmp_path, WhoQuery(end, at, at + 1))[1].verdict.holes
        ] == wanted, seconds


def test_what_cannot_be_read_is_told(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """An answer beside files that no one can read is not a whole one, whoever is found."""
    flow = Flow(
        (0x0A000001, 1234),
        (PUBLIC[0], 40000),
        (0xCB007101, 443),
        False,
        T + SECOND,
        T + 60 * SECOND,
        1,
    )
    record(tmp_path, [flow], hours=1)
    (tmp_path / "below").mkdir()
    asked = ["192.0.2.1:40000", f"@{T // SECOND + 10}", "-d", str(tmp_path)]
    assert main(asked) == 0
    (tmp_path / "notes.txt").write_text("not a segment")
    (tmp_path / "empty").touch()
    (tmp_path / "loose").symlink_to(tmp_path / "nowhere")
    capfd.readouterr()
    assert main([*asked, "-d", str(tmp_path / "nothing")]) == 2
    out, err = capfd.readouterr()
    assert out.startswith("ONE KNOWN (not proved): 10.0.0.1\n")
    assert sorted(line.split(": ")[1].rpartition("/")[2] for line in err.splitlines()) == [
        "empty",
        "notes.txt",
        "nothing",
    ]


@pytest.mark.slow
@pytest.mark.parametrize("squeezed", [(), (0, 2, 3), range(5)])
def test_mixed_folders_with_damage(tmp_path: Path, squeezed: Any) -> None:
    """One segment live, one crashed, one with a block that is damaged: no stranger is named, and
    none is missing without a word.
    """
    network = flows(11)
    paths = record(tmp_path, network, stamped=True)
    for number in squeezed:
        squeeze(paths[number], SqueezeOptions())
    with Segment(paths[2]) as segment:
        damaged = max(segment.blocks, key=lambda block: block.rows)
    data = bytearray(Path(paths[2]).read_bytes())
    data[damaged.offset + 64 + 40] ^= 255
    Path(paths[2]).write_bytes(data)
    with Segment(paths[5]) as segment:
        footer = segment.size - 16
    os.truncate(paths[5], footer - 100)
    with locked(paths[5], Holder.RECORDER):
        random = np.random.default_rng(9)
        lacking = whole = 0
        for _ in range(60):
            at = T + int(random.integers(0, 5 * HOUR))
            asked = WhoQuery(
                who.parse_end(text_of(network[int(random.integers(0, len(network)))].public)),
                at,
                at + 2 * SECOND,
            )
            got, answer = found(tmp_path, asked)
            wanted = truth(network, asked, T + 6 * HOUR)
            holders = {one[:3] for one in wanted}
            strange = {one[:3] for one in got} - {
                (text_of(flow.inside), text_of(flow.remote), flow.inbound) for flow in network
            }
            assert not strange
            if answer.findings:
                assert all(finding.subject == paths[2] for finding in answer.findings)
                lacking += not holders <= {one[:3] for one in got}
            else:
                assert holders == {one[:3] for one in got}
                whole += 1
        assert whole > 5
        assert lacking or squeezed


def test_a_footer_that_lies_about_its_times_hides_nothing(tmp_path: Path) -> None:
    """Segments are chosen by frames that were not checked; one that was passed over is missing in
    the chain.
    """
    flow = Flow(
        (0x0A000001, 1234),
        (PUBLIC[0], 40000),
        (0xCB007101, 443),
        False,
        T + 2 * HOUR + SECOND,
        T + 3 * HOUR - SECOND,
        1,
    )
    paths = record(tmp_path, [flow])
    with Segment(paths[2]) as segment:
        at = struct.unpack("<Q", Path(paths[2]).read_bytes()[-16:-8])[0] + 16
        begin = segment.times[0]
    data = bytearray(Path(paths[2]).read_bytes())
    data[at + 8 : at + 16] = struct.pack("<q", begin + 1)
    Path(paths[2]).write_bytes(data)
    got, answer = found(
        tmp_path,
        WhoQuery(
            who.parse_end("192.0.2.1:40000"), T + int(2.5 * HOUR), T + int(2.5 * HOUR) + SECOND
        ),
    )
    assert got or not answer.verdict.proved


def test_only_near_segments_are_opened(tmp_path: Path) -> None:
    record(tmp_path, flows(7, 300), hours=30, stamped=True)
    at = T + 20 * HOUR + HOUR // 2
    _, answer = found(tmp_path, WhoQuery(who.parse_end("192.0.2.1:40000"), at, at + SECOND))
    assert answer.stats.segments <= 3


@pytest.mark.parametrize(
    ("text", "family", "ports"),
    [
        ("192.0.2.1:80", 2, ((80, 80),)),
        ("192.0.2.1", 2, ()),
        ("[2001:db8::1]:80", 10, ((80, 80),)),
        ("2001:db8::1", 10, ()),
        ("[2001:db8::1]", 10, ()),
    ],
)
def test_ends_as_people_write_them(text: str, family: int, ports: Any) -> None:
    term = who.parse_end(text)
    assert (term.networks[0].family, term.ports) == (family, ports)


def test_names_are_no_addresses() -> None:
    with pytest.raises(UsageError):
        who.parse_end("somewhere:80")
