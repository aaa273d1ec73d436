"""cttest: check that segments are whole, and that none is missing between them."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from ctrecorder.cli import common
from ctrecorder.settings import DEFAULT_FOLDER

SUMMARY = """\
Check segments: every block, its order, and that the segments follow each other as they were recorded.
Exit 0: all whole; 1: damaged; 2: could not be checked."""
EXAMPLES = (
    ("cttest", f"all segments of {DEFAULT_FOLDER}"),
    ("cttest -q /srv/log || mail -s 'log damaged' root </dev/null", "say only what is wrong"),
)


def build_parser() -> common.Parser:
    """The parser."""
    parser = common.Parser("cttest", SUMMARY, EXAMPLES, 1)
    options = parser.add_argument_group("options")
    options.add_argument("paths", nargs="*", metavar="PATH", help=f"segment, or folder of them (default: {DEFAULT_FOLDER})")
    options.add_argument("-q", "--quiet", action="store_true", help="say only what is damaged or could not be checked")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run cttest; returns its exit code."""
    return common.run(build_parser(), test, argv)


def test(args: argparse.Namespace) -> int:
    """Check the segments that are named."""
    from ctrecorder import verify
    from ctrecorder.text import printable

    def say(line: str) -> None:
        print(printable(line))

    return verify.check(args.paths or [DEFAULT_FOLDER], say, quiet=args.quiet)
