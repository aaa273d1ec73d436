"""ctexpire: delete old segments, except those under a hold."""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ctrecorder.cli import common
from ctrecorder.errors import ExitCode, UsageError
from ctrecorder.service.config import argument, merge, read

if TYPE_CHECKING:
    from ctrecorder.sealing.successor import KeyUser
    from ctrecorder.service.log import Log

SUMMARY = """\
Delete the oldest segments by age, total size or free space, except those under a hold.
Each deletion leaves a receipt."""
EXAMPLES = (
    ("ctexpire --max-age 90d --dry-run", "print what would be deleted"),
    ("ctexpire --min-free 5% /srv/log", "delete the oldest until 5% of the disk is free"),
    (
        "ctexpire --hold --since 2026-11-23 --reason 'case 17'",
        "keep every segment of that day and later",
    ),
    ("ctexpire --release 1", "release hold 1"),
)


def build_parser() -> common.Parser:
    """The parser.  An option that is not given is None: then the configuration has its value."""
    parser = common.Parser("ctexpire", SUMMARY, EXAMPLES, 8)
    where = parser.add_argument_group("where to delete")
    where.add_argument(
        "folder",
        nargs="?",
        metavar="DIR",
        help="the folder of segments (default: the one in the configuration)",
    )
    what = parser.add_argument_group("what to delete")
    for name, metavar, text in (
        ("max-age", "AGE", "delete segments that ended longer ago than AGE: 90d, 12h"),
        ("max-size", "SIZE", "delete the oldest while all segments take more: 20G"),
        ("min-free", "SIZE", "delete the oldest while less of the disk is free: 1G, 5%%"),
    ):
        what.add_argument(
            f"--{name}", metavar=metavar, type=argument("expire", name.replace("-", "_")), help=text
        )
    what.add_argument(
        "--trust-clock",
        action="store_true",
        default=None,
        help="apply --max-age also where the clock was never synchronised",
    )
    what.add_argument(
        "-n",
        "--dry-run",
        action="store_true",
        help="print what would be deleted; delete nothing",
    )
    what.add_argument(
        "-c",
        "--config",
        metavar="CONFIG",
        help="configuration (default: /etc/ctrecorder/ctrecorder.conf)",
    )
    what.add_argument(
        "--seal-state",
        metavar="DIR",
        help="the folder of the key that seals (default: by the name of the key)",
    )
    holds = parser.add_argument_group("what to keep")
    holds.add_argument(
        "--hold",
        action="store_true",
        help="set a hold on all segments from --since to --until",
    )
    holds.add_argument(
        "--release", metavar="NUMBER", type=int, help="release the hold with this number"
    )
    holds.add_argument("--holds", action="store_true", help="list the holds")
    holds.add_argument("--held", action="store_true", help="list the segments that a hold keeps")
    holds.add_argument(
        "--since", metavar="TIME", help="beginning of the hold (default: the first record)"
    )
    holds.add_argument(
        "--until", metavar="TIME", help="end of the hold, with all of TIME (default: no end)"
    )
    holds.add_argument("--reason", metavar="TEXT", help="reason for the hold")
    holds.add_argument(
        "--utc", action="store_true", help="read and print times in UTC instead of local time"
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run ctexpire; returns its exit code."""
    return common.run(build_parser(), expire, argv)


def expire(args: argparse.Namespace) -> int:
    """Delete segments; or set, release or list holds."""
    if sum((args.hold, args.release is not None, args.holds, args.held)) > 1:
        raise UsageError("use one of --hold, --release, --holds and --held")
    if not args.hold and (args.since or args.until or args.reason):
        raise UsageError("--since, --until and --reason need --hold")
    if args.hold and not args.reason:
        raise UsageError("a hold needs a --reason, for the person who will release it")
    if args.hold or args.release is not None or args.holds or args.held:
        common.check_local_time(utc=args.utc)
        merge(args, "expire", ["folder"])
        trust = read(args.config).choose("expire", needed=["trust_clock"]).values
        args.trust_clock = args.trust_clock or trust.get("trust_clock", False)
        shipped_to = None
    else:  # a deletion cannot be undone: there is none while anything in the section is wrong
        merge(args, "expire", overrides=False)
        shipping = read(args.config).choose("ship", needed=["to", "keep_until_shipped"])
        shipped_to = None
        if shipping.values["keep_until_shipped"]:
            for notice in (*shipping.notices, *shipping.refusals):
                common.report("ctexpire", notice)
            shipped_to = shipping.values.get("to", ())

    from ctrecorder.sealing.locate import folder_for_use
    from ctrecorder.service.log import Log
    from ctrecorder.witness.owner import become_owner

    state, wrong = folder_for_use(args.seal_state, args.config)
    state = os.path.abspath(state) if state else None
    args.folder, _, scribe = become_owner("ctexpire", os.path.abspath(args.folder))

    from ctrecorder.sealing.successor import KeyUser

    keys = KeyUser(state, wrong=wrong)
    with Log("ctexpire") as log:
        log.witness(scribe)
        log.keep_in(args.folder)
        return _run(args, log, keys, shipped_to)


def _run(args: argparse.Namespace, log: Log, keys: KeyUser, shipped_to: Any) -> int:
    if args.hold or args.release is not None or args.holds or args.held:
        return _change_holds(args, log, keys)

    from ctrecorder.archive.renew import renew
    from ctrecorder.maintain.expire import Expiry, Limits
    from ctrecorder.maintain.expire_all import expire_all
    from ctrecorder.maintain.metrics import archive_values
    from ctrecorder.metrics.job import job_ended
    from ctrecorder.service.messages import SKIPPED

    limits = Limits(args.max_age, args.max_size, args.min_free, args.trust_clock, shipped_to)
    work = Expiry(args.folder, limits, time.time_ns(), log, args.dry_run, keys)
    code = expire_all(work)
    if not args.dry_run:
        renew(args.folder)
        values, succeeded = archive_values(work.summary, limits), code == ExitCode.OK
        problem = job_ended(
            "ctexpire", "expire", args.folder, values, succeeded=succeeded, config=args.config
        )
        if problem:
            log.send(SKIPPED, problem, path=args.folder, error=problem)
    return code


def _change_holds(args: argparse.Namespace, log: Log, keys: KeyUser) -> int:
    from ctrecorder.maintain import holds as holding

    if args.hold:
        return holding.hold(
            args.folder,
            (args.since, args.until),
            args.reason,
            log,
            keys,
            utc=args.utc,
            trust_clock=args.trust_clock,
        )
    if args.release is not None:
        return holding.release(args.folder, args.release, log, keys)
    if args.held:
        return holding.show_held(args.folder, trust_clock=args.trust_clock)
    return holding.show(args.folder, utc=args.utc, trust_clock=args.trust_clock)
