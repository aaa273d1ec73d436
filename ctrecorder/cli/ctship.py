"""ctship: send segments to other machines, each exactly once."""

from __future__ import annotations

import argparse
import os
import socket
from collections.abc import Sequence

from ctrecorder.cli import common
from ctrecorder.errors import ExitCode, UsageError
from ctrecorder.service.config import argument, merge

SUMMARY = """\
Send squeezed segments to other machines, oldest first, each exactly once.
An interrupted run is continued by the next one."""
EXAMPLES = (
    ("ctship --to ssh://ship@log.example:/srv/log", "send what this target does not have yet"),
    ("ctship --status", "show what each target has, and what waits or was refused"),
    ("ctship --dry-run", "print what would be sent; send nothing"),
)


def build_parser() -> common.Parser:
    """The parser.  An option that is not given is None: then the configuration has its value."""
    parser = common.Parser("ctship", SUMMARY, EXAMPLES, 8)
    what = parser.add_argument_group("what to send")
    what.add_argument(
        "folder",
        nargs="?",
        metavar="DIR",
        help="the folder of segments (default: the one in the configuration)",
    )
    what.add_argument(
        "--ship-raw",
        action="store_true",
        default=None,
        help="send closed segments at once, before they are squeezed",
    )
    where = parser.add_argument_group("where to send it")
    where.add_argument(
        "--to",
        action="append",
        metavar="TARGET",
        help="ssh://HOST:DIR, rsync[+ssh]://..., clickhouse://HOST:PORT/DB; see ctship(8)",
    )
    where.add_argument(
        "--router",
        metavar="NAME",
        type=argument("ship", "router"),
        help="the folder of this router there (default: the name of this host)",
    )
    where.add_argument(
        "--bandwidth",
        metavar="BYTES",
        type=argument("ship", "bandwidth"),
        help="send at most so many bytes a second: 500K, 2M",
    )
    where.add_argument(
        "-c",
        "--config",
        metavar="CONFIG",
        help="configuration (default: /etc/ctrecorder/ctrecorder.conf)",
    )
    instead = parser.add_argument_group("instead of sending")
    instead.add_argument(
        "--status", action="store_true", help="show what each target has, and what waits"
    )
    instead.add_argument(
        "-n", "--dry-run", action="store_true", help="print what would be sent; send nothing"
    )
    instead.add_argument(
        "--take-over",
        metavar="INBOX",
        help="check what routers sent to the folders in INBOX, and copy it to DIR",
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run ctship; returns its exit code."""
    return common.run(build_parser(), ship, argv)


def ship(args: argparse.Namespace) -> int:
    """Send segments, or show what would be sent or was."""
    from ctrecorder.shipping.target import parse, router_of

    if args.status and args.dry_run:
        raise UsageError("use one of --status and --dry-run")
    for text in args.to or ():
        parse(text)
    if args.take_over is not None:
        return take_over(args)
    notices = merge(args, "ship")
    if not args.to:
        raise UsageError("no target: give one with --to, or in [ship] to (ctrecorder.conf(5))")
    router = router_of(args.router or socket.gethostname())

    from ctrecorder.service.log import Log
    from ctrecorder.service.messages import SKIPPED, WRONG_SETTING
    from ctrecorder.terminal import printable
    from ctrecorder.witness.owner import become_owner

    folder, _, scribe = become_owner("ctship", os.path.abspath(args.folder))

    from ctrecorder.metrics.job import job_ended
    from ctrecorder.shipping.metrics import ship_values
    from ctrecorder.shipping.ship import Options, Shipping, dry_run, status

    options = Options(
        tuple(dict.fromkeys(args.to)),
        router,
        args.ship_raw,
        key=args.ssh_key or "",
        bytes_per_second=args.bandwidth or 0,
        password_file=args.password_file or "",
    )
    if args.status or args.dry_run:
        for line in (status if args.status else dry_run)(folder, options):
            print(printable(line))
        return ExitCode.OK
    with Log("ctship") as log:
        log.witness(scribe)
        for notice in notices:
            log.send(WRONG_SETTING, notice, problem=notice)
        code = Shipping(folder, options, log).run()
        values, succeeded = ship_values(folder, options), code != ExitCode.FAILED
        problem = job_ended(
            "ctship", "ship", folder, values, succeeded=succeeded, config=args.config
        )
        if problem:
            log.send(SKIPPED, problem, path=folder, error=problem)
        return code


def take_over(args: argparse.Namespace) -> int:
    """Take over what routers sent."""
    others = args.to or args.status or args.dry_run or args.ship_raw
    if others or not args.folder or not args.take_over:
        raise UsageError("--take-over INBOX needs the folder DIR of an archive, and nothing else")

    from ctrecorder.inbox.takeover import TakeOver
    from ctrecorder.service.log import Log
    from ctrecorder.witness.owner import become_owner

    inbox = os.path.abspath(args.take_over)
    folder, _, scribe = become_owner("ctship", os.path.abspath(args.folder))
    with Log("ctship") as log:
        log.witness(scribe)
        return TakeOver(inbox, folder, log).run()
