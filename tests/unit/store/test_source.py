"""Segments of a database without the engine: a server that gives all rows, and one that lies."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from ctrecorder.archive.open import open_segment
from ctrecorder.ctlog.frame import Kind
from ctrecorder.errors import ArchiveError
from ctrecorder.holders import who
from ctrecorder.maintain.squeeze import SqueezeOptions, squeeze
from ctrecorder.segment import live
from ctrecorder.segment.reader import Segment
from ctrecorder.segment.skeleton import pieces
from ctrecorder.shipping.rowbinary import COLUMNS, rows, text, upload_bytes
from ctrecorder.shipping.server import Server
from ctrecorder.store.manifest import Place, place
from ctrecorder.store.rows import _DTYPE, _HEAD
from ctrecorder.store.source import Store
from ctrecorder.times import HOUR, SECOND
from tests.support import asked
from tests.support.slow_pairing import T

CHAIN = "00c0ffee00c0ffee"
NOW = T + 1000 * HOUR


@dataclass(frozen=True)
class Lying(Server):
    """A server with these segments: their lines, frames and rows, by upload."""

    lines: dict[uuid.UUID, list[str]] = field(default_factory=dict)
    frames: dict[uuid.UUID, bytes] = field(default_factory=dict)
    rows: dict[uuid.UUID, bytes] = field(default_factory=dict)

    def ask(self, query: str, most: int = 0) -> bytes:
        if "LEFT JOIN" in query:
            return "".join("\t".join(line) + "\n" for line in self.lines.values()).encode()
        if "previous_hash" in query or "DISTINCT old" in query:
            return b""
        if "frames" in query:
            return b"".join(
                upload_bytes(upload.bytes) + text(data)
                for upload, data in self.frames.items()
                if str(upload) in query
            )
        return _HEAD + b"".join(self.rows.values())


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lying:
    monkeypatch.setattr(live, "FOLDER", str(tmp_path / "run"))
    (tmp_path / "log").mkdir()
    made = Lying(place("clickhouse://h/log").server.target)
    kinds = np.dtype(
        [(name, kind.replace("S", "V").replace("V", "V2", kind == "V")) for name, kind in COLUMNS]
    )
    for path in asked.record(tmp_path / "log", chain=CHAIN):
        squeeze(path, SqueezeOptions())
        upload = uuid.uuid4()
        with open_segment(path) as segment:
            assert isinstance(segment, Segment)
            begin, end = segment.times
            recorded = int(segment.index["time_min"][0])
            blocks = segment.blocks_of(Kind.CONNECTIONS)
            number = sum(block.rows for block in blocks)
            made.frames[upload] = pieces(segment)
            sent = b"".join(
                rows(segment.read(block), upload.bytes, recorded, "e", at)
                for at, block in enumerate(blocks)
            )
            made.lines[upload] = [
                *("edge1", CHAIN, str(segment.header.sequence), str(upload)),
                *(segment.last_hash.hex(), str(number), str(recorded), str(begin), str(end)),
                *("2", "0", str(number), "0"),
            ]
        found = np.zeros(number, _DTYPE)
        for name in _DTYPE.names or ():
            column = np.frombuffer(sent, kinds)[name]
            found[name] = column.view("S16") if name == "upload" else column
        made.rows[upload] = found.tobytes()
    return made


def ask(server: Lying, port: int = 40000, at: int = T + 20 * SECOND) -> who.Answer:
    question = who.WhoQuery(who.parse_end(f"192.0.2.1:{port}"), at, at + SECOND)
    return who.answer(Store(Place("clickhouse://h/log", server)), question, NOW)


def test_rows_that_were_not_asked_for_change_nothing(server: Lying, tmp_path: Path) -> None:
    answer = ask(server)
    assert (len(answer), answer.verdict.proved, answer.failed) == (1, True, [])
    question = who.WhoQuery(who.parse_end("192.0.2.1:40000"), T + 20 * SECOND, T + 21 * SECOND)
    here = who.answer([str(tmp_path / "log")], question, NOW)
    for name in ("start", "end", "orig_src", "start_source", "end_source"):
        assert answer.tables[0][name].tolist() == here.tables[0][name].tolist()
    assert answer.verdict == here.verdict
    assert answer.clocks[0].error_us == here.clocks[0].error_us
    assert len(ask(server, 40009)) == 0


def test_frames_of_another_segment_are_a_hole(server: Lying) -> None:
    first, second, _ = server.frames
    server.frames[first] = server.frames[second]
    answer = ask(server)
    assert "its frames are not those of the segment" in str(answer.failed[0])
    assert not answer.verdict.proved


@pytest.mark.parametrize("at", [8, 40, 90, 400, -30])
def test_a_changed_byte_of_the_frames_is_a_hole(server: Lying, at: int) -> None:
    first, *_ = server.frames
    data = bytearray(server.frames[first])
    data[at] ^= 255
    server.frames[first] = bytes(data)
    answer = ask(server)
    assert not answer.verdict.proved
    assert answer.failed or answer.findings


def test_no_frames_and_rows_of_another_family(server: Lying) -> None:
    first, second, _ = server.frames
    assert ask(server, 40001, T + HOUR + 65 * SECOND).verdict.proved
    changed = np.frombuffer(server.rows[second], _DTYPE).copy()
    changed["family"] = 10
    server.rows[second] = changed.tobytes()
    answer = ask(server, 40001, T + HOUR + 65 * SECOND)
    assert "not those of the block" in str(answer.findings[0])
    assert not answer.verdict.proved
    del server.frames[first]
    with pytest.raises(ArchiveError, match="was deleted while it was read"):
        ask(server)


def test_a_segment_that_lacks_rows_is_a_hole(server: Lying) -> None:
    first, *_ = server.lines
    server.lines[first][11] = "0"
    answer = ask(server)
    assert "rows are there" in str(answer.failed[0]) or "row are there" in str(answer.failed[0])
    assert not answer.verdict.proved
