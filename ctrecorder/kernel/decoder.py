"""Conntrack messages to columns, by layout: what `walker` specifies, for thousands of messages at
once.

`Decoder.decode` takes messages in slots of fixed stride and returns tables of columns.  The first
message of a layout is surveyed by `walker`; all messages that agree with it in length, type and
every attribute header are then gathered at once. Nothing here does I/O; no bytes whatever make it
raise, or read outside their message: what is unsound is counted in `rejected`.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ctrecorder import uapi
from ctrecorder.columns import COLUMNS, Array, Table
from ctrecorder.errors import MessageError
from ctrecorder.kernel import message as walker

# Bytes of a slot.  The greatest conntrack event takes about 600 (IPv6 with a master, a helper,
# labels, sequence adjustment, synproxy, all counters) and a security context of up to 256 (Smack;
# SELinux has less).  A longer one would be refused and counted. Not a power of two: 1,024 would put
# the same field of all messages into a few sets of the CPU's cache, and gathering takes twice as
# long.
STRIDE = 1088

_LEAST = uapi.NLMSG_HDRLEN + uapi.NFGENMSG_LEN  # bytes of the least conntrack message

Slots: TypeAlias = NDArray[
    np.uint8
]  # (n, stride): a message a row, C-contiguous, stride a multiple of 4 and at least _LEAST
Lengths: TypeAlias = NDArray[np.uint32]  # (n,): the bytes used
Columns: TypeAlias = dict[str, Array]

DUMP_ENDS = (uapi.NLMSG_DONE, uapi.NLMSG_ERROR)


class _Plan:
    """How to gather the messages of one layout."""

    def __init__(self, message: bytes, layout: walker.Layout) -> None:
        self.layout = layout
        self._headers = np.array(layout.headers) // 4
        self._expected = np.frombuffer(message, np.uint32, len(message) // 4)[self._headers][
            :, np.newaxis
        ]
        dtypes = {column.name: column.dtype(layout.family) for column in COLUMNS}
        for direction in ("orig", "reply"):
            dtypes |= {f"{direction}_{name}": np.dtype(np.uint8) for name in walker.ICMP_FIELDS}
        self._fields = [
            (name, offset, dtypes[name].newbyteorder(">"), dtypes[name])
            for name, (offset, _) in layout.fields.items()
        ]

    def matches(self, slots: Slots) -> NDArray[np.bool_]:
        """Which of the messages in `slots`, all of the plan's length, have its layout: (n,)."""
        same = np.equal(slots.view(np.uint32).T[self._headers], self._expected)
        # The first is nearly always all there is to know, and costs a fifth of the second.
        matching: NDArray[np.bool_] = (
            np.ones(len(slots), np.bool_) if same.all() else np.logical_and.reduce(same, axis=0)
        )
        return matching

    def gather(self, slots: Slots) -> Columns:
        """The columns that the messages in `slots`, all of this layout, tell."""
        rows, stride = slots.shape
        columns: Columns = {
            "event": np.broadcast_to(np.uint8(self.layout.event), (rows,)),
            "present": np.broadcast_to(np.uint32(self.layout.known), (rows,)),
        }
        columns |= {
            name: np.ndarray((rows,), sent, slots, offset, (stride,)).astype(dtype)
            for name, offset, sent, dtype in self._fields
        }
        for direction in ("orig", "reply"):
            parts = [columns.pop(f"{direction}_{name}", None) for name in walker.ICMP_FIELDS]
            if any(part is not None for part in parts):
                icmp_type, icmp_code = (
                    np.zeros(rows, np.uint16) if part is None else part.astype(np.uint16)
                    for part in parts
                )
                columns[f"{direction}_dport"] = icmp_type * np.uint16(256) + icmp_code
        return columns


class _Piece(NamedTuple):
    """Messages of a batch that share a layout."""

    rows: NDArray[np.intp]  # their numbers in the batch, ascending
    family: int
    columns: Columns


