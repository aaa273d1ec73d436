"""ctlist --fleet: the rows of many routers as one list, in order of time."""

from __future__ import annotations

import argparse
import socket
import time
from collections import deque
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from ctrecorder.cli import common
from ctrecorder.errors import CtrecorderError, ExitCode, UsageError

if TYPE_CHECKING:
    from ctrecorder.ctlog.predicate import Query
    from ctrecorder.fleet.listing import RemoteList
    from ctrecorder.fleet.routers import Router
    from ctrecorder.render.renderer import Renderer
    from ctrecorder.service.audit import Audit

FORMATS = ("text", "json", "csv")


def show(args: argparse.Namespace, audit: Audit) -> int:
    """Write the lines; on stderr, what each router lacks.  Returns the exit code."""
    from ctrecorder.arguments.ask import ask
    from ctrecorder.arguments.options import asks
    from ctrecorder.fleet import routers
    from ctrecorder.fleet.by_router import head
    from ctrecorder.fleet.listing import RemoteList, merged
    from ctrecorder.listing.output import shows_stops
    from ctrecorder.render.renderer import Renderer
    from ctrecorder.service.login import login_user

    _check(args)
    listed = routers.read(args.fleet)
    args.utc = True  # the zones of routers differ, and lines are merged by their times
    query = ask(args, time.time_ns(), read_files=False)
    heard = not shows_stops(args)
    renderer = Renderer(args.format, connections=args.connections, utc=True, heard=heard)
    by = f"asked by {login_user().name} at {socket.gethostname()}"
    reason = f"{by}: {args.reason}" if args.reason else by
    words = _words(args, query)
    remote = {one: RemoteList(one, words, reason) for one in listed if one.host}
    for each in remote.values():
        each.start()
    here = {one: _Here(one, query, renderer, args) for one in listed if not one.host}
    both: dict[Router, RemoteList | _Here] = {**remote, **here}
    if not args.count:
        common.write_out(head(renderer.head, args.format))
    pending: list[bytes] = []
    sources = [(one.name, both[one].lines()) for one in listed]
    for line in _wanted(merged(sources, args.format), args):
        audit.rows += 1
        if not args.count:
            pending.append(line)
        if len(pending) == _TOGETHER:
            common.write_out(b"".join(pending))
            pending.clear()
    common.write_out(b"".join(pending) if not args.count else f"{audit.rows}\n".encode())
    for one in listed:
        for problem in both[one].problems:
            common.report("ctlist", f"{one.name}: {problem}")
    codes = {both[one].code for one in listed}
    audit.proved = codes <= {ExitCode.OK, ExitCode.NO}
    audit.verdict = "complete" if audit.proved else "not complete"
    if ExitCode.FAILED in codes:
        return ExitCode.FAILED
    if args.strict and not audit.proved:
        return ExitCode.UNPROVED
    return ExitCode.NO if asks(args) and not audit.rows else ExitCode.OK


def _wanted(lines: Iterator[bytes], args: argparse.Namespace) -> Iterable[bytes]:
    """The last lines with -n, the newest first with -r."""
    if args.lines is None:
        return lines
    last = deque(lines, args.lines)
    return reversed(last) if args.reverse else last


# Lines that are written at once.
_TOGETHER = 4096


def _check(args: argparse.Namespace) -> None:
    """Raise UsageError for what cannot be asked of many routers at once."""
    for option, given in (
        ("PATH", args.paths or args.files),
        ("--headers", args.headers),
        ("--verbose", args.verbose),
        ("--follow", args.follow),
        ("--columns", args.columns is not None),
        ("--sort", args.sort),
        ("-r without -n", args.reverse and args.lines is None),
        ("--top", args.tops),
        ("--histogram", args.histogram is not None),
        ("--plot", args.plot),
    ):
        if given:
            raise UsageError(f"{option} cannot be used with --fleet: ask that router alone")
    if args.format not in FORMATS:
        raise UsageError(f"--fleet: --format must be one of {', '.join(FORMATS)}")


