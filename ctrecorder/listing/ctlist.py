"""ctlist: list and search recorded connections."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from ctrecorder import labels
from ctrecorder.cli import common, privacy_options
from ctrecorder.errors import ExitCode, UsageError
from ctrecorder.listing import top_options

if TYPE_CHECKING:
    from ctrecorder.archive.silent_loss import SilentLoss
    from ctrecorder.ctlog.predicate import Query
    from ctrecorder.order.batches import Batch
    from ctrecorder.query.connections import Losses
    from ctrecorder.query.open import Archive
    from ctrecorder.render.renderer import Renderer
    from ctrecorder.segment.live import LiveState
    from ctrecorder.service.audit import Audit

SUMMARY = """\
List or search recorded connections, in order of time over all log files (segments).
Repeat an option, or separate values by commas: one match is enough."""
EXAMPLES = (
    (
        "ctlist -i 192.0.2.7 -p 25 --since yesterday",
        "events with the address 192.0.2.7 and port 25, since yesterday 0:00",
    ),
    ("ctlist -s --format json /var/log/ctrecorder | jq .", "connections, one JSON object per line"),
)
FORMATS = ("text", "classic", "conntrack", "json", "csv")


def build_parser() -> common.Parser:
    """The parser; `listing` interprets the values, with numpy."""
    parser = common.Parser("ctlist", SUMMARY, EXAMPLES, 1)
    where = parser.add_argument_group("what to read")
    where.add_argument(
        "paths",
        nargs="*",
        metavar="PATH",
        help="segment, or folder of segments (default: the one in the configuration)",
    )
    where.add_argument(
        "-f",
        "--file",
        dest="files",
        action="append",
        default=[],
        metavar="PATH",
        help="the same as PATH",
    )
    what = parser.add_argument_group("what to list")
    what.add_argument(
        "-i",
        "--ip",
        action="append",
        default=[],
        metavar="IP/MASK",
        help="address or network, at any of the four endpoints",
    )
    what.add_argument(
        "-p",
        "--port",
        action="append",
        default=[],
        metavar="PORT",
        help="port or range of ports, at any of the four endpoints",
    )
    what.add_argument(
        "--protocol",
        "--proto",
        action="append",
        default=[],
        metavar="PROTOCOL,...",
        help="tcp, udp, icmp, ..., or a number",
    )
    what.add_argument(
        "--event",
        action="append",
        default=[],
        metavar="EVENT,...",
        help="new, update, destroy, existing (default: the first three)",
    )
    what.add_argument(
        "--since",
        metavar="TIME",
        help="from TIME: 2026-11-23, '2026-11-23 18:17', 18:17, -2h, yesterday",
    )
    what.add_argument(
        "--until", metavar="TIME", help="up to the end of TIME: 2026-11-23 is the whole day"
    )
    who = parser.add_argument_group("who had an address: a command of its own, ctwho(1)")
    who.add_argument(
        "--who", metavar="ADDRESS:PORT", help="print the ctwho command that asks the same"
    )
    for name in ("--at", "--to"):
        who.add_argument(name, metavar="VALUE", help=argparse.SUPPRESS)
    who.add_argument("--tolerance", metavar="VALUE", type=float, help=argparse.SUPPRESS)
    who.add_argument("--wait", action="store_true", help=argparse.SUPPRESS)
    covered = parser.add_argument_group("what the log covers")
    covered.add_argument(
        "--coverage",
        action="store_true",
        help="show which times the log covers, and what is missing",
    )
    covered.add_argument(
        "--strict",
        action="store_true",
        help="exit with 3 if the list may be incomplete",
    )
    how = parser.add_argument_group("how to list")
    how.add_argument(
        "-s",
        "--connections",
        "--squeeze",
        action="store_true",
        help="one line for each connection instead of each event",
    )
    how.add_argument(
        "-H", "--headers", action="store_true", help="show only the headers of the segments"
    )
    how.add_argument(
        "--format", choices=FORMATS, default="text", help="%(choices)s (default: %(default)s)"
    )
    how.add_argument(
        "--utc",
        action="store_true",
        help="read and print times in UTC instead of local time",
    )
    how.add_argument(
        "--reason", metavar="TEXT", help="reason for the query, for its entry in the journal"
    )
    how.add_argument(
        "-v",
        "--verbose",
        action="store_true",
        help="report on stderr what was read and what was skipped",
    )
    how.add_argument("-n", "--lines", metavar="N", type=int, help="length of each --top (10)")
    top_options.add(parser)
    privacy_options.add(parser)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run ctlist; returns its exit code."""
    return common.run(
        build_parser(), lambda args: answer(args, sys.argv[1:] if argv is None else argv), argv
    )


def answer(args: argparse.Namespace, words: Sequence[str]) -> int:
    """Answer, and log who asked what and how many rows the answer had."""
    from ctrecorder.service.audit import Audit
    from ctrecorder.service.config import read

    common.check_local_time(utc=args.utc)
    choice = read(None).choose("query")
    for notice in choice.notices:
        common.report("ctlist", notice)
    audit = Audit(choice.texts["audit"], words, args.reason)
    try:
        top_options.check(args)
        privacy_options.check(args)
        if args.coverage:
            from ctrecorder.listing import coverage

            code = coverage.show(args)
        elif args.who or args.at or args.to or args.tolerance is not None or args.wait:
            from ctrecorder.listing import moved

            code = moved.show(args)
        else:
            code = listing(args, audit)
        audit.written = True
        return code
    finally:
        audit.record()


