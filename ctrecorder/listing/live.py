"""ctlist --follow: the loop, until Ctrl-C or until nobody reads."""

from __future__ import annotations

import argparse
import contextlib
import math
import select
import time
from collections.abc import Iterable
from dataclasses import replace

from ctrecorder.arguments import screen_options
from ctrecorder.cli import common
from ctrecorder.ctlog.predicate import Query
from ctrecorder.errors import ExitCode, UsageError
from ctrecorder.follow.follower import Follower, Item, last_rows
from ctrecorder.listing import output
from ctrecorder.order.batches import Batch
from ctrecorder.service.audit import Audit

# The recorder writes once a second; to look more often costs CPU for nothing.
_WAIT_MS = 250


def follow(args: argparse.Namespace, query: Query, audit: Audit) -> int:
    """Print what comes; the exit code."""
    _check(args)
    screen_options.check(args)
    paths = [*args.paths, *args.files] or common.archive("ctlist")
    lines = output.lines_of(args)
    before: int | None = args.lines
    if not args.since and before is None:
        query = replace(query, since=time.time_ns())
    # The last rows are looked for in the last two segments of each recording.
    most_before = math.inf if args.since else 1
    follower = Follower(paths, query, lines.columns, most_before)
    out = output.Output(lines, utc=args.utc)
    out.head([], lines.head)
    with contextlib.suppress(KeyboardInterrupt):
        first = follower.poll(time.time_ns())
        _write(out, first if before is None else last_rows(first, before), audit)
        if not follower.is_live:
            common.report("ctlist", "no recorder writes here now: waiting for one")
        while _has_reader():
            _write(out, follower.poll(time.time_ns()), audit)
            while follower.problems:
                common.report("ctlist", follower.problems.pop(0))
    follower.close()
    audit.verdict = "followed"
    return ExitCode.OK


def _check(args: argparse.Namespace) -> None:
    """Raise UsageError for what does not go with --follow."""
    for name, given in (
        ("-s", args.connections),
        ("-H", args.headers),
        ("--until", args.until),
        ("--sort", args.sort),
        ("--strict", args.strict),
        ("-c", args.count),
        ("-r", args.reverse),
        ("--top", args.tops),
        ("--histogram", args.histogram is not None),
        ("--plot", args.plot),
    ):
        if given:
            raise UsageError(f"--follow lists events as they come: leave out {name}")


def _write(out: output.Output, items: Iterable[Item], audit: Audit) -> None:
    for item in items:
        if isinstance(item, Batch):
            audit.rows += sum(map(len, item.tables))
            out.rows(item.tables, item.order)
        else:
            out.hole(item)


def _has_reader() -> bool:
    """Wait a moment; False if standard output was closed meanwhile."""
    reader = select.poll()
    reader.register(1, 0)
    return not any(what & (select.POLLERR | select.POLLHUP) for _, what in reader.poll(_WAIT_MS))
