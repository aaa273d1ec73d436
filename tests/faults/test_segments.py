"""Segments from someone else: refused or read, never a traceback, a hang, a file left, or more
memory than a block may take.
"""

from __future__ import annotations

import re
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from ctrecorder import uapi
from ctrecorder.ctlog.entry import ENTRY
from ctrecorder.ctlog.frame import FRAME, INDEX, Gap, Kind, Mark
from ctrecorder.ctlog.index import HEAD
from ctrecorder.segment.pending import (
    PendingBlock,
    gap_block,
    header_block,
    mark_block,
    table_blocks,
)
from tests.faults.fuzz import exercise
from tests.support.faulttable import Table
from tests.support.forge import NOON, kept, reseal, seeds, segment, table
from tests.support.fuzzing import fuzz
from tests.support.router import CHECKOUT
from tests.support.traffic import cttest

MOST_MEMORY = 300 << 20


def bomb(size: int) -> bytes:
    """A zstd frame of `size` zeros, made in little memory."""
    compressor = zstandard.ZstdCompressor(level=3).compressobj(size=size)
    parts = [compressor.compress(bytes(1 << 20)) for _ in range(size >> 20)]
    return b"".join(parts) + compressor.flush()


GIGABYTE = bomb(1 << 30)


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("stranger") / "segment"


@pytest.mark.parametrize("path", kept(), ids=lambda path: path.name)
def test_what_once_found_something(path: Path, scratch: Path) -> None:
    """Inputs of a fuzzer, as it left them: a first byte, and a segment."""
    data = path.read_bytes()
    scratch.write_bytes(reseal(data[1:]) if data[:1] < b"\xc0" else data[1:])
    exercise(scratch)


@pytest.mark.beside
@settings(max_examples=4 * settings().max_examples)
@given(data=st.data())
def test_changed_anywhere(scratch: Path, data: st.DataObject) -> None:
    """Some bytes changed, removed, repeated; as a disk does, or with all hashes made right as a
    stranger would.
    """
    content = bytearray(data.draw(st.sampled_from(seeds()), label="segment"))
    for _ in range(data.draw(st.integers(1, 4), label="changes")):
        at = data.draw(st.integers(0, len(content) - 1))
        length = data.draw(st.sampled_from([1, 1, 1, 2, 4, 8, 64]))
        special = st.sampled_from([b"", b"\xff" * length, bytes(length)])
        content[at : at + length] = data.draw(st.one_of(st.binary(max_size=length), special))
        if not content:
            break
    scratch.write_bytes(
        reseal(bytes(content)) if data.draw(st.booleans(), label="hashes right") else bytes(content)
    )
    exercise(scratch)


# Runs a command, and says at the end what memory it has taken: not what the process had that
# started it.
MEASURED = f"""
import importlib, sys
sys.path.insert(0, {str(CHECKOUT)!r})
command = sys.argv[1]
package = "listing" if command == "ctlist" else "cli"
code = importlib.import_module(f"ctrecorder.{{package}}.{{command}}").main(sys.argv[2:])
status = open("/proc/self/status").read()
sys.stderr.write("VmHWM:" + status.partition("VmHWM:")[2].splitlines()[0])
sys.exit(code)
"""


def columns_block(
    rows: int, *entries: tuple[int, dict[str, int], bytes, bytes], family: int = uapi.AF_INET
) -> PendingBlock:
    """EVENTS in form COLUMNS with these columns: id, fields of the entry, dictionary, body."""
    directory, dictionaries, bodies = b"", b"", b""
    for identity, fields, dictionary, body in entries:
        get = fields.get
        numbers = (
            get("encoding", 0),
            get("width", 1),
            get("partner", 0),
            get("scale", 0),
            get("entries", 0),
        )
        lengths = (get("dictionary_length", len(dictionary)), get("body_length", len(body)))
        directory += ENTRY.pack(
            identity, *numbers, *lengths, get("low", 0), get("high", 0), bytes(16)
        )
        dictionaries, bodies = dictionaries + dictionary, bodies + body
    payload = (
        HEAD.pack(len(entries), 0, HEAD.size + len(directory) + len(dictionaries))
        + directory
        + dictionaries
        + bodies
    )
    return PendingBlock(Kind.EVENTS, payload, (NOON, NOON), family, 1, rows)