def listing(args: argparse.Namespace, audit: Audit) -> int:
    """List.

    Returns the exit code: NO if nothing matches, FAILED if not everything could be read.  With
    --strict, UNPROVED if something may be missing.
    """
    from ctrecorder.archive import find
    from ctrecorder.query.evidence import live_states
    from ctrecorder.query.open import open_archive
    from ctrecorder.render import renderer as render

    query = ask(args, time.time_ns())
    renderer = render.Renderer(args.format, connections=args.connections, utc=args.utc)
    paths = [*args.paths, *args.files] or common.archive("ctlist")
    states = live_states()  # before the folder and the segments
    found = find.find(paths)
    for path in found.foreign:
        common.report("ctlist", f"{path}: not a segment of ctrecorder")
    for _, why in found.unreadable:
        common.report("ctlist", why)
    if not (found.segments or found.foreign or found.unreadable):
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
    if found.foreign or found.unreadable or opened.findings:
        return ExitCode.FAILED
    if args.strict and not proved:
        return ExitCode.UNPROVED
    asked = args.ip or args.port or args.protocol or args.event or args.since or args.until
    return ExitCode.NO if asked and not rows else ExitCode.OK


def ask(args: argparse.Namespace, now: int) -> Query:
    """The query of the arguments.  Raises UsageError."""
    from ctrecorder import times
    from ctrecorder.ctlog.predicate import HAPPENED, Query, Term
    from ctrecorder.moments.typed import parse_span
    from ctrecorder.query.parse import parse_network, parse_ports

    terms = []
    if args.ip:
        terms.append(Term(networks=tuple(parse_network(word) for word in _words(args.ip))))
    if args.port:
        terms.append(Term(ports=tuple(parse_ports(word) for word in _words(args.port))))
    if args.event and args.connections:
        raise UsageError("--event selects events, -s lists connections: use one of them")
    return Query(
        since=parse_span(args.since, now, utc=args.utc)[0] if args.since else times.BEGIN,
        until=parse_span(args.until, now, utc=args.utc)[1] if args.until else times.END,
        protocols=frozenset(labels.parse_protocol(word) for word in _words(args.protocol)),
        events=frozenset(labels.parse_event(word) for word in _words(args.event)) or HAPPENED,
        terms=tuple(terms),
    )


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

    `audit` counts the lines too.  `states`: of the recorders that run.  With --top, --histogram and
    --plot, connections are counted instead.
    """
    if args.tops:
        from ctrecorder.listing import tops

        return tops.show(opened, args, audit, states)
    if args.histogram is not None or args.plot:
        from ctrecorder.listing import pictures

        return pictures.show(opened, args, audit, states)
    from ctrecorder.listing.guarded import as_told, guard_of
    from ctrecorder.query.listing import shown_in_listing, verdict_of_listing
    from ctrecorder.render.holes import describe
    from ctrecorder.sealing.imported import imported, line_of

    guard_of(args, opened.query)  # what is wrong with the key is told before the holes
    now = time.time_ns()
    verdict = verdict_of_listing(opened, states, now)
    shown = shown_in_listing(verdict, opened.query, strict=args.strict)
    for hole in shown:
        common.report("ctlist", describe(as_told(hole, args), utc=args.utc))
    common.write_out(renderer.head)
    losses: dict[str, SilentLoss] = {}
    for tables, order in _batches(opened, args, renderer.columns, losses):
        audit.rows += sum(map(len, tables))
        for text in renderer.lines(tables, order):
            common.write_out(text)
    if any(loss.gaps() for loss in losses.values()):
        verdict = verdict_of_listing(opened, states, now, losses)
        for hole in shown_in_listing(verdict, opened.query, strict=args.strict):
            if hole not in shown:
                common.report("ctlist", describe(as_told(hole, args), utc=args.utc))
    if rests_on := imported(opened.segments, opened.query.since, opened.query.until):
        common.report("ctlist", line_of(rests_on))
    audit.verdict, audit.proved = verdict.completeness.value, verdict.proved
    return audit.rows, verdict.proved


def _batches(
    opened: Archive, args: argparse.Namespace, columns: Iterable[str], losses: Losses
) -> Iterable[Batch]:
    """The rows, with at least `columns`.  `losses`: as of `list_connections`."""
    from ctrecorder.listing.guarded import guard_of
    from ctrecorder.query.connections import list_connections
    from ctrecorder.query.events import list_events

    guard = guard_of(args, opened.query)
    if guard is not None:
        columns = guard.columns(columns)
    if args.connections:
        by_end = args.format == "classic"
        batches = list_connections(opened, columns, by_end=by_end, losses=losses)
    else:
        batches = list_events(opened, columns)
    return batches if guard is None else guard.batches(batches)


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


def _words(options: Iterable[str]) -> list[str]:
    """The items of all lists with commas."""
    return [word.strip() for option in options for word in option.split(",")]
