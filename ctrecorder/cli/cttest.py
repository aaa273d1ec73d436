"""cttest: check that segments are whole, and that none is missing between them."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from ctrecorder.cli import common
from ctrecorder.errors import UsageError
from ctrecorder.settings import DEFAULT_FOLDER
from ctrecorder.text import printable

SUMMARY = """\
Check segments: every block, its order, and that the segments follow each other as they were recorded.
Exit 0: all whole; 1: damaged; 2: could not be checked."""
EXAMPLES = (
    ("cttest", f"all segments of {DEFAULT_FOLDER}"),
    ("cttest --doctor", "why nothing, or not all, is recorded on this machine, and what mends it"),
    ("cttest -q /srv/log", "say only what is wrong, with this folder"),
)


def build_parser() -> common.Parser:
    """The parser."""
    parser = common.Parser("cttest", SUMMARY, EXAMPLES, 1)
    options = parser.add_argument_group("options")
    options.add_argument("paths", nargs="*", metavar="PATH", help=f"segment, or folder of them (default: {DEFAULT_FOLDER})")
    options.add_argument("-q", "--quiet", action="store_true", help="say only what is damaged or could not be checked")
    machine = parser.add_argument_group("this machine")
    machine.add_argument("--doctor", action="store_true", help="say why nothing, or not all, is recorded here, and what mends it")
    machine.add_argument("-c", "--config", metavar="CONFIG", help="configuration (default: /etc/ctrecorder/ctrecorder.conf)")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run cttest; returns its exit code."""
    return common.run(build_parser(), test, argv)


def test(args: argparse.Namespace) -> int:
    """Check the segments that are named, or the machine."""
    if args.doctor:
        return examine(args)
    from ctrecorder import verify

    def say(line: str) -> None:
        print(printable(line))

    return verify.check(args.paths or [DEFAULT_FOLDER], say, quiet=args.quiet)


def examine(args: argparse.Namespace) -> int:
    """Say what keeps this machine from recording everything; 1 if something does."""
    if args.paths:
        raise UsageError("--doctor looks at this machine, not at segments: leave out PATH")

    from ctrecorder import doctor

    findings = doctor.diagnose(args.config)
    for finding in findings:
        print(f"{printable(finding.what)}\n    mend: {printable(finding.mend)}")
    if not findings and not args.quiet:
        print("everything is recorded: nothing found that is in the way")
    return common.NO if findings else common.OK
