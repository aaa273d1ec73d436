"""Which files prove nothing: by their header, and by the ledgers beside them; and the answers that
rest on them.
"""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ctrecorder.asking import ctwho
from ctrecorder.check import verify
from ctrecorder.columns import Event
from ctrecorder.ctlog.header import Header
from ctrecorder.holders import who
from ctrecorder.listing import ctlist
from ctrecorder.sealing.imported import Claimed, Imports, line_of, lines_of
from ctrecorder.seals.ledger import NO_LINE, file_name, pack_line
from ctrecorder.segment.writer import SegmentWriter
from ctrecorder.times import HOUR, SECOND
from tests.support.rows import table
from tests.support.sealed import NOON, Recording

OURS, OTHER = "0" * 16, "f" * 16
# Of no connection that was recorded.
PUBLIC, PORT = "198.51.100.77", 40077
WARNED = "imported: proves nothing: 1 file without a seal: "


def test_where_nothing_is_sealed_only_what_ctrecord_did_not_record(tmp_path: Path) -> None:
    path = str(tmp_path / "a.ctlog")
    assert not Imports().has(path, is_chained=True, claimed=Claimed())
    assert Imports().has(path, is_chained=False, claimed=Claimed())


def test_beside_a_ledger_all_that_its_key_did_not_seal(tmp_path: Path) -> None:
    path, other = str(tmp_path / 'a"1.ctlog'), str(tmp_path / "b.ctlog")
    Path(path).touch()
    ledger(tmp_path, ("begin", {}), ("open", {"segment": Path(path).name}))
    imports = Imports()

    def has(path: str, *claims: Any) -> bool:
        return imports.has(path, is_chained=True, claimed=Claimed(*claims))

    assert has(path)
    assert has(path, OTHER)
    assert not has(path, OURS)
    assert not has(str(tmp_path / "other" / "a.ctlog"))
    assert has(other, OURS), "the ledger does not name it"
    assert has(other, OURS, 0, True)
    assert has(path, OURS, 0, False, True), "closed without a SEAL"
    assert not has(path, OURS, 0, True, True)


def test_a_name_counts_only_where_it_was_recorded(tmp_path: Path) -> None:
    """One that was squeezed to another name is known by its hash."""
    for name in "abcdef":
        (tmp_path / name).touch()
    ledger(
        tmp_path,
        ("begin", {}),
        ("open", {"segment": "b", "was": "a"}),
        ("close", {"segment": "c", "last_hash": "1" * 32}),
        ("next", {"segment": "d", "seal": "2" * 32, "next": 2}),
        ("receipt", {"segment": "e", "line": "3" * 32}),
        ("squeeze", {"segment": "c", "last_hash": "4" * 32, "replaced": "1" * 32}),
    )
    known = [
        name
        for name in "abcdef"
        if not Imports().has(
            str(tmp_path / name), is_chained=True, claimed=Claimed(OURS, has_seal=True)
        )
    ]
    assert known == ["b", "c", "d"]
    hashes = {"4" * 32: False, "1" * 32: True}
    for last_hash, is_imported in hashes.items():
        claims = Claimed(OURS, 0, True, True, last_hash)
        assert Imports().has(str(tmp_path / "f"), is_chained=True, claimed=claims) == is_imported


def test_what_is_older_than_the_ledger_needs_a_seal(tmp_path: Path) -> None:
    ledger(tmp_path, ("begin", {}), epoch=5)
    path = str(tmp_path / "a.ctlog")
    for begun, has_seal, is_imported in ((4, True, False), (4, False, True), (5, True, True)):
        claims = Claimed(OURS, begun, has_seal)
        assert Imports().has(path, is_chained=True, claimed=claims) == is_imported


@pytest.mark.parametrize("what", ["empty", "pipe", "folder", "link", "nonsense"])
def test_a_ledger_that_is_none_names_nothing(tmp_path: Path, what: str) -> None:
    path = tmp_path / file_name(OURS)
    if what == "pipe":
        os.mkfifo(path)
    elif what == "folder":
        path.mkdir()
    elif what == "link":
        path.symlink_to("/dev/zero")
    else:
        path.write_bytes(b"" if what == "empty" else b"[" * 9000 + b"\n")
    claims = Claimed(OURS, 0, True)
    assert Imports().has(str(tmp_path / "a.ctlog"), is_chained=True, claimed=claims)


def ledger(folder: Path, *lines: tuple[str, dict[str, object]], epoch: int = 0) -> None:
    """A ledger with lines that nobody sealed."""
    made = [pack_line(bytes(32), epoch, NOON, what, NO_LINE, facts) for what, facts in lines]
    (folder / file_name(OURS)).write_bytes(b"".join(made))


