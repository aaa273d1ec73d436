"""Segments that forked processes read: as if this one had read them, or an error."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ctrecorder import spill
from ctrecorder.ctlog.predicate import Query
from ctrecorder.ends import Inside
from ctrecorder.errors import ArchiveError, FormatError
from ctrecorder.findings import damage
from ctrecorder.maintain.squeeze import SqueezeOptions, squeeze
from ctrecorder.pairs import readers
from ctrecorder.pairs.readers import Readers
from ctrecorder.query.connections import count_connections, list_connections
from ctrecorder.query.open import open_archive
from ctrecorder.segment.reader import Segment
from ctrecorder.segment.recording import Recording
from ctrecorder.tops import count as tops_count
from ctrecorder.tops import fields
from ctrecorder.tops.count import Tops
from tests.support.holders import Log, flows

HOURS = 8


@pytest.fixture(autouse=True)
def _always_forks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readers, "_LEAST_BYTES", 0)


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    made = Log(tmp_path_factory.mktemp("log"))
    made.write(flows(5, 400, HOURS), HOURS)
    return made.paths


@pytest.fixture(scope="module")
def squeezed(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The log as ctsqueeze leaves it, but for the last hour."""
    made = Log(tmp_path_factory.mktemp("squeezed"))
    made.write(flows(5, 400, HOURS), HOURS)
    for path in made.paths[:-1]:
        squeeze(path, SqueezeOptions())
    return made.paths


def children() -> set[str]:
    return set(Path(f"/proc/self/task/{os.getpid()}/children").read_text().split())


def listed(paths: list[str], jobs: int) -> tuple[list[bytes], str, list[str]]:
    """The rows, what was read, what was found."""
    archive = open_archive(paths, Query())
    names = ("orig_src", "orig_sport", "start", "end")
    rows = [
        table[name].tobytes()
        for batch in list_connections(archive, names, jobs=jobs)
        for table in batch.tables
        for name in names
    ]
    archive.close()
    return rows, str(archive.query.stats), list(map(str, archive.findings))


def counted(paths: list[str], jobs: int) -> list[object]:
    """The tops, what was read, what was found."""
    archive = open_archive(paths, Query())
    wanted = [fields.parse(text) for text in ("port", "src,proto", "hour")]
    tops = Tops(wanted, fields.Measure.DURATION, Inside(), lambda at: at * 0, 0, spill.Store, jobs)
    count_connections(archive, tops.columns, tops.add, None, tops, jobs)
    archive.close()
    totals = tops.connections, tops.open, tops.whole, tops.unmeasured
    return [tops.best(1000), totals, str(archive.query.stats), list(map(str, archive.findings))]


@pytest.mark.parametrize("keys", [1 << 24, 1 << 10])
@pytest.mark.parametrize("jobs", [2, 3])
def test_they_change_no_top(
    squeezed: list[str], monkeypatch: pytest.MonkeyPatch, jobs: int, keys: int
) -> None:
    """Also where the keys of each process wait in files."""
    before = children()
    expected = counted(squeezed, 1)
    assert isinstance(expected[1], tuple)
    assert expected[1][0] > 300
    monkeypatch.setattr(tops_count, "_KEYS_BYTES", keys)
    assert counted(squeezed, jobs) == expected
    assert children() == before


@pytest.mark.parametrize("jobs", [2, 3, 8])
def test_they_change_no_list(log: list[str], jobs: int) -> None:
    before = children()
    assert listed(log, jobs) == listed(log, 1)
    assert children() == before


def test_damage_that_they_find_is_told(log: list[str], tmp_path: Path) -> None:
    paths = []
    for number, path in enumerate(log):
        data = bytearray(Path(path).read_bytes())
        if number == 3:
            with Segment(path) as segment:
                block = max(segment.blocks, key=lambda one: one.rows)
                data[block.offset + segment.frame(block).length] ^= 1
        paths.append(str(tmp_path / Path(path).name))
        Path(paths[-1]).write_bytes(data)
    one, two = listed(paths, 1), listed(paths, 2)
    assert one == two
    assert len(two[2]) == 1


def reading(segments: list[Segment], what: Any) -> list[Any]:
    found = []
    with Readers(segments, 2, what) as forked:
        for segment in segments:
            found += list(forked.read(segment))
    return found


def test_a_killed_process_is_an_error(log: list[str]) -> None:
    """Not the end of the list."""
    parent = os.getpid()

    def killed(segment: Recording) -> Iterator[int]:
        yield 1
        if os.getpid() != parent and segment.path == log[4]:
            os.kill(os.getpid(), signal.SIGKILL)

    segments = [Segment(path) for path in log]
    before = children()
    with pytest.raises(ArchiveError, match=r"was killed, .*fewer at once"):
        reading(segments, killed)
    assert children() == before


def test_what_fails_in_a_process_fails_here(log: list[str]) -> None:
    def fails(segment: Recording) -> Iterator[int]:
        segment.findings.append(damage(FormatError("x", path=segment.path, offset=7)))
        yield os.getpid()
        if segment.path == log[-1]:
            raise FormatError("the file was changed", path=segment.path, offset=9)

    segments = [Segment(path) for path in log]
    with pytest.raises(ArchiveError, match=r"c-07.*: at byte 9: the file was changed"):
        reading(segments, fails)
    assert [len(one.findings) for one in segments] == [1] * HOURS


def test_each_has_its_share(log: list[str]) -> None:
    def who(_: Recording) -> Iterator[int]:
        yield os.getpid()

    pids = reading([Segment(path) for path in log], who)
    assert len(set(pids)) == 2
    assert os.getpid() not in pids


def test_an_early_end_leaves_no_process(log: list[str]) -> None:
    """Although their pipes are full."""

    def much(_: Recording) -> Iterator[bytes]:
        yield bytes(1 << 20)

    segments = [Segment(path) for path in log]
    before = children()
    with Readers(segments, 2, much) as forked:
        assert next(forked.read(segments[0])) == bytes(1 << 20)
        assert len(children() - before) == 2
    assert children() == before


def test_little_is_read_here(log: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readers, "_LEAST_BYTES", 1 << 30)
    assert set(reading([Segment(path) for path in log], lambda _: iter([os.getpid()]))) == {
        os.getpid()
    }