def _words(args: argparse.Namespace, query: Query) -> list[str]:
    """The options of the list there: times as instants, so that all read them alike."""
    from ctrecorder import times
    from ctrecorder.arguments.ask import texts_of

    words = ["--utc", "--strict", "--format", args.format]
    words += ["-s"] if args.connections else []
    words += ["-n", str(args.lines)] if args.lines is not None else []
    words += ["--times", args.times] if args.times == "heard" else []
    for option, given in (("-i", args.ip), ("-p", args.port), ("--protocol", args.protocol)):
        words += [word for value in given for word in (option, value)]
    words += [word for text in texts_of(args) for word in ("-e", text)]
    words += [word for value in args.event for word in ("--event", value)]
    if query.since != times.BEGIN:
        words += ["--since", _instant(query.since)]
    if query.until != times.END:
        words += ["--until", _instant(query.until - 1)]
    return words


def _instant(ns: int) -> str:
    from ctrecorder import times

    second, rest = divmod(ns, times.SECOND)
    return f"@{second}.{rest:09}"


class _Here:
    """The list of a router whose archive is a folder here; as a RemoteList."""

    def __init__(
        self, router: Router, query: Query, renderer: Renderer, args: argparse.Namespace
    ) -> None:
        self.router, self.problems = router, list[str]()
        self.code: int = ExitCode.FAILED
        self._query, self._renderer, self._args = query, renderer, args

    def lines(self) -> Iterator[bytes]:
        """Its lines, in order of time."""
        try:
            yield from self._lines()
        except (CtrecorderError, OSError) as error:
            self.problems.append(str(error))
            self.code = ExitCode.FAILED

    def _lines(self) -> Iterator[bytes]:
        from ctrecorder.archive import find
        from ctrecorder.archive.silent_loss import SilentLoss
        from ctrecorder.ctlog.frame import Kind
        from ctrecorder.errors import ArchiveError, NoSegmentsError
        from ctrecorder.listing.output import shows_stops
        from ctrecorder.order.last import last
        from ctrecorder.query.connections import list_connections
        from ctrecorder.query.events import by_shown_time, list_events
        from ctrecorder.query.evidence import live_states
        from ctrecorder.query.listing import shown_in_listing, verdict_of_listing
        from ctrecorder.query.open import open_archive
        from ctrecorder.render.holes import describe

        states = live_states()
        if "://" in self.router.folder:
            raise ArchiveError(f"{self.router.where}: only ctwho asks ClickHouse")
        found = find.find([self.router.folder])
        if not found.segments and not found.unreadable:
            raise NoSegmentsError(f"{self.router.folder}: no segments here")
        opened = open_archive(found.segments, self._query)
        losses: dict[str, SilentLoss] = {}
        if self._args.connections:
            batches = list_connections(opened, self._renderer.columns, losses=losses)
        else:
            batches = list_events(opened, self._renderer.columns)
            if shows_stops(self._args):
                batches = by_shown_time(batches)
        if self._args.lines is not None:
            kind = Kind.CONNECTIONS if self._args.connections else Kind.EVENTS
            batches = last(batches, self._args.lines, kind)
        for tables, order in batches:
            for text in self._renderer.lines(tables, order):
                yield from bytes(text).splitlines()
        verdict = verdict_of_listing(opened, states, time.time_ns(), losses)
        holes = shown_in_listing(verdict, self._query, strict=True)
        self.problems += [describe(hole, utc=True) for hole in holes]
        self.problems += [str(one) for one in opened.findings]
        self.problems += [why for _, why in found.unreadable]
        self.problems += [
            f"{path}: not a segment of ctrecorder; passed over" for path in found.foreign
        ]
        self.code = ExitCode.OK if verdict.proved else ExitCode.UNPROVED
        if opened.findings or found.unreadable:
            self.code = ExitCode.FAILED
