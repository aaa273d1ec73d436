"""The rows that ctlist prints, of one recording or many routers, in the order that was asked."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator
from functools import partial

from ctrecorder.archive.silent_loss import SilentLoss
from ctrecorder.cli import common
from ctrecorder.ctlog.frame import Kind, row_times
from ctrecorder.fleet.by_router import at_once, merged
from ctrecorder.listing.guarded import Guard
from ctrecorder.listing.output import look_of, shows_stops
from ctrecorder.order.batches import Batch
from ctrecorder.order.by_column import columns_of, in_order, key_of, reversed_order
from ctrecorder.order.last import last
from ctrecorder.query.connections import list_connections
from ctrecorder.query.events import by_shown_time, list_events
from ctrecorder.query.open import Archive

Losses = dict[str, SilentLoss]


def rows_in_order(
    opened: Archive,
    routers: dict[str, Archive],
    args: argparse.Namespace,
    columns: Iterable[str],
    losses: Losses,
    guard: Guard | None,
) -> Iterator[Batch]:
    """The rows, with at least `columns`; of `routers`, the archive of each, with the router.

    `losses`: as of `list_connections`.  `guard`: changes the rows.
    """
    kind, look = Kind.CONNECTIONS if args.connections else Kind.EVENTS, look_of(args)
    columns, turn = list(columns), _reversed(args)

    def listed(archive: Archive) -> Iterator[Batch]:
        batches = in_order(_batches(archive, args, columns, losses, guard), args.sort, look)
        return batches if args.lines is None else last(batches, args.lines, kind)

    if not routers:
        return in_order(listed(opened), turn, look)
    if turn and args.lines is None:
        return merged(
            routers, lambda archive: in_order(listed(archive), turn, look), key_of(turn, look)
        )
    key = key_of(args.sort, look) if args.sort else partial(row_times, kind)
    found = merged(routers, listed, key)
    found = found if args.lines is None else last(found, args.lines, kind)
    return at_once(found, key_of(turn, look)) if turn else found


def _reversed(args: argparse.Namespace) -> str | None:
    """The value of --sort that puts the last line first; None without -r."""
    if not args.reverse:
        return None
    return reversed_order(args.sort or "time")


def _batches(
    opened: Archive,
    args: argparse.Namespace,
    columns: Iterable[str],
    losses: Losses,
    guard: Guard | None,
) -> Iterator[Batch]:
    """The rows, with at least `columns`.  `losses`: as of `list_connections`.  `guard`: changes
    them.
    """
    sorts = (args.sort, _reversed(args))
    names = dict.fromkeys(
        [*columns, *(n for sort in sorts for n in columns_of(sort, connections=args.connections))]
    )
    wanted = names if guard is None else guard.columns(names)
    if args.connections:
        by_end = args.format == "classic"
        jobs = common.jobs(args.jobs)
        batches = list_connections(opened, wanted, by_end=by_end, losses=losses, jobs=jobs)
    else:
        batches = list_events(opened, wanted)
        if shows_stops(args):
            batches = by_shown_time(batches)
    return batches if guard is None else guard.batches(batches)
