"""One rule for "this segment follows that one": by any hash under which that one may be named."""

from __future__ import annotations

from pathlib import Path

import pytest

from ctrecorder import uapi
from ctrecorder.archive import chain
from ctrecorder.archive.chain import Link
from ctrecorder.archive.open import open_segment
from ctrecorder.check.repair import repair
from ctrecorder.ctlog.frame import NO_HASH
from ctrecorder.ctlog.header import Header
from ctrecorder.maintain.squeeze import SqueezeOptions, squeeze
from ctrecorder.segment.writer import SegmentWriter
from tests.support import tables
from tests.support.tables import NOON


def record(folder: Path, count: int) -> list[Path]:
    """`count` segments of one recording."""
    paths = [folder / f"{number}.ctlog" for number in range(count)]
    name, last_hash = None, NO_HASH
    for number, path in enumerate(paths):
        header = Header(chain="c", sequence=number + 1, previous=name)
        writer = SegmentWriter.create(str(path), header, last_hash, time_ns=NOON + number)
        writer.append(tables.events(uapi.AF_INET, 5, seed=number))
        name, last_hash = path.name, writer.close()
    return paths


def link_of(path: Path) -> Link:
    with open_segment(str(path)) as segment:
        return chain.link(segment)


def test_links_of_a_recording(tmp_path: Path) -> None:
    first, second, third = map(link_of, record(tmp_path, 3))
    assert (first.chain, first.sequence, first.previous) == ("c", 1, "")
    assert (third.chain, third.sequence, third.previous) == ("c", 3, "1.ctlog")
    assert chain.is_start(first.previous_hash)
    assert not chain.is_start(second.previous_hash)
    assert second.follows(first)
    assert third.follows(second)
    assert not third.follows(first)
    assert not first.follows(second)


def test_a_segment_follows_whatever_its_predecessor_became(tmp_path: Path) -> None:
    """Repaired, then squeezed: the old hashes stay valid, the newest is the first."""
    path, after = record(tmp_path, 2)
    new = tmp_path / "new.ctlog"
    raw = link_of(path)
    repair(str(path), str(new))
    repaired = link_of(new)
    squeeze(str(new), SqueezeOptions())
    squeezed = link_of(new)
    assert repaired.hashes[1:] == raw.hashes
    assert squeezed.hashes[1:] == (*raw.hashes, repaired.hashes[0])
    assert len(set(squeezed.hashes)) == 3
    assert all(link_of(after).follows(one) for one in (raw, repaired, squeezed))
    assert (squeezed.sequence, squeezed.previous_hash) == (raw.sequence, raw.previous_hash)


def test_what_replaces_a_segment_names_all_that_it_replaces(tmp_path: Path) -> None:
    (path,) = record(tmp_path, 1)
    squeeze(str(path), SqueezeOptions())
    with open_segment(str(path)) as segment:
        old, new = chain.successor(segment)
        assert (new.name, new.last_hash, new.rows) == ("0.ctlog", segment.last_hash.hex(), 5)
        assert (old,) == segment.header.replaces
        assert (new.state, new.bytes) == ("closed", path.stat().st_size)


@pytest.mark.parametrize(
    ("onward", "ends", "passed"),
    [
        ({}, set(), ["a"]),
        ({"a": "b"}, set(), ["a", "b"]),
        ({"a": "b", "b": "c"}, {"b"}, ["a", "b"]),
        ({"a": "b"}, {"a"}, ["a"]),
        ({"a": "b", "b": "a"}, set(), ["a", "b"]),
        ({"a": "a"}, set(), ["a"]),
    ],
)
def test_a_hash_is_traced_to_its_end(
    onward: dict[str, str], ends: set[str], passed: list[str]
) -> None:
    """Also where a forged list leads back to its start."""
    assert list(chain.trace("a", onward, ends)) == passed


def test_a_header_without_a_chain() -> None:
    assert chain.sequence(Header()) == 0
    assert chain.sequence(Header.from_json({"sequence": "7"})) == 0
    assert chain.sequence(Header(sequence=7)) == 7
