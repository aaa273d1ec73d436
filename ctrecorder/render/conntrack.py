"""Events as `conntrack -E -o timestamp` (1.4.7) writes them, byte for byte.

    [1795499806.521409]<TAB>[DESTROY] tcp  6 CLOSE src=10.9.0.2 dst=... sport=56968 dport=81
    packets=1 bytes=60 [UNREPLIED] src=...

Missing, because it is not recorded: the timeout, the states of SCTP and DCCP, the process that
caused the event.  Follows libnetfilter_conntrack's snprintf_default.c.  Pure; see `words`.
"""

from __future__ import annotations

import numpy as np

from ctrecorder import labels, uapi
from ctrecorder.columns import Table
from ctrecorder.render import cells, words
from ctrecorder.render.words import Mask, Words
from ctrecorder.times import SECOND

_GRE = 47


def events(table: Table) -> bytearray:
    """A line for each event of `table`.

    EXISTING rows have a mark too; conntrack has none for them.
    """
    pieces: list[bytes | Words] = [b"[", words.epoch(np.maximum(table["time"], 0)), b"]\t"]
    code = table["event"].astype(np.uint16) << 8 | table["l4proto"]
    pieces.append(words.by_value(code, _head))
    state = cells.and_(
        cells.present_in(table, "tcp_state"), cells.protocol_is(table, uapi.IPPROTO_TCP)
    )
    if state is not False:
        pieces += words.only(
            state, words.by_value(table["tcp_state"], lambda value: f" {labels.tcp_state(value)}")
        )
    pieces += _direction(table, "orig")
    pieces += words.only(
        cells.and_(cells.present_in(table, "status"), cells.collapse(~cells.replied(table))),
        b" [UNREPLIED]",
    )
    pieces += _direction(table, "reply")
    pieces.append(
        words.by_value(
            table["status"] & np.uint32(uapi.IPS_ASSURED | uapi.IPS_OFFLOAD | uapi.IPS_HW_OFFLOAD),
            _flag,
        )
    )
    for label, column in ((b" mark=", "mark"), (b" zone=", "zone")):
        pieces += _number(table, cells.present_in(table, column), label, column)
    pieces += _lifetime(table)
    if (helped := cells.present_in(table, "helper")) is not False:
        name = words.by_bytes(table["helper"], labels.helper)
        pieces += [*words.only(helped, b" helper="), *words.only(helped, name)]
    return words.assemble(len(table), [*pieces, b"\n"])


def _head(code: int) -> str:
    protocol = uapi.PROTOCOLS.get(code & 0xFF, "unknown")
    return f"{'[' + labels.event(code >> 8) + ']':>9} {protocol:<8} {code & 0xFF}"


def _flag(status: int) -> str:
    """The first flag that is set."""
    for bit, flag in (
        (uapi.IPS_HW_OFFLOAD, " [HW_OFFLOAD]"),
        (uapi.IPS_OFFLOAD, " [OFFLOAD]"),
        (uapi.IPS_ASSURED, " [ASSURED]"),
    ):
        if status & bit:
            return flag
    return ""


def _direction(table: Table, side: str) -> list[bytes | Words]:
    """One direction: addresses, then ports, GRE's keys or ICMP's numbers, zone, then counters."""
    pieces: list[bytes | Words] = [
        b" src=",
        cells.address(table, f"{side}_src"),
        b" dst=",
        cells.address(table, f"{side}_dst"),
    ]
    present = cells.present_in(table, f"{side}_sport", f"{side}_dport")
    icmp, gre = cells.icmp(table), cells.protocol_is(table, _GRE)
    ports = cells.and_(present, cells.not_(cells.or_(icmp, gre)))
    pieces += _number(table, ports, b" sport=", f"{side}_sport")
    pieces += _number(table, ports, b" dport=", f"{side}_dport")
    if (keys := cells.and_(present, gre)) is not False:
        for label, column in ((b" srckey=", f"{side}_sport"), (b" dstkey=", f"{side}_dport")):
            pieces += [
                *words.only(keys, label),
                *words.only(keys, words.by_value(table[column], hex)),
            ]
    if (numbered := cells.and_(present, icmp)) is not False:
        for label, number in zip(
            (b" type=", b" code=", b" id="), cells.icmp_parts(table, side), strict=True
        ):
            pieces += [*words.only(numbered, label), *words.only(numbered, number)]
    zone = f" zone-{side}=".encode()
    pieces += _number(table, cells.present_in(table, f"{side}_zone"), zone, f"{side}_zone")
    counted = cells.present_in(table, f"{side}_packets", f"{side}_bytes")
    pieces += _number(table, counted, b" packets=", f"{side}_packets")
    return [*pieces, *_number(table, counted, b" bytes=", f"{side}_bytes")]


def _number(table: Table, where: Mask, label: bytes, column: str) -> list[Words]:
    """`label` and the number in the rows `where`."""
    if where is False:
        return []
    return [*words.only(where, label), *words.only(where, words.decimal(table[column]))]


def _lifetime(table: Table) -> list[Words]:
    """The difference of the whole seconds of start and stop, where both are present."""
    where = cells.present_in(table, "start", "stop")
    if where is False:
        return []
    seconds = np.maximum(table["stop"] // SECOND - table["start"] // SECOND, 0).astype(np.uint64)
    return [*words.only(where, b" delta-time="), *words.only(where, words.decimal(seconds))]
