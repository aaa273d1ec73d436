"""The scribe logs what its child may ask for, ends with it, and passes signals on."""

from __future__ import annotations

import json
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ctrecorder.service import journal, messages, syslog
from ctrecorder.service.login import login_user
from ctrecorder.service.privileges import status_of
from ctrecorder.service.unsent import Entry
from ctrecorder.witness import logged, scribe
from ctrecorder.witness.scribe import MAX_BYTES, Scribe, ScribeClient
from tests.unit.service.test_journal import fields_of

HASH = "ab" * 16
FIELDS = {
    "path": "/x/a",
    "rows": "1",
    "connections": "1",
    "bytes_before": "9",
    "bytes_after": "8",
    "last_hash": HASH,
    "replaced_hash": HASH,
}


TEXT = f"squeezed /x/a: 1 rows to 1 connections, 9 to 8 bytes; last hash {HASH}, before {HASH}"


def entry() -> Entry:
    return Entry(messages.SQUEEZED, "ctsqueeze", "squeezed /x/a", dict(FIELDS), time.time_ns())


def accepted(one: Entry) -> Entry | None:
    packet = b"N" + one.to_line()
    return Scribe("ctsqueeze", ["/x"], 1).accepts(packet, time.time_ns())


def test_what_is_logged() -> None:
    asked = entry()
    one = replace(asked, text=TEXT)
    assert accepted(asked) == one
    assert accepted(replace(asked, stored=True)) == one
    lie = f"ctrecord[1]: closed /y/a: 5 rows, 10 bytes, last hash {HASH}"
    assert accepted(replace(asked, text=lie)) == one


@pytest.mark.parametrize(
    "change",
    [
        {"kind": messages.EXPIRED},  # of another command
        {"kind": messages.SEGMENT_CLOSED},  # the recorder's own
        {"kind": messages.COUNTERS},  # no evidence
        {"command": "ctexpire"},
        {"command": "sshd"},
        {"time": 0},
        {"time": time.time_ns() + 86_400 * 10**9},
        {"fields": {**FIELDS, "path": "/y/a"}},
        {"fields": {**FIELDS, "path": "/x/../y/a"}},
        {"fields": {**FIELDS, "path": "/x/y/a"}},
        {"fields": {**FIELDS, "path": "a"}},
        {"fields": {**FIELDS, "path": "/x/.."}},
        {"fields": {**FIELDS, "path": "/x/."}},
        {"fields": {**FIELDS, "path": "/x/"}},
        {"fields": {**FIELDS, "path": "/x/a\0"}},
        {"fields": {**FIELDS, "path": "/x/a\nb"}},
        {"fields": {**FIELDS, "path": "/x/ctexpire: deleted a"}},
        {"fields": {**FIELDS, "path": "/x/" + "a" * 5000}},
        {"fields": {**FIELDS, "rows": "many"}},
        {"fields": {**FIELDS, "rows": "-1"}},
        {"fields": {**FIELDS, "last_hash": ""}},
        {"fields": {**FIELDS, "last_hash": HASH + "\n"}},
        {"fields": {**FIELDS, "replaced_hash": HASH.upper()}},
        {"fields": {**FIELDS, "MESSAGE_ID": messages.SEGMENT_CLOSED.id}},
        {"fields": {name: FIELDS[name] for name in ("path", "last_hash")}},
        {"fields": {**FIELDS, "rows": "1" * MAX_BYTES}},
    ],
)
def test_what_is_not(change: dict[str, Any]) -> None:
    assert accepted(replace(entry(), **change)) is None


HOLD = {
    "action": "set",
    "since": "2026.11.27 06:00:00.000000 +00:00",
    "until": "",
    "reason": f"ctexpire: deleted /y/a: old; last hash {HASH}",
    "uid": "77",
    "login": "somebody",
}
EXPIRED = {
    "path": "/x/a",
    "since": HOLD["since"],
    "until": HOLD["since"],
    "rows": "7",
    "bytes": "9",
    "last_hash": HASH,
    "reason": "older than 86,400 s",
}


def expires(kind: messages.Message, fields: dict[str, str]) -> Entry | None:
    one = Entry(kind, "ctexpire", "x", fields, time.time_ns())
    return Scribe("ctexpire", ["/x"], 1).accepts(b"N" + one.to_line(), time.time_ns())


def anchors_of(tmp_path: Path, one: Entry | None) -> list[logged.Anchor]:
    """What the entry proves in a log of text."""
    assert one is not None
    (tmp_path / "log").write_text(f"Nov 28 06:00:00 r {one.command}[7]: {one.text}\n")
    return logged.load(str(tmp_path / "log")).anchors


def test_a_deletion_is_an_anchor_as_text(tmp_path: Path) -> None:
    said = expires(messages.EXPIRED, EXPIRED)
    assert anchors_of(tmp_path, said) == [logged.Anchor("deleted", "/x/a", HASH, "")]
    assert expires(messages.EXPIRED, {**EXPIRED, "last_hash": ""}) is not None
    for reason in (f"ctrecord: closed /y/a: 5 rows, 10 bytes, last hash {HASH}", "", "a\nb"):
        assert expires(messages.EXPIRED, {**EXPIRED, "reason": reason}) is None
    assert anchors_of(tmp_path, accepted(entry())) == [
        logged.Anchor("squeezed", "/x/a", HASH, HASH)
    ]


