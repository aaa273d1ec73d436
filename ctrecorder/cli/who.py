"""ctlist --who: who had a public address and port at a time."""

from __future__ import annotations

import argparse
import json
import time
from typing import TYPE_CHECKING

from ctrecorder import labels
from ctrecorder.cli import common
from ctrecorder.errors import ExitCode, UsageError
from ctrecorder.service.settings import DEFAULT_FOLDER

if TYPE_CHECKING:
    from ctrecorder.ctlog.frame import Gap
    from ctrecorder.query import who
    from ctrecorder.service.audit import Audit

DEFAULT_TOLERANCE_SECONDS = 1.0
MAX_TOLERANCE_SECONDS = 7 * 86_400.0  # no clock is wrong by more than a week


def answer(args: argparse.Namespace, audit: Audit) -> int:
    """List the candidates, then whether the log covers that time completely.

    Returns the exit code: NO if there are none, FAILED if not everything could be read.
    """
    from ctrecorder.query import who
    from ctrecorder.query.gaps import describe_gap
    from ctrecorder.render import who as render_who

    asked = ask(args, time.time_ns())
    found = who.answer([*args.paths, *args.files] or [DEFAULT_FOLDER], asked, time.time_ns())
    audit.rows = len(found)
    for table in found.tables:
        for one in render_who.holders(table, *who.roles(table, asked)):
            line = (
                render_who.as_json(one)
                if args.format == "json"
                else render_who.text(one, utc=args.utc)
            )
            common.write_out(f"{line}\n".encode())
    if args.format == "json":
        complete = False if found.gaps or found.findings else True if found.losses_counted else None
        lines = [
            json.dumps(
                {
                    "candidates": len(found),
                    "complete": complete,
                    "gaps": [_gap(gap) for gap in found.gaps],
                }
            )
        ]
    else:
        lines = [f"not complete: {describe_gap(gap, utc=args.utc)}" for gap in found.gaps] or [
            "complete: the log covers all of that time"
            if found.losses_counted
            else "complete as far as is known: the C ctrecorder did not count lost events"
        ]
        if found.findings and not found.gaps:
            lines = ["not complete: not all of the log could be read"]
        if not len(found):
            lines.insert(0, "nobody")
    common.write_out("".join(f"{line}\n" for line in lines).encode())
    for finding in found.findings:
        common.report("ctlist", str(finding))
    if args.verbose:
        common.report("ctlist", str(found.stats))
    if found.findings:
        return ExitCode.FAILED
    return ExitCode.OK if len(found) else ExitCode.NO


def _gap(gap: Gap) -> dict[str, object]:
    from ctrecorder.render.who import rfc3339

    return {
        "start": rfc3339(gap.begin),
        "end": rfc3339(gap.end),
        "reason": gap.reason,
        "lost": gap.lost,
    }


def ask(args: argparse.Namespace, now: int) -> who.WhoQuery:
    """The query of the arguments.  Raises UsageError."""
    from ctrecorder import times
    from ctrecorder.query import who

    if not args.who or not args.at:
        raise UsageError(
            "--who ADDRESS:PORT needs --at TIME; --at, --tolerance and --to need --who"
        )
    if (
        args.ip
        or args.port
        or args.event
        or args.since
        or args.until
        or args.connections
        or args.headers
    ):
        raise UsageError(
            "--who can be combined with --at, --tolerance, --to, --protocol, --format text or "
            "json, --utc and -v"
        )
    if args.format not in ("text", "json"):
        raise UsageError("--who has --format text or json only")
    tolerance = DEFAULT_TOLERANCE_SECONDS if args.tolerance is None else args.tolerance
    if not 0 <= tolerance <= MAX_TOLERANCE_SECONDS:
        raise UsageError("--tolerance: must be 0 to 604800 seconds")
    begin, end = times.parse_span(args.at, now, utc=args.utc)
    spread = int(tolerance * times.SECOND)
    protocols = [word.strip() for option in args.protocol for word in option.split(",")]
    return who.WhoQuery(
        who.parse_end(args.who),
        max(begin - spread, times.BEGIN),
        min(max(end, begin + 1) + spread, times.END),
        who.parse_end(args.to) if args.to else None,
        frozenset(labels.parse_protocol(word) for word in protocols),
    )
