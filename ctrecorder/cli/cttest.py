"""cttest: check that segments are whole, and that none is missing between them."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from ctrecorder.cli import common
from ctrecorder.errors import UsageError
from ctrecorder.service.settings import DEFAULT_FOLDER
from ctrecorder.terminal import printable

SUMMARY = """\
Check segments: every block, its order, and that the segments follow each other as they were recorded.
Exit 0: all whole; 1: damaged; 2: could not be checked."""
EXAMPLES = (
    ("cttest", f"all segments of {DEFAULT_FOLDER}"),
    ("cttest --repair damaged.ctlog -o saved.ctlog", "save what is whole of a damaged segment"),
    ("cttest --anchors journal", "and that it is what the recorder logged, not made anew"),
    ("cttest --doctor", "why nothing, or not all, is recorded on this machine, and what mends it"),
    ("cttest -q /srv/log", "say only what is wrong, with this folder"),
)


def build_parser() -> common.Parser:
    """The parser."""
    parser = common.Parser("cttest", SUMMARY, EXAMPLES, 1)
    options = parser.add_argument_group("options")
    options.add_argument(
        "paths",
        nargs="*",
        metavar="PATH",
        help=f"segment, or folder of them (default: {DEFAULT_FOLDER})",
    )
    options.add_argument(
        "-q",
        "--quiet",
        action="store_true",
        help="say only what is damaged or could not be checked",
    )
    proof = parser.add_argument_group("proof")
    proof.add_argument(
        "--anchors",
        metavar="FILE",
        help="hold it against what was logged: a log file, or `journal`",
    )
    proof.add_argument(
        "--key",
        metavar="FILE",
        help="the key of sealed segments (default: that of the configuration)",
    )
    repair = parser.add_argument_group("repair")
    repair.add_argument(
        "--repair",
        metavar="FILE",
        help="save what is whole of a damaged segment; FILE itself stays as it is",
    )
    repair.add_argument("-o", "--output", metavar="NEW", help="the segment to write it to")
    machine = parser.add_argument_group("this machine")
    machine.add_argument(
        "--doctor",
        action="store_true",
        help="say why nothing, or not all, is recorded here, and what mends it",
    )
    machine.add_argument(
        "--netns",
        metavar="NAME",
        help="look at this network namespace: a name of ip-netns(8), or a path",
    )
    machine.add_argument(
        "-c",
        "--config",
        metavar="CONFIG",
        help="configuration (default: /etc/ctrecorder/ctrecorder.conf)",
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run cttest; returns its exit code."""
    return common.run(build_parser(), test, argv)


def test(args: argparse.Namespace) -> int:
    """Check the segments that are named, or the machine."""
    if args.doctor:
        return examine(args)
    if args.netns is not None:
        raise UsageError("--netns is for --doctor: segments are files")
    if args.repair or args.output:
        return save(args)
    from ctrecorder.check import anchors, verify
    from ctrecorder.service import key as sealing

    def say(line: str) -> None:
        print(printable(line))

    paths = args.paths or [DEFAULT_FOLDER]
    compare = anchors.against(args.anchors, paths) if args.anchors else None
    key, keyless = sealing.find_key_for_reading(args.key, args.config)
    return verify.check(paths, say, quiet=args.quiet, key=key, keyless=keyless, compare=compare)


def save(args: argparse.Namespace) -> int:
    """Write what is whole of a damaged segment to a new one; 1 if something was missing."""
    if not (args.repair and args.output) or args.paths:
        raise UsageError(
            "say which segment to repair and where to write what is whole of it: --repair FILE -o NEW"
        )

    from ctrecorder.check import repair
    from ctrecorder.service import key as sealing
    from ctrecorder.terminal import count

    repaired = repair.repair(args.repair, args.output, sealing.find_key(args.key, args.config))
    for finding in repaired.findings:
        print(printable(str(finding)))
    if not args.quiet:
        missing = (
            f"{count(repaired.holes, 'gap')} where something is missing"
            if repaired.holes
            else "nothing is missing"
        )
        print(printable(f"{args.output}: {count(repaired.rows, 'row')} saved, {missing}"))
    if repaired.unknown:
        blocks = count(repaired.unknown, "block")
        what = f"left out {blocks} of kinds that this version of ctrecorder does not know"
        print(printable(f"{args.output}: {what}"))
    return common.NO if repaired.holes or repaired.unknown or repaired.findings else common.OK


def examine(args: argparse.Namespace) -> int:
    """Say what keeps this machine from recording everything; 1 if something does."""
    if args.paths:
        raise UsageError("--doctor looks at this machine, not at segments: leave out PATH")

    from ctrecorder.kernel import netns

    namespace = netns.enter(args.netns) if args.netns is not None else None

    from ctrecorder.check import doctor

    findings = doctor.diagnose(args.config, namespace)
    for finding in findings:
        print(f"{printable(finding.what)}\n    mend: {printable(finding.mend)}")
    if not findings and not args.quiet:
        print("everything is recorded: nothing found that is in the way")
    return common.NO if findings else common.OK
