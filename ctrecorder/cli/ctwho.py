"""ctwho: who inside had a public address and port at a time, or why that cannot be told."""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ctrecorder.cli import common
from ctrecorder.errors import UsageError

if TYPE_CHECKING:
    from ctrecorder.inquiry.ask import Answered, Asking
    from ctrecorder.service.audit import Audit

SUMMARY = """\
Find who inside had a public address and port at a time, from the log of the router.
The answer is a verdict, and the inside hosts; or why it cannot be told."""
EXAMPLES = (
    (
        "ctwho 198.51.100.1:40000 2026-11-24T06:00:05+01:00",
        "who had this address and port in that second, or a second before or after",
    ),
    (
        "ctwho 198.51.100.1:40000 '2026-11-24 06:00:05Z' --to 203.0.113.9:443",
        "the same, if the server that was reached is known",
    ),
)
FORMATS = ("text", "json", "csv")
_VERSION_1_0 = (
    "note: ctrecorder 1.0 recorded this time; it could not detect events that the kernel was set "
    "not to report, untracked packets, and losses in the last second before a crash"
)


def build_parser() -> common.Parser:
    """The parser; `inquiry` interprets the values, with numpy."""
    parser = common.Parser("ctwho", SUMMARY, EXAMPLES, 1)
    what = parser.add_argument_group("the question")
    what.add_argument(
        "words",
        nargs="*",
        metavar="ADDRESS:PORT TIME",
        help="public address and port; the time, of one or more words, with its zone",
    )
    what.add_argument(
        "--to", metavar="ADDRESS:PORT", help="only connections with this remote address"
    )
    what.add_argument(
        "--protocol",
        "--proto",
        action="append",
        default=[],
        metavar="PROTOCOL,...",
        help="tcp, udp, ...; of icmp, the number after the address is the id",
    )
    what.add_argument(
        "--tolerance",
        metavar="SECONDS",
        type=float,
        default=1.0,
        help="possible error of the clock that TIME is from (default: 1)",
    )
    what.add_argument(
        "--zone", metavar="ZONE", help="of a TIME without one: Europe/Berlin, CET, +01:00"
    )
    what.add_argument(
        "--utc", action="store_true", help="the same as --zone UTC; print times in UTC"
    )
    where = parser.add_argument_group("what to search")
    where.add_argument(
        "-d",
        "--archive",
        action="append",
        default=[],
        metavar="PATH",
        help="segment, or folder of segments (default: the one in the configuration)",
    )
    where.add_argument(
        "--wait",
        action="store_true",
        help="if that time is not recorded yet, wait up to 90 seconds until it is",
    )
    where.add_argument(
        "--trust-clock",
        action="store_true",
        help="the clock of the router was right, although its kernel was never told so",
    )
    how = parser.add_argument_group("the answer")
    how.add_argument(
        "--connections", action="store_true", help="show each connection of each inside host"
    )
    how.add_argument(
        "--format", choices=FORMATS, default="text", help="%(choices)s (default: %(default)s)"
    )
    how.add_argument(
        "-o", "--output", metavar="FILE", help="write the answer to FILE, which must not exist"
    )
    how.add_argument("--case", metavar="ID", help="the case, for the answer and the journal")
    how.add_argument("--reason", metavar="TEXT", help="the reason, for the answer and the journal")
    how.add_argument(
        "-v",
        "--verbose",
        action="store_true",
        help="report on stderr what was read and what was skipped",
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run ctwho; returns its exit code."""
    words = sys.argv[1:] if argv is None else argv
    return common.run(
        build_parser(), lambda args: answer(args, words), _with_times(words), intermixed=True
    )


def answer(args: argparse.Namespace, words: Sequence[str]) -> int:
    """Answer, and log who asked what and what the verdict was.  Returns the exit code."""
    from ctrecorder.service.audit import Audit
    from ctrecorder.service.config import read

    common.check_local_time(utc=args.utc or bool(args.zone))
    choice = read(None).choose("query")
    for notice in choice.notices:
        common.report("ctwho", notice)
    audit = Audit(choice.texts["audit"], words, args.reason, "ctwho", args.case)
    try:
        if args.utc and args.zone:
            raise UsageError("--zone and --utc: use one of them")
        if args.output and os.path.lexists(args.output):
            raise UsageError(f"{args.output}: exists already, and is not overwritten")
        code = _answer(args, audit)
        audit.written = True
        return code
    finally:
        audit.record()


def _answer(args: argparse.Namespace, audit: Audit) -> int:
    from ctrecorder.inquiry import ask, typed, verdicts

    asking = _asking(args)
    questions = typed.questions(
        args.words,
        asking.now,
        zone="UTC" if args.utc else args.zone or "",
        remote=args.to,
        protocols=args.protocol,
        tolerance=args.tolerance,
    )
    answers = ask.answer_all(questions, asking, wait=args.wait)
    audit.verdict = ", ".join(dict.fromkeys(one.judged.word.value for one in answers))
    audit.proved = all(one.judged.proved for one in answers)
    audit.rows = sum(one.connections for one in answers)
    _write(args, _as_text(args, answers))
    _report(args, answers)
    return verdicts.code_of_letter([one.code for one in answers])


def _asking(args: argparse.Namespace) -> Asking:
    from ctrecorder.inquiry.ask import Asking
    from ctrecorder.service.login import login_user

    return Asking(
        tuple(args.archive or common.archive("ctwho")),
        time.time_ns(),
        login_user().name,
        args.case or "",
        args.reason or "",
        args.trust_clock,
    )


def _as_text(args: argparse.Namespace, answers: Sequence[Answered]) -> str:
    """The answers in the format that was chosen."""
    if args.format == "json":
        from ctrecorder.inquiry.twin import twin

        found = [twin(one, connections=args.connections) for one in answers]
        return "".join(f"{json.dumps(one)}\n" for one in found)
    if args.format == "csv":
        from ctrecorder.inquiry import table

        return table.text(answers)
    from ctrecorder.inquiry import screen

    return "\n".join(
        screen.text(one, utc=args.utc, connections=args.connections) for one in answers
    )


def _write(args: argparse.Namespace, text: str) -> None:
    data = text.encode("utf-8", "backslashreplace")
    if not args.output:
        common.write_out(data)
        return
    from ctrecorder.inquiry import output

    output.write_new(args.output, data)


def _report(args: argparse.Namespace, answers: Sequence[Answered]) -> None:
    """Report on stderr what could not be read, once each."""
    from ctrecorder.query.verdict import Completeness

    lines: dict[str, None] = {}
    for found in (one.answer for one in answers if one.answer is not None):
        for path, instead in found.copies:
            lines[f"{path}: a copy of {instead}, which is read instead"] = None
        lines |= dict.fromkeys(map(str, [*found.failed, *found.findings]))
        if found.verdict.completeness is Completeness.VERSION_1_0:
            lines[_VERSION_1_0] = None
        if args.verbose:
            lines[str(found.stats)] = None
    for line in lines:
        common.report("ctwho", line)


def _with_times(words: Sequence[str]) -> list[str]:
    """The words, with a space before a time such as -2h, which argparse takes for an option."""
    return [f" {word}" if re.match(r"-\d+[a-z]", word, re.IGNORECASE) else word for word in words]
