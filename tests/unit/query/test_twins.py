"""Recorders side by side: each flow is listed once, whatever each of them missed."""

from __future__ import annotations

import itertools
import random
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ctrecorder.beside import agreement, twins
from ctrecorder.beside.twins import Twins
from ctrecorder.columns import TUPLE, Source, Table, bits, concat
from ctrecorder.ctlog.frame import Kind, Mark, row_times
from ctrecorder.ctlog.header import Header
from ctrecorder.ctlog.predicate import Query
from ctrecorder.maintain.ordering import RESOLUTIONS
from ctrecorder.maintain.squeeze import SqueezeOptions, squeeze
from ctrecorder.query.connections import list_connections
from ctrecorder.query.open import open_archive
from ctrecorder.segment.writer import SegmentWriter
from tests.support.slow_pairing import DESTROY, EXISTING, NEW, SECOND, V4, V6, Row, T, row, table

MS = SECOND // 1000
LONG = 600 * SECOND
BOOT, NETNS = "boot", "4:4026531840"


@dataclass(frozen=True)
class Flow:
    """The truth of one flow; `port` is its tuple."""

    port: int
    id: int
    start: int
    end: int

    @property
    def protocol(self) -> int:
        return 6 if self.port % 2 else 17

    @property
    def family(self) -> int:
        return V6 if self.port % 3 == 0 else V4


@dataclass
class Recording:
    """A recorder: what it hears, and how it writes that.

    `spans`: times of its segments, each from its dump on; between two of them it may be down.
    `protocol`: the only one that it records; 0: all.
    `squeezed`: a resolution for each segment, "" for a raw one.
    `lag`: of its times of receipt, ns.
    `deaf`: it lost the events of this time.
    """

    spans: list[tuple[int, int]]
    squeezed: list[str] = field(default_factory=list)
    protocol: int = 0
    lag: int = 0
    boot: str = BOOT
    netns: str = NETNS
    deaf: tuple[int, int] = (0, 0)
    heard: set[Flow] = field(default_factory=set)

    def event(self, flow: Flow, kind: int, time: int, stamps: dict[str, int]) -> Row:
        self.heard.add(flow)
        made = row(
            kind,
            time + self.lag,
            family=flow.family,
            id=flow.id,
            orig_sport=flow.port,
            l4proto=flow.protocol,
            **stamps,
        )
        made["present"] |= bits(TUPLE)
        return made

    def write(
        self, folder: Path, name: str, flows: list[Flow], stamped: bool, first: int = 0
    ) -> list[str]:
        """The segments as files; `first`: the number of the first of its chain."""
        paths, previous = [], bytes(16)
        flows = [flow for flow in flows if self.protocol in (0, flow.protocol)]
        for number, (begin, end) in enumerate(self.spans, first):
            path = str(folder / f"{name}-{number}.ctlog")
            header = Header(chain=name, sequence=number + 1, boot_id=self.boot, netns=self.netns)
            writer = SegmentWriter.create(path, header, previous, time_ns=begin)
            if (number == first) or self.spans[number - first - 1][1] != begin:
                writer.mark(Mark.at(begin, "start"))
            dump = [
                self.event(flow, EXISTING, begin, {"start": flow.start} if stamped else {})
                for flow in flows
                if flow.start < begin < flow.end
            ]
            append(writer, dump)
            facts = {"rows": len(dump), "complete": True}
            writer.mark(Mark(begin, begin + self.lag + 1, "dump", facts))
            news = [
                self.event(flow, NEW, flow.start, {}) for flow in flows if begin <= flow.start < end
            ]
            ends = [
                self.event(
                    flow,
                    DESTROY,
                    flow.end,
                    {"start": flow.start, "stop": flow.end} if stamped else {},
                )
                for flow in flows
                if begin <= flow.end < end
            ]
            events = [
                one
                for one in (*news, *ends)
                if not self.deaf[0] <= one["time"] - self.lag < self.deaf[1]
            ]
            append(writer, sorted(events, key=lambda one: int(one["time"])))
            writer.mark(Mark.at(end, "heartbeat"))
            previous = writer.close()
            resolution = self.squeezed[number - first] if self.squeezed else ""
            if resolution:
                squeeze(path, SqueezeOptions(resolution=resolution))
            paths.append(path)
        return paths


