"""What is no answer of ClickHouse acknowledges nothing; rows are sent in bounded memory."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from ctrecorder.columns import Table
from ctrecorder.ctlog.header import Header
from ctrecorder.maintain.squeeze import SqueezeOptions, squeeze
from ctrecorder.segment.writer import SegmentWriter
from ctrecorder.shipping.clickhouse import Store
from ctrecorder.shipping.results import Result, TargetError
from ctrecorder.shipping.rowbinary import rows
from ctrecorder.shipping.server import Server
from ctrecorder.shipping.target import parse
from ctrecorder.shipping.waiting import Waiting, examine
from tests.support import asked

OK = b"HTTP/1.1 200 OK\r\n"
OURS = b"X-ClickHouse-Query-Id: 1\r\n"


@contextmanager
def answering(answer: bytes) -> Iterator[Store]:
    """A store whose server says `answer` to each query."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            for _ in range(9):
                try:
                    line, _ = server.accept()
                except OSError:
                    return
                with line:
                    line.recv(1 << 16)
                    line.sendall(answer)
                    line.shutdown(socket.SHUT_WR)
                    while line.recv(1 << 16):  # closed with unread bytes, it would be a reset
                        pass

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield Store(parse(f"clickhouse://127.0.0.1:{server.getsockname()[1]}/log"), "edge1")
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join()


@pytest.fixture
def batch(tmp_path: Path) -> list[Waiting]:
    header = Header(chain="0123456789abcdef", sequence=1)
    SegmentWriter.create(str(tmp_path / "1.ctlog"), header, time_ns=10**18).close()
    return examine(str(tmp_path), raw=True).ready


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (OK + b"Content-Length: 0\r\n\r\n", "what answers there is no ClickHouse"),
        (OK + b"\r\nwelcome", "what answers there is no ClickHouse"),
        (OK + OURS + b"Content-Length: 9\r\n\r\nabc", "its answer is not whole"),
        (OK + b"X-ClickHouse-Exception-Code: 60\r\n\r\nno table", "no table"),
        (b"HTTP/1.1 302 Found\r\nLocation: /\r\n\r\n", "HTTP status 302"),
        (b"HTTP/1.1 500 x\r\n\r\n\x1b[31mCode: 60", r"\x1b[31mCode: 60"),
    ],
)
def test_what_is_no_answer_of_clickhouse(batch: list[Waiting], answer: bytes, said: str) -> None:
    with answering(answer) as store, pytest.raises(TargetError) as error:
        store.send(batch)
    assert said in str(error.value)
    assert error.value.known == {}


def test_an_answer_of_clickhouse(batch: list[Waiting]) -> None:
    with answering(OK + OURS + b"Content-Length: 0\r\n\r\n") as store:
        assert store.send(batch) == {batch[0].name: Result("stored")}


def test_rows_are_read_while_they_are_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A segment can have more rows than there is memory: none is read before it can be sent."""
    for path in asked.record(tmp_path, chain="0123456789abcdef"):
        squeeze(path, SqueezeOptions())
    read: list[int] = []
    sent: list[list[int]] = []

    def count(table: Table, *args: Any) -> bytes:
        read.append(len(table))
        return rows(table, *args)

    def insert(
        self: Server, query: str, data: Iterable[bytes], length: int, settings: object
    ) -> None:
        before = len(read)
        pieces = list(data)
        assert sum(map(len, pieces)) == length
        if "INTO connections" in query:
            sent.append(read[before:])

    monkeypatch.setattr("ctrecorder.shipping.clickhouse.rows", count)
    monkeypatch.setattr(Server, "insert", insert)
    monkeypatch.setattr(Server, "ask", lambda *_: b"")
    batch = examine(str(tmp_path), raw=False).ready
    Store(parse("clickhouse://127.0.0.1/log"), "edge1").send(batch)
    assert len(sent) == 3
    assert all(sent)
