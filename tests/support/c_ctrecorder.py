"""The C ctrecorder as far as the tests need it, in plain Python with struct: it writes, lists and
squeezes its files, as LEGACY tells.

Nothing here is shared with the package: it is what the package is held against.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterable, Sequence
from datetime import datetime, tzinfo
from pathlib import Path
from typing import NamedTuple

SAMPLES = Path(__file__).resolve().parents[1] / "data" / "legacy"
RAW = sorted(SAMPLES.glob("*.ct"))
SQUEEZED = sorted(SAMPLES.glob("*.squeezed"))

HEADER = struct.Struct(">IIHHHIB33sIIIIIIiHBBBBB169x")
EVENT = struct.Struct(">BII" + 4 * "IH")
CONNECTION = struct.Struct(">IIII" + 4 * "IH")
NEW, DESTROY, REPLIED = 1, 3, 4
START = 1_300_000_000


class Old(NamedTuple):
    """An event: `kind` is the type byte; `ends` are address, port, four times."""

    kind: int
    sec: int
    usec: int
    ends: tuple[int, ...]

    def pack(self) -> bytes:
        return EVENT.pack(self.kind, self.sec, self.usec, *self.ends)


class Pair(NamedTuple):
    """A squeezed record: two times (0, 0 if unknown)."""

    start: tuple[int, int]
    end: tuple[int, int]
    ends: tuple[int, ...]

    def pack(self) -> bytes:
        return CONNECTION.pack(*self.start, *self.end, *self.ends)


def header(
    proto: int = 6,
    *,
    flags: int = 0,
    host: bytes = b"router",
    version: int = 2,
    sizes: tuple[int, int, int] = (256, 33, 0),
) -> bytes:
    """A header as 0.1.4 writes it in Warsaw."""
    return HEADER.pack(
        0x43544E4C,
        version,
        *sizes,
        flags,
        proto,
        host,
        START,
        250_000,
        0,
        0,
        0,
        0,
        3600,
        111,
        2,
        13,
        8,
        6,
        40,
    )


def events_of(data: bytes) -> list[Old]:
    """All whole events behind a header."""
    whole = len(data) - (len(data) - 256) % EVENT.size
    return [
        Old(kind, sec, usec, tuple(ends))
        for kind, sec, usec, *ends in EVENT.iter_unpack(data[256:whole])
    ]


def squeeze(events: Iterable[Old]) -> tuple[list[Pair], list[Pair]]:
    """What -S writes: ended connections in the order of their ends, and all others (of which it
    loses some).
    """
    started: dict[tuple[int, ...], list[Old]] = {}
    done = []
    for event in events:
        waiting = started.setdefault(event.ends, [])
        if event.kind & 3 == NEW:
            waiting.append(event)
        elif event.kind & 3 == DESTROY:
            start = waiting.pop(0) if waiting else None
            done.append(
                Pair(
                    (start.sec, start.usec) if start else (0, 0),
                    (event.sec, event.usec),
                    event.ends,
                )
            )
    left = sorted(
        (event for waiting in started.values() for event in waiting),
        key=lambda event: (event.sec, event.usec),
    )
    return done, [Pair((event.sec, event.usec), (0, 0), event.ends) for event in left]


def list_events(events: Iterable[Old], zone: tzinfo) -> str:
    """What -L prints."""
    lines = (
        f"{clock(e.sec, e.usec, zone)} {'RSUE'[e.kind & 3]}{'+' if e.kind & REPLIED else ' '} "
        f"{tuples(e.ends)}\n"
        for e in events
    )
    return "".join(lines)


def list_pairs(pairs: Iterable[Pair], zone: tzinfo) -> str:
    """What -L -s prints, and -L of a squeezed file."""
    unknown = "-          -              "
    lines = (
        " ".join(clock(*time, zone) if time[0] else unknown for time in (p.start, p.end))
        + f" {tuples(p.ends)}\n"
        for p in pairs
    )
    return "".join(lines)


def clock(sec: int, usec: int, zone: tzinfo) -> str:
    return f"{datetime.fromtimestamp(sec, zone):%Y.%m.%d %H:%M:%S}.{usec:06}"


def tuples(ends: Sequence[int]) -> str:
    words = ("src", "dst", "src", "dst")
    return " ".join(
        f"{word}={socket.inet_ntoa(ends[2 * i].to_bytes(4, 'big'))}:{ends[2 * i + 1]}"
        for i, word in enumerate(words)
    )


def traffic(count: int, *, first: int = START, icmp: bool = False) -> list[Old]:
    """Plain events, `count` NEWs and DESTROYs of some hosts, as a router with NAT hears them."""
    made = []
    for number in range(count):
        port = 0 if icmp else 1024 + number * 7 % 60_000
        inside, outside, public = 0x0A090001 + number % 5, 0xC6336401 + number % 3, 0xC0000201
        ends = (
            inside,
            port,
            outside,
            0 if icmp else 443,
            outside,
            0 if icmp else 443,
            public,
            port,
        )
        sec, usec = first + number // 3, number % 3 * 300_000 + number % 1000
        made.append(Old(NEW if number % 2 == 0 else DESTROY | REPLIED, sec, usec, ends))
    return made