def append(writer: SegmentWriter, rows: list[Row]) -> None:
    for family in (V4, V6):
        of_family = [one for one in rows if one["family"] == family]
        if of_family:
            writer.append(table(of_family))


def listed(
    recordings: list[Recording], flows: list[Flow], stamped: bool = True, *, by_end: bool = False
) -> list[dict[str, int]]:
    """The connections, in the order in which they are listed."""
    names = ("orig_sport", "start", "start_source", "end", "end_source", "seen", "id", "status")
    with tempfile.TemporaryDirectory() as folder:
        paths = [
            path
            for number, one in enumerate(recordings)
            for path in one.write(Path(folder), f"r{number}", flows, stamped)
        ]
        random.Random(len(flows)).shuffle(paths)
        archive = open_archive(paths, Query())
        try:
            found: list[dict[str, int]] = []
            for batch in list_connections(archive, names, by_end=by_end):
                rows = [
                    dict(zip(names, values, strict=True))
                    for each in batch.tables
                    for values in zip(*(each[name].tolist() for name in names), strict=True)
                ]
                times = [row_times(Kind.CONNECTIONS, each) for each in batch.tables]
                order = batch.order
                if order is None:
                    order = np.argsort(np.concatenate(times), kind="stable")
                found += [rows[number] for number in order]
            assert archive.findings == []
            return found
        finally:
            archive.close()


def check(found: list[dict[str, int]], recordings: list[Recording], tolerance: int) -> None:
    """Each flow that a recorder heard of is listed once, with its times where they are known."""
    heard = set().union(*(one.heard for one in recordings))
    for port in {flow.port for flow in heard} | {one["orig_sport"] for one in found}:
        truth = sorted((one for one in heard if one.port == port), key=lambda one: one.start)
        rows = [one for one in found if one["orig_sport"] == port]
        rows.sort(key=lambda one: one["start"] or one["end"])
        assert len(rows) == len(truth), port
        # Starts that two recorders received can be in another order: lags differ.
        for flow in truth:
            fitting = [one for one in rows if fits(one, flow, tolerance)]
            assert fitting, port
            rows.remove(fitting[0])


def fits(one: dict[str, int], flow: Flow, tolerance: int) -> bool:
    """Whether a connection has the times of the flow, as far as they are known."""
    bound = one["start_source"] in (Source.BOUND, Source.UNKNOWN)
    start, end = one["start"] - flow.start, one["end"] - flow.end
    if one["start"] and (start < -tolerance or (start > tolerance and not bound)):
        return False
    known = one["end_source"] in (Source.KERNEL, Source.RECEIPT)
    return not one["end"] or (end >= -tolerance and (end <= tolerance or not known))