def test_they_are_named_as_far_as_a_line_goes() -> None:
    assert line_of(["a"]) == "imported: proves nothing: 1 file without a seal: a"
    assert line_of(list("abcde")).endswith("5 files without a seal: a, b, c and 2 more")
    assert lines_of([], "x") == []


def test_cttest_has_them_under_a_heading_of_their_own(tmp_path: Path) -> None:
    """Without a verification key too: that they are imported needs none."""
    ours = Recording(tmp_path)
    queue = ours.start(sealed=False)
    before = ours.record(1, queue=queue)
    queue.close(ours.clock.wall)
    ours.record(1)
    lines: list[str] = []
    assert verify.check([str(ours.folder)], lines.append) == verify.WHOLE
    at = lines.index("imported: proves nothing: 2 files without a seal:")
    assert lines[at + 1] == f"  {before}"


@pytest.fixture
def ours(tmp_path: Path) -> Recording:
    """A sealed recording of three hours."""
    ours = Recording(tmp_path)
    queue = ours.start()
    for _ in range(3):
        ours.record(4, queue=queue)
    assert queue.close(ours.clock.wall)
    return ours


def slip_in(folder: Path, start: int, end: int | None = None, **facts: Any) -> Path:
    """A file with a connection that never was; without an `end` it stays open."""
    path = folder / "0.ctlog"
    made = {
        "l4proto": 6,
        "id": 9,
        "orig_src": "192.0.2.66",
        "orig_sport": PORT,
        "orig_dst": "203.0.113.25",
        "orig_dport": 25,
        "reply_src": "203.0.113.25",
        "reply_sport": 25,
        "reply_dst": PUBLIC,
        "reply_dport": PORT,
        "start": start,
    }
    rows = [{**made, "event": Event.NEW, "time": start}]
    if end is not None:
        rows.append({**made, "event": Event.DESTROY, "time": end, "stop": end})
    header = replace(Header(), **facts)
    writer = SegmentWriter.create(str(path), header, time_ns=start)
    writer.append(table(rows))
    writer.close()
    return path


def asked(folder: Path, at: int, now: int) -> who.Answer:
    query = who.WhoQuery(who.parse_end(f"{PUBLIC}:{PORT}"), at, at + SECOND)
    return who.answer([str(folder)], query, now)


@pytest.mark.parametrize("facts", [{"legacy": {}}, {"chain": "c", "sequence": 1}])
def test_a_file_that_was_slipped_in_answers_and_is_named(
    ours: Recording, facts: dict[str, object]
) -> None:
    path = slip_in(ours.folder, NOON + HOUR, NOON + HOUR + 60 * SECOND, **facts)
    found = asked(ours.folder, NOON + HOUR + 9 * SECOND, ours.clock.wall)
    assert len(found) == 1
    assert found.imported == (str(path),)


def test_an_answer_that_does_not_rest_on_it_does_not_name_it(ours: Recording) -> None:
    slip_in(ours.folder, NOON - HOUR, NOON - HOUR + SECOND, legacy={})
    found = asked(ours.folder, NOON + HOUR, ours.clock.wall)
    assert (len(found), found.imported) == (0, ())


def test_a_connection_that_began_in_an_earlier_file_rests_on_that(ours: Recording) -> None:
    path = slip_in(ours.folder, NOON - HOUR, legacy={})
    found = asked(ours.folder, NOON + HOUR, ours.clock.wall)
    assert (len(found), found.imported) == (1, (str(path),))


def test_the_commands_say_it(ours: Recording, capfd: pytest.CaptureFixture[str]) -> None:
    path = slip_in(ours.folder, NOON + HOUR, NOON + HOUR + 60 * SECOND, legacy={})
    question = [f"{PUBLIC}:{PORT}", "2026-09-21T15:13:29Z", "--trust-clock", "-d", str(ours.folder)]
    assert ctwho.main(question) == 3
    text = " ".join(capfd.readouterr().out.split())
    assert text.startswith("ONE KNOWN (not proved): ")
    assert f"{WARNED}{path}" in text
    ctwho.main([*question, "--format", "json"])
    twin = json.loads(capfd.readouterr().out)
    segments = {one["file"]: one["imported"] for one in twin["evidence"]["segments"]}
    assert [name for name, imported in segments.items() if imported] == [path.name]
    assert f"{WARNED}{path}" in twin["why"]
    assert ctlist.main(["-i", PUBLIC, str(ours.folder)]) == 0
    assert f"ctlist: {WARNED}{path}\n" in capfd.readouterr().err
    path.unlink()
    ctwho.main(question)
    ctlist.main(["-i", PUBLIC, str(ours.folder)])
    told = capfd.readouterr()
    assert "imported" not in told.out + told.err
