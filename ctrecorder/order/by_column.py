"""ctlist --sort: rows in the order of columns, in bounded memory.

The values of a row become bytes in the same order, so that one pass sorts by all of them.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from ctrecorder import uapi
from ctrecorder.columns import MASTER, PORTS, Array, Source, Table, bit
from ctrecorder.ends import ends_of
from ctrecorder.errors import UsageError
from ctrecorder.order.batches import Batch
from ctrecorder.order.external_sort import Key, Keys, Sorter
from ctrecorder.screen import fields
from ctrecorder.screen.fields import Field, Look
from ctrecorder.screen.grid import ENDS

Bytes = NDArray[np.uint8]
_COLUMN_OF = {"proto": "l4proto", "protocol": "l4proto", "ev": "event"}
_COLUMN_OF |= {"master_protocol": "master_l4proto"}
_ALWAYS = ("l4proto", "event", "seen", "start_source", "end_source")


def columns_of(text: str | None, *, connections: bool) -> tuple[str, ...]:
    """The columns of tables that --sort `text` needs.  Raises UsageError."""
    return fields.needs([one for one, _ in _parse(text, connections)]) if text else ()


def in_order(batches: Iterator[Batch], text: str | None, look: Look) -> Iterator[Batch]:
    """The rows of `batches` in the order of --sort `text`; as they are without one.

    Rows of equal values are in order of time.  Rows without a value come last.
    """
    return _sorted(batches, key_of(text, look)) if text else batches


def key_of(text: str, look: Look) -> Key:
    """The key by which --sort `text` orders rows."""
    columns = _parse(text, look.connections)
    return lambda table: _keys(table, columns, look)


def reversed_order(text: str) -> str:
    """The value of --sort that puts the last row of --sort `text` first."""
    names = (name.strip() for name in text.split(","))
    return ",".join(name[1:] if name.startswith("-") else f"-{name}" for name in names)


def _parse(text: str, connections: bool) -> list[tuple[Field, bool]]:
    """The columns, and whether the greatest values of each come first.  Raises UsageError."""
    names = [name.strip() for name in text.split(",")]
    if not all(names):
        raise UsageError(f"--sort {text}: name columns, for example --sort=proto,-bytes")
    return [
        (fields.field_of(name.removeprefix("-"), connections=connections), name.startswith("-"))
        for name in names
    ]


def _sorted(batches: Iterator[Batch], key: Key) -> Iterator[Batch]:
    with Sorter(key) as sorter:
        for batch in batches:
            for table in batch.tables:
                sorter.add(table)
        for tables in sorter.ready():
            keys = np.concatenate([key(table) for table in tables])
            yield Batch(tables, np.argsort(keys, kind="stable"))


def _keys(table: Table, columns: list[tuple[Field, bool]], look: Look) -> Keys:
    """(rows,): bytes in the order of the rows: of each column, then of the time."""
    parts = []
    for field, descending in columns:
        values, known = _values(field.name, table, look)
        part = _as_bytes(values)
        if _is_wide(field):
            part = _widened(part)
        parts += [~known[:, None], ~part if descending else part]
        parts[-1][~known] = 0
    parts.append(_as_bytes(fields.row_times(table, look)))
    whole = np.ascontiguousarray(np.concatenate(parts, axis=1, dtype=np.uint8, casting="unsafe"))
    found: Keys = whole.view(f"S{whole.shape[1]}")[:, 0]
    return found


def _as_bytes(values: Array) -> Bytes:
    """(rows, 8 or 16 bytes) in the order of the values."""
    rows = len(values)
    if values.dtype.kind == "S":
        return np.ascontiguousarray(values).view(np.uint8).reshape(rows, -1)
    if values.dtype.kind == "i":
        values = values.astype(np.int64).view(np.uint64) ^ np.uint64(1 << 63)
    return values.astype(">u8").view(np.uint8).reshape(rows, 8)


def _is_wide(field: Field) -> bool:
    """Whether values can have 16 bytes."""
    return field.is_address or field.name in ("helper", "labels")


def _widened(part: Bytes) -> Bytes:
    """(rows, 17): addresses of IPv4 are less than those of IPv6."""
    found = np.zeros((len(part), 17), np.uint8)
    found[:, 0] = part.shape[1] == 16
    found[:, 17 - part.shape[1] :] = part
    return found


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
