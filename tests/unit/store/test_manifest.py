"""The list of a database: each line has its form, and what does not count is told."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from ctrecorder.archive.selection import selectors
from ctrecorder.errors import ArchiveError, UsageError
from ctrecorder.shipping.results import TargetError
from ctrecorder.shipping.server import RefusedError, Server
from ctrecorder.store import manifest
from ctrecorder.store.manifest import Place, place
from ctrecorder.times import BEGIN, END

UPLOAD = "00112233-4455-6677-8899-aabbccddeeff"
CHAIN, HASH = "0123456789abcdef", "ab" * 16
FIELDS = ("edge1", CHAIN, "7", UPLOAD, HASH, "5", "1000", "900", "2000", "2", "0", "5", "0")


@dataclass(frozen=True)
class Told(Server):
    """A server that says one thing."""

    says: bytes = b""
    error: TargetError | None = None

    def ask(self, query: str, most: int = 0) -> bytes:
        if self.error is not None:
            raise self.error
        return self.says


def saying(*lines: str, error: TargetError | None = None) -> Place:
    there = place("clickhouse://store:8123/log")
    data = "".join(f"{line}\n" for line in lines).encode()
    return Place(there.text, Told(there.server.target, "", data, error))


def line(**changed: str) -> str:
    names = ("router", "chain", "sequence", "upload", "hash", "rows", "recorded", "begin", "end")
    named = (
        dict(zip((*names, "version", "old", "stored", "replaced"), FIELDS, strict=True)) | changed
    )
    return "\t".join(named.values())


def test_a_segment() -> None:
    found = manifest.read(saying(line()))
    ((path, entry),) = found.entries.items()
    assert path == f"clickhouse://store:8123/log/edge1/{CHAIN}/00000007-{HASH[:16]}.ctlog"
    assert (entry.upload, entry.last_hash, entry.rows, entry.why_not) == (UPLOAD, HASH, 5, "")
    span = entry.span
    assert (span.begin, span.end, span.recorded, span.sequence) == (900, 2000, 1000, 7)
    assert span.chain == f"edge1/{CHAIN}"
    assert not found.expired


def test_one_without_a_chain_has_no_number_in_it() -> None:
    ((path, entry),) = manifest.read(saying(line(chain=""))).entries.items()
    assert "/0000000000000000/" in path
    assert (entry.span.chain, entry.span.sequence) == ("", 0)


def test_rows_that_are_not_there_and_rows_that_the_law_took() -> None:
    (entry,) = manifest.read(saying(line(stored="3"))).entries.values()
    assert entry.why_not == "3 of 5 rows are there"
    (entry,) = manifest.read(saying(line(stored="0"))).entries.values()
    assert entry.why_not == "0 of 5 rows are there"
    (entry,) = manifest.read(saying(line(version="1"))).entries.values()
    assert "another version of ctship" in entry.why_not
    found = manifest.read(saying(line(stored="0", old="1", replaced="1")))
    assert found == manifest.Manifest({}, expired=True, replaced=True)
    assert len(manifest.read(saying(line(old="1"))).entries) == 1  # not deleted yet
    (entry,) = manifest.read(saying(line(end="9" * 19))).entries.values()
    assert entry.span.end == END


@pytest.mark.parametrize("far", ["9" * 19, f"-{'9' * 19}"])
@pytest.mark.parametrize("name", ["recorded", "begin", "end"])
def test_times_that_no_clock_has_are_the_nearest_that_one_has(name: str, far: str) -> None:
    ((path, entry),) = manifest.read(saying(line(**{name: far}))).entries.items()
    assert getattr(entry.span, name) == (BEGIN if far[0] == "-" else END)
    (selector,) = selectors([entry.span])
    assert selector.select(900, 2000, 1, 1).paths == [path]
    fields = ("edge1", CHAIN, "cd" * 16, HASH, far, far, "5", "9" * 19, "7")
    ((_, _, receipt),) = manifest.expired(saying("\t".join(fields)))
    assert receipt.since == getattr(entry.span, name)
    assert receipt.deleted == END


@pytest.mark.parametrize(
    "said",
    [
        line(router="../x"),
        line(router="replaced"),
        line(chain="x"),
        line(chain="../" * 5),
        line(upload="' OR 1"),
        line(hash="ab"),
        line(rows="-1"),
        line(recorded="1" * 20),
        line(old="2"),
        line()[:-2],
        f"{line()}\t1",
        "<html>",
        "",
    ],
)
def test_a_line_of_another_form_is_no_answer(said: str) -> None:
    with pytest.raises(ArchiveError, match="what it answers is no list of segments"):
        manifest.read(saying(line(), said))


def test_a_receipt() -> None:
    fields = ("edge1", CHAIN, "cd" * 16, f"{HASH} {'ef' * 16}", "900", "2000", "5", "3", "7")
    ((router, chain, receipt),) = manifest.expired(saying("\t".join(fields)))
    assert (router, chain) == ("edge1", f"edge1/{CHAIN}")
    assert receipt.hashes == [HASH, "ef" * 16]
    assert (receipt.since, receipt.until, receipt.previous_hash) == (900, 2000, "cd" * 16)
    assert receipt.deleted == 3 * 10**9


def test_tables_of_an_earlier_version_are_named() -> None:
    for code, said in (("47", "run what clickhouse.sql has"), ("60", "no such table")):
        refused = RefusedError("no such table", code)
        with pytest.raises(ArchiveError, match=said):
            manifest.read(saying(error=refused))
    with pytest.raises(ArchiveError, match="is away"):
        manifest.read(saying(error=TargetError("is away")))


@pytest.mark.parametrize(
    "text",
    [
        "clickhouse://h",
        "clickhouse://h/",
        "clickhouse://h/log/",
        "clickhouse://h/log/-x",
        "clickhouse://h/log/a/b",
        "clickhouse://h/lo'g",
        "clickhouse://-h/log",
        "clickhouse://h:99999/log",
        "ssh://h:/log",
        "/var/log",
    ],
)
def test_a_place_that_is_none(text: str) -> None:
    with pytest.raises(UsageError, match="is no database"):
        place(text)


def test_places() -> None:
    assert place("clickhouse://h/log").router == ""
    found = place("clickhouse://u@[2001:db8::1]:9/log/edge1", "/secret")
    assert (found.router, found.server.password_file) == ("edge1", "/secret")
    assert found.server.target.host == "u@[2001:db8::1]:9"
