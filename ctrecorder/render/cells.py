"""Masks and words that all formats use: columns that are present, ICMP, replies, addresses.

Pure; `words` explains words and masks.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ctrecorder import uapi
from ctrecorder.columns import Event, Table, bit
from ctrecorder.render import words
from ctrecorder.render.words import Mask, Words

SIDES = ("orig", "reply")


def present_in(table: Table, *names: str) -> Mask:
    """The rows in which all columns `names` are present."""
    wanted = np.uint32(sum(bit(name) for name in names))
    return collapse(table["present"] & wanted == wanted)


def collapse(rows: NDArray[np.bool_]) -> Mask:
    """`rows`, or one value if all are equal, which saves work."""
    if rows.all():
        return True
    return rows if rows.any() else False


def and_(first: Mask, second: Mask) -> Mask:
    """The rows that are in both masks."""
    if isinstance(first, bool):
        return second if first else False
    return first if second is True else collapse(first & second)


def or_(first: Mask, second: Mask) -> Mask:
    """The rows that are in at least one of the masks."""
    return not_(and_(not_(first), not_(second)))


def not_(mask: Mask) -> Mask:
    """The rows that are not in `mask`."""
    return not mask if isinstance(mask, bool) else ~mask


def icmp(table: Table) -> Mask:
    """The rows whose port columns hold ICMP's id, type and code."""
    protocol = table["l4proto"]
    return collapse((protocol == uapi.IPPROTO_ICMP) | (protocol == uapi.IPPROTO_ICMPV6))


def protocol_is(table: Table, number: int) -> Mask:
    """The rows of this L4 protocol."""
    return collapse(table["l4proto"] == number)


def replied(table: Table) -> NDArray[np.bool_]:
    """(n,) bool: packets were seen in both directions."""
    seen: NDArray[np.bool_] = (table["status"] & np.uint32(uapi.IPS_SEEN_REPLY)) != 0
    return seen


def event_times(table: Table, *, heard: bool) -> NDArray[np.int64]:
    """(rows,): the time of each event that a listing shows, ns.

    The end of a connection is the kernel's stop where it is recorded, which is also the end of the
    connection.  `heard`: it is the time at which the event was heard of instead.
    """
    time: NDArray[np.int64] = table["time"].astype(np.int64, copy=False)
    if heard or "stop" not in table:
        return time
    stop = table["stop"].astype(np.int64, copy=False)
    told = (table["event"] == Event.DESTROY) & (stop > 0)
    told &= (table["present"] & np.uint32(bit("stop"))) != 0
    return np.where(told, stop, time)


def address(table: Table, name: str, *, colon: bool = False) -> Words:
    """The words of an address column.  `colon`: after an IPv4 address, a colon, at no cost."""
    if table.family == uapi.AF_INET6:
        return words.ipv6(table[name])
    return words.ipv4(table[name], colon=colon)


def icmp_parts(table: Table, side: str) -> tuple[Words, Words, Words]:
    """The words of ICMP's type, code and id in the port columns of one direction."""
    type_and_code = table[f"{side}_dport"]
    kind, code = type_and_code >> np.uint16(8), type_and_code & np.uint16(0xFF)
    return words.decimal(kind), words.decimal(code), words.decimal(table[f"{side}_sport"])
