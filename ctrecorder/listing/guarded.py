"""ctlist --anonymize and --omit: rows before they are printed or counted."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ctrecorder import uapi
from ctrecorder.cli import privacy_options
from ctrecorder.columns import Table
from ctrecorder.ctlog.decoder import LazyTable
from ctrecorder.ctlog.predicate import Query, Term
from ctrecorder.order.batches import Batch
from ctrecorder.privacy.protection import Protection
from ctrecorder.render.timeline import CoverageHole

if TYPE_CHECKING:
    from ctrecorder.privacy.cryptopan import CryptoPan
    from ctrecorder.tops.count import Counted
    from ctrecorder.tops.fields import Field

Add = Callable[[Table | LazyTable], None]
Mask = NDArray[np.bool_]


class Guard:
    """Changes rows that match `query`.

    Without remote ends, rows match as they are printed: else the answer to a question about a
    remote address, or the rows that are missing where a filter says "not", would tell who used it.
    """

    def __init__(self, protection: Protection, query: Query) -> None:
        """`query`: of connections, if the rows are connections."""
        self._protection, self._query = protection, query

    def reads(self) -> Query:
        """The query of the rows to read.  Without remote ends, these are all of its time: what is
        read or skipped must not depend on remote ends either.
        """
        if not (self._protection.omit and self._query.terms):
            return self._query
        return replace(self._query, terms=(Term(),))

    def columns(self, names: Iterable[str]) -> list[str]:
        """The columns to read, if `names` are wanted."""
        needed = self._query.columns_needed() if self._protection.omit else ()
        return list(dict.fromkeys((*names, *self._protection.columns, *needed)))

    def batches(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        """The rows of `batches`, changed."""
        for tables, order in batches:
            found = [self.apply(table) for table in tables]
            kept = np.concatenate([rows for _, rows in found])
            if order is not None and not kept.all():
                order = (np.cumsum(kept) - 1)[order[kept[order]]]
            yield Batch([table for table, _ in found], order)

    def adding(self, add: Add, names: Iterable[str]) -> Add:
        """An `add` that gets rows without their remote ends; addresses are not replaced."""
        if not self._protection.omit:
            return add
        wanted = self.columns(names)
        guard = Guard(replace(self._protection, pan=None), self._query)

        def add_guarded(rows: Table | LazyTable) -> None:
            table = rows if isinstance(rows, Table) else rows.table(wanted)
            add(guard.apply(table)[0])

        return add_guarded

    def anonymous(self, counted: Counted) -> Counted:
        """A top with other addresses; of equal amounts, these decide about the order."""
        pan = self._protection.pan
        if pan is None:
            return counted
        rows = [
            replace(
                row,
                values=tuple(
                    _anonymous(pan, field, row.family, value)
                    for field, value in zip(counted.top.fields, row.values, strict=True)
                ),
            )
            for row in counted.rows
        ]
        rows.sort(key=lambda row: (-row.amount, row.family, row.values))
        return replace(counted, rows=rows)

    def apply(self, table: Table) -> tuple[Table, Mask]:
        """The changed rows that stay, and which they are."""
        kept: Mask = np.ones(len(table), np.bool_)
        if self._protection.omit and self._query.narrow:
            omitted = replace(self._protection, pan=None).apply(table)
            kept = self._query.evaluate(omitted)
        return self._protection.apply(table.take(kept)), kept


def _anonymous(pan: CryptoPan, field: Field, family: int, value: int) -> int:
    """A value of a top; of a network the network of its other addresses."""
    if not field.is_address:
        return value
    v6 = family == uapi.AF_INET6
    found, size = pan.number(value, family), 128 if v6 else 32
    prefix = field.prefix(v6=v6)
    return found if prefix is None else found >> (size - prefix) << (size - prefix)


def as_told(hole: CoverageHole, args: argparse.Namespace) -> CoverageHole:
    """A hole as it is reported: with --anonymize or --omit, without the networks of a rule."""
    if not args.anonymize and not args.omit:
        return hole
    return replace(hole, networks=(), detail="" if hole.networks else hole.detail)


def guard_of(args: argparse.Namespace, query: Query) -> Guard | None:
    """What --anonymize and --omit ask for of the rows of `query`; None: nothing.  Raises
    UsageError.
    """
    protection = privacy_options.protection(args)
    if protection is None:
        return None
    counts = bool(args.connections or args.tops or args.plot or args.histogram is not None)
    return Guard(protection, query.of_connections() if counts else query)
