"""The options of ctlist for tops and pictures, and what they cannot be combined with.  No numpy."""

from __future__ import annotations

import argparse

from ctrecorder.errors import UsageError

FORMS = ("text", "json", "csv")
USUAL_LENGTH = 10


def add(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    tops = parser.add_argument_group("what occurs most")
    tops.add_argument(
        "--top",
        dest="tops",
        action="append",
        default=[],
        metavar="FIELD,...",
        help="count by inside, public, remote, src/24, ip, port, hour, ...",
    )
    tops.add_argument(
        "--by",
        choices=("connections", "bytes", "packets", "duration"),
        metavar="MEASURE",
        help="ranked by connections (default), bytes, packets, duration",
    )


def check(args: argparse.Namespace) -> None:
    """Raise UsageError for what does not go together."""
    if not args.tops:
        if args.by:
            raise UsageError("--by ranks a --top: which one?")
        return
    if args.headers or args.event or args.coverage:
        raise UsageError("--top counts connections: not with -H, --event or --coverage")
    if args.format not in FORMS:
        raise UsageError(f"--top has --format {', '.join(FORMS)} only")
    if args.lines is not None and args.lines < 1:
        raise UsageError("-n: a top has at least 1 row")
