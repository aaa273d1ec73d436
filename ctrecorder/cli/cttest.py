"""cttest: check that segments are undamaged, and that none is missing between them."""

from __future__ import annotations

import argparse
import getpass
import os
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ctrecorder.cli import common
from ctrecorder.errors import ExitCode, UsageError
from ctrecorder.terminal import printable

if TYPE_CHECKING:
    from ctrecorder.sealing.examine import SealCheck

# Characters of a key that is read: one has 69 with its hyphens and lines.
_MAX_KEY_TEXT = 4096

SUMMARY = """\
Check every block of the segments, and that no segment is missing or replaced.
Exit status 0: all is whole; 1: something is damaged or missing; 2: something could
not be checked."""
EXAMPLES = (
    ("cttest", "check all segments of the recorder"),
    (
        "cttest --repair damaged.ctlog -o saved.ctlog",
        "copy the undamaged blocks of a segment to a new one",
    ),
    ("cttest --anchors journal", "also compare the segments with the hashes in the journal"),
    ("cttest --doctor", "find out why connections are not recorded on this machine"),
    ("cttest -q /srv/log", "check this folder and print only problems"),
)


def build_parser() -> common.Parser:
    """The parser."""
    parser = common.Parser("cttest", SUMMARY, EXAMPLES, 1)
    options = parser.add_argument_group("options")
    options.add_argument(
        "paths",
        nargs="*",
        metavar="PATH",
        help="segment, or folder of segments (default: the one in the configuration)",
    )
    options.add_argument(
        "-q",
        "--quiet",
        action="store_true",
        help="print only damage and what could not be checked",
    )
    proof = parser.add_argument_group("proof")
    proof.add_argument(
        "--anchors",
        metavar="FILE",
        help="compare with the hashes in a log file, or in the journal (`journal`)",
    )
    proof.add_argument(
        "--key",
        metavar="FILE",
        help="the static key of segments (default: the one in the configuration)",
    )
    proof.add_argument(
        "--seals",
        action="store_true",
        help="check the seals: reads the verification key from standard input, or asks for it",
    )
    proof.add_argument(
        "--seal-state",
        metavar="DIR",
        help="with --repair: the folder of the key that seals",
    )
    repair = parser.add_argument_group("repair")
    repair.add_argument(
        "--repair",
        metavar="FILE",
        help="copy the undamaged blocks of FILE; FILE is not changed",
    )
    repair.add_argument("-o", "--output", metavar="NEW", help="with --repair: the new segment")
    machine = parser.add_argument_group("this machine")
    machine.add_argument(
        "--doctor",
        action="store_true",
        help="report why connections are not recorded, and how to fix it",
    )
    machine.add_argument(
        "--netns",
        metavar="NAME",
        help="examine this network namespace: a name of ip-netns(8), or a path",
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
    """Check segments, or the machine."""
    if args.doctor:
        return examine(args)
    if args.netns is not None:
        raise UsageError("--netns is for --doctor: segments are files")
    if args.repair or args.output:
        return save(args)
    from ctrecorder.check import anchors, verify
    from ctrecorder.metrics.job import job_ended
    from ctrecorder.service import key as sealing

    def show(line: str) -> None:
        print(printable(line))

    paths = args.paths or common.archive("cttest", args.config)
    compare = anchors.against(args.anchors, paths) if args.anchors else None
    key, keyless = sealing.find_key_for_reading(args.key, args.config)
    seals = _seal_check(paths) if args.seals else None
    findings: list[int] = []
    code = verify.check(
        paths,
        show,
        quiet=args.quiet,
        key=key,
        keyless=keyless,
        seals=seals,
        compare=compare,
        counted=findings.append,
    )
    if len(paths) == 1 and os.path.isdir(paths[0]):
        values = [("verify_findings", (), count) for count in findings]
        checked = code != verify.UNCHECKED
        # Who may not write there has checked all the same: nothing else depends on it.
        folder = os.path.abspath(paths[0])
        job_ended("cttest", "verify", folder, values, succeeded=checked, config=args.config)
    return code


def _seal_check(paths: Sequence[str]) -> SealCheck:
    """A check with the verification key that is read now.  Raises UsageError."""
    from ctrecorder.sealing import locate
    from ctrecorder.sealing.examine import SealCheck

    key = _verification_key()
    check = SealCheck(key, [path for path in paths if os.path.isdir(path)], time.time_ns())
    if locate.may_have_key(check.keys.id):
        what = "seals are made here with this key: who controls this machine can read what is typed"
        common.report("cttest", f"{what}; check on another one")
    return check


def _verification_key() -> bytes:
    """The key from standard input, or asked for at a terminal, which does not show it."""
    from ctrecorder.seals.keys import TEXT_LINES, parse_key_text

    if sys.stdin is None:
        raise UsageError("--seals reads the verification key from standard input, which is closed")
    if not sys.stdin.isatty():
        text = sys.stdin.buffer.read(_MAX_KEY_TEXT).decode("utf-8", "replace")
    else:
        try:
            text = "".join(
                getpass.getpass(f"Verification key, line {number} of {TEXT_LINES}: ")
                for number in range(1, TEXT_LINES + 1)
            )
        except EOFError:
            text = ""
    if not text.strip():
        raise UsageError(
            "no verification key was given: --seals reads it from standard input, such as "
            "`cttest --seals < KEY`"
        )
    return parse_key_text(text)


def save(args: argparse.Namespace) -> int:
    """Write the undamaged blocks of a segment to a new one; NO if something was missing."""
    if not (args.repair and args.output) or args.paths:
        raise UsageError("to repair a segment, give it and the new segment: --repair FILE -o NEW")

    from ctrecorder.sealing.locate import folder_for_use
    from ctrecorder.service import key as sealing
    from ctrecorder.service.log import Log
    from ctrecorder.witness.owner import become_owner

    key = sealing.find_key(args.key, args.config)
    state, wrong = folder_for_use(args.seal_state, args.config)
    state = os.path.abspath(state) if state else None
    path, output = os.path.abspath(args.repair), os.path.abspath(args.output)
    folder, new, scribe = become_owner("cttest", os.path.dirname(path), output)
    path, output = os.path.join(folder, os.path.basename(path)), new or output

    from ctrecorder.check import repair
    from ctrecorder.sealing.successor import KeyUser
    from ctrecorder.terminal import count

    repaired = repair.repair(path, output, key, KeyUser(state, wrong=wrong))
    with Log("cttest") as log:
        log.witness(scribe)
        log.keep_in(os.path.dirname(output))
        repair.log_result(repaired, path, output, log)
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
    return ExitCode.NO if repaired.holes or repaired.unknown or repaired.findings else ExitCode.OK


def examine(args: argparse.Namespace) -> int:
    """Report what keeps this machine from recording every connection; NO if something does."""
    if args.paths:
        raise UsageError("--doctor checks this machine, not segments: leave out PATH")

    from ctrecorder.kernel import netns

    namespace = netns.enter(args.netns) if args.netns is not None else None

    from ctrecorder.check import doctor

    results = doctor.diagnose(args.config, namespace)
    for line in doctor.report(results, quiet=args.quiet):
        print(printable(line))
    return ExitCode.OK if doctor.is_healthy(results) else ExitCode.NO
