"""The scribe logs what its child may ask for, ends with it, and passes signals on."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from ctrecorder.service import journal, messages, syslog
from ctrecorder.service.privileges import status_of
from ctrecorder.service.unsent import Entry
from ctrecorder.witness import scribe
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


def entry() -> Entry:
    return Entry(messages.SQUEEZED, "ctsqueeze", "squeezed /x/a", dict(FIELDS), time.time_ns())


def accepted(one: Entry) -> Entry | None:
    packet = b"N" + one.to_line()
    return Scribe("ctsqueeze", ["/x"], 1).accepts(packet, time.time_ns())


def test_what_is_logged() -> None:
    one = entry()
    assert accepted(one) == one
    assert accepted(replace(one, stored=True)) == one


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
        {"fields": {**FIELDS, "MESSAGE_ID": messages.SEGMENT_CLOSED.id}},
        {"fields": {name: FIELDS[name] for name in ("path", "last_hash")}},
        {"fields": {**FIELDS, "rows": "1" * MAX_BYTES}},
    ],
)
def test_what_is_not(change: dict[str, object]) -> None:
    assert accepted(replace(entry(), **change)) is None  # type: ignore[arg-type]


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
    first, second = (fields_of(journald.recv(1 << 16)) for _ in range(2))
    assert (first["MESSAGE_ID"], first["CTRECORDER_PATH"], first["MESSAGE"]) == (
        messages.SQUEEZED.id,
        "/x/a",
        "squeezed /x/a",
    )
    assert "CTRECORDER_TIME" not in first
    assert second["MESSAGE"].startswith("squeezed /x/a (at ")
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
