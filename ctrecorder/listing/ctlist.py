"""ctlist: list and search recorded connections."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from ctrecorder.arguments import screen_options, top_options
from ctrecorder.arguments.options import asks, sort_words
from ctrecorder.arguments.options import build_parser as build_parser
from ctrecorder.cli import common, privacy_options
from ctrecorder.errors import ExitCode, UsageError

if TYPE_CHECKING:
    from ctrecorder.archive.silent_loss import SilentLoss
    from ctrecorder.listing.guarded import Guard
    from ctrecorder.listing.output import Lines
    from ctrecorder.query.open import Archive
    from ctrecorder.segment.live import LiveState
    from ctrecorder.service.audit import Audit


def main(argv: Sequence[str] | None = None) -> int:
    """Run ctlist; returns its exit code."""
    return common.run(
        build_parser(),
        lambda args: answer(args, sys.argv[1:] if argv is None else argv),
        argv,
        intermixed=True,
    )


def answer(args: argparse.Namespace, words: Sequence[str]) -> int:
    """Answer, and log who asked what and how many rows the answer had."""
    from ctrecorder.service.audit import Audit
    from ctrecorder.service.config import read

    top_options.give_back(args)
    sort_words(args)
    common.check_local_time(utc=args.utc)
    choice = read(None).choose("query")
    for notice in choice.notices:
        common.report("ctlist", notice)
    audit = Audit(choice.texts["audit"], words, args.reason)
    if args.fleet and (args.coverage or args.who or args.disk_usage):
        what = "--coverage, --who and --disk-usage cannot be used with --fleet"
        raise UsageError(f"{what}: ask that router alone")
    try:
        top_options.check(args)
        privacy_options.check(args)
        if args.coverage:
            from ctrecorder.listing import coverage

            code = coverage.show(args)
        elif args.who or args.at or args.to or args.tolerance is not None or args.wait:
            from ctrecorder.listing import moved

            code = moved.show(args)
        elif args.disk_usage:
            from ctrecorder.arguments import files

            code = files.show_usage(args)
        elif args.fleet:
            from ctrecorder.listing import fleet

            code = fleet.show(args, audit)
        elif args.follow:
            from ctrecorder.arguments import ask
            from ctrecorder.listing import live

            code = live.follow(args, ask.ask(args, time.time_ns()), audit)
        else:
            from ctrecorder.arguments.files import as_file

            with as_file([*args.paths, *args.files]) as named:
                code = listing(args, named, audit)
        audit.written = True
        return code
    finally:
        audit.record()


def listing(args: argparse.Namespace, named: list[str], audit: Audit) -> int:
    """List the segments of the paths `named`; without any, those of the configuration.

    Returns the exit code: NO if nothing matches, FAILED if not everything could be read.  With
    --strict, UNPROVED if something may be missing.
    """
    from ctrecorder.archive import find
    from ctrecorder.arguments.ask import ask
    from ctrecorder.listing import output
    from ctrecorder.listing.guarded import guard_of
    from ctrecorder.query.evidence import live_states
    from ctrecorder.query.open import open_archive

    screen_options.check(args)
    now = time.time_ns()
    query = ask(args, now)
    guard = guard_of(args, query)
    paths = named or common.archive("ctlist")
    lines = output.lines_of(args, [""] if output.names_router(args) else ())
    states = live_states()  # before the folder and the segments
    found = find.find(paths, spans=True)
    foreign = [path for path in found.foreign if path in paths]
    for path in found.foreign:
        passed_over = "" if path in foreign else "; passed over"
        common.report("ctlist", f"{path}: not a segment of ctrecorder{passed_over}")
    for _, why in found.unreadable:
        common.report("ctlist", why)
    if not (found.segments or foreign or found.unreadable):
        common.report(
            "ctlist",
            f"{', '.join(paths)}: no segments here; is ctrecord running?",
        )
        return ExitCode.FAILED
    # The classic format lists the connections of squeezed segments.
    counts = args.tops or args.histogram is not None or args.plot
    follow = bool(args.connections or counts) or args.format == "classic"
    reads = guard.reads() if guard else query
    opened = open_archive(found.segments, reads, spans=found.spans, follow=follow)
    if args.format == "classic" and not args.connections and opened.only_connections:
        args.connections = True  # as the C ctrecorder lists its squeezed files
        query = ask(args, now)
        guard = guard_of(args, query)
        reads = guard.reads() if guard else query
        opened.query = replace(opened.query, terms=reads.terms)
        lines = output.lines_of(args)
    for path, instead in opened.copies:
        common.report("ctlist", f"{path}: a copy of {instead}, which is read instead")
    if args.headers:
        rows, proved = show_headers(opened, args.format), True
    elif not found.segments:  # each file that could not be read was reported
        rows, proved = 0, False
    else:
        rows, proved = show(opened, lines, args, audit, states, guard)
    for finding in opened.findings:
        common.report("ctlist", str(finding))
    if args.verbose:
        common.report("ctlist", str(opened.query.stats))
    if foreign or found.unreadable or opened.findings:
        return ExitCode.FAILED
    if args.strict and not proved:
        return ExitCode.UNPROVED
    return ExitCode.NO if asks(args) and not rows else ExitCode.OK


def show(
    opened: Archive,
    lines: Lines,
    args: argparse.Namespace,
    audit: Audit,
    states: Mapping[str, LiveState],
    guard: Guard | None,
) -> tuple[int, bool]:
    """Write the lines, and the holes; returns the number of lines, and if it is proved that they
    are all.  What the lines themselves prove to be missing comes after them, and which imported
    files were read.

    `audit` counts the lines too.  `states`: of the recorders that run.  `guard`: changes rows.
    With --top, --histogram and --plot, connections are counted instead.
    """
    if args.tops:
        from ctrecorder.listing import tops

        return tops.show(opened, args, audit, states, guard)
    if args.histogram is not None or args.plot:
        from ctrecorder.listing import pictures

        return pictures.show(opened, args, audit, states, guard)
    from ctrecorder.fleet.by_router import by_router
    from ctrecorder.listing import output
    from ctrecorder.listing.guarded import as_told
    from ctrecorder.listing.rows import rows_in_order
    from ctrecorder.query.listing import shown_in_listing, verdict_of_listing
    from ctrecorder.sealing.imported import imported, line_of

    now = time.time_ns()
    verdict = verdict_of_listing(opened, states, now)
    shown = [
        as_told(hole, args) for hole in shown_in_listing(verdict, opened.query, strict=args.strict)
    ]
    losses: dict[str, SilentLoss] = {}

    routers = {} if args.count else by_router(opened)
    if routers or output.names_router(args):
        lines = output.lines_of(args, list(routers))
    rows = rows_in_order(opened, routers, args, lines.columns, losses, guard)
    with output.paged(args):
        out = output.Output(lines, utc=args.utc)
        out.head(shown, b"" if args.count else lines.head)
        for tables, order in rows:
            audit.rows += sum(map(len, tables))
            if not args.count:
                out.rows(tables, order)
        if args.count:
            common.write_out(f"{audit.rows}\n".encode())
        late = []
        if any(loss.gaps() for loss in losses.values()):
            verdict = verdict_of_listing(opened, states, now, losses)
            proven = shown_in_listing(verdict, opened.query, strict=args.strict)
            late = [as_told(hole, args) for hole in proven]
        rests_on = imported(opened.segments, opened.query.since, opened.query.until)
        notes = [line_of(rests_on)] if rests_on else []
        if not audit.rows and args.lines != 0:
            omits = any(segment.header.omit is not None for segment in opened.segments)
            notes.append(_why_empty(args, verdict.proved, omits=omits))
        out.end([hole for hole in late if hole not in shown], notes)
    audit.verdict, audit.proved = verdict.completeness.value, verdict.proved
    return audit.rows, verdict.proved


def _why_empty(args: argparse.Namespace, proved: bool, *, omits: bool) -> str:
    """What it means that there is no row.  `omits`: remote ends were left out."""
    if not asks(args):
        return "no rows: the segments that are here have no event yet"
    if proved and omits:
        return "no match: the log covers the time that was asked, but has no remote ends (omit)"
    if proved:
        return "no match: the log covers the whole time that was asked"
    return "no match, but the log does not prove that there was none: see ctlist --coverage"


def show_headers(opened: Archive, form: str) -> int:
    """Write the headers; returns how many."""
    from ctrecorder.render import header

    for segment in opened.segments:
        hashes = {
            "previous_hash": segment.previous_hash.hex(),
            "last_hash": segment.last_hash.hex(),
        }
        facts: dict[str, object] = {"state": segment.state, **segment.header.to_json(), **hashes}
        classic = header.classic(facts) if form == "classic" else None
        common.write_out(
            (
                classic or (header.as_json if form == "json" else header.text)(segment.path, facts)
            ).encode()
        )
    return len(opened.segments)
