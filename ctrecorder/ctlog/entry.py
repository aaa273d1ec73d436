"""The directory entry of a column in form COLUMNS, and the rules that every entry obeys.

ctlog(5) specifies the entry, the encodings and the rules.  The bytes of an entry are not trusted:
`check_entry` compares it with each rule before memory is allocated for the column.  No I/O.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from hashlib import blake2b
from struct import Struct
from typing import Any, NamedTuple

import numpy as np

from ctrecorder.columns import BY_ID, Column
from ctrecorder.ctlog.compression import Buffer
from ctrecorder.errors import FormatError, NewerError

# Encodings, in the order in which the writer applies them.
SPARSE = 0x01  # only the rows whose `present` has the column's bit are stored; the others are 0
DIFFERENCE = 0x02  # a number is the difference to the partner column in the same row
SAME = 0x04  # index 0 means "equal to the partner", index N means entry N - 1 of the dictionary
DICTIONARY = 0x08  # a number is an index into the column's dictionary
DELTA = 0x10  # a number is the difference to the number before
CONSTANT = 0x20  # all items are 0, so `low` is the value of all rows: there is no body
PLANES = 0x40  # the body has the first byte of every item, then the second byte, and so on
RANGES = 0x80  # the body has the number of the range of each item, then the offsets in the ranges
GROUPED = 0x100  # as DELTA, but in each group of rows the first number stands for itself
ENCODINGS: Mapping[str, int] = {
    "SPARSE": SPARSE,
    "DIFFERENCE": DIFFERENCE,
    "SAME": SAME,
    "DICTIONARY": DICTIONARY,
    "DELTA": DELTA,
    "CONSTANT": CONSTANT,
    "PLANES": PLANES,
    "RANGES": RANGES,
    "GROUPED": GROUPED,
}
_ALL_ENCODINGS = sum(ENCODINGS.values())

ENTRY = Struct("<BHBBB2xIII4xqq16s")
HASH_SIZE = 16
# The scales that writers use are the resolutions of times (us 3, ms 6, s 9).  A larger one would
# not fit 64 bits together with an item.
MAX_SCALE = 9


class Entry(NamedTuple):
    """The entry of a column in the directory.

    The last three fields are offsets in the payload.  They are not stored; the reader computes
    them.
    """

    id: int
    encoding: int  # the sum of some of ENCODINGS
    width: int = 0  # bytes of an item
    partner: int = 0  # the id of the column that DIFFERENCE or SAME refers to
    scale: int = 0  # an item counts steps of 10**scale
    entries: int = 0  # of the dictionary
    dictionary_length: int = 0  # bytes as stored
    body_length: int = 0  # bytes as stored
    low: int = 0  # the number that item 0 stands for; with DELTA and GROUPED the difference
    high: int = 0  # the greatest number; with DELTA the first number; with GROUPED that of item 0
    hash: bytes = bytes(HASH_SIZE)  # of the body; zeros if there is no body
    offset: int = 0
    dictionary_offset: int = 0
    body_offset: int = 0

    def store(self) -> bytes:
        """The 56 bytes of the directory."""
        return ENTRY.pack(*self[:11])


def body_hash(body: Buffer) -> bytes:
    """The hash of a column's body as its entry stores it.

    The hash of the block covers the entry, and so protects the body as well.
    """
    return blake2b(body, digest_size=HASH_SIZE).digest()


UNSIGNED: Mapping[int, np.dtype[Any]] = {size: np.dtype(f"<u{size}") for size in (1, 2, 4, 8)}


def unsigned(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The little-endian unsigned integer type of the same size."""
    return UNSIGNED[dtype.itemsize]


class Shape(NamedTuple):
    """The facts that the rules use.  Few different shapes occur, so results are cached."""

    encoding: int
    width: int
    scale: int
    partner: int
    kind: str  # of the column, as in `columns`
    size: int  # bytes of a value of the column
    is_address16: bool  # the values are addresses of 16 bytes
    has_body: bool
    has_entries: bool
    has_dictionary: bool
    entries_exceed_rows: bool
    is_start: bool


class Rule(NamedTuple):
    """A rule of ctlog(5).  `broken` is true for an entry that breaks it."""

    name: str
    text: str
    broken: Callable[[Shape], int | bool]


def _partner_type_differs(shape: Shape) -> bool:
    partner = BY_ID.get(shape.partner)
    return shape.partner != 0 and (partner is None or partner.kind != shape.kind)


def _width_is_wrong(shape: Shape) -> bool:
    if shape.encoding & CONSTANT:
        return False
    if shape.encoding & RANGES:
        return shape.width != 0
    if shape.encoding & DICTIONARY:
        return shape.width not in (1, 2, 4)
    if shape.is_address16:
        return shape.width != 16
    return shape.width not in (1, 2, 4, 8) or shape.width > shape.size


