"""Rows without what is not to be known: remote ends left out, addresses replaced.  Pure.

What is left out is not recorded: its columns are 0, and their bits in `present` are not set.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from ctrecorder.columns import ADDRESSES, COLUMNS, Array, Table, bit, bits
from ctrecorder.ends import COLUMNS as ENDS_COLUMNS
from ctrecorder.ends import Inside, Kind, ends_of

if TYPE_CHECKING:
    from ctrecorder.privacy.cryptopan import CryptoPan

REMOTE = "remote"
# The columns of the source and of the destination, as both directions have them.
_SOURCE = ("orig_src", "orig_sport", "reply_dst", "reply_dport")
_TARGET = ("orig_dst", "orig_dport", "reply_src", "reply_sport")
# Columns of addresses that are those of the connection to which another one belongs.
_MASTER = tuple(column.name for column in COLUMNS if column.name.startswith("master_"))
_BOTH = np.uint32(bits(("orig_src", "orig_dst")))
_ADDRESSES = tuple(column.name for column in COLUMNS if column.kind == "addr")


@dataclass(frozen=True)
class Protection:
    """What is done to rows.

    `omit`: leave the remote ends out.  `inside`: decides which end that is.
    `pan`: replaces addresses; None: they stay.
    """

    omit: bool = False
    pan: CryptoPan | None = None
    inside: Inside = field(default_factory=Inside)

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that it reads."""
        return ENDS_COLUMNS if self.omit else (*ADDRESSES, "present")

    def apply(self, table: Table) -> Table:
        """The rows of `table`, which has `columns`."""
        table = without_remote(table, self.inside) if self.omit else table
        return table if self.pan is None else _anonymous(table, self.pan)


def without_remote(table: Table, inside: Inside) -> Table:
    """The rows without their remote ends, before and behind NAT.

    Of a connection into the inside that is the source, of any other one the destination: where no
    end is inside, the source is who is asked for.  But if NAT gave the call to another one, that is
    asked for instead, and if NAT changed the source too, both are.  Where both ends are inside
    there is no remote end.  A row without one of its ends stays as it is: which one was remote was
    known before.
    """
    columns, present = dict(table.columns), table["present"]
    is_whole = (present & _BOTH) == _BOTH
    ends = ends_of(table, inside)
    diverted = (ends.kind == Kind.THROUGH) & ends.target_translated
    asked_for = np.where(ends.translated, np.uint8(Kind.WITHIN), np.uint8(Kind.IN))
    kind = np.where(diverted, asked_for, ends.kind)
    kind = np.where(is_whole, kind, np.uint8(Kind.WITHIN))
    for names, gone in (
        (_SOURCE, kind == Kind.IN),
        (_TARGET, (kind == Kind.OUT) | (kind == Kind.THROUGH)),
        (_MASTER, kind != Kind.WITHIN),
    ):
        if not gone.any():
            continue
        for name in names:
            if name in columns:
                column = columns[name]
                columns[name] = np.where(gone, np.zeros((), column.dtype), column)
        mask = np.uint32(~bits(name for name in names if name not in _MASTER) & 0xFFFFFFFF)
        present = np.where(gone, present & mask, present)
    columns["present"] = present.astype(np.uint32)
    return Table(table.family, len(table), columns)


def _anonymous(table: Table, pan: CryptoPan) -> Table:
    """The rows with other addresses; one that was not recorded stays 0."""
    columns = dict(table.columns)
    for name in _ADDRESSES:
        if name in columns:
            replaced = pan.addresses(columns[name], table.family)
            columns[name] = np.where(_is_known(table, name), replaced, np.zeros((), replaced.dtype))
    return Table(table.family, len(table), columns)


def _is_known(table: Table, name: str) -> Array:
    """(rows,): where column `name` has an address."""
    known: Array = (
        table["master_l4proto"] != 0
        if name in _MASTER
        else (table["present"] & np.uint32(bit(name))) != 0
    )
    return known
