"""ctlist: list and search recorded connections."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ctrecorder.cli import common
from ctrecorder.errors import ExitCode
from ctrecorder.listing.options import asks, sort_words
from ctrecorder.listing.options import build_parser as build_parser

if TYPE_CHECKING:
    from ctrecorder.archive.silent_loss import SilentLoss
    from ctrecorder.query.open import Archive
    from ctrecorder.render.renderer import Renderer
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

    sort_words(args)
    common.check_local_time(utc=args.utc)
    choice = read(None).choose("query")
    for notice in choice.notices:
        common.report("ctlist", notice)
    audit = Audit(choice.texts["audit"], words, args.reason)
    try:
        if args.coverage:
            from ctrecorder.listing import coverage

            code = coverage.show(args)
        elif args.who or args.at or args.to or args.tolerance is not None or args.wait:
            from ctrecorder.listing import moved

            code = moved.show(args)
        elif args.disk_usage:
            from ctrecorder.listing import usage

            code = usage.show(args)
        else:
            from ctrecorder.listing.stdin import as_file

            with as_file([*args.paths, *args.files]) as paths:
                code = listing(args, paths, audit)
        audit.written = True
        return code
    finally:
        audit.record()


def listing(args: argparse.Namespace, named: list[str], audit: Audit) -> int:
    """List the segments of the paths `named`, or else those of the configuration.

    Returns the exit code: NO if nothing matches, FAILED if not everything could be read.  With
    --strict, UNPROVED if something may be missing.
    """
    from ctrecorder.archive import find
    from ctrecorder.listing.ask import ask
    from ctrecorder.query.evidence import live_states
    from ctrecorder.query.open import open_archive
    from ctrecorder.render import renderer as render

    query = ask(args, time.time_ns())
    renderer = render.Renderer(args.format, connections=args.connections, utc=args.utc)
    paths = named or common.archive("ctlist")
    states = live_states()  # before the folder and the segments
    found = find.find(paths)
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
    opened = open_archive(found.segments, query)
    if args.format == "classic" and not args.connections and opened.only_connections:
        args.connections = True  # as the C ctrecorder lists its squeezed files
        renderer = render.Renderer(args.format, connections=True, utc=args.utc)
    for path, instead in opened.copies:
        common.report("ctlist", f"{path}: a copy of {instead}, which is read instead")
    if args.headers:
        rows, proved = show_headers(opened, args.format), True
    elif not found.segments:  # each file that could not be read was reported
        rows, proved = 0, False
    else:
        rows, proved = show(opened, renderer, args, audit, states)
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
    renderer: Renderer,
    args: argparse.Namespace,
    audit: Audit,
    states: Mapping[str, LiveState],
) -> tuple[int, bool]:
    """Write the lines, and on stderr the holes; returns the number of lines, and if it is proved
    that they are all.  What the lines themselves prove to be missing comes after them, and which
    imported files were read.

    `audit` counts the lines too.  `states`: of the recorders that run.
    """
    from ctrecorder.listing.lines import lines_of
    from ctrecorder.query.connections import list_connections
    from ctrecorder.query.events import list_events
    from ctrecorder.query.listing import shown_in_listing, verdict_of_listing
    from ctrecorder.render.holes import describe
    from ctrecorder.sealing.imported import imported, line_of

    now = time.time_ns()
    verdict = verdict_of_listing(opened, states, now)
    shown = shown_in_listing(verdict, opened.query, strict=args.strict)
    for hole in shown:
        common.report("ctlist", describe(hole, utc=args.utc))
    lines = lines_of(args, renderer)
    lines.begin()
    losses: dict[str, SilentLoss] = {}
    if args.connections:
        by_end = args.format == "classic"
        batches = list_connections(opened, renderer.columns, by_end=by_end, losses=losses)
    else:
        batches = list_events(opened, renderer.columns)
    for batch in batches:
        audit.rows += sum(map(len, batch.tables))
        lines.add(batch)
    lines.finish()
    if any(loss.gaps() for loss in losses.values()):
        verdict = verdict_of_listing(opened, states, now, losses)
        for hole in shown_in_listing(verdict, opened.query, strict=args.strict):
            if hole not in shown:
                common.report("ctlist", describe(hole, utc=args.utc))
    if rests_on := imported(opened.segments, opened.query.since, opened.query.until):
        common.report("ctlist", line_of(rests_on))
    if not audit.rows:
        common.report("ctlist", _why_empty(args, verdict.proved))
    audit.verdict, audit.proved = verdict.completeness.value, verdict.proved
    return audit.rows, verdict.proved


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


def _why_empty(args: argparse.Namespace, proved: bool) -> str:
    """What no row at all means."""
    if not asks(args):
        return "the archive is empty: nothing was recorded yet"
    if proved:
        return "no match: the log covers the whole time that was asked"
    return "no match, and the log does not prove that there was none: see ctlist --coverage"