# ctlog(5) lists these names and texts; a test compares them.
RULES = (
    Rule(
        "same-needs-dictionary",
        "SAME is set only with DICTIONARY.",
        lambda shape: shape.encoding & (SAME | DICTIONARY) == SAME,
    ),
    Rule(
        "same-or-difference",
        "SAME and DIFFERENCE are not set together.",
        lambda shape: shape.encoding & SAME and shape.encoding & DIFFERENCE,
    ),
    Rule(
        "partner-use",
        "With SAME or DIFFERENCE, partner is not 0; without both it is 0.",
        lambda shape: (shape.encoding & (SAME | DIFFERENCE) != 0) != (shape.partner != 0),
    ),
    Rule(
        "partner-type",
        "The partner is a column of this page that has the same type.",
        _partner_type_differs,
    ),
    Rule(
        "address-difference",
        "DIFFERENCE is not set for an address of 16 bytes.",
        lambda shape: shape.is_address16 and shape.encoding & DIFFERENCE,
    ),
    Rule(
        "address-delta",
        "DELTA is set for an address of 16 bytes only with DICTIONARY.",
        lambda shape: shape.is_address16 and shape.encoding & (DELTA | DICTIONARY) == DELTA,
    ),
    Rule(
        "address-body",
        "For an address of 16 bytes, one of CONSTANT, PLANES and DICTIONARY is set.",
        lambda shape: (
            shape.is_address16 and not shape.encoding & (CONSTANT | PLANES | DICTIONARY)
        ),
    ),
    Rule(
        "dictionary-length",
        "If one of entries and dictionary_length is 0, so is the other.",
        lambda shape: shape.has_entries != shape.has_dictionary,
    ),
    Rule(
        "dictionary-entries",
        "With DICTIONARY, entries is at most the number of rows; without it entries is 0.",
        lambda shape: (
            shape.entries_exceed_rows if shape.encoding & DICTIONARY else shape.has_entries
        ),
    ),
    Rule(
        "constant-body",
        "With CONSTANT, body_length is 0, and PLANES and RANGES are not set.",
        lambda shape: (
            shape.encoding & CONSTANT and (shape.has_body or shape.encoding & (PLANES | RANGES))
        ),
    ),
    Rule(
        "ranges-alone",
        "RANGES is not set with DICTIONARY or PLANES, and not for an address of 16 bytes.",
        lambda shape: (
            shape.encoding & RANGES
            and (shape.is_address16 or shape.encoding & (DICTIONARY | PLANES))
        ),
    ),
    Rule(
        "grouped",
        "GROUPED is set only for start, and not with SPARSE, SAME, DICTIONARY or DELTA.",
        lambda shape: (
            shape.encoding & GROUPED
            and (not shape.is_start or shape.encoding & (SPARSE | SAME | DICTIONARY | DELTA))
        ),
    ),
    Rule(
        "scale",
        f"scale is at most {MAX_SCALE}.",
        lambda shape: shape.scale > MAX_SCALE,
    ),
    Rule(
        "width",
        "Without CONSTANT, width is: with RANGES 0; with DICTIONARY 1, 2 or 4; for an address of "
        "16 bytes 16; otherwise 1, 2, 4 or 8, and at most the size of the column's type.",
        _width_is_wrong,
    ),
)


@lru_cache(maxsize=1024)
def _first_broken(shape: Shape) -> Rule | None:
    return next((rule for rule in RULES if rule.broken(shape)), None)


def check_entry(entry: Entry, column: Column, family: int, rows: int) -> None:
    """Raise FormatError unless the entry of `column` obeys all RULES, NewerError for an unknown
    encoding.

    `family` and `rows`: of the block.
    """
    if entry.encoding & ~_ALL_ENCODINGS:
        raise NewerError(
            f"column {entry.id} has encoding 0x{entry.encoding:04x}: made by a newer version of "
            "ctrecorder",
            offset=entry.offset,
        )
    dtype = column.dtype(family)
    shape = Shape(
        entry.encoding,
        entry.width,
        entry.scale,
        entry.partner,
        column.kind,
        dtype.itemsize,
        dtype.kind == "S",
        entry.body_length != 0,
        entry.entries != 0,
        entry.dictionary_length != 0,
        entry.entries > rows,
        column.name == "start",
    )
    rule = _first_broken(shape)
    if rule is not None:
        raise FormatError(
            f"the entry of column {entry.id} breaks the rule {rule.name}: {rule.text}",
            offset=entry.offset,
        )
