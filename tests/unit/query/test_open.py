"""Which segments a question opens: those that it reads."""

from __future__ import annotations

from pathlib import Path

import pytest

from ctrecorder.archive import find
from ctrecorder.archive.open import Opener
from ctrecorder.ctlog.predicate import Query, Term
from ctrecorder.maintain.squeeze import SqueezeOptions, squeeze
from ctrecorder.query.connections import list_connections
from ctrecorder.query.events import list_events
from ctrecorder.query.open import open_archive
from ctrecorder.query.parse import parse_network
from ctrecorder.segment.recording import Recording
from ctrecorder.times import HOUR
from tests.support.holders import Log, T, flows

HOURS = 12


class Counting(Opener):
    """Knows which segments it opened."""

    def __init__(self) -> None:
        self.paths: list[str] = []

    def open(self, path: str) -> Recording:
        self.paths.append(Path(path).name)
        return super().open(path)


@pytest.fixture(scope="module", params=["raw", "squeezed"])
def log(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Twelve hours; many connections end hours after they began."""
    made = Log(tmp_path_factory.mktemp("log"))
    made.write(flows(3, 300, HOURS), HOURS)
    if request.param == "squeezed":
        for path in made.paths:
            squeeze(path, SqueezeOptions("ms"))
    return made.paths


def listed(
    paths: list[str], query: Query, *, spans: bool, connections: bool
) -> tuple[list[bytes], list[str]]:
    """The rows, and the segments that were opened."""
    opener, folder = Counting(), str(Path(paths[0]).parent)
    found = find.find([folder], spans=True)
    archive = open_archive(
        found.segments, query, opener, spans=found.spans if spans else (), follow=connections
    )
    names = ("orig_src", "orig_sport", "start", "end", "time", "event")
    kind = list_connections if connections else list_events
    rows = [
        table[name].tobytes()
        for batch in kind(archive, names)
        for table in batch.tables
        for name in names
    ]
    archive.close()
    return rows, opener.paths


@pytest.mark.parametrize("connections", [True, False])
@pytest.mark.parametrize("address", ["10.0.0.1", "10.0.0.4", "0.0.0.0/0", ""])
@pytest.mark.parametrize(("first", "last"), [(0, 1), (4, 5), (4, 8), (11, 12), (20, 21)])
def test_what_is_not_opened_changes_no_list(
    log: list[str], first: int, last: int, address: str, *, connections: bool
) -> None:
    terms = (Term(networks=(parse_network(address),)),) if address else ()
    query = Query(since=T + first * HOUR, until=T + last * HOUR, terms=terms)
    rows, all_paths = listed(log, query, spans=False, connections=connections)
    fewer, opened = listed(log, query, spans=True, connections=connections)
    assert fewer == rows
    assert len(all_paths) == HOURS
    # A squeezed segment begins with its oldest connection.
    assert len(opened) < HOURS or first == 0


@pytest.mark.parametrize("log", ["raw"], indirect=True)
def test_segments_after_the_window_are_opened_while_a_connection_is_open(log: list[str]) -> None:
    """None is, if nothing was open."""
    for address, most in (("10.9.9.9", 2), ("10.0.0.1", HOURS)):
        query = Query(
            since=T + 1, until=T + HOUR, terms=(Term(networks=(parse_network(address),)),)
        )
        opener = Counting()
        found = find.find([str(Path(log[0]).parent)], spans=True)
        archive = open_archive(found.segments, query, opener, spans=found.spans)
        before = len(opener.paths)
        assert len(archive.later) == HOURS - before
        assert len(archive.spans) == HOURS
        for _ in list_connections(archive, ("start", "end")):
            pass
        assert opener.paths == sorted(opener.paths)
        assert before <= len(opener.paths) <= most
        assert (len(opener.paths) > before) == (address == "10.0.0.1")
        archive.close()


def test_a_copy_means_that_all_are_opened(log: list[str], tmp_path: Path) -> None:
    """Which of two copies is whole is seen only when both are open."""
    for path in [*log, log[-1]]:
        (tmp_path / f"{len(list(tmp_path.iterdir()))}.ctlog").write_bytes(Path(path).read_bytes())
    query = Query(until=T + HOUR, terms=(Term(networks=(parse_network("10.9.9.9"),)),))
    found = find.find([str(tmp_path)], spans=True)
    archive = open_archive(found.segments, query, spans=found.spans)
    assert (len(archive.segments), len(archive.copies), archive.later) == (HOURS, 1, [])
    archive.close()
