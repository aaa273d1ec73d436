"""ctrecord: record the connections that the kernel tracks."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from ctrecorder.cli import common
from ctrecorder.errors import CtrecorderError, ExitCode, KernelError, UsageError
from ctrecorder.service.config import argument, read
from ctrecorder.terminal import printable

if TYPE_CHECKING:
    from ctrecorder.record.configured import Configured
    from ctrecorder.service.log import Log

SUMMARY = """\
Record the start and the end of every connection that the kernel tracks,
with addresses and ports before and after NAT."""
EXAMPLES = (
    (
        "ctrecord -F -f /tmp/%Y%m%d-%H%M%S.ctlog",
        "record in the foreground, a new segment each hour",
    ),
    (
        "ctrecord -f /var/log/ctrecorder/%Y%m%d-%H%M.ctlog -t 30 -p tcp,udp",
        "a daemon: TCP and UDP, a new segment each half hour",
    ),
)


def build_parser() -> common.Parser:
    """The parser.  An option that is not given is None: then the configuration has its value."""
    parser = common.Parser("ctrecord", SUMMARY, EXAMPLES, 8)
    where = parser.add_argument_group("where to record")
    where.add_argument(
        "-f",
        "--template",
        "--file",
        metavar="TEMPLATE",
        help="path of log files (segments), with strftime(3) fields in UTC",
    )
    _add(
        where,
        "-t",
        "--rotate",
        "MINUTES",
        "begin a new segment at multiples of MINUTES after midnight (UTC)",
    )
    _add(where, "-B", "--rows", "EVENTS", "maximum number of events in a block of the log")
    what = parser.add_argument_group("what to record")
    _add(what, "-p", "--protocols", "PROTOCOL,...", "record only these: tcp, udp, icmp, ...")
    what.add_argument(
        "--nat-only",
        action="store_true",
        default=None,
        help="record only connections that NAT translated",
    )
    what.add_argument(
        "--omit", choices=("remote",), metavar="END", help="remote: do not record remote ends"
    )
    what.add_argument(
        "--updates", action="store_true", default=None, help="also record changes of state"
    )
    _add(what, "-b", "--buffer", "KIB", "size of the kernel's buffer for events, in KiB")
    how = parser.add_argument_group("how to run")
    how.add_argument(
        "-c",
        "--config",
        metavar="CONFIG",
        help="configuration (default: /etc/ctrecorder/ctrecorder.conf)",
    )
    how.add_argument(
        "--netns",
        metavar="NAME",
        help="record this network namespace: a name of ip-netns(8), or a path",
    )
    how.add_argument(
        "--check-config", action="store_true", help="check the configuration file and exit"
    )
    how.add_argument(
        "-F", "--foreground", action="store_true", help="stay in the foreground and log to stderr"
    )
    how.add_argument(
        "-P", "--pidfile", metavar="PIDFILE", help="write the process id to this file, and lock it"
    )
    _add(how, "-N", "--nice", "NICE", "set the nice value, -20 to 19")
    _add(how, "-U", "--user", "USER", "change to this user after subscribing to the events")
    _add(how, "-G", "--group", "GROUP", "change to this group")
    seal = parser.add_argument_group("seals")
    seal.add_argument(
        "--setup-seal",
        action="store_true",
        help="make a key that seals the recording, print its verification key once, and exit",
    )
    seal.add_argument(
        "--replace-key",
        action="store_true",
        help="with --setup-seal: destroy the key that is there",
    )
    seal.add_argument(
        "--unsealed", action="store_true", help="record without seals, although there is a key"
    )
    seal.add_argument(
        "--seal-state",
        metavar="DIR",
        help="the folder of the key (default: that of the configuration)",
    )
    return parser


def _add(group: argparse._ArgumentGroup, short: str, long: str, metavar: str, text: str) -> None:
    name = long.removeprefix("--")
    group.add_argument(short, long, metavar=metavar, type=argument("record", name), help=text)


def main(argv: Sequence[str] | None = None) -> int:
    """Run ctrecord; returns its exit code."""
    return common.run(build_parser(), record, argv)


def record(args: argparse.Namespace) -> int:
    """Check the configuration, or record."""
    if args.check_config:
        configuration = read(args.config)
        for problem in configuration.problems:
            common.report("ctrecord", str(problem))
        if configuration.problems:
            return ExitCode.FAILED
        print(printable(f"{configuration.path}: all settings are right"))
        return ExitCode.OK
    if args.replace_key and not args.setup_seal:
        raise UsageError("--replace-key is for --setup-seal")
    if args.setup_seal:
        from ctrecorder.cli.setup_seal import setup

        return setup(args)

    from ctrecorder.kernel import netns

    # Before anything opens a socket or starts a thread.
    namespace = netns.enter(args.netns) if args.netns is not None else None

    from ctrecorder.record.configured import Configured
    from ctrecorder.service.log import Log
    from ctrecorder.service.messages import FAILED

    with Log("ctrecord") as log:
        try:
            return _run(args, Configured(vars(args), args.config, namespace), log)
        except CtrecorderError as error:
            if log.target == "stderr" and not args.foreground:
                log.detach(warn=False)
                log.send(FAILED, str(error), error=str(error))
            raise


def _run(args: argparse.Namespace, configured: Configured, log: Log) -> int:
    from ctrecorder.record.recorder import SIGNALS, Recorder
    from ctrecorder.sealing.live import LiveSeals
    from ctrecorder.sealing.locate import live_state
    from ctrecorder.segment import live
    from ctrecorder.service import daemon, privileges
    from ctrecorder.service.messages import UNPRIVILEGED

    options = configured.read()
    user, group, nice = (configured.values[name] for name in ("user", "group", "nice"))
    try:
        if nice or args.nice is not None:
            daemon.set_nice(nice)
    except KernelError as error:
        if args.nice is not None:
            raise
        configured.notices.append(f"{error}; recording without")
    state = None
    if not args.unsealed:
        state = live_state(args.seal_state, configured.seal, args.config, args.netns)
    if state is not None:
        seals = LiveSeals(state, os.path.dirname(options.template), log)
        options = replace(options, seals=seals)
    live.make_folder(*privileges.ids_of(user, group))
    recorder = Recorder(options, log, configured=configured)
    recorder.open()
    pidfile = daemon.PidFile(args.pidfile) if args.pidfile else None
    missing = privileges.drop_privileges(user, group, keep_net_admin=True)
    if missing:
        log.send(UNPRIVILEGED, f"there is no user {missing}: continuing as root", user=missing)
    log.keep_in(os.path.dirname(options.template))
    with daemon.SignalPipe(SIGNALS) as signals:
        recorder.start()
        if not args.foreground:
            log.detach()
            daemon.daemonize(pidfile)
        elif pidfile is not None:
            pidfile.write()
        recorder.run(signals)
    if pidfile is not None:
        pidfile.remove()
    return ExitCode.GONE if recorder.namespace_lost else ExitCode.OK
