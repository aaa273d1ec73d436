"""JSON, an object a line, and CSV: every column under its name.

A value that is not present is left out (JSON) or empty (CSV).  Keys are the column names, with two
exceptions: `protocol` has the name of `l4proto`, and ICMP's port columns become `orig_icmp_type`,
`orig_icmp_code`, `orig_icmp_id` and the same for `reply`.  Times are RFC 3339 in UTC with
nanoseconds.  Names are the kernel's.  Nothing needs escaping: all text is digits, addresses and
names from `labels`.  Pure; see `words`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ctrecorder import labels
from ctrecorder.columns import ADDRESSES, MASTER, PORTS, Source, Table
from ctrecorder.render import cells, words
from ctrecorder.render.words import Mask, Words

_ICMP = tuple(f"{side}_icmp_{part}" for side in cells.SIDES for part in ("type", "code", "id"))
_COUNTS = (
    "zone",
    "orig_zone",
    "reply_zone",
    "mark",
    "id",
    "orig_packets",
    "orig_bytes",
    "reply_packets",
    "reply_bytes",
)
_MASTER = ("master_protocol", *MASTER[1:])
_ADDED = ("helper", "labels", *_MASTER)
_COMMON = (*ADDRESSES, *PORTS, *_ICMP, "status", "tcp_state", *_COUNTS)
# The order of the keys, and of the columns of CSV: new ones are added at the end.
EVENT_KEYS = ("time", "event", "protocol", *_COMMON, "start", "stop", *_ADDED)
CONNECTION_KEYS = (
    *("start", "end", "protocol", *_COMMON, "start_source", "end_source", "seen"),
    *_ADDED,
)
# Columns whose numbers have names, and columns whose bits have names.
_NAMED: dict[str, tuple[str, Callable[[int], str]]] = {
    "event": ("event", labels.event),
    "protocol": ("l4proto", labels.protocol),
    "master_protocol": ("master_l4proto", labels.protocol),
    "tcp_state": ("tcp_state", labels.tcp_state),
    "start_source": ("start_source", lambda value: labels.SOURCES.get(value, str(value))),
    "end_source": ("end_source", lambda value: labels.SOURCES.get(value, str(value))),
}
_LISTS: dict[str, Callable[[int], list[str]]] = {"status": labels.status, "seen": labels.seen}
_ADDRESSES = (*ADDRESSES, "master_src", "master_dst")
_TIMES = ("time", "start", "end", "stop")


def json_events(table: Table) -> bytearray:
    """An object for each event of `table`."""
    return _json(table, EVENT_KEYS)


def json_connections(table: Table) -> bytearray:
    """An object for each connection of `table`."""
    return _json(table, CONNECTION_KEYS)


def csv_events(table: Table) -> bytearray:
    """A record for each event of `table`."""
    return _csv(table, EVENT_KEYS)


def csv_connections(table: Table) -> bytearray:
    """A record for each connection of `table`."""
    return _csv(table, CONNECTION_KEYS)


def kind_of(key: str) -> str:
    """What a key's value is in JSON: "text", "number", "list" of texts, or "numbers"."""
    if key in _LISTS:
        return "list"
    if key == "labels":
        return "numbers"
    return "text" if _is_text(key) else "number"


def csv_head(keys: Sequence[str]) -> bytes:
    """The header line."""
    return f"{','.join(keys)}\n".encode()


def values(table: Table, key: str, *, connections: bool) -> list[str]:
    """The value of one key in each row, as in CSV; "" where it is not known."""
    where = _where(table, key, connections)
    pieces = [] if where is False else words.only(where, _words(table, key, "|".join))
    return words.lines_of(len(table), pieces)


def _json(table: Table, keys: tuple[str, ...]) -> bytearray:
    """Every object has `protocol`: members before it end with a comma, others begin with one."""
    pieces: list[bytes | Words] = [b"{"]
    protocol = keys.index("protocol")
    for number, key in enumerate(keys):
        where = _where(table, key, keys is CONNECTION_KEYS)
        if where is False:
            continue
        opening, closing = (
            ("[", "]")
            if key in _LISTS or key == "labels"
            else ('"', '"')
            if _is_text(key)
            else ("", "")
        )
        pieces += words.only(where, f'{"," if number > protocol else ""}"{key}":{opening}'.encode())
        pieces += words.only(where, _words(table, key, _numbers if key == "labels" else _texts))
        pieces += words.only(where, f"{closing}{',' if number < protocol else ''}".encode())
    return words.assemble(len(table), [*pieces, b"}\n"])


def _numbers(items: list[str]) -> str:
    return ",".join(items)


def _texts(items: list[str]) -> str:
    return ",".join(f'"{item}"' for item in items)


def _csv(table: Table, keys: tuple[str, ...]) -> bytearray:
    pieces: list[bytes | Words] = []
    for key in keys:
        where = _where(table, key, keys is CONNECTION_KEYS)
        if where is not False:
            pieces += words.only(where, _words(table, key, "|".join))
        pieces.append(b",")
    return words.assemble(len(table), [*pieces[:-1], b"\n"])


def _is_text(key: str) -> bool:
    return key in _TIMES or key in _NAMED or key in _ADDRESSES or key == "helper"


def _where(table: Table, key: str, connections: bool) -> Mask:
    """The rows that have the key."""
    if key in ("time", "event", "protocol", "seen", "start_source", "end_source"):
        return True
    if key in ("start", "end") and connections:
        return cells.collapse(table[f"{key}_source"] != Source.UNKNOWN)
    if key in PORTS:
        return cells.and_(cells.present_in(table, key), cells.not_(cells.icmp(table)))
    if key in _ICMP:
        side = key.partition("_")[0]
        return cells.and_(
            cells.present_in(table, f"{side}_sport", f"{side}_dport"), cells.icmp(table)
        )
    if key in _MASTER:
        return cells.collapse(table["master_l4proto"] != 0)
    return cells.present_in(table, key)


def _words(table: Table, key: str, joined: Callable[[list[str]], str]) -> Words:
    """The value of the key; `joined` makes a list's items one text."""
    if key in _TIMES:
        return words.rfc3339(table[key])
    if key in _ADDRESSES:
        return cells.address(table, key)
    if key == "helper":
        return words.by_bytes(table[key], labels.helper)
    if key == "labels":
        return words.by_bytes(table[key], lambda value: joined(labels.label_numbers(value)))
    if key in _NAMED:
        column, name = _NAMED[key]
        return words.by_value(table[column], name)
    if key in _LISTS:
        return words.by_value(table[key], lambda value: joined(_LISTS[key](value)))
    if key in _ICMP:
        side, _, part = key.split("_")
        return cells.icmp_parts(table, side)[("type", "code", "id").index(part)]
    return words.decimal(table[key])
