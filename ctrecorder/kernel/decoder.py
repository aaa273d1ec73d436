"""Decodes conntrack messages to columns, thousands of messages at once.

`Decoder.decode` takes messages in slots of a fixed stride and returns tables.  `message` specifies
the result.  It surveys the first message of each layout; the values of all messages with the same
length, type and attribute headers are then read with numpy.  No I/O.  No message makes the decoder
raise, or read outside of that message: malformed messages are counted in `rejected`.
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
from ctrecorder.kernel import message as conntrack

# Bytes of a slot.  The longest conntrack event takes about 600 bytes (IPv6 with a master, a helper,
# labels, sequence adjustment, synproxy, all counters) and a security context of up to 256 bytes
# (Smack; those of SELinux are shorter).  A longer message is refused and counted.  Not a power of
# two: with 1,024 bytes, one field of all messages would be in a few sets of the CPU's cache, and
# reading it would take twice as long.
STRIDE = 1088

_MIN_MESSAGE_BYTES = uapi.NLMSG_HDRLEN + uapi.NFGENMSG_LEN

# (n, stride): a message a row, C-contiguous; the stride is a multiple of 4 and at least
# _MIN_MESSAGE_BYTES.
Slots: TypeAlias = NDArray[np.uint8]
Lengths: TypeAlias = NDArray[np.uint32]  # (n,): bytes of each message
Columns: TypeAlias = dict[str, Array]

DUMP_ENDS = (uapi.NLMSG_DONE, uapi.NLMSG_ERROR)


class _Plan:
    """Reads the messages of one layout."""

    def __init__(self, message: bytes, layout: conntrack.Layout) -> None:
        self.layout = layout
        self._headers = np.array(layout.headers) // 4
        self._expected = np.frombuffer(message, np.uint32, len(message) // 4)[self._headers][
            :, np.newaxis
        ]
        dtypes = {column.name: column.dtype(layout.family) for column in COLUMNS}
        for direction in ("orig", "reply"):
            dtypes |= {f"{direction}_{name}": np.dtype(np.uint8) for name in conntrack.ICMP_FIELDS}
        self._fields = [
            (name, offset, _sent(name, width, dtypes[name]), dtypes[name])
            for name, (offset, width) in layout.fields.items()
        ]

    def matches(self, slots: Slots) -> NDArray[np.bool_]:
        """(n,): which messages in `slots`, all of this layout's length, have this layout."""
        same = np.equal(slots.view(np.uint32).T[self._headers], self._expected)
        # Nearly always all are equal, and that test takes a fifth of the other one's time.
        matching: NDArray[np.bool_] = (
            np.ones(len(slots), np.bool_) if same.all() else np.logical_and.reduce(same, axis=0)
        )
        return matching

    def gather(self, slots: Slots) -> Columns:
        """The columns of the messages in `slots`, all of this layout."""
        rows, stride = slots.shape
        columns: Columns = {
            "event": np.broadcast_to(np.uint8(self.layout.event), (rows,)),
            "present": np.broadcast_to(np.uint32(self.layout.present), (rows,)),
        }
        columns |= {
            name: np.ndarray((rows,), sent, slots, offset, (stride,)).astype(dtype)
            for name, offset, sent, dtype in self._fields
        }
        for direction in ("orig", "reply"):
            parts = [columns.pop(f"{direction}_{name}", None) for name in conntrack.ICMP_FIELDS]
            if any(part is not None for part in parts):
                icmp_type, icmp_code = (
                    np.zeros(rows, np.uint16) if part is None else part.astype(np.uint16)
                    for part in parts
                )
                columns[f"{direction}_dport"] = icmp_type * np.uint16(256) + icmp_code
        return columns


def _sent(name: str, width: int, dtype: np.dtype[np.generic]) -> np.dtype[np.generic]:
    """The dtype of a field of `width` bytes in a message; `dtype`: that of its column."""
    return np.dtype(f"S{width}") if name in conntrack.TEXTS else dtype.newbyteorder(">")


