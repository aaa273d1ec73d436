"""ctlist: list recorded connections, and ask which there were."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from ctrecorder import labels
from ctrecorder.cli import common
from ctrecorder.errors import UsageError
from ctrecorder.service.settings import DEFAULT_FOLDER

if TYPE_CHECKING:
    from ctrecorder.ctlog.predicate import Query
    from ctrecorder.query.answer import Archive
    from ctrecorder.render.renderer import Renderer
    from ctrecorder.service.audit import Audit

SUMMARY = """\
List recorded connections, of all segments in order of time, or those asked for.
An option that is given again, or has a list with commas, means: any of these."""
EXAMPLES = (
    (
        "ctlist -i 192.0.2.7 -p 25 --since yesterday",
        "who talked to or from 192.0.2.7 and port 25, since yesterday 0:00",
    ),
    (
        "ctlist --who 192.0.2.1:40000 --at '2026-11-23 18:17:30' --to 203.0.113.9",
        "who was behind this public address and port",
    ),
    ("ctlist -s --format json /var/log/ctrecorder | jq .", "one object for each connection"),
)
FORMATS = ("text", "classic", "conntrack", "json", "csv")


def build_parser() -> common.Parser:
    """The parser; what its values mean is found out in `listing`, with numpy."""
    parser = common.Parser("ctlist", SUMMARY, EXAMPLES, 1)
    where = parser.add_argument_group("what to read")
    where.add_argument(
        "paths",
        nargs="*",
        metavar="PATH",
        help=f"segment, or folder of them (default: {DEFAULT_FOLDER})",
    )
    where.add_argument(
        "-f",
        "--file",
        dest="files",
        action="append",
        default=[],
        metavar="PATH",
        help="the same, as an option",
    )
    what = parser.add_argument_group("what to list")
    what.add_argument(
        "-i",
        "--ip",
        action="append",
        default=[],
        metavar="IP/MASK",
        help="address or network at any of the four ends",
    )
    what.add_argument(
        "-p",
        "--port",
        action="append",
        default=[],
        metavar="PORT",
        help="port or range of them at any of the four ends",
    )
    what.add_argument(
        "--proto",
        action="append",
        default=[],
        metavar="PROTO,...",
        help="protocols: tcp, udp, icmp, ...",
    )
    what.add_argument(
        "--event",
        action="append",
        default=[],
        metavar="EVENT,...",
        help="new, update, destroy (the default: these three), existing",
    )
    what.add_argument(
        "--since",
        metavar="TIME",
        help="from then on: 2026-11-23, '2026-11-23 18:17', 18:17, -2h, yesterday",
    )
    what.add_argument(
        "--until", metavar="TIME", help="up to the end of it: 2026-11-23 is the whole day"
    )
    who = parser.add_argument_group("who held an address")
    who.add_argument(
        "--who",
        metavar="ADDRESS:PORT",
        help="list all who held this public address and port at --at",
    )
    who.add_argument(
        "--at", metavar="TIME", help="as --since: '2026-11-23 18:17:30' is that whole second"
    )
    who.add_argument(
        "--tolerance",
        metavar="SECONDS",
        type=float,
        help="what a clock may be wrong, before and after (default: 1)",
    )
    who.add_argument(
        "--to", metavar="ADDRESS:PORT", help="only those who talked to this remote address"
    )
    how = parser.add_argument_group("how to list")
    how.add_argument(
        "-s",
        "--squeeze",
        action="store_true",
        help="a line for each connection, not for each event",
    )
    how.add_argument("-H", "--headers", action="store_true", help="only the segments' headers")
    how.add_argument(
        "--format", choices=FORMATS, default="text", help="%(choices)s (default: %(default)s)"
    )
    how.add_argument(
        "--utc", action="store_true", help="times are UTC, not local, as given and as shown"
    )
    how.add_argument(
        "--reason", metavar="TEXT", help="why you ask: it goes to the journal with the question"
    )
    how.add_argument(
        "-v",
        "--verbose",
        action="store_true",
        help="say on stderr what was read and what was skipped",
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run ctlist; returns its exit code."""
    return common.run(
        build_parser(), lambda args: answer(args, sys.argv[1:] if argv is None else argv), argv
    )


def answer(args: argparse.Namespace, words: Sequence[str]) -> int:
    """Answer, and leave an entry in the journal of who asked, and how many rows came."""
    from ctrecorder.service.audit import Audit
    from ctrecorder.service.config import load

    audit = Audit(str(load(None, "query")["audit"]), words, args.reason)
    try:
        if args.who or args.at or args.to or args.tolerance is not None:
            from ctrecorder.cli import who

            code = who.answer(args, audit)
        else:
            code = listing(args, audit)
        audit.complete = True
        return code
    finally:
        audit.record()