def timeline(chance: random.Random, ports: int, count: int, least: int, ids: int) -> list[Flow]:
    """Flows that follow each other on each tuple, `least` ns apart at least, in LONG."""
    flows = []
    for port in range(1, ports + 1):
        now = T + chance.randrange(LONG // 4)
        for number in range(count):
            end = now + chance.choice([MS, SECOND, LONG // 8]) * chance.randrange(1, 4)
            flows.append(Flow(port, number % ids, now, end))
            now = end + least + chance.choice([0, least, LONG // 8])
    return flows


def recording(chance: random.Random, resolutions: list[str], *, whole: bool) -> Recording:
    """A recorder with up to four segments, which can be down between two of them."""
    cuts = sorted(chance.sample(range(1, 100), 3))
    bounds = [T - SECOND, *(T + cut * LONG // 50 for cut in cuts), T + 2 * LONG]
    spans = list(itertools.pairwise(bounds))
    if not whole:
        spans = spans[chance.randrange(2) : 4 - chance.randrange(2)]
        spans = [(a, b - chance.choice([0, (b - a) // 3])) for a, b in spans]
    return Recording(
        spans,
        [chance.choice(resolutions) for _ in spans],
        0 if whole else chance.choice([0, 0, 6, 17]),
        chance.randrange(SECOND // 2),
    )


@pytest.mark.slow
@given(
    seed=st.integers(0, 1 << 32),
    recorders=st.integers(1, 4),
    stamped=st.booleans(),
    resolution=st.sampled_from(["", "us", "ms", "s"]),
)
@example(seed=1, recorders=2, stamped=False, resolution="s")
@example(seed=2, recorders=3, stamped=True, resolution="ms")
@example(seed=19, recorders=4, stamped=True, resolution="us")
def test_each_flow_is_listed_once(
    seed: int, recorders: int, stamped: bool, resolution: str
) -> None:
    chance = random.Random(seed)
    # Flows that follow each other faster than this cannot be told apart, where not all heard all.
    least = 12 * SECOND
    flows = timeline(chance, 6, 8, least, 3 if stamped else 1000)
    recordings = [recording(chance, ["", resolution], whole=False) for _ in range(recorders)]
    found = listed(recordings, flows, stamped)
    times = [one["start"] or one["end"] for one in found]
    assert times == sorted(times)
    check(found, recordings, 2 * SECOND)


@pytest.mark.slow
@given(
    seed=st.integers(0, 1 << 32),
    stamped=st.booleans(),
    resolution=st.sampled_from(["", "us", "ms", "s"]),
)
@example(seed=24604, stamped=False, resolution="us")
@example(seed=160922248, stamped=False, resolution="us")
@example(seed=2245999519, stamped=False, resolution="ms")
@example(seed=2792084746, stamped=True, resolution="s")
def test_as_one_recorder(seed: int, stamped: bool, resolution: str) -> None:
    """Recorders that heard all give the list of one, though tuples and ids come again at once."""
    chance = random.Random(seed)
    flows = timeline(chance, 3, 20, 2 * MS, 2)
    one, *others = (recording(chance, ["", resolution], whole=True) for _ in range(3))
    for number, each in enumerate(others):
        each.squeezed = each.squeezed if number else []
        each.spans = [(T - SECOND, T + 2 * LONG)] if number else each.spans
    for each in (one, *others):
        each.lag //= 10
    alone = listed([one], flows, stamped)
    for by_end in (False, True):
        again = listed([one, *others], flows, stamped, by_end=by_end)
        assert len(again) == len(alone) == len(one.heard)
        assert {each["seen"] for each in again if each["end"]} <= {1 | 4, 1 | 4 | 8}
    if resolution in ("", "us", "ms"):
        check(listed([one, *others], flows, stamped), [one], SECOND)


@pytest.mark.slow
@given(
    seed=st.integers(0, 1 << 32),
    stamped=st.booleans(),
    resolution=st.sampled_from(["", "us", "ms"]),
)
def test_in_doubt_connections_stay_apart(seed: int, stamped: bool, resolution: str) -> None:
    """Beside a recorder that heard all, the other ones were down: no flow hides another."""
    chance = random.Random(seed)
    # Without kernel times, a recorder that was down cannot tell two flows of one id apart.
    flows = timeline(chance, 3, 20, 2 * MS, 2 if stamped else 1000)
    recordings = [recording(chance, ["", resolution], whole=each) for each in (True, False, False)]
    found = listed(recordings, flows, stamped)
    heard = recordings[0].heard
    known = (Source.KERNEL, Source.RECEIPT)
    for port in {flow.port for flow in heard}:
        truth = [flow for flow in heard if flow.port == port]
        rows = [one for one in found if one["orig_sport"] == port]
        assert len(rows) >= len(truth)
        spans = {
            (one["start"], one["end"] if one["end_source"] in known else 0)
            for one in rows
            if one["start_source"] in known
        }
        for flow in truth:
            assert any(near(flow, *span) for span in spans)
        for span in spans:
            assert any(near(flow, *span) for flow in truth)


def near(flow: Flow, start: int, end: int) -> bool:
    """Whether a connection has the times of the flow; `end`: 0 if it is not known."""
    return abs(start - flow.start) <= SECOND and (not end or abs(end - flow.end) <= SECOND)


def whole(**options: Any) -> Recording:
    return Recording([(T - SECOND, T + 2 * LONG)], **options)


@pytest.mark.parametrize("stamped", [False, True])
@pytest.mark.parametrize("squeezed", ["", "us", "s"])
@pytest.mark.parametrize("late", [False, True])
def test_a_thousand_flows_of_one_tuple_and_id(stamped: bool, squeezed: str, late: bool) -> None:
    flows = [Flow(1, 7, T + n * 40 * MS, T + n * 40 * MS + 20 * MS) for n in range(1000)]
    begin = T + 20 * SECOND + 30 * MS if late else T - SECOND
    second = Recording([(begin, T + LONG)], [squeezed], lag=3 * MS)
    assert len(listed([whole(), second], flows, stamped)) == 1000


@pytest.mark.parametrize("squeezed", ["", "us"])
@pytest.mark.parametrize("again", ["", "us", "s"])
@pytest.mark.parametrize("stamped", [False, True])
def test_a_dump_ends_flows_of_the_segment_before(squeezed: str, again: str, stamped: bool) -> None:
    """In a squeezed segment, the dump comes after the NEW of the next flow of the key."""
    flows = [
        Flow(1, 7, T + 50 * SECOND, T + 150 * SECOND),
        Flow(1, 7, T + 300 * SECOND, T + 500 * SECOND),
    ]
    spans = [(T - SECOND, T + 100 * SECOND), (T + 200 * SECOND, T + 400 * SECOND)]
    first, second = listed([Recording(spans, [squeezed, again])], flows, stamped)
    assert first["start"] // SECOND == flows[0].start // SECOND
    assert second["start"] // SECOND == flows[1].start // SECOND


@pytest.mark.parametrize("squeezed", [("s", ""), ("s", "s")])
@pytest.mark.parametrize("first", [0, 1])
def test_flows_of_one_second_that_both_know_to_be_open_are_one(
    squeezed: tuple[str, str], first: int
) -> None:
    """An open one has its id; of those that ended it was dropped: it can seem to be the first, and
    then one that is open has the end of another.
    """
    second = T + 5 * SECOND
    flows = [
        Flow(1, 7, second, second + 2 * MS),
        Flow(1, 8, second + 6 * MS, second + 9 * MS),
        Flow(1, 7, second + 12 * MS, T + LONG),
    ]
    # Two segments: the dump between them has the open flow, with its start.
    spans = [(T - SECOND, T + 20 * SECOND), (T + 20 * SECOND, T + 30 * SECOND)]
    recordings = [Recording([*spans], [*squeezed], lag=3 * MS), Recording([*spans])]
    recordings[first].spans[0] = T - 2 * SECOND, T + 20 * SECOND
    found = listed(recordings, flows)
    assert sorted(one["end"] // SECOND * SECOND for one in found) == [0, second, second]


@pytest.mark.parametrize("resolution", ["", "us", "ms", "s"])
def test_receipts_that_differ_as_much_as_one_can_be_late(resolution: str) -> None:
    """Squeezing drops the ids, which would tell."""
    flows = [Flow(1, n, T + n * 20 * SECOND, T + n * 20 * SECOND + 9 * MS) for n in range(1, 9)]
    late = Recording([(T - SECOND, T + LONG)], [resolution], lag=1499 * MS)
    assert len(listed([whole(squeezed=[resolution]), late], flows, stamped=False)) == len(flows)


@pytest.mark.parametrize("resolution", ["", "us", "ms", "s"])
@pytest.mark.parametrize("lag", [1700, 3000, 4900])
def test_a_recorder_that_was_seconds_late(resolution: str, lag: int) -> None:
    """Without ids and times of the kernel, lives tell: a table has one flow of a tuple at once."""
    flows = [Flow(1, n, T + n * 20 * SECOND, T + (n * 20 + 19) * SECOND) for n in range(1, 9)]
    late = Recording([(T - SECOND, T + LONG)], [resolution], lag=lag * MS)
    found = listed([whole(squeezed=[resolution]), late], flows, stamped=False)
    assert len(found) == len(flows)


@pytest.mark.parametrize("life", [4, 9])
def test_a_flow_that_follows_is_not_one_with_the_flow_before_it(life: int) -> None:
    """Each recorder lost another one of two flows; by its times, the late one heard the first while
    the second was there.
    """
    begin = T + 123_456_789  # a whole second looks rounded
    border = begin + life * SECOND
    flows = [
        Flow(1, 7, begin, border),
        Flow(1, 8, border + 5 * MS, border + (life + 2) * SECOND),
    ]
    spans = [(T - SECOND, T + LONG)]
    late = Recording(spans, ["us"], lag=4 * SECOND, deaf=(border + MS, T + LONG))
    other = Recording(spans, ["us"], deaf=(T - SECOND, border + MS))
    assert len(listed([late, other], flows, stamped=False)) == 2


@pytest.mark.parametrize("ended", [True, False])
@pytest.mark.parametrize("squeezed", ["", "us"])
def test_recorders_that_did_not_run_at_one_time_heard_no_event_together(
    squeezed: str, ended: bool
) -> None:
    """One tuple and id twice within seconds: the flow of the second recorder was gone, because it
    was killed before the flow ended.
    """
    border = T + 3 * SECOND
    first = Flow(2, 1, T + 2 * SECOND, T + 29 * SECOND // 10)
    second = Flow(2, 1, T + 4 * SECOND, T + 45 * SECOND // 10 if ended else T + LONG)
    kept = [squeezed] if squeezed else []
    recordings = [
        Recording([(T, border)], kept),
        Recording([(border + MS, border + 3 * SECOND)], kept),
    ]
    found = listed(recordings, [first, second], stamped=False)
    assert sorted(one["start"] for one in found) == [first.start, second.start]
    check(found, recordings, SECOND if squeezed else 0)


@pytest.mark.parametrize("squeezed", ["", "us"])
def test_what_a_dump_has_after_a_restart_is_not_the_flow_that_ended_before(squeezed: str) -> None:
    """One tuple and id twice: the second flow began while no recorder ran, and was killed in."""
    first = Flow(2, 1, T + 2 * SECOND, T + 29 * SECOND // 10)
    second = Flow(2, 1, T + 31 * SECOND // 10, T + LONG)
    spans = [(T, T + 3 * SECOND), (T + 4 * SECOND, T + 6 * SECOND)]
    one = Recording(spans, [squeezed] * 2 if squeezed else [])
    found = listed([one], [first, second], stamped=False)
    assert len(found) == 2
    check(found, [one], SECOND if squeezed else 0)


def test_a_flow_that_lived_on_is_not_the_one_of_its_second_that_ended() -> None:
    """Each recorder heard of another one of two flows of one second; the ids do not tell."""
    second = T + 5 * SECOND
    flows = [
        Flow(1, 7, second, second + 2 * MS),
        Flow(1, 8, second + 6 * MS, T + LONG),
    ]
    spans = [(T - SECOND, T + 20 * SECOND), (T + 20 * SECOND, T + 30 * SECOND)]
    ended = Recording([*spans], ["s", "s"], deaf=(second + 5 * MS, T + LONG))
    ended.spans = ended.spans[:1]
    opened = Recording([*spans], ["s", "s"], deaf=(second, second + 5 * MS))
    found = listed([ended, opened], flows)
    assert sorted(one["end"] // SECOND * SECOND for one in found) == [0, second + SECOND]


@pytest.mark.parametrize("resolution", ["", "us"])
def test_which_of_two_is_not_known(resolution: str) -> None:
    """Either of two flows can be the one that the other recorder heard of: all stay apart."""
    flows = [Flow(1, 7, T + n * 20 * MS, T + n * 20 * MS + 10 * MS) for n in range(2)]
    other = Recording([(T - SECOND, T + 15 * MS)], [resolution], lag=30 * MS)
    assert len(listed([whole(), other], flows, stamped=False)) == 3
    assert len(listed([whole(), other], flows, stamped=True)) == 2


@pytest.mark.parametrize("squeezed", ["", "us", "s"])
def test_receipts_that_differ_by_more_than_flows_are_apart(squeezed: str) -> None:
    """The order tells them apart."""
    flows = [Flow(1, 7, T + n * 4 * MS, T + n * 4 * MS + 2 * MS) for n in range(1000)]
    second = Recording([(T + 2001 * MS, T + LONG)], [squeezed], lag=30 * MS)
    assert 1000 <= len(listed([whole(), second], flows, stamped=False)) <= 1010


@pytest.mark.parametrize(
    ("boot", "netns"), [("other", NETNS), (BOOT, "4:7"), ("", NETNS), (BOOT, "")]
)
def test_two_tables_are_never_merged(boot: str, netns: str) -> None:
    flows = timeline(random.Random(5), 6, 8, SECOND, 3)
    first = whole()
    second = whole(boot=boot, netns=netns)
    assert len(listed([first, second], flows)) == 2 * len(flows)
    assert len(listed([second, whole(boot=boot, netns=netns)], flows)) == (
        len(flows) if boot and netns else 2 * len(flows)
    )


def test_a_recording_over_two_boots_has_two_tables(tmp_path: Path) -> None:
    """Beside it a recorder of the first boot: an equal flow of the second is no twin."""
    flow = Flow(1, 7, T + SECOND, T + 2 * SECOND)
    paths = whole().write(tmp_path, "a", [], True)
    later = Recording([(T - SECOND, T + LONG)], boot="later")
    paths += later.write(tmp_path, "a", [flow], True, first=1)
    paths += whole().write(tmp_path, "b", [flow], True)
    assert count(paths) == 2


def test_the_window_is_that_of_the_merged_flow(tmp_path: Path) -> None:
    """Only one of the recorders knows that the flow ended before the window."""
    flow = Flow(1, 7, T + SECOND, T + 100 * SECOND)
    lost = whole(deaf=(T + 90 * SECOND, T + 110 * SECOND)).write(tmp_path, "a", [flow], True)
    both = [*lost, *whole().write(tmp_path, "b", [flow], True)]
    assert count(lost, T + 200 * SECOND) == 1
    assert count(both, T + 90 * SECOND) == 1
    assert count(both, T + 200 * SECOND) == 0


def count(paths: list[str], since: int = 0) -> int:
    """How many connections are listed."""
    archive = open_archive(paths, Query(since=since))
    try:
        return sum(
            len(each) for batch in list_connections(archive, ("id",)) for each in batch.tables
        )
    finally:
        archive.close()


def test_the_best_of_both(tmp_path: Path) -> None:
    """The squeezed row has no id, the raw one no end: the flow has both."""
    flow = Flow(1, 7, T + SECOND + 123_456_789, T + 100 * SECOND)
    cut = Recording([(T, T + 50 * SECOND)], lag=MS)
    for recordings in ([cut, whole(squeezed=["s"])], [whole(squeezed=["s"]), cut]):
        (found,) = listed(recordings, [flow])
        assert found["id"] == 7
        assert (found["start_source"], found["end_source"]) == (Source.KERNEL, Source.KERNEL)
        assert (found["start"], found["end"]) == (T + SECOND, flow.end)
    raw, dumped = whole(), Recording([(T + 50 * SECOND, T + LONG)], ["ms"])
    (found,) = listed([raw, dumped], [flow])
    assert (found["start"], found["seen"]) == (flow.start, 1 | 4 | 8)


def test_what_cannot_be_one_flow_is_not() -> None:
    """Each recorder missed the flow of the other one; ids are equal."""
    first, second = Flow(1, 7, T, T + SECOND), Flow(1, 7, T + 30 * SECOND, T + 31 * SECOND)
    one = Recording([(T - SECOND, T + 10 * SECOND)])
    other = Recording([(T + 20 * SECOND, T + LONG)])
    for stamped in (False, True):
        assert len(listed([one, other], [first, second], stamped)) == 2


def test_rounding_is_that_of_ctsqueeze() -> None:
    assert (1, *RESOLUTIONS.values()) == agreement.ROUNDING_NS


def many(seed: int, rows: int) -> Table:
    """Whole connections of some tuples, by start."""
    chance = np.random.default_rng(seed)
    start = T + np.sort(chance.integers(0, 3600 * SECOND, rows))
    source = chance.choice(np.array([Source.KERNEL, Source.BOUND], np.uint8), rows)
    return Table(
        V4,
        rows,
        {
            "orig_sport": (np.arange(rows) % 50_000).astype(np.uint16),
            "l4proto": (np.arange(rows) // 50_000).astype(np.uint8),
            "start": start,
            "start_source": source,
            "end": start + SECOND,
            "end_source": np.full(rows, Source.KERNEL, np.uint8),
            "seen": np.full(rows, 5, np.uint8),
            "present": np.zeros(rows, np.uint32),
        },
    )


@pytest.mark.slow
@pytest.mark.parametrize("batch_rows", [64, 1000, 1 << 16])
def test_batches_do_not_matter(monkeypatch: pytest.MonkeyPatch, batch_rows: int) -> None:
    """Order by start, each flow once, though rows of a flow come in different batches."""
    monkeypatch.setattr(twins, "_BATCH_ROWS", batch_rows)
    made = many(1, 20_000)
    late = Table(
        V4,
        len(made),
        {
            **made.columns,
            "start": made["start"] + 600 * SECOND,
            "end": made["end"] + 600 * SECOND,
            "start_source": np.full(len(made), Source.BOUND, np.uint8),
        },
    )
    # A flow of the first recorder lasts for longer than its twin was seen.
    first = Table(V4, len(made), {**made.columns, "end": late["end"]})
    # The third one has times of receipt.
    received = np.full(len(made), Source.RECEIPT, np.uint8)
    third = {"start": made["start"] + SECOND // 20, "end": late["end"] + SECOND // 20}
    third |= {"start_source": received, "end_source": received}
    merger = Twins([0, 0, 0])
    tables = [first, late, Table(V4, len(made), {**made.columns, **third})]
    rest = concat([merger.add(number, table) for number, table in enumerate(tables)])
    rest = rest.take(np.argsort(row_times(Kind.CONNECTIONS, rest), kind="stable"))
    out: list[Table] = []
    for at in range(0, len(rest), 100):
        out += merger.feed([rest.slice(at, at + 100)])
    out += merger.finish()
    assert sum(map(len, out)) == len(made)
    times = np.concatenate([each["start"] for each in out])
    assert (times[1:] >= times[:-1]).all()
    assert "stop" not in out[0]


def test_late_rows_are_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    """More of them are compared with their neighbours in time only: no flow is lost."""
    monkeypatch.setattr(twins, "_MAX_LATE_ROWS", 10)
    made, merger = many(2, 1000), Twins([0, 0])
    parts = [made.slice(at, at + 100) for at in range(0, 1000, 100)]
    rest = [merger.add(number, part) for part in parts for number in (0, 1)]
    assert sum(map(len, rest)) > 1000
    rows = concat(rest)
    rows = rows.take(np.argsort(row_times(Kind.CONNECTIONS, rows), kind="stable"))
    assert 1000 <= sum(map(len, [*merger.feed([rows]), *merger.finish()])) < 1100