class _Group(NamedTuple):
    """The messages of a batch that have one layout."""

    rows: NDArray[np.intp]  # their numbers in the batch, ascending
    family: int
    columns: Columns


class Decoder:
    """Decodes batches of messages.

    Keeps up to `max_layouts` layouts (a router has about 20); with one more it forgets them all.

    rejected: number of malformed conntrack messages.
    first_rejection: why the first of them was rejected.
    ignored: number of messages of other types.
    """

    def __init__(self, max_layouts: int = 256) -> None:
        self.rejected = self.ignored = 0
        self.first_rejection = ""
        self._max_layouts = max_layouts
        self._plans: dict[tuple[int, bool], list[_Plan]] = {}
        self._layouts = 0

    def decode(
        self,
        slots: Slots,
        lengths: Lengths,
        received_ns: int | NDArray[np.int64],
        existing: bool = False,
    ) -> list[Table]:
        """The messages in `slots` as at most one Table a family, in order of arrival.

        received_ns: one time or (n,), the `time` of messages without CTA_TIMESTAMP_EVENT.
        existing: the messages are a dump of the table.
        The tables keep no reference to the arguments.
        """
        if not len(lengths):
            return []
        groups: list[_Group] = []
        for key, length, group, block in _groups(slots, lengths):
            for plan, found, messages in self._by_layout(block, length, (key, existing)):
                numbers = group[found]
                columns = plan.gather(messages)
                if "time" not in columns:
                    columns["time"] = np.broadcast_to(
                        np.asarray(received_ns, "<i8"), lengths.shape
                    )[numbers]
                groups.append(_Group(numbers, plan.layout.family, columns))
        families = sorted({group.family for group in groups})
        return [
            _assemble(family, [group for group in groups if group.family == family], len(lengths))
            for family in families
        ]

    def _by_layout(
        self, slots: Slots, length: int, key: tuple[int, bool]
    ) -> Iterator[tuple[_Plan, NDArray[np.intp], Slots]]:
        """Messages of one `key`, and so of one `length`, by layout.

        Yields the plan, the numbers of the messages in `slots`, and the messages.
        """
        numbers: NDArray[np.intp] = np.arange(len(slots))
        plans = list(self._plans.get(key, ()))
        while len(numbers):
            plan = plans.pop() if plans else self._learn(slots[0, :length].tobytes(), length, key)
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
        """A new plan for the layout of `message`; None: it is rejected or ignored, and counted."""
        try:
            if len(message) < length:
                raise MessageError(f"{length} bytes do not fit a slot of {len(message)} bytes")
            layout = conntrack.survey(message, key[1])
        except MessageError as error:
            if (
                length >= uapi.NLMSG_HDRLEN
                and struct.unpack_from("=H", message, 4)[0] not in conntrack.MESSAGE_TYPES
            ):
                self.ignored += 1
            else:
                self.rejected += 1
                self.first_rejection = self.first_rejection or str(error)
            return None
        if self._layouts == self._max_layouts:
            self._plans.clear()
            self._layouts = 0
        self._layouts += 1
        plan = _Plan(message, layout)
        self._plans.setdefault(key, []).append(plan)
        return plan


def _groups(slots: Slots, lengths: Lengths) -> Iterator[tuple[int, int, NDArray[np.intp], Slots]]:
    """Messages by `_keys`: the key, their length, their numbers in the batch, the messages."""
    keys = _keys(slots, lengths)
    rows: NDArray[np.intp] = np.arange(len(lengths))
    same = keys == keys[0]
    if same.all():  # as in a flood of new flows: nothing is copied
        yield int(keys[0]), int(lengths[0]), rows, slots
        return
    while len(rows):
        group, length = rows[same], int(lengths[rows[0]])
        yield int(keys[rows[0]]), length, group, slots[:, : (length + 3) & ~3][group]
        rows = rows[~same]
        same = keys[rows] == keys[rows[:1]]