def lying_frame(rows: int = 1, length: int = 0, kind: int = Kind.EVENTS) -> bytes:
    """A block whose frame claims more than there is."""
    frame = FRAME.pack(b"\xc7CTB", kind, 2, 1, 1, rows, length, NOON, NOON, bytes(16), bytes(16))
    return reseal(
        segment(header_block({"format": "ctlog"}, NOON), closed=False) + frame + bytes(200)
    )


def lying_footer(records: int) -> bytes:
    """A footer that tells of blocks that are not there."""
    data = segment(mark_block(Mark.at(NOON, "start")), closed=False)
    index = b"".join(
        struct.pack("<QqqIBBBB", at * 64, NOON, NOON, 1 << 18, 2, 2, 1, 0) for at in range(records)
    )
    payload = index + b"{}" + struct.pack("<QI4s", len(data), 2, b"BTC\xc7")
    frame = FRAME.pack(
        b"\xc7CTB", Kind.FOOTER, 0, 1, 0, 0, len(payload), NOON, NOON, bytes(16), bytes(16)
    )
    assert INDEX.itemsize == 32
    return reseal(data + frame + payload)


def json_block(text: bytes, kind: Kind = Kind.MARK) -> bytes:
    return segment(PendingBlock(kind, text, (NOON, NOON)), closed=False)


# Four planes, of which the first is a zstd frame of 1 GiB.
PLANES = struct.pack("<4I", len(GIGABYTE), 0, 0, 0) + GIGABYTE
MOST_ROWS = 1 << 18
BOMBS: dict[str, Callable[[], bytes]] = {
    "zstd of 1 GiB in a body": lambda: segment(
        columns_block(MOST_ROWS, (10, {"width": 2}, b"", GIGABYTE)), closed=False
    ),
    "zstd of 1 GiB in planes": lambda: segment(
        columns_block(MOST_ROWS, (4, {"width": 4, "encoding": 0x40}, b"", PLANES)), closed=False
    ),
    "zstd of 1 GiB in a dictionary": lambda: segment(
        columns_block(
            MOST_ROWS,
            (4, {"width": 1, "encoding": 0x08, "entries": MOST_ROWS}, PLANES, bytes(MOST_ROWS)),
        ),
        closed=False,
    ),
    "zstd of 1 GiB in a small block": lambda: segment(
        PendingBlock(Kind.EVENTS, bytes([1, 12, 4]) + GIGABYTE, (NOON, NOON), 2, 2, 65536),
        closed=False,
    ),
    "all rows that are allowed, in every column": lambda: segment(
        *(
            columns_block(
                MOST_ROWS,
                *((number, {"encoding": 0x20, "low": 1}, b"", b"") for number in range(1, 30)),
                family=family,
            )
            for family in (2, 10)
            for _ in range(2)
        ),
        closed=False,
    ),
    "more rows than are allowed": lambda: lying_frame(rows=0xFFFFFFFF),
    "a payload of 4 GiB": lambda: lying_frame(length=0xFFFFFFFF),
    "a payload of 64 MiB that is not there": lambda: lying_frame(length=64 << 20),
    "a footer of many blocks": lambda: lying_footer(200_000),
    "deep JSON": lambda: json_block(b'{"what":' + b"[" * 30_000 + b"]" * 30_000 + b"}"),
    "a long number in JSON": lambda: json_block(b'{"what":"x","n":' + b"9" * 60_000 + b"}"),
    "10,000 dumps": lambda: segment(
        *(
            mark_block(Mark(NOON + n, NOON + n, "dump", {"complete": True, "rows": 0}))
            for n in range(10_000)
        ),
        closed=False,
    ),
    "all magics": lambda: segment(closed=False) + b"\xc7CTB" * 100_000,
    "compressed zeros": lambda: segment(closed=False)
    + zlib.decompress(zlib.compress(bytes(32 << 20))),
}


