"""The columns that --columns, --sort and templates name, as text: for people, and exact.

The keys of JSON and CSV are columns too.  The others are derived: the ends of a flow (`ends`), its
duration, and the sums of both directions.  Pure.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from ctrecorder import ends, labels, times, uapi
from ctrecorder.columns import ADDRESSES, BY_NAME, Array, Event, Source, Table, bit
from ctrecorder.ends import Ends, Inside, Kind
from ctrecorder.errors import UsageError
from ctrecorder.render import cells, dates, records, words

LETTERS = {1: "S", 2: "U", 3: "E", 4: "R"}
_COUNTERS = ("orig_bytes", "reply_bytes", "orig_packets", "reply_packets")
_SPAN = ("start", "start_source", "end", "end_source", "stop", "time", "event", "present")
_UNITS = ("", "k", "M", "G", "T", "P", "E")
# Columns of a row without a date: the time of day, and a letter if the kernel did not tell it.
_SOURCES = {Source.RECEIPT: "r", Source.BOUND: "<"}


@dataclass
class Look:
    """How rows are shown.

    `connections`: rows are connections, not events.  `dated`: a time has its date and offset.
    `decimals`: of the seconds of a time.  `exact`: numbers and times as in CSV, not for people.
    """

    connections: bool
    utc: bool
    inside: Inside = field(default_factory=Inside)
    heard: bool = False
    dated: bool = False
    decimals: int = 0
    exact: bool = False


@dataclass(frozen=True)
class Field:
    """A column.

    `texts(table, look)`: the text of each row.  `needs`: columns of the table.  `right`: aligned
    to the right.  `is_address`: it can be shortened.  `optional`: it is left out while no row has a
    text.  `kind`: its value in JSON is a text, a number or a list.
    """

    name: str
    title: str
    texts: Callable[[Table, Look], list[str]]
    needs: tuple[str, ...]
    right: bool = False
    is_address: bool = False
    optional: bool = False
    kind: str = "text"


def field_of(name: str, *, connections: bool) -> Field:
    """The column `name`.  Raises UsageError, with the nearest name."""
    known = _derived(connections)
    if name in known:
        return known[name]
    keys = records.CONNECTION_KEYS if connections else records.EVENT_KEYS
    if name in keys:
        return _raw(name, connections)
    names = [*known, *(key for key in keys if key not in known)]
    near = difflib.get_close_matches(name, names, 1)
    hint = f"did you mean '{near[0]}'?" if near else f"use {', '.join(names)}"
    raise UsageError(f"no column '{name}': {hint}")


def fields_of(text: str, *, connections: bool) -> list[Field]:
    """The columns of "time,inside,bytes".  Raises UsageError."""
    names = [word.strip() for word in text.split(",") if word.strip()]
    if not names:
        raise UsageError("--columns names no column: write for example --columns time,remote,bytes")
    return [field_of(name, connections=connections) for name in names]


def row_times(table: Table, look: Look) -> NDArray[np.int64]:
    """(rows,): the time that a row shows, ns: of a connection its start, or its end if that alone
    is known.
    """
    if look.connections:
        known = table["start_source"] != Source.UNKNOWN
        return np.where(known, table["start"], table["end"]).astype(np.int64)
    return cells.event_times(table, heard=look.heard)


def optional_fields() -> list[Field]:
    """Zone and mark: few routers have them."""
    return [
        Field("zone", "ZONE", _zone, ("zone", "orig_zone", "reply_zone"), optional=True),
        Field("mark", "MARK", _mark, ("mark",), optional=True),
    ]


def needs(fields: Iterable[Field]) -> tuple[str, ...]:
    """The columns of a table that these need, and those that each line needs."""
    return tuple(dict.fromkeys([*_SPAN, "status", *(name for one in fields for name in one.needs)]))


def durations(table: Table, connections: bool) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """(rows,): how long each lived, ns, and for which rows that is known, if only as a bound."""
    if connections:
        known = (table["start_source"] != Source.UNKNOWN) & (table["end_source"] != Source.UNKNOWN)
        life = table["end"].astype(np.int64) - table["start"].astype(np.int64)
    else:
        wanted = np.uint32(bit("start") | bit("stop"))
        known = (table["present"] & wanted) == wanted
        life = table["stop"].astype(np.int64) - table["start"].astype(np.int64)
    return np.where(known, np.maximum(life, 0), 0), known


def sums(table: Table, what: str) -> tuple[NDArray[np.uint64], NDArray[np.bool_]]:
    """(rows,): the "bytes" or "packets" of both directions, and for which rows they are known."""
    wanted = np.uint32(bit(f"orig_{what}") | bit(f"reply_{what}"))
    known: NDArray[np.bool_] = (table["present"] & wanted) == wanted
    return np.where(known, table[f"orig_{what}"] + table[f"reply_{what}"], 0), known


def si(number: int) -> str:
    """A number in at most four characters: 999, 1.2k, 12k, 345M; k is 1000."""
    value, unit = float(number), 0
    while value >= 999.5 and unit < len(_UNITS) - 1:
        value, unit = value / 1000, unit + 1
    if unit and value < 9.95:
        return f"{value:.1f}{_UNITS[unit]}"
    return f"{value:.0f}{_UNITS[unit]}"


def length(ns: int) -> str:
    """A length of time in at most five characters: 0.12s, 1.2s, 12s, 3m05s, 2h03m, 4d05h, 123d."""
    seconds = ns / times.SECOND
    if seconds < 0.995:
        return f"{seconds:.2f}s"
    if seconds < 9.95:
        return f"{seconds:.1f}s"
    whole = round(seconds)
    for unit, letter, smaller, below in (
        (60, "m", "s", 1),
        (3600, "h", "m", 60),
        (86400, "d", "h", 3600),
    ):
        limit = {"m": 3600, "h": 86400, "d": 100 * 86400}[letter]
        if whole < 60:
            return f"{whole}s"
        if whole < limit:
            return f"{whole // unit}{letter}{whole % unit // below:02d}{smaller}"
    return f"{whole // 86400}d"


def _raw(name: str, connections: bool) -> Field:
    """A key of JSON and CSV."""
    need: tuple[str, ...] = (name,) if name in BY_NAME else ()
    if name.startswith("master_"):
        need += ("master_l4proto",)
    if "_icmp_" in name:
        side = name.partition("_")[0]
        need += (f"{side}_sport", f"{side}_dport")
    return Field(
        name,
        name.upper(),
        lambda table, look: records.values(table, name, connections=look.connections),
        (*need, "l4proto"),
        right=name.endswith(("port", "_packets", "_bytes", "_id")) or name in ("id", "mark"),
        is_address=name in (*ADDRESSES, "master_src", "master_dst"),
        kind=records.kind_of(name),
    )


def _derived(connections: bool) -> dict[str, Field]:
    """The columns that are no keys of JSON, and those that people see otherwise."""
    moment = ("start", "START") if connections else ("time", "TIME")
    found = [
        Field("time", moment[1], _time, _SPAN),
        Field("proto", "PROTO", _protocol, ("l4proto",)),
        Field("inside", "INSIDE", _end("inside"), ends.COLUMNS, is_address=True),
        Field("public", "PUBLIC", _end("public"), ends.COLUMNS, is_address=True),
        Field("remote", "REMOTE", _end("remote"), ends.COLUMNS, is_address=True),
        Field("server", "SERVER", _server, ends.COLUMNS, is_address=True),
        Field("duration", "FOR", _duration, _SPAN, right=True, kind="number"),
        Field("bytes", "BYTES", _sum("bytes"), (*_COUNTERS, *_SPAN), right=True, kind="number"),
        Field("packets", "PKTS", _sum("packets"), (*_COUNTERS, *_SPAN), right=True, kind="number"),
    ]
    if not connections:
        found.insert(1, Field("ev", "EV", _event, ("event", "status")))
    return {one.name: one for one in found}


def _time(table: Table, look: Look) -> list[str]:
    shown = row_times(table, look)
    if look.exact:
        return words.lines_of(len(table), [words.rfc3339(shown)])
    if look.connections:
        source = table["start_source"]
        unknown = source == Source.UNKNOWN
    else:
        ended = (table["event"] == Event.DESTROY) & (table["present"] & np.uint32(bit("stop")) != 0)
        told = (table["present"] & np.uint32(bit("time")) != 0) | (ended & (not look.heard))
        source = np.where(told, np.uint8(Source.KERNEL), np.uint8(Source.RECEIPT))
        unknown = np.zeros(len(table), np.bool_)
    texts = clock_texts(shown, look)
    marks = [_SOURCES.get(Source(value), "") for value in range(4)]
    return [
        "-" if gone else text + marks[kind & 3]
        for text, kind, gone in zip(texts, items(source), items(unknown), strict=True)
    ]


def clock_texts(ns: NDArray[np.int64], look: Look) -> list[str]:
    """Times of day; with date and offset if `look.dated`."""
    if not len(ns):
        return []
    seconds, rest = ns // times.SECOND, ns % times.SECOND
    offset = np.zeros_like(seconds) if look.utc else dates.utc_offset(seconds)
    texts = items(dates.rfc3339_seconds(seconds + offset).view("S19")[:, 0].astype(str))
    if look.decimals:
        cut = 10 ** (9 - look.decimals)
        texts = [
            f"{text}.{part:0{look.decimals}d}"
            for text, part in zip(texts, (rest // cut).tolist(), strict=True)
        ]
    if not look.dated:
        return [text[11:] for text in texts]
    return [
        f"{text[:10]} {text[11:]}{offset_text(ahead)}"
        for text, ahead in zip(texts, items(offset), strict=True)
    ]


def offset_text(seconds: int) -> str:
    """An offset from UTC: +01:00."""
    minutes = abs(seconds) // 60
    return f"{'-' if seconds < 0 else '+'}{minutes // 60:02d}:{minutes % 60:02d}"


def _zone(table: Table, look: Look) -> list[str]:
    """7; 7/- and -/8: of the original, of the reply direction alone; "" for none."""
    rows = zip(
        items(table["zone"]), items(table["orig_zone"]), items(table["reply_zone"]), strict=True
    )
    return [
        str(both or "") or (f"{orig or '-'}/{reply or '-'}" if orig or reply else "")
        for both, orig, reply in rows
    ]


def _mark(table: Table, look: Look) -> list[str]:
    return [f"0x{value:x}" if value else "" for value in items(table["mark"])]


def _event(table: Table, look: Look) -> list[str]:
    replied = items(cells.replied(table))
    return [
        LETTERS.get(value, "?") + ("+" if plus else "")
        for value, plus in zip(items(table["event"]), replied, strict=True)
    ]


def _protocol(table: Table, look: Look) -> list[str]:
    return [labels.protocol(value) for value in items(table["l4proto"])]


def _end(which: str) -> Callable[[Table, Look], list[str]]:
    return lambda table, look: end_texts(table, ends.ends_of(table, look.inside), which)


def end_texts(table: Table, found: Ends, which: str) -> list[str]:
    """The `which` end of each row; "" if it has none.

    Without a remote end, "remote" is the destination in parentheses: both ends are inside, or
    neither; "?" if it was left out.  So is the source as "inside" if neither is.  "public" is there
    with NAT alone.
    """
    if which == "public":
        return _blank(_texts(table, found.public, found.public_port), ~found.translated)
    through = found.kind == Kind.THROUGH
    if which == "inside":
        return _in_parentheses(_texts(table, found.inside, found.inside_port), through)
    has = found.has_remote
    address = np.where(has, found.remote, found.far)
    port = np.where(has, found.remote_port, found.far_port)
    texts = _in_parentheses(_texts(table, address, port), ~has)
    return ["?" if gone else text for text, gone in zip(texts, items(found.omitted), strict=True)]


def _server(table: Table, look: Look) -> list[str]:
    """Who answered, where that is another than who was called: behind DNAT."""
    texts = _texts(table, table["reply_src"], table["reply_sport"])
    same = (table["reply_src"] == table["orig_dst"]) & (
        (table["reply_sport"] == table["orig_dport"]) | np.asarray(cells.icmp(table))
    )
    unknown = (table["present"] & np.uint32(bit("reply_src"))) == 0
    return _blank(texts, same | unknown)


def _texts(table: Table, addresses: Array, ports: Array) -> list[str]:
    """Addresses with ports: "192.0.2.1:80", "[2001:db8::1]:80"; ICMP has no port."""
    recorded = (table["present"] & np.uint32(bit("orig_sport") | bit("orig_dport"))) != 0
    has_port = cells.and_(cells.collapse(recorded), cells.not_(cells.icmp(table)))
    number = words.only(has_port, words.decimal(ports.astype(np.uint16)))
    if table.family == uapi.AF_INET6:
        pieces = [*words.only(has_port, b"["), words.ipv6(addresses), *words.only(has_port, b"]:")]
    else:
        pieces = [words.ipv4(addresses, colon=False), *words.only(has_port, b":")]
    return words.lines_of(len(table), [*pieces, *number])


def _blank(texts: list[str], where: NDArray[np.bool_]) -> list[str]:
    return ["" if gone else text for text, gone in zip(texts, items(where), strict=True)]


def _in_parentheses(texts: list[str], where: NDArray[np.bool_]) -> list[str]:
    if not where.any():
        return texts
    return [f"({text})" if so else text for text, so in zip(texts, items(where), strict=True)]


def _duration(table: Table, look: Look) -> list[str]:
    """How long each lived.

    "open?": no end was recorded.  ">" at least, "<" at most, "~" either: a dump gives a bound only.
    """
    life, known = durations(table, look.connections)
    if look.exact:
        return [
            f"{ns // times.SECOND}.{ns % times.SECOND:09d}" if there else ""
            for ns, there in zip(items(life), items(known), strict=True)
        ]
    if not look.connections:
        pairs = zip(items(life), items(known), strict=True)
        return [length(ns) if there else "" for ns, there in pairs]
    bounds = (table["start_source"] == Source.BOUND) * 1 + (table["end_source"] == Source.BOUND) * 2
    unended = table["end_source"] == Source.UNKNOWN
    return [
        ("", ">", "<", "~")[bound] + length(ns) if there else "open?" if no_end else "-"
        for ns, there, bound, no_end in zip(
            items(life), items(known), items(bounds), items(unended), strict=True
        )
    ]


def _sum(what: str) -> Callable[[Table, Look], list[str]]:
    def texts(table: Table, look: Look) -> list[str]:
        total, known = sums(table, what)
        unknown = "-" if look.connections and not look.exact else ""
        shown: Callable[[int], str] = str if look.exact else si
        pairs = zip(items(total), items(known), strict=True)
        return [shown(number) if there else unknown for number, there in pairs]

    return texts


def items(array: NDArray[Any]) -> list[Any]:
    """The values of an array, (n,)."""
    return cast("list[Any]", array.tolist())


def chunks(
    tables: Sequence[Table], order: NDArray[np.intp] | None, look: Look, rows: int
) -> Iterator[tuple[list[Table], list[int] | None]]:
    """All rows of `tables`, at most `rows` at once: tables, and the order of their rows, counted
    through; None: they are in order.

    `order`: of the rows of all tables; None: by time.
    """
    full = [table for table in tables if len(table)]
    if len(full) == 1 and order is None:
        for first in range(0, len(full[0]), rows):
            yield [full[0].slice(first, first + rows)], None
        return
    if order is None:
        moments = [row_times(table, look) for table in full]
        order = np.argsort(np.concatenate([np.zeros(0, np.int64), *moments]), kind="stable")
    ends = np.cumsum([len(table) for table in full])
    for first in range(0, len(order), rows):
        wanted = order[first : first + rows]
        owner = np.searchsorted(ends, wanted, "right")
        parts = [
            table.take(wanted[owner == number] - (ends[number] - len(table)))
            for number, table in enumerate(full)
        ]
        back = np.argsort(np.argsort(owner, kind="stable"), kind="stable")
        yield [part for part in parts if len(part)], items(back)


def merged(texts: Sequence[list[str]], order: list[int] | None) -> list[str]:
    """The texts of several tables, laid end to end, then in `order`."""
    every = [text for one in texts for text in one]
    return every if order is None else [every[row] for row in order]
