"""The default text of ctlist, and "classic", which is the C ctrecorder's byte for byte.

    2010.09.28 21:15:17.988012 S  tcp src=88.1.1.1:1527 dst=194.1.1.1:25 src=192.168.1.100:25
    dst=88.1.1.1:1527 2010.09.28 21:15:17.988012 2010.09.28 21:15:19.120034 rk+ tcp
    src=88.1.1.1:1527 dst=...

An event has a letter (S start, U update, E end, R existed already) and a + if replies were seen.  A
connection has two times, a letter for the source of each (k kernel, r receipt, < at or before, -
unknown) and the +.  Pure; see `words`.
"""

from __future__ import annotations

import numpy as np

from ctrecorder import labels, uapi
from ctrecorder.columns import Source, Table
from ctrecorder.render import cells
from ctrecorder.render import words as lines
from ctrecorder.render.words import Words

LETTERS = {1: "S", 2: "U", 3: "E", 4: "R"}
SOURCE_LETTERS = {Source.UNKNOWN: "-", Source.KERNEL: "k", Source.RECEIPT: "r", Source.BOUND: "<"}
# It has the width of a time.
UNKNOWN_TIME = b"-          -              "


def events(table: Table, utc: bool, heard: bool = False) -> bytearray:
    """A line for each event of `table`; `heard`: see `cells.event_times`."""
    code = (
        table["l4proto"].astype(np.uint16)
        | table["event"].astype(np.uint16) << 8
        | cells.replied(table).astype(np.uint16) << 15
    )
    heads = lines.by_value(
        code,
        lambda value: (
            f" {_letter(value)}{'+' if value >> 15 else ' '} {labels.protocol(value & 0xFF)}"
        ),
    )
    return lines.assemble(
        len(table),
        [
            lines.clock(cells.event_times(table, heard=heard), utc=utc),
            heads,
            *_tuples(table),
            b"\n",
        ],
    )


def connections(table: Table, utc: bool) -> bytearray:
    """A line for each connection of `table`."""
    sources = (table["start_source"], table["end_source"])
    code = table["l4proto"].astype(np.uint16) | cells.replied(table).astype(np.uint16) << 8
    for source, shift in zip(sources, (9, 11), strict=True):
        code |= (source & np.uint8(3)).astype(np.uint16) << shift
    heads = lines.by_value(code, _connection_head)
    times = [
        _time(table, name, source == Source.UNKNOWN, utc)
        for name, source in zip(("start", "end"), sources, strict=True)
    ]
    return lines.assemble(len(table), [times[0], b" ", times[1], heads, *_tuples(table), b"\n"])


def classic_events(table: Table, utc: bool) -> bytearray:
    """A line for each event of `table`, as `ctrecorder -L` writes it."""
    code = table["event"] | cells.replied(table).astype(np.uint8) << np.uint8(7)
    heads = lines.by_value(
        code, lambda value: f" {LETTERS.get(value & 0x7F, '?')}{'+' if value >> 7 else ' '}"
    )
    return lines.assemble(
        len(table), [lines.clock(table["time"], utc=utc), heads, *_classic_tuples(table), b"\n"]
    )


def classic_connections(table: Table, utc: bool) -> bytearray:
    """A line for each connection of `table`, as `ctrecorder -L` writes a squeezed file.

    A time that is only a bound is written as unknown.
    """
    times = []
    for name in ("start", "end"):
        source = table[f"{name}_source"]
        times.append(_time(table, name, (source == Source.UNKNOWN) | (source == Source.BOUND), utc))
    return lines.assemble(len(table), [times[0], b" ", times[1], *_classic_tuples(table), b"\n"])


def _letter(code: int) -> str:
    return LETTERS.get(code >> 8 & 0x7F, "?")


def _connection_head(code: int) -> str:
    sources = "".join(SOURCE_LETTERS[Source(code >> shift & 3)] for shift in (9, 11))
    return f" {sources}{'+' if code >> 8 & 1 else ' '} {labels.protocol(code & 0xFF)}"


def _time(
    table: Table, name: str, unknown: np.ndarray[tuple[int], np.dtype[np.bool_]], utc: bool
) -> Words:
    words = lines.clock(table[name], utc=utc)
    return (
        np.where(unknown[:, None], lines.literal(UNKNOWN_TIME), words) if unknown.any() else words
    )


def _tuples(table: Table) -> list[bytes | Words]:
    """Both directions: " src=A:p dst=B:p"; ports only if present; for ICMP, type, code and id."""
    icmp = cells.icmp(table)
    pieces: list[bytes | Words] = []
    for side in cells.SIDES:
        present = cells.present_in(table, f"{side}_sport", f"{side}_dport")
        for end in ("src", "dst"):
            # Where the other end is left out, one is known with its port.
            alone = cells.present_in(table, f"{side}_{end}", f"{side}_{end[0]}port")
            ports = cells.and_(cells.or_(present, alone), cells.not_(icmp))
            pieces += [
                f" {end}=".encode(),
                *_endpoint(table, f"{side}_{end}", f"{side}_{end[0]}port", ports),
            ]
        numbered = cells.and_(present, icmp)
        if numbered is not False:
            for label, number in zip(
                (b" type=", b" code=", b" id="), cells.icmp_parts(table, side), strict=True
            ):
                pieces += [*lines.only(numbered, label), *lines.only(numbered, number)]
    return pieces


def _classic_tuples(table: Table) -> list[bytes | Words]:
    """Both directions, always with ports (0 for ICMP and protocols without ports) and addresses."""
    icmp = cells.icmp(table)
    pieces: list[bytes | Words] = []
    for side in cells.SIDES:
        for end in ("src", "dst"):
            port = table[f"{side}_{end[0]}port"]
            pieces += [f" {end}=".encode(), *_address_and_port(table, f"{side}_{end}", True)]
            pieces.append(
                lines.decimal(port if icmp is False else np.where(icmp, np.uint16(0), port))
            )
    return pieces


def _endpoint(table: Table, address: str, port: str, ports: lines.Mask) -> list[bytes | Words]:
    """ "1.2.3.4:80", "1.2.3.4", "[2001:db8::1]:80", "2001:db8::1"; "?" for a missing address."""
    present = cells.present_in(table, address)
    pieces = _address_and_port(table, address, ports)
    if present is not True:
        pieces = [piece for each in pieces for piece in lines.only(present, each)]
        pieces += [
            *lines.only(cells.not_(present), b"?"),
            *lines.only(cells.and_(cells.not_(present), ports), b":"),
        ]
    return [*pieces, *lines.only(ports, lines.decimal(table[port]))]


def _address_and_port(table: Table, address: str, ports: lines.Mask) -> list[bytes | Words]:
    """The address, and in the rows `ports` the text between address and port."""
    if table.family == uapi.AF_INET6:
        return [*lines.only(ports, b"["), cells.address(table, address), *lines.only(ports, b"]:")]
    if ports is True:
        return [cells.address(table, address, colon=True)]
    return [cells.address(table, address), *lines.only(ports, b":")]