@pytest.mark.claim("bomb")
@pytest.mark.unmeasured
@pytest.mark.parametrize("name", BOMBS)
def test_bombs(name: str, tmp_path: Path, table: Table) -> None:
    """Each command, in a process of its own: an answer, in seconds, within 300 MiB."""
    path = tmp_path / "bomb"
    path.write_bytes(reseal(BOMBS[name]()))
    squeeze = ["ctsqueeze", "-o", str(tmp_path / "new"), "-f"]
    for command in (
        ["cttest"],
        ["ctlist"],
        ["ctlist", "-s"],
        ["ctlist", "-i", "192.0.2.1"],
        squeeze,
    ):
        measured: list[str | Path] = [sys.executable, "-c", MEASURED, *command, path]
        done = subprocess.run(
            measured, capture_output=True, text=True, timeout=60, errors="replace"
        )
        said, _, peak = done.stderr.rpartition("VmHWM:")
        assert peak, said
        assert int(peak.split()[0]) << 10 <= MOST_MEMORY, f"{command}: {peak}"
        assert done.returncode in (0, 1, 2), said
        assert "Traceback" not in said, said
        assert "out of memory" not in said, said
        for line in said.splitlines():
            assert line.startswith(f"{command[0]}: "), line
    table.add_row(f"segment: {name}", tried=5)


def test_a_refusal_names_its_offset(tmp_path: Path) -> None:
    """A byte changed in each block in turn: the line says which block, and where."""
    data = segment(
        *(draft for seed in range(5) for draft in table_blocks(table(2, 3, Kind.EVENTS, seed))),
        closed=False,
    )
    begins = [match.start() for match in re.finditer(re.escape(b"\xc7CTB"), data)]
    path = tmp_path / "damaged"
    for begin in begins[1:-1]:
        path.write_bytes(data[: begin + 70] + bytes([data[begin + 70] ^ 1]) + data[begin + 71 :])
        assert f"{path}: at byte {begin}: " in cttest(path, code=1)


@pytest.mark.claim("terminal")
@pytest.mark.parametrize(
    "hostile",
    [
        "\x1b]0;owned\x07",
        "\x1b[2J",
        "a\nctlist: all is well",
        "\x9b31m",
        "\u202egpj.exe",
        "tab\tbell\a",
    ],
)
def test_terminal_escapes(tmp_path: Path, hostile: str) -> None:
    """In a hostname, a gap's detail, a chain's name, a file's name: none reaches the terminal, and
    none begins a line of its own.
    """
    folder = tmp_path / "log"
    folder.mkdir()
    facts: dict[str, object] = {
        "host": hostile,
        "template": hostile,
        "previous": hostile,
        "kernel": hostile,
    }
    gap = gap_block(Gap(NOON, NOON + 10, hostile, 3, hostile))
    path = folder / f"x{hostile.replace('/', '')}.ctlog"
    rows = table_blocks(table(2, 3, Kind.EVENTS, 1))
    path.write_bytes(
        segment(gap, mark_block(Mark.at(NOON, hostile, {"detail": hostile})), *rows, facts=facts)[
            :-9
        ]
    )
    for command in (
        ["ctlist"],
        ["ctlist", "-H"],
        ["ctlist", "-s"],
        ["ctlist", "-H", "--format", "json"],
        ["cttest"],
    ):
        done = subprocess.run(
            [CHECKOUT / "bin" / command[0], *command[1:], folder], capture_output=True, timeout=60
        )
        text = (done.stdout + done.stderr).decode("utf-8", "surrogateescape")
        assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]", text), f"{command}: {text!r}"
        assert not re.search(r"^ctlist: all is well", text, re.MULTILINE), text


@pytest.mark.beside
@pytest.mark.unmeasured
def test_fuzzer(tmp_path: Path, table: Table) -> None:
    """Some seconds of atheris; an hour by hand is better (see fuzz.py)."""
    runs = fuzz("fuzz.py", tmp_path, MOST_MEMORY)
    table.add_row("segments by a fuzzer", tried=runs)
