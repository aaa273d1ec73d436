"""ctexpire: delete old segments, and hold those that must stay."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ctrecorder.cli import common
from ctrecorder.errors import UsageError
from ctrecorder.service.config import argument, merge

if TYPE_CHECKING:
    from ctrecorder.service.log import Log

SUMMARY = "Delete segments that are too old or too many, oldest first, but none under a hold.\nEach deletion leaves a receipt."
EXAMPLES = (
    ("ctexpire --max-age 90d --dry-run", "what would go"),
    ("ctexpire --min-free 5% /srv/log", "the oldest, until 5% of the disk are free"),
    (
        "ctexpire --hold --since 2026-11-23 --reason 'case 17'",
        "keep what touches that day, or is later",
    ),
    ("ctexpire --release 1", "let it go again"),
)


def build_parser() -> common.Parser:
    """The parser: an option that is not given is None, and `config` says its value."""
    parser = common.Parser("ctexpire", SUMMARY, EXAMPLES, 8)
    parser.add_argument(
        "folder",
        nargs="?",
        metavar="DIR",
        help="the folder of segments (default: that of the configuration)",
    )
    what = parser.add_argument_group("what goes")
    for name, metavar, text in (
        ("max-age", "AGE", "segments that end longer ago: 90d, 12h"),
        ("max-size", "SIZE", "the oldest, while all take more: 20G"),
        ("min-free", "SIZE", "the oldest, while less of the disk is free: 1G, 5%%"),
    ):
        what.add_argument(
            f"--{name}", metavar=metavar, type=argument("expire", name.replace("-", "_")), help=text
        )
    what.add_argument(
        "-n", "--dry-run", action="store_true", help="say what would go, and let it be"
    )
    what.add_argument(
        "-c",
        "--config",
        metavar="CONFIG",
        help="configuration (default: /etc/ctrecorder/ctrecorder.conf)",
    )
    holds = parser.add_argument_group("what stays")
    holds.add_argument(
        "--hold",
        action="store_true",
        help="set a hold: segments that touch --since to --until stay",
    )
    holds.add_argument("--release", metavar="NUMBER", type=int, help="take a hold away")
    holds.add_argument("--holds", action="store_true", help="list the holds")
    holds.add_argument(
        "--since", metavar="TIME", help="where a hold begins (default: the first record)"
    )
    holds.add_argument(
        "--until", metavar="TIME", help="where it ends, included (default: for ever)"
    )
    holds.add_argument("--reason", metavar="TEXT", help="why")
    holds.add_argument("--utc", action="store_true", help="times are UTC")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run ctexpire; returns its exit code."""
    return common.run(build_parser(), expire, argv)


def expire(args: argparse.Namespace) -> int:
    """Delete, or see to the holds."""
    if sum((args.hold, args.release is not None, args.holds)) > 1:
        raise UsageError("one of --hold, --release and --holds at a time")
    if not args.hold and (args.since or args.until or args.reason):
        raise UsageError("--since, --until and --reason belong to --hold")
    if args.hold and not args.reason:
        raise UsageError("a hold needs a --reason: who releases it must know why it was set")
    merge(args, "expire")

    from ctrecorder.service.log import Log

    log = Log("ctexpire")
    if args.hold or args.release is not None or args.holds:
        return _see_to_holds(args, log)

    from ctrecorder.maintain.expire import Expiry, Limits

    limits = Limits(args.max_age, args.max_size, args.min_free)
    return Expiry(args.folder, limits, time.time_ns(), log, args.dry_run).run()


def _see_to_holds(args: argparse.Namespace, log: Log) -> int:
    from ctrecorder.maintain import holds as holding

    if args.hold:
        return holding.hold(args.folder, args.since, args.until, args.reason, args.utc, log)
    if args.release is not None:
        return holding.release(args.folder, args.release, log)
    return holding.show(args.folder, args.utc)
