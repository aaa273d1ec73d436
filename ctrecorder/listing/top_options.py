"""The options of ctlist for tops and pictures, and what they cannot be combined with.  No numpy."""

from __future__ import annotations

import argparse

from ctrecorder import times
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
    tops.add_argument(
        "--histogram",
        nargs="?",
        const="",
        metavar="BIN",
        help="show how many connections began when, in bins of 15m, 1h, ...",
    )
    tops.add_argument(
        "--plot", metavar="PICTURE", help="draw the rate, or a --top, to FILE.png or FILE.svg"
    )
    tops.add_argument("--ascii", action="store_true", help="draw with ASCII alone")


def check(args: argparse.Namespace) -> None:
    """Raise UsageError for what does not go together.

    The word after --histogram can be a path: it becomes one, if it is no length of time.
    """
    if args.histogram and bin_of(args.histogram) is None:
        args.paths.insert(0, args.histogram)
        args.histogram = ""
    if args.by and not args.tops:
        raise UsageError("--by ranks a --top: which one?")
    used = [
        name
        for name, value in (
            ("--top", args.tops or None),
            ("--histogram", args.histogram),
            ("--plot", args.plot),
        )
        if value is not None
    ]
    if not used:
        return
    if args.headers or args.event or args.coverage:
        raise UsageError(f"{used[0]} counts connections: not with -H, --event or --coverage")
    if args.tops and args.histogram is not None:
        raise UsageError("--top and --histogram are two answers: ask for one of them")
    if args.format not in (FORMS if args.tops else ("text",)):
        forms = f"has --format {', '.join(FORMS)} only" if args.tops else "has no other --format"
        raise UsageError(f"{used[0]} {forms}")
    if args.lines is not None and args.lines < 1:
        raise UsageError("-n: a top has at least 1 row")


def bin_of(text: str) -> int | None:
    """The length of a bin in ns: "15m", "1h"; None: it is none."""
    from ctrecorder.declared.values import duration

    try:
        return duration(text) * times.SECOND
    except ValueError:
        return None
