"""ctsqueeze: join the start and end of connections, and rewrite closed segments smaller."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence

from ctrecorder.cli import common, privacy_options
from ctrecorder.errors import ExitCode, UsageError
from ctrecorder.service.config import argument, merge

SUMMARY = """\
Join the start of each connection with its end, and rewrite closed segments smaller.
No recorded connection is lost."""
EXAMPLES = (
    ("ctsqueeze", "squeeze all closed segments of /var/log/ctrecorder"),
    (
        "ctsqueeze --resolution ms /srv/log",
        "squeeze those of another folder, with times in milliseconds",
    ),
    ("ctsqueeze -f a.ctlog -o small.ctlog", "squeeze one segment to a new file"),
)
# Beyond it zstd gains nothing on a segment and takes minutes.
LEVELS = range(1, 20)


def build_parser() -> common.Parser:
    """The parser.  An option that is not given is None: then the configuration has its value."""
    parser = common.Parser("ctsqueeze", SUMMARY, EXAMPLES, 8)
    what = parser.add_argument_group("what to squeeze")
    what.add_argument(
        "folder",
        nargs="?",
        metavar="DIR",
        help="squeeze every closed segment in this folder (default: the one in the configuration)",
    )
    what.add_argument("-f", "--file", metavar="SEGMENT", help="squeeze only this segment")
    what.add_argument(
        "-o",
        "--output",
        metavar="NEW",
        help="with -f: write to this new file; the segment is not changed",
    )
    how = parser.add_argument_group("how to squeeze")
    how.add_argument(
        "-c",
        "--config",
        metavar="CONFIG",
        help="configuration (default: /etc/ctrecorder/ctrecorder.conf)",
    )
    how.add_argument(
        "--resolution",
        metavar="UNIT",
        type=argument("squeeze", "resolution"),
        help="resolution of times: us, ms or s",
    )
    how.add_argument(
        "--level",
        metavar="LEVEL",
        type=int,
        choices=LEVELS,
        default=6,
        help="level of zstd, 1 to 19 (default: 6)",
    )
    how.add_argument(
        "--keep",
        action="store_true",
        default=None,
        help="move the old segments to the folder `replaced`",
    )
    how.add_argument(
        "--keep-ids",
        action="store_true",
        help="keep the kernel's ids (4 bytes for each connection)",
    )
    how.add_argument(
        "--key",
        metavar="FILE",
        help="the static key of segments (default: the one in the configuration)",
    )
    how.add_argument(
        "--seal-state",
        metavar="DIR",
        help="the folder of the key that seals (default: by the name of the key)",
    )
    how.add_argument(
        "--only-sealed",
        action="store_true",
        help="only segments with seals: those should not wait for the night",
    )
    how.add_argument(
        "-j",
        "--jobs",
        metavar="N",
        type=int,
        default=1,
        help="squeeze N segments at the same time (default: 1)",
    )
    privacy_options.add(parser)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run ctsqueeze; returns its exit code."""
    return common.run(build_parser(), squeeze, argv)


def squeeze(args: argparse.Namespace) -> int:
    """Squeeze one segment, or an archive."""
    if args.output and not args.file:
        raise UsageError("-o is the new file of one segment: name that segment with -f")
    if args.file and args.folder:
        raise UsageError("give either a folder, or a segment with -f")
    if args.jobs < 1:
        raise UsageError("-j: must be at least 1")
    if args.anonymize and not args.output:
        raise UsageError(
            "--anonymize makes a new file: name a segment with -f, and that file with -o"
        )
    # Of one segment, or with a folder, the configured folder is not needed.
    needed = ["resolution", "keep"] + ["folder"] * (not args.file and not args.folder)
    notices = merge(args, "squeeze", needed)

    from ctrecorder.sealing.locate import folder_for_use
    from ctrecorder.service.key import find_key
    from ctrecorder.service.log import Log
    from ctrecorder.service.messages import SKIPPED, WRONG_SETTING
    from ctrecorder.witness.owner import become_owner

    key = find_key(args.key, args.config)
    state, wrong = folder_for_use(args.seal_state, args.config)
    state = os.path.abspath(state) if state else None
    protection = privacy_options.protection(args)  # root may read the key
    path, output = (os.path.abspath(name) if name else None for name in (args.file, args.output))
    folder = os.path.dirname(path) if path else os.path.abspath(args.folder)
    folder, output, scribe = become_owner("ctsqueeze", folder, output)
    path = os.path.join(folder, os.path.basename(path)) if path else None

    from ctrecorder.archive.renew import renew
    from ctrecorder.maintain.squeeze import SqueezeOptions
    from ctrecorder.maintain.squeeze_all import ArchiveSqueeze
    from ctrecorder.metrics.job import job_ended
    from ctrecorder.sealing.successor import KeyUser

    keys = KeyUser(state, wrong=wrong)
    settings = SqueezeOptions(
        args.resolution,
        args.level,
        args.keep_ids,
        args.keep,
        key,
        keys,
        args.only_sealed,
        protection,
    )
    with Log("ctsqueeze") as log:
        log.witness(scribe)
        for notice in notices:
            log.send(WRONG_SETTING, notice, problem=notice)
        log.keep_in(folder)
        work = ArchiveSqueeze(settings, args.jobs, log)
        if path:
            return work.one(path, output)
        code = work.folder(folder)
        renew(folder)
        if not args.only_sealed:  # those are some of the segments: the others wait for the night
            values = [("squeeze_backlog_segments", (), work.waiting)]
            succeeded = code != ExitCode.FAILED
            problem = job_ended(
                "ctsqueeze", "squeeze", folder, values, succeeded=succeeded, config=args.config
            )
            if problem:
                log.send(SKIPPED, problem, path=folder, error=problem)
        return code
