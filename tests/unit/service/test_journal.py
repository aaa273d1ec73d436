"""Entries for journald: what is sent, and that a journald which hangs keeps nobody waiting."""

from __future__ import annotations

import os
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from ctrecorder.service.journal import JournalSocket, notify


@pytest.fixture
def server(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as opened:
        opened.bind(str(tmp_path / "socket"))
        opened.settimeout(5)
        yield opened


def fields_of(content: bytes) -> dict[str, str]:
    """The protocol, read as its page describes it."""
    found = {}
    while content:
        name, _, rest = content.partition(b"\n")
        if b"=" in name:
            name, _, value = name.partition(b"=")
            content = rest
        else:
            (length,) = struct.unpack_from("<Q", rest)
            value, content = rest[8 : 8 + length], rest[8 + length + 1 :]
        found[name.decode()] = value.decode()
    return found


def test_fields_arrive(server: socket.socket) -> None:
    sent = {"MESSAGE": "two\nlines", "PRIORITY": "5", "EMPTY": "", "PATH": "a=b"}
    with closing(JournalSocket(server.getsockname())) as journal:
        assert journal.send(sent)
    assert fields_of(server.recv(1 << 16)) == sent


def test_an_entry_larger_than_a_datagram_is_a_sealed_file(server: socket.socket) -> None:
    sent = {"MESSAGE": "x" * (1 << 20)}
    with closing(JournalSocket(server.getsockname())) as journal:
        assert journal.send(sent)
    content, descriptors, _, _ = socket.recv_fds(server, 1 << 16, 1)
    assert content == b""
    with os.fdopen(descriptors[0], "rb") as file:
        assert fields_of(os.pread(file.fileno(), 1 << 21, 0)) == sent
        with pytest.raises(OSError, match="not permitted"):
            os.pwrite(file.fileno(), b"y", 0)


def test_a_journald_that_hangs_keeps_nobody_waiting(server: socket.socket) -> None:
    with closing(JournalSocket(server.getsockname())) as journal:
        hang(server, journal)


def hang(server: socket.socket, journal: JournalSocket) -> None:
    started = time.process_time()
    sent = [journal.send({"MESSAGE": f"{number}"}) for number in range(5000)]
    assert not all(sent), "nobody reads: the queue of the socket is full"
    assert not journal.send({"MESSAGE": "x" * (1 << 20)})
    while sent.count(True):
        server.recv(1 << 16)
        sent.remove(True)
    assert journal.send({"MESSAGE": "again"})
    assert fields_of(server.recv(1 << 16)) == {"MESSAGE": "again"}
    assert time.process_time() - started < 5


def test_no_journald(tmp_path: Path) -> None:
    with closing(JournalSocket(str(tmp_path / "missing"))) as journal:
        assert not journal.send({"MESSAGE": "x"})


def test_notify(server: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    assert not notify("READY=1")
    monkeypatch.setenv("NOTIFY_SOCKET", server.getsockname())
    assert notify("READY=1", "STATUS=12 events/s")
    assert server.recv(4096) == b"READY=1\nSTATUS=12 events/s"
    while notify("WATCHDOG=1"):
        pass  # until nobody reads: then it returns at once
    name = f"ctrecorder-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as abstract:
        abstract.bind("\0" + name)
        abstract.settimeout(5)
        monkeypatch.setenv("NOTIFY_SOCKET", "@" + name)
        assert notify("READY=1")
        assert abstract.recv(4096) == b"READY=1"