def _keys(slots: Slots, lengths: Lengths) -> NDArray[np.uint64]:
    """(n,): a number for each combination of length, nlmsg_type, nlmsg_flags and family.

    All lengths beyond the slot count as one.
    """
    words = slots.view(np.uint32)
    keys = np.minimum(lengths, slots.shape[1] + 1).astype(np.uint64) << np.uint64(40)
    keys |= slots[:, uapi.NLMSG_HDRLEN].astype(np.uint64) << np.uint64(32)
    keys |= words[:, 1]
    return keys


def _assemble(family: int, groups: list[_Group], batch: int) -> Table:
    """The groups of one family in a batch of `batch` messages as one table in order of arrival."""
    if len(groups) == 1:
        return Table(family, len(groups[0].rows), groups[0].columns)
    arrived = np.zeros(batch, np.bool_)
    for group in groups:
        arrived[group.rows] = True
    row_of_message = np.cumsum(arrived) - 1
    rows = int(row_of_message[-1]) + 1
    columns: Columns = {}
    for column in COLUMNS:
        parts = [group for group in groups if column.name in group.columns]
        if parts:
            columns[column.name] = np.zeros(rows, column.dtype(family))
        for group in parts:
            columns[column.name][row_of_message[group.rows]] = group.columns[column.name]
    return Table(family, rows, columns)


class Split(NamedTuple):
    """The messages of some datagrams of a dump.

    done: the dump has ended (NLMSG_DONE or NLMSG_ERROR).
    error: the errno of the end; 0: no error.
    interrupted: the table changed during the dump, so entries can be missing (NLM_F_DUMP_INTR).
    unsound: number of messages that are not in `slots`: longer than STRIDE, or malformed.
    """

    slots: Slots
    lengths: Lengths
    done: bool
    error: int
    interrupted: bool
    unsound: int


def messages(answer: bytes | memoryview) -> Iterator[tuple[int, int, int, int]]:
    """The netlink messages in one datagram, or in several that are padded to 4 bytes each.

    Yields offset, length, nlmsg_type and nlmsg_flags.  Length 0 is the last one: the rest of the
    bytes is malformed.
    """
    offset, end = 0, len(answer)
    unpack = struct.Struct("=IHH").unpack_from
    while offset + uapi.NLMSG_HDRLEN <= end:
        length, kind, flags = unpack(answer, offset)
        if not uapi.NLMSG_HDRLEN <= length <= end - offset:
            yield offset, 0, 0, 0
            return
        yield offset, length, kind, flags
        offset += (length + 3) & ~3


def end_of_dump(answer: bytes | memoryview, offset: int, length: int) -> int:
    """The errno in a message of DUMP_ENDS; 0: no error."""
    return (
        -int(struct.unpack_from("=i", answer, offset + uapi.NLMSG_HDRLEN)[0])
        if length >= uapi.NLMSG_HDRLEN + 4
        else 0
    )


def split(answer: bytes | memoryview) -> Split:
    """The messages of datagrams of a dump (see `messages`) for `Decoder.decode`.  Never raises."""
    starts: list[int] = []
    lengths: list[int] = []
    done, interrupted, error, unsound = False, False, 0, 0
    for offset, length, kind, flags in messages(answer):
        interrupted |= bool(flags & uapi.NLM_F_DUMP_INTR)
        if kind in DUMP_ENDS:
            done, error = True, end_of_dump(answer, offset, length)
        elif not 0 < length <= STRIDE:
            unsound += 1
        else:
            starts.append(offset)
            lengths.append(length)
    width = (max([_MIN_MESSAGE_BYTES, *lengths]) + 3) // 4
    words = np.zeros((len(answer) + 3) // 4 + width, np.uint32)
    words.view(np.uint8)[: len(answer)] = np.frombuffer(answer, np.uint8)
    # A row for each 4-byte word at which a message can begin: each row is copied as one group.
    windows: NDArray[np.uint32] = np.ndarray(
        (len(words) - width + 1, width), np.uint32, words, strides=(4, 4)
    )
    slots = windows[np.array(starts, np.intp) // 4].view(np.uint8)
    return Split(slots, np.array(lengths, np.uint32), done, error, interrupted, unsound)