class Decoder:
    """Decodes batches; remembers up to `max_layouts` layouts (a router shows about 20) and forgets
    all when there are more.
    """

    def __init__(self, max_layouts: int = 256) -> None:
        self.rejected = 0  # messages that are no sound conntrack message
        self.first_rejection = ""  # why the first of them was
        self.ignored = 0  # messages of other types
        self._max_layouts = max_layouts
        self._plans: dict[tuple[int, bool], list[_Plan]] = {}
        self._learned = 0

    def decode(
        self,
        slots: Slots,
        lengths: Lengths,
        received_ns: int | NDArray[np.int64],
        existing: bool = False,
    ) -> list[Table]:
        """The messages in `slots` as at most one Table a family, in order of arrival.

        received_ns: one or (n,), the `time` of those without CTA_TIMESTAMP_EVENT; existing: they
        answer a dump of the table. The tables keep no reference to the arguments.
        """
        if not len(lengths):
            return []
        pieces: list[_Piece] = []
        for key, length, group, block in _groups(slots, lengths):
            for plan, found, messages in self._by_layout(block, length, (key, existing)):
                numbers = group[found]
                columns = plan.gather(messages)
                if "time" not in columns:
                    columns["time"] = np.broadcast_to(
                        np.asarray(received_ns, "<i8"), lengths.shape
                    )[numbers]
                pieces.append(_Piece(numbers, plan.layout.family, columns))
        families = sorted({piece.family for piece in pieces})
        return [
            _assemble(family, [piece for piece in pieces if piece.family == family], len(lengths))
            for family in families
        ]

    def _by_layout(
        self, slots: Slots, length: int, key: tuple[int, bool]
    ) -> Iterator[tuple[_Plan, NDArray[np.intp], Slots]]:
        """Messages that agree in `key`, and so in their `length`, by layout: the plan, their
        numbers in `slots`, and they themselves.
        """
        numbers: NDArray[np.intp] = np.arange(len(slots))
        known = list(self._plans.get(key, ()))
        while len(numbers):
            plan = known.pop() if known else self._learn(slots[0, :length].tobytes(), length, key)
            if plan is None:
                numbers, slots = numbers[1:], slots[1:]
                continue
            match = plan.matches(slots)
            if match.all():
                yield plan, numbers, slots
                return
            if match.any():
                yield plan, numbers[match], slots[match]
                numbers, slots = numbers[~match], slots[~match]

    def _learn(self, message: bytes, length: int, key: tuple[int, bool]) -> _Plan | None:
        """The plan of this message's layout, from now on known; None if it is no conntrack message,
        which is counted.
        """
        try:
            if len(message) < length:
                raise MessageError(f"{length} bytes do not fit a slot of {len(message)}")
            layout = walker.survey(message, key[1])
        except MessageError as error:
            if (
                length >= uapi.NLMSG_HDRLEN
                and struct.unpack_from("=H", message, 4)[0] not in walker.MESSAGE_TYPES
            ):
                self.ignored += 1
            else:
                self.rejected += 1
                self.first_rejection = self.first_rejection or str(error)
            return None
        if self._learned == self._max_layouts:
            self._plans.clear()
            self._learned = 0
        self._learned += 1
        plan = _Plan(message, layout)
        self._plans.setdefault(key, []).append(plan)
        return plan


def _groups(slots: Slots, lengths: Lengths) -> Iterator[tuple[int, int, NDArray[np.intp], Slots]]:
    """Messages that agree in `_keys`: the key, their length, their numbers in the batch, and they
    themselves.
    """
    keys = _keys(slots, lengths)
    rows: NDArray[np.intp] = np.arange(len(lengths))
    same = keys == keys[0]
    if same.all():  # as in a flood: nothing is copied
        yield int(keys[0]), int(lengths[0]), rows, slots
        return
    while len(rows):
        group, length = rows[same], int(lengths[rows[0]])
        yield int(keys[rows[0]]), length, group, slots[:, : (length + 3) & ~3][group]
        rows = rows[~same]
        same = keys[rows] == keys[rows[:1]]