def listing(args: argparse.Namespace, audit: Audit) -> int:
    """List: 0, or 1 if something was asked for and is not there, or 2 if not all could be read."""
    from ctrecorder.archive import find
    from ctrecorder.query import answer as answers
    from ctrecorder.render import renderer as render

    query = ask(args, time.time_ns())
    renderer = render.Renderer(args.format, connections=args.squeeze, utc=args.utc)
    found = find.find([*args.paths, *args.files] or [DEFAULT_FOLDER])
    for path in found.foreign:
        common.report("ctlist", f"{path}: not a segment of ctrecorder")
    for _, why in found.unreadable:
        common.report("ctlist", why)
    if not (found.segments or found.foreign or found.unreadable):
        common.report(
            "ctlist",
            f"{', '.join([*args.paths, *args.files] or [DEFAULT_FOLDER])}: no segments here; is ctrecord running?",
        )
        return common.FAILED
    opened = answers.open_archive(found.segments, query)
    if args.format == "classic" and not args.squeeze and answers.only_connections(opened):
        args.squeeze = True  # as the C ctrecorder lists its squeezed files
        renderer = render.Renderer(args.format, connections=True, utc=args.utc)
    rows = (
        show_headers(opened, args.format) if args.headers else show(opened, renderer, args, audit)
    )
    for finding in opened.findings:
        common.report("ctlist", str(finding))
    if args.verbose:
        common.report("ctlist", str(opened.query.stats))
    if found.foreign or found.unreadable or opened.findings:
        return common.FAILED
    asked = args.ip or args.port or args.proto or args.event or args.since or args.until
    return common.NO if asked and not rows else common.OK


def ask(args: argparse.Namespace, now: int) -> Query:
    """The question that the arguments put.  Raises UsageError."""
    from ctrecorder import times
    from ctrecorder.ctlog.predicate import HAPPENED, Query, Term
    from ctrecorder.query.parse import parse_network, parse_ports

    terms = []
    if args.ip:
        terms.append(Term(networks=tuple(parse_network(word) for word in _words(args.ip))))
    if args.port:
        terms.append(Term(ports=tuple(parse_ports(word) for word in _words(args.port))))
    if args.event and args.squeeze:
        raise UsageError(
            "--event chooses among events, -s lists connections: leave one of them out"
        )
    return Query(
        since=times.parse_span(args.since, now, utc=args.utc)[0] if args.since else times.BEGIN,
        until=times.parse_span(args.until, now, utc=args.utc)[1] if args.until else times.END,
        protocols=frozenset(labels.parse_protocol(word) for word in _words(args.proto)),
        events=frozenset(labels.parse_event(word) for word in _words(args.event)) or HAPPENED,
        terms=tuple(terms),
    )


def show(opened: Archive, renderer: Renderer, args: argparse.Namespace, audit: Audit) -> int:
    """Write the lines, and what the answer lacks; returns the number of lines, which `audit` counts
    too.
    """
    from ctrecorder.query import answer as answers

    for gap in [*opened.gaps(), *opened.silences(time.time_ns())]:
        common.report("ctlist", answers.describe_gap(gap, utc=args.utc))
    common.write_out(renderer.head)
    if args.squeeze:
        batches = answers.connections(opened, renderer.columns, by_end=args.format == "classic")
    else:
        batches = answers.events(opened, renderer.columns)
    for tables, order in batches:
        audit.rows += sum(map(len, tables))
        for text in renderer.lines(tables, order):
            common.write_out(text)
    return audit.rows


def show_headers(opened: Archive, form: str) -> int:
    """Write the headers; returns how many."""
    from ctrecorder.render import header

    for segment in opened.segments:
        hashes = {
            "previous_hash": segment.previous_hash.hex(),
            "last_hash": segment.last_hash.hex(),
        }
        facts: dict[str, object] = {"state": segment.state, **segment.header, **hashes}
        classic = header.classic(segment.header) if form == "classic" else None
        common.write_out(
            (
                classic or (header.as_json if form == "json" else header.text)(segment.path, facts)
            ).encode()
        )
    return len(opened.segments)


def _words(options: Iterable[str]) -> list[str]:
    """The items of all lists with commas."""
    return [word.strip() for option in options for word in option.split(",")]