def test_a_hold_names_the_user_of_root_and_is_no_anchor(tmp_path: Path) -> None:
    """Its reason is free: it can have the words of an anchor."""
    said = expires(messages.HOLD, HOLD)
    assert anchors_of(tmp_path, said) == []
    assert said is not None
    user = login_user()
    assert said.fields == {**HOLD, "uid": str(user.uid), "login": user.name}
    assert expires(messages.HOLD, {**HOLD, "reason": "x" * 5000}) is None


def test_what_is_not_of_a_wrong_type() -> None:
    facts = json.loads(entry().to_line())
    for name in facts:
        for value in ("[]", "{}", "null", "1.5", "[[]]"):
            packet = b"N" + json.dumps({**facts, name: json.loads(value)}).encode()
            assert Scribe("ctsqueeze", ["/x"], 1).accepts(packet, time.time_ns()) is None


@pytest.mark.parametrize("packet", [b"", b"N", b"N{", b"N" + b"[" * 60_000, b"Nnull", b"N\xff"])
def test_what_is_no_entry(packet: bytes) -> None:
    assert Scribe("ctsqueeze", ["/x"], 1).accepts(packet, 0) is None


@pytest.fixture
def journald(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.bind(str(tmp_path / "journal"))
        server.settimeout(10)
        monkeypatch.setattr(journal, "SOCKET", str(tmp_path / "journal"))
        monkeypatch.setattr(syslog, "SOCKET", str(tmp_path / "none"))
        yield server


def with_child(body: Callable[[ScribeClient], int]) -> int:
    """Runs `body` in a child of this process, which is its scribe; how the child ended."""
    here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    child = os.fork()
    if not child:
        code = 99
        try:
            here.close()
            os.setsid()
            code = body(ScribeClient(there))
        finally:
            os._exit(code)
    there.close()
    with here:
        return Scribe("ctsqueeze", ["/x"], child).serve(here, scribe.outlet())


def test_a_child_logs_and_ends(journald: socket.socket) -> None:
    def body(client: ScribeClient) -> int:
        stranger = replace(entry(), command="ctexpire")
        sent = client.send(entry(), False), client.send(stranger, False), client.send(entry(), True)
        return 3 if sent == (True, False, True) else 4

    assert os.waitstatus_to_exitcode(with_child(body)) == 3
    first, second, refused = (fields_of(journald.recv(1 << 16)) for _ in range(3))
    assert refused["MESSAGE"] == "refused to log as root: 1 entry of this command about /x"
    assert (first["MESSAGE_ID"], first["CTRECORDER_PATH"], first["MESSAGE"]) == (
        messages.SQUEEZED.id,
        "/x/a",
        TEXT,
    )
    assert "CTRECORDER_TIME" not in first
    assert second["MESSAGE"].startswith(f"{TEXT} (at ")
    journald.setblocking(False)
    with pytest.raises(BlockingIOError):
        journald.recv(1)


def test_a_child_that_sends_no_packets_of_ours(journald: socket.socket) -> None:
    """It gets a refusal for each, and the scribe lives."""

    def body(client: ScribeClient) -> int:
        link = client._link
        link.send(b"x" * (3 * MAX_BYTES))
        link.send(b"{")
        answers = link.recv(9) + link.recv(9)
        link.shutdown(socket.SHUT_WR)
        time.sleep(0.1)
        return 5 if answers == b"00" else 6

    assert os.waitstatus_to_exitcode(with_child(body)) == 5


def test_more_entries_than_segments(
    journald: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A flood ends; how many were refused is said once, by root."""
    monkeypatch.setattr(scribe, "_MORE_ENTRIES", 2)
    journald.setblocking(False)

    def body(client: ScribeClient) -> int:
        return sum(client.send(entry(), False) for _ in range(8))

    assert os.waitstatus_to_exitcode(with_child(body)) == 2
    *sent, said = (fields_of(journald.recv(1 << 16)) for _ in range(3))
    assert [one["MESSAGE"] for one in sent] == [TEXT, TEXT]
    assert said["MESSAGE"] == "refused to log as root: 6 entries of this command about /x"
    assert (said["MESSAGE_ID"], said["CTRECORDER_ENTRIES"]) == (messages.ENTRIES_LOST.id, "6")
    with pytest.raises(BlockingIOError):
        journald.recv(1)


def test_a_journal_that_takes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "SOCKET", str(tmp_path / "none"))
    monkeypatch.setattr(syslog, "SOCKET", str(tmp_path / "none"))
    assert os.waitstatus_to_exitcode(with_child(lambda client: client.send(entry(), False))) == 0


def test_a_child_without_a_scribe_goes_on() -> None:
    here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    client = ScribeClient(there)
    here.close()
    assert not client.send(entry(), False)
    assert not client.send(entry(), False)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT])
@pytest.mark.usefixtures("journald")
def test_signals_reach_the_child(number: int) -> None:
    parent = os.getpid()

    def body(_: ScribeClient) -> int:
        signal.signal(number, signal.SIG_DFL)
        while not int(status_of(parent)["SigCgt"], 16) >> (signal.SIGHUP - 1) & 1:
            time.sleep(0.01)
        time.sleep(0.1)
        os.kill(parent, number)
        time.sleep(20)
        return 7

    assert os.waitstatus_to_exitcode(with_child(body)) == -number


@pytest.mark.parametrize(("status", "code"), [(3 << 8, 3), (0, 0), (9, -9), (15, -15), (2, -2)])
def test_the_parent_ends_as_its_child(status: int, code: int) -> None:
    child = os.fork()
    if not child:
        scribe.end_like(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == code
