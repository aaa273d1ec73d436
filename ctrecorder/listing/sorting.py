"""ctlist --sort: rows in the order of a column, in bounded memory.

An address takes several passes, its last bits first: each pass keeps the order of equal rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from ctrecorder import uapi
from ctrecorder.columns import MASTER, PORTS, Array, Source, Table, bit
from ctrecorder.ends import ends_of
from ctrecorder.errors import UsageError
from ctrecorder.order.batches import Batch
from ctrecorder.order.external_sort import Sorter
from ctrecorder.screen import fields
from ctrecorder.screen.fields import Field, Look
from ctrecorder.screen.grid import ENDS

Key = Callable[[Table], NDArray[np.int64]]
# The keys of values are below it; that of no value is the last one.
_NO_VALUE = 2**63 - 2
# An address of 16 bytes has its upper bits in one key, beyond all addresses of 4 bytes.
_UPPER_BITS = 61
_COLUMN_OF = {"proto": "l4proto", "protocol": "l4proto", "ev": "event"}
_COLUMN_OF |= {"master_protocol": "master_l4proto"}
_ALWAYS = ("l4proto", "event", "seen", "start_source", "end_source")


def columns_of(text: str | None, *, connections: bool) -> tuple[str, ...]:
    """The columns of tables that --sort `text` needs.  Raises UsageError."""
    return fields.needs([_parse(text, connections)[0]]) if text else ()


def in_order(batches: Iterator[Batch], text: str | None, look: Look) -> Iterator[Batch]:
    """The rows of `batches` in the order of --sort `text`; as they are without one.

    Rows of equal values are in order of time.  Rows without a value come last.
    """
    if text:
        field, descending = _parse(text, look.connections)
        for key in _keys(field, descending, look):
            batches = _sorted(batches, key, None if _is_wide(field) else look)
    return batches


def _parse(text: str, connections: bool) -> tuple[Field, bool]:
    """The column, and whether the greatest values come first."""
    name = text.strip()
    if "," in name:
        raise UsageError(
            f"--sort {text}: name one column; rows of equal values are in order of time"
        )
    return fields.field_of(name.removeprefix("-"), connections=connections), name.startswith("-")


def _sorted(batches: Iterator[Batch], key: Key, look: Look | None) -> Iterator[Batch]:
    """One pass.

    `look`: of the times by which equal rows of different families are ordered; None: none are.
    """
    with Sorter(key) as sorter:
        for batch in batches:
            for table in batch.tables:
                sorter.add(table)
        for tables in sorter.ready(_NO_VALUE + 1):
            keys = np.concatenate([key(table) for table in tables])
            by: tuple[Array, ...] = (keys,)
            if look is not None:
                by = (np.concatenate([fields.row_times(table, look) for table in tables]), keys)
            yield Batch(tables, np.lexsort(by))


def _keys(field: Field, descending: bool, look: Look) -> list[Key]:
    """The keys of a column's values, one for each pass, that of the last bits first."""
    passes = 3 if _is_wide(field) else 1

    def key(part: int) -> Key:
        def of(table: Table) -> NDArray[np.int64]:
            values, known = _values(field.name, table, look)
            number = _parts(values)[part] if passes > 1 else _number(values)
            return np.where(known, -number if descending else number, _NO_VALUE)

        return of

    return [key(part) for part in range(passes)]


def _is_wide(field: Field) -> bool:
    """Whether values can have 16 bytes."""
    return field.is_address or field.name in ("helper", "labels")


def _number(values: Array) -> NDArray[np.int64]:
    """Numbers as keys."""
    if values.dtype == np.uint64:
        values = np.minimum(values, np.uint64(_NO_VALUE - 1))
    return values.astype(np.int64)


def _parts(addresses: Array) -> list[NDArray[np.int64]]:
    """The bits of addresses as three keys, the last bits first; those of 4 bytes are the least."""
    if addresses.dtype.itemsize == 4:
        zero = np.zeros(len(addresses), np.int64)
        return [zero, zero, addresses.astype(np.int64)]
    halves = np.ascontiguousarray(addresses).view(">u8").reshape(-1, 2).astype(np.uint64)
    high, low = halves[:, 0], halves[:, 1]
    last = np.uint64(64 - _UPPER_BITS)
    middle = (high & np.uint64(7)) << np.uint64(32) | low >> np.uint64(32)
    upper = high >> last | np.uint64(1 << _UPPER_BITS)
    return [
        (low & np.uint64(0xFFFFFFFF)).astype(np.int64),
        middle.astype(np.int64),
        upper.astype(np.int64),
    ]


def _values(name: str, table: Table, look: Look) -> tuple[Array, NDArray[np.bool_]]:
    """(rows,): the values of a column, and which rows have one."""
    every = np.ones(len(table), np.bool_)
    if name == "time":
        return fields.row_times(table, look), every
    if name == "duration":
        return fields.durations(table, look.connections)
    if name in ("bytes", "packets"):
        return fields.sums(table, name)
    if name in ENDS:
        found = ends_of(table, look.inside)
        return {
            "inside": (found.inside, found.has_inside),
            "public": (found.public, found.translated),
            "remote": (found.remote, found.has_remote),
        }[name]
    if name == "server":
        return table["reply_src"], every
    if name in ("start", "end") and look.connections:
        return table[name], table[f"{name}_source"] != Source.UNKNOWN
    side, _, part = name.partition("_icmp_")
    column = _COLUMN_OF.get(name, name)
    if part:
        column = f"{side}_{'sport' if part == 'id' else 'dport'}"
    values = table[column]
    if part in ("type", "code"):
        values = values >> np.uint16(8) if part == "type" else values & np.uint16(0xFF)
    is_icmp = np.isin(table["l4proto"], (uapi.IPPROTO_ICMP, uapi.IPPROTO_ICMPV6))
    if part or name in PORTS:
        return values, is_icmp if part else ~is_icmp
    if column in _ALWAYS:
        return values, every
    if column in MASTER:
        return values, table["master_l4proto"] != 0
    return values, (table["present"] & np.uint32(bit(column))) != 0
