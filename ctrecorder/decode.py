"""Conntrack messages to columns, by layout: what `walker` specifies, for thousands of messages at once.

`Decoder.decode` takes messages in slots of fixed stride and returns tables of columns.  The first message of a layout is
surveyed by `walker`; all messages that agree with it in length, type and every attribute header are then gathered at once.
Nothing here does I/O; no bytes whatever make it raise, or read outside their message: what is unsound is counted in `rejected`.
"""

from __future__ import annotations

import struct
from collections import OrderedDict
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ctrecorder import uapi, walker
from ctrecorder.columns import Array, Table
from ctrecorder.errors import MessageError

# Bytes of a slot.  The greatest conntrack event without a security context takes about 600 (IPv6 with a master, helper, labels,
# sequence adjustment, synproxy, everything counted); SELinux and Smack contexts stay under 256.  Truncated beyond, and counted.
STRIDE = 1024


class Split(NamedTuple):
    """What `split` found in one datagram of a dump."""

    slots: NDArray[np.uint8]  # (n, STRIDE)
    lengths: NDArray[np.uint32]  # (n,)
    done: bool  # NLMSG_DONE: the dump is over
    error: int  # errno of an NLMSG_ERROR, or of the NLMSG_DONE; 0 if none
    interrupted: bool  # NLM_F_DUMP_INTR: the table changed under the dump, entries may be missing
    oversized: int  # messages longer than a slot, or past the datagram's end: not in `slots`


class _Plan:
    """How to gather the messages of one layout: word indices of its headers, their values, and where the fields are."""

    def __init__(self, message: bytes, layout: walker.Layout) -> None:
        words = np.frombuffer(message[: len(message) & ~3], np.uint32)
        self.layout = layout
        self.head = np.array(layout.headers) // 4
        self.expected = words[self.head][:, None]

    def matches(self, words: NDArray[np.uint32]) -> NDArray[np.bool_]:
        """Which of `words` (n, any) have this layout."""
        return (words.T[self.head] == self.expected).all(axis=0)

    def gather(self, words: NDArray[np.uint32]) -> dict[str, Array]:
        """The columns of `words` (n, any), all of this layout; `event` and `known` are not among them."""
        octets = words.view(np.uint8)
        columns: dict[str, Array] = {}
        for name, (offset, width) in self.layout.fields.items():
            payload = np.ascontiguousarray(octets[:, offset : offset + width])
            if width == 16:
                columns[name] = payload.view("S16")[:, 0]
            else:
                kind = "i" if name in walker.SIGNED else "u"
                columns[name] = payload.view(f">{kind}{width}")[:, 0].astype(f"<{kind}{width}")
        for direction in ("orig", "reply"):
            parts = [columns.pop(f"{direction}_{name}", None) for name in walker.ICMP_FIELDS]
            if parts != [None, None]:
                high, low = (np.zeros(len(words), np.uint8) if part is None else part for part in parts)
                columns[f"{direction}_dport"] = high.astype(np.uint16) << 8 | low
        return columns


class _Piece(NamedTuple):
    """Rows of a batch that share a layout: their numbers in it, ascending, and their columns."""

    rows: NDArray[np.intp]
    plan: _Plan
    columns: dict[str, Array]


class Decoder:
    """Decodes batches and remembers up to `max_layouts` layouts (a router shows about 20; the least recently used goes)."""

    def __init__(self, max_layouts: int = 256) -> None:
        self.rejected = 0  # messages that are no sound conntrack message
        self.first_rejection = ""  # why the first of them was
        self.ignored = 0  # messages of other types
        self._max_layouts = max_layouts
        self._plans: OrderedDict[tuple[bool, bytes], _Plan] = OrderedDict()

    def decode(
        self, slots: NDArray[np.uint8], lengths: NDArray[np.uint32], received_ns: int | NDArray[np.int64], existing: bool = False
    ) -> list[Table]:
        """The messages in `slots` (n, STRIDE) of `lengths` (n,) bytes as at most one Table a family, rows in order of arrival.

        `received_ns`: time of receipt (one, or (n,)), the `time` of a message without CTA_TIMESTAMP_EVENT.  `existing`: they answer a dump.
        """
        words = slots.view(np.uint32)
        pieces: list[_Piece] = []
        remaining = np.arange(len(lengths))
        while len(remaining):
            first = int(remaining[0])
            message = slots[first, : lengths[first]].tobytes()
            try:
                layout = walker.survey(message, existing)
            except MessageError as error:
                if len(message) >= 20 and struct.unpack_from("=H", message, 4)[0] not in walker.MESSAGE_TYPES:
                    self.ignored += 1
                else:
                    self.rejected += 1
                    self.first_rejection = self.first_rejection or str(error)
                remaining = remaining[1:]
                continue
            plan = _Plan(message, layout)
            same = plan.matches(words[remaining]) & (lengths[remaining] == len(message))
            rows, remaining = remaining[same], remaining[~same]
            pieces.append(_Piece(rows, plan, plan.gather(words[rows])))
        return [_assemble(family, pieces, received_ns) for family in walker.SPECS if any(p.plan.layout.family == family for p in pieces)]


def _assemble(family: int, pieces: list[_Piece], received_ns: int | NDArray[np.int64]) -> Table:
    pieces = [piece for piece in pieces if piece.plan.layout.family == family]
    order = np.sort(np.concatenate([piece.rows for piece in pieces]))
    names = dict.fromkeys(name for piece in pieces for name in piece.columns)
    columns: dict[str, Array] = {}
    table = Table(family, len(order), columns)
    for name in ("time", "event", "known", *names):
        if name not in columns:
            columns[name] = np.array(table[name])
    if isinstance(received_ns, np.ndarray):
        columns["time"][:] = received_ns[order]
    else:
        columns["time"][:] = received_ns
    for piece in pieces:
        at = np.searchsorted(order, piece.rows)
        columns["event"][at] = piece.plan.layout.event
        columns["known"][at] = piece.plan.layout.known
        for name, values in piece.columns.items():
            columns[name][at] = values
    return table


def split(datagram: bytes | memoryview) -> Split:
    """The messages of one datagram of a dump, for `Decoder.decode(..., existing=True)`.  Never raises."""
    starts: list[tuple[int, int]] = []
    done, error, interrupted, oversized, at = False, 0, False, 0, 0
    while at + uapi.NLMSG_HDRLEN <= len(datagram):
        length, kind, flags = struct.unpack_from("=IHH", datagram, at)
        if not uapi.NLMSG_HDRLEN <= length <= len(datagram) - at:
            oversized += 1
            break
        interrupted |= bool(flags & uapi.NLM_F_DUMP_INTR)
        if kind in (uapi.NLMSG_DONE, uapi.NLMSG_ERROR):
            done = True
            error = -struct.unpack_from("=i", datagram, at + uapi.NLMSG_HDRLEN)[0] if length >= uapi.NLMSG_HDRLEN + 4 else 0
        elif length > STRIDE:
            oversized += 1
        else:
            starts.append((at, length))
        at += (length + 3) & ~3
    slots = np.zeros((len(starts), STRIDE), np.uint8)
    octets = np.frombuffer(datagram, np.uint8)
    for slot, (first, length) in zip(slots, starts, strict=True):
        slot[:length] = octets[first : first + length]
    return Split(slots, np.array([length for _, length in starts], np.uint32), done, error, interrupted, oversized)