def _keys(slots: Slots, lengths: Lengths) -> NDArray[np.uint64]:
    """(n,): equal where length (all beyond the slot being one), nlmsg_type, nlmsg_flags and family
    are.
    """
    words = slots.view(np.uint32)
    keys = np.minimum(lengths, slots.shape[1] + 1).astype(np.uint64) << np.uint64(40)
    keys |= slots[:, uapi.NLMSG_HDRLEN].astype(np.uint64) << np.uint64(32)
    keys |= words[:, 1]
    return keys


def _assemble(family: int, pieces: list[_Piece], batch: int) -> Table:
    """The pieces of one family out of a batch of so many messages, as one table in order of arrival."""
    if len(pieces) == 1:
        return Table(family, len(pieces[0].rows), pieces[0].columns)
    arrived = np.zeros(batch, np.bool_)
    for piece in pieces:
        arrived[piece.rows] = True
    places = np.cumsum(arrived) - 1
    rows = int(places[-1]) + 1
    columns: Columns = {}
    for column in COLUMNS:
        parts = [piece for piece in pieces if column.name in piece.columns]
        if parts:
            columns[column.name] = np.zeros(rows, column.dtype(family))
        for piece in parts:
            columns[column.name][places[piece.rows]] = piece.columns[column.name]
    return Table(family, rows, columns)


class Split(NamedTuple):
    """What `split` found in the bytes of a dump."""

    slots: Slots
    lengths: Lengths
    done: bool  # NLMSG_DONE or NLMSG_ERROR: the dump is over
    error: int  # the errno that came with it; 0 if none
    interrupted: bool  # NLM_F_DUMP_INTR: the table changed under the dump, entries may be missing
    # messages longer than STRIDE, or with a length that contradicts the bytes: not in `slots`
    unsound: int


def messages(answer: bytes | memoryview) -> Iterator[tuple[int, int, int, int]]:
    """The netlink messages in one datagram, or in several that are padded to 4 bytes each: offset,
    length, nlmsg_type, nlmsg_flags.

    Length 0 is the last one: the bytes from there on contradict themselves.
    """
    at, end = 0, len(answer)
    unpack = struct.Struct("=IHH").unpack_from
    while at + uapi.NLMSG_HDRLEN <= end:
        length, kind, flags = unpack(answer, at)
        if not uapi.NLMSG_HDRLEN <= length <= end - at:
            yield at, 0, 0, 0
            return
        yield at, length, kind, flags
        at += (length + 3) & ~3


def end_of_dump(answer: bytes | memoryview, at: int, length: int) -> int:
    """The errno in a message of DUMP_ENDS; 0 if there is none."""
    return (
        -int(struct.unpack_from("=i", answer, at + uapi.NLMSG_HDRLEN)[0])
        if length >= uapi.NLMSG_HDRLEN + 4
        else 0
    )


def split(answer: bytes | memoryview) -> Split:
    """The messages of a dump's datagrams (see `messages`) for `Decoder.decode`.  Never raises."""
    starts: list[int] = []
    lengths: list[int] = []
    done, interrupted, error, unsound = False, False, 0, 0
    for at, length, kind, flags in messages(answer):
        interrupted |= bool(flags & uapi.NLM_F_DUMP_INTR)
        if kind in DUMP_ENDS:
            done, error = True, end_of_dump(answer, at, length)
        elif not 0 < length <= STRIDE:
            unsound += 1
        else:
            starts.append(at)
            lengths.append(length)
    width = (max([_LEAST, *lengths]) + 3) // 4
    words = np.zeros((len(answer) + 3) // 4 + width, np.uint32)
    words.view(np.uint8)[: len(answer)] = np.frombuffer(answer, np.uint8)
    # A row for each word that a message may begin at: taking rows copies each as one piece.
    windows: NDArray[np.uint32] = np.ndarray(
        (len(words) - width + 1, width), np.uint32, words, strides=(4, 4)
    )
    slots = windows[np.array(starts, np.intp) // 4].view(np.uint8)
    return Split(slots, np.array(lengths, np.uint32), done, error, interrupted, unsound)
