"""The blocks of a segment: the frame, the JSON of HEADER, GAP and MARK, and the FOOTER.

`pack_block` makes a block, `parse_frame` and `check_hash` read one.  `encoder` and `decoder` have
the payloads of EVENTS and CONNECTIONS.  ctlog(5) is the specification.  Damage raises FormatError.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from hashlib import blake2b
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ctrecorder import uapi
from ctrecorder.columns import Table
from ctrecorder.ctlog.compression import Buffer
from ctrecorder.ctlog.entry import HASH_SIZE
from ctrecorder.ctlog.index import FORM_COLUMNS, FORM_PACKED, FORM_SMALL, HEAD, WHOLE, index_head
from ctrecorder.errors import FormatError, NewerError

MAGIC = b"\xc7CTB"
# A segment whose header has `requires` is of version 2, every other one of version 1.  Version 2 is
# in every block, because a reader of version 1.0 takes a single such frame for damage and reads on.
VERSION, VERSION_REQUIRES = 1, 2
# The features in a header's `requires` that this version knows.
COVERAGE = "coverage"
GROUPED, OMIT = "grouped", "omit"  # starts in groups; remote ends were left out
FEATURES = frozenset({COVERAGE, GROUPED, OMIT})
FRAME = struct.Struct("<4sBBBBIIqq16s16s")
HASHED = FRAME.size - HASH_SIZE  # bytes of the frame that its hash covers
NO_HASH = bytes(HASH_SIZE)


class Kind(IntEnum):
    """Kinds of blocks."""

    HEADER = 1
    EVENTS = 2
    CONNECTIONS = 3
    GAP = 4
    MARK = 5
    FOOTER = 6
    ADDRESSES = 7
    SEAL = 8


TABLES = (Kind.EVENTS, Kind.CONNECTIONS)
KINDS = frozenset(Kind)

REASONS: Mapping[str, str] = {
    "overrun": "the kernel dropped events: the receive buffer was full",
    "disk-full": "the disk was full",
    "write-error": "the segment could not be written",
    "stopped": "the recorder was stopped",
    "crashed": "the recorder or the machine ended without closing the segment",
    "unreadable": "messages of the kernel could not be read",
    "damaged": "the log was damaged there, and its content is lost",
    "clock": "the clock was set",
    "not-recording": "nothing was recorded",
    "late": "events were received late, and the kernel did not date them",
    "no-events": "the kernel reported no events, or not all",
    "not-tracked": "connection tracking was off",
    "notrack": "a rule kept packets from tracking",
    "unheard": "connections were not reported, as a table dump shows",
}
MARKS = ("start", "stop", "heartbeat", "dump", "clock", "state", "statistics", "repeats")

# Rows in a block that is written: 65,536 take about 10 ms and 10 MiB to encode or decode.  Fewer
# compress worse; more delay live events, and a search reads more than it needs.
ROWS_WRITTEN = 1 << 16
# Rows in a block that a reader accepts.  All columns of this many IPv6 rows take 46 MB, and twice
# as much while they are decoded: a file that is not ours can make a reader allocate that.
MAX_ROWS = 1 << 18
# Up to this many rows the form SMALL is used: in COLUMNS, the 56 bytes of each column's entry would
# cost more than the encodings save.
SMALL_ROWS = 256
# Bytes of a payload.  262,144 rows of noise are 46 MB.
MAX_PAYLOAD = 64 << 20
# Blocks that a footer has records of: 3 days of a block a second, 8 MiB in the recorder's memory.
# The footer of a segment of more blocks has no records.
MAX_INDEXED = 1 << 18
# Bytes of JSON: a header with every sysctl and two long lists takes 4 KiB.
MAX_JSON = 1 << 16

# One record for each block before the footer.
INDEX = np.dtype(
    [
        ("offset", "<u8"),
        ("time_min", "<i8"),
        ("time_max", "<i8"),
        ("rows", "<u4"),
        ("kind", "u1"),
        ("family", "u1"),
        ("form", "u1"),
        ("spare", "u1"),
    ]
)
# The last bytes of a closed segment: the offset of the footer's frame, the length of its JSON, and
# a magic.
TRAILER = struct.Struct("<QI4s")
TRAILER_MAGIC = b"BTC\xc7"
# Added to the form of EVENTS or MARK: all events until time_max are in the log, or in a GAP.
WATERMARK = 0x80

Json = dict[str, Any]

_WITH_WATERMARK = frozenset({Kind.EVENTS, Kind.MARK})
_FORMS = {Kind.HEADER: (WHOLE, FORM_PACKED)}
_GAP_MEMBERS = (("reason", None), ("lost", None), ("detail", ""))


class Frame(NamedTuple):
    """The 64 bytes before a payload.

    `form`: without WATERMARK.  `length`: of the payload; `previous`: the hash of the block before.
    `watermark`: all events until time_max are in this block, in an earlier one, or in a GAP.
    """

    kind: int
    family: int
    version: int
    form: int
    rows: int
    length: int
    time_min: int
    time_max: int
    previous: bytes
    hash: bytes
    watermark: bool = False

    @property
    def stored_form(self) -> int:
        """The byte `form` as it is in the file."""
        return self.form | WATERMARK if self.watermark else self.form


def pack_block(
    kind: Kind,
    payload: bytes,
    previous: bytes,
    times: tuple[int, int],
    *,
    family: int = 0,
    form: int = WHOLE,
    rows: int = 0,
    key: bytes = b"",
    version: int = VERSION,
) -> bytes:
    """A whole block.  `times`: time_min and time_max, ns UTC.  `key`: seals it, if not empty."""
    head = frame_head(
        kind, len(payload), previous, times, family=family, form=form, rows=rows, version=version
    )
    return b"".join((head, _hash(head, hashed_part(payload, form), key), payload))


def frame_head(
    kind: Kind,
    length: int,
    previous: bytes,
    times: tuple[int, int],
    *,
    family: int = 0,
    form: int = WHOLE,
    rows: int = 0,
    version: int = VERSION,
) -> bytes:
    """The first 48 bytes of a frame: what its hash covers.  `length`: of the payload."""
    fields = (MAGIC, kind, family, version, form, rows, length, *times, previous, NO_HASH)
    return FRAME.pack(*fields)[:HASHED]


def hashed_part(payload: Buffer, form: int) -> Buffer:
    """The part of the payload that the frame's hash covers.

    All of it; in form COLUMNS only the index, which has the hash of each column.
    """
    columns = form & ~WATERMARK == FORM_COLUMNS
    return payload[: index_head(payload, len(payload))[1]] if columns else payload


def _hash(head: Buffer, part: Buffer, key: bytes) -> bytes:
    state = blake2b(head, digest_size=HASH_SIZE, key=key)
    state.update(part)
    return state.digest()


def parse_frame(data: Buffer) -> Frame:
    """The frame at the beginning of `data`.

    Raises NewerError for a later version, FormatError for damage and impossible numbers.

    A kind that this version does not know is no error: a reader skips such a block.
    """
    if len(data) < FRAME.size:
        raise FormatError(f"{len(data)} bytes are too few for a block", offset=0)
    magic, kind, family, version, form, rows, length, time_min, time_max, previous, digest = (
        FRAME.unpack_from(data)
    )
    if magic != MAGIC:
        raise FormatError(
            f"not a block: it begins with {bytes(magic).hex()}, not {MAGIC.hex()}", offset=0
        )
    watermark = bool(form & WATERMARK) and kind in _WITH_WATERMARK
    if watermark:
        form &= ~WATERMARK
    if version not in (VERSION, VERSION_REQUIRES):
        reason = f"a block of version {version}: made by a newer version of ctrecorder"
        raise NewerError(reason, offset=6)
    if kind in TABLES:
        if family not in uapi.FAMILIES or form not in (FORM_COLUMNS, FORM_SMALL):
            raise FormatError(
                f"a block of kind {kind} with family {family} in form {form}", offset=5
            )
        if not 0 < rows <= MAX_ROWS:
            raise FormatError(f"a block of kind {kind} with {rows} rows", offset=8)
    elif form not in _FORMS.get(kind, (WHOLE,)) or not kind or (kind in KINDS and (family or rows)):
        raise FormatError(
            f"a block of kind {kind} with family {family}, {rows} rows, in form {form}", offset=4
        )
    if length > MAX_PAYLOAD or (form == FORM_COLUMNS and length < HEAD.size):
        raise FormatError(f"a payload of {length} bytes", offset=12)
    if time_min > time_max:
        raise FormatError(f"time_min {time_min} is after time_max {time_max}", offset=16)
    times = (time_min, time_max)
    return Frame(kind, family, version, form, rows, length, *times, previous, digest, watermark)


def check_hash(frame: Buffer, part: Buffer, key: bytes = b"") -> None:
    """Raise FormatError unless `frame` (64 bytes) has the right hash.

    `part`: the `hashed_part` of the payload.
    """
    if _hash(frame[:HASHED], part, key) != frame[HASHED : FRAME.size]:
        raise FormatError("the block does not match its hash", offset=0)


@dataclass(frozen=True)
class Gap:
    """A time of which events are missing.

    `begin`, `end`: ns UTC.  `reason`: one of REASONS, or a newer one.  `lost`: how many events,
    None if unknown.  `facts`: the members that this version does not know, JSON.
    """

    begin: int
    end: int
    reason: str
    lost: int | None = None
    detail: str = ""
    facts: Json = field(default_factory=dict, hash=False)

    def payload(self) -> bytes:
        """The payload of a GAP block."""
        known = {"reason": self.reason, "lost": self.lost, "detail": self.detail}
        return dump_json({**self.facts, **known})

    @classmethod
    def parse(cls, frame: Frame, payload: Buffer) -> Gap:
        """The gap of a GAP block.  Raises FormatError."""
        fields = load_json(payload)
        reason, lost, detail = (fields.pop(name, default) for name, default in _GAP_MEMBERS)
        if not isinstance(reason, str) or not isinstance(detail, str):
            raise FormatError("a GAP without a reason", offset=FRAME.size)
        if lost is not None and (type(lost) is not int or not 0 <= lost < 1 << 63):
            raise FormatError("a GAP whose `lost` is not a count", offset=FRAME.size)
        return cls(frame.time_min, frame.time_max, reason, lost, detail, fields)


@dataclass(frozen=True)
class Mark:
    """An entry about the recording, for a moment or (a dump) for a period.

    `begin`, `end`: ns UTC, equal for a moment.  `what`: one of MARKS, or a newer one.  `facts`:
    JSON.
    """

    begin: int
    end: int
    what: str
    facts: Json

    @classmethod
    def at(cls, time_ns: int, what: str, facts: Json | None = None) -> Mark:
        """A mark of the moment `time_ns`."""
        return cls(time_ns, time_ns, what, facts or {})

    @property
    def is_complete_dump(self) -> bool:
        """True for a dump of the whole table: a flow that it does not contain had ended."""
        return self.what == "dump" and self.facts.get("complete") is True

    def payload(self) -> bytes:
        """The payload of a MARK block."""
        return dump_json({**self.facts, "what": self.what})

    @classmethod
    def parse(cls, frame: Frame, payload: Buffer) -> Mark:
        """The mark of a MARK block.  Raises FormatError."""
        facts = load_json(payload)
        what = facts.pop("what", None)
        if not isinstance(what, str):
            raise FormatError("a MARK without a `what`", offset=FRAME.size)
        return cls(frame.time_min, frame.time_max, what, facts)


def dump_json(facts: Json) -> bytes:
    """Stored JSON: UTF-8, keys sorted, no spaces.  FormatError if it is longer than MAX_JSON."""
    data = json.dumps(
        facts, ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False
    ).encode("utf-8", "replace")
    if len(data) > MAX_JSON:
        raise FormatError(f"{len(data)} bytes of JSON, more than {MAX_JSON}", offset=FRAME.size)
    return data


def load_json(data: Buffer) -> Json:
    """The JSON object in `data`.  Raises FormatError."""
    if len(data) > MAX_JSON:
        raise FormatError(f"{len(data)} bytes of JSON, more than {MAX_JSON}", offset=FRAME.size)
    try:
        facts = json.loads(bytes(data), parse_constant=_finite, parse_float=_finite)
    except (ValueError, RecursionError) as error:
        raise FormatError(f"not JSON: {error}", offset=FRAME.size) from None
    if isinstance(facts, dict):
        return facts
    raise FormatError("not a JSON object", offset=FRAME.size)


def _finite(text: str) -> float:
    if math.isfinite(number := float(text)):
        return number
    raise ValueError(f"{text[:20]} is not JSON")


def pack_footer(index: NDArray[np.void], totals: Json, offset: int) -> bytes:
    """The payload of a FOOTER: `index` (INDEX records), `totals` as JSON, the trailer.

    `offset`: of the footer's frame in the segment.
    """
    text = dump_json(totals)
    return b"".join((index.tobytes(), text, TRAILER.pack(offset, len(text), TRAILER_MAGIC)))


def parse_trailer(data: Buffer) -> tuple[int, int] | None:
    """The offset of the footer and the length of its JSON; None: the segment is not closed.

    `data`: the last 16 bytes of a segment.
    """
    if len(data) != TRAILER.size:
        return None
    offset, length, magic = TRAILER.unpack(data)
    return (offset, length) if magic == TRAILER_MAGIC and length <= MAX_JSON else None


def parse_footer(payload: Buffer, offset: int) -> tuple[NDArray[np.void], Json]:
    """The index (empty for very many blocks) and the totals of a FOOTER.  Raises FormatError.

    `offset`: of the footer's frame in the segment.
    """
    trailer = parse_trailer(payload[-TRAILER.size :])
    if trailer is None or trailer[0] != offset:
        raise FormatError("the footer's trailer has the offset of another block", offset=FRAME.size)
    length = len(payload) - TRAILER.size - trailer[1]
    if length % INDEX.itemsize or not 0 <= length <= MAX_INDEXED * INDEX.itemsize:
        raise FormatError(f"an index of {length} bytes", offset=FRAME.size)
    index = np.frombuffer(payload[:length], INDEX)
    ends = np.append(index["offset"], np.uint64(offset))
    if (len(index) and index["offset"][0] != 0) or not (ends[1:] > ends[:-1]).all():
        raise FormatError("the footer's index is not in order", offset=FRAME.size)
    if (index["time_min"] > index["time_max"]).any() or (index["rows"] > MAX_ROWS).any():
        raise FormatError(
            "the footer's index has a record with impossible times or rows", offset=FRAME.size
        )
    return index, load_json(payload[length : length + trailer[1]])


def row_times(kind: int, table: Table) -> NDArray[np.int64]:
    """(rows,): the time by which rows are sorted.

    Of EVENTS it is `time`, of CONNECTIONS `start`, or `end` if the start is unknown.
    """
    return (
        table["time"]
        if kind == Kind.EVENTS
        else np.where(table["start"] != 0, table["start"], table["end"])
    )


def block_times(kind: int, table: Table) -> tuple[int, int]:
    """time_min and time_max of a block of `table`: the least sort time, the greatest time."""
    times = row_times(kind, table)
    last = times if kind == Kind.EVENTS else np.maximum(times, table["end"])
    return int(times.min()), int(last.max())
