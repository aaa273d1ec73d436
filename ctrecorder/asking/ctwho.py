"""ctwho: who inside had a public address and port at a time, or why that cannot be told."""

from __future__ import annotations

import argparse
import json
import os
import re
import socket
import sys
import time
from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING

from ctrecorder.asking import letters, pages
from ctrecorder.cli import common
from ctrecorder.errors import UsageError

if TYPE_CHECKING:
    from ctrecorder.inquiry.ask import Answered, Asking
    from ctrecorder.inquiry.question import Question
    from ctrecorder.names.directory import Directory
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
FORMATS = ("text", "json", "csv", "html")


def build_parser() -> common.Parser:
    """The parser; `inquiry` interprets the values, with numpy."""
    parser = common.Parser("ctwho", SUMMARY, EXAMPLES, 1)
    what = parser.add_argument_group("the question")
    what.add_argument(
        "words",
        nargs="*",
        metavar="ADDRESS:PORT TIME",
        help="public address and port; the time, with its zone",
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
        help="tcp, udp, ...; of icmp, the id instead of a port",
    )
    what.add_argument(
        "--tolerance",
        metavar="SECONDS",
        type=float,
        help="possible error of the clock that TIME is from (default: 1; of prose 60)",
    )
    what.add_argument(
        "--zone", metavar="ZONE", help="of a TIME without one: Europe/Berlin, CET, +01:00"
    )
    what.add_argument(
        "--utc", action="store_true", help="the same as --zone UTC; print times in UTC"
    )
    mail = parser.add_argument_group("a letter that asks")
    mail.add_argument(
        "--letter", metavar="LETTER", help="mail, mailbox, folder or table; - is standard input"
    )
    mail.add_argument(
        "--dry-run", action="store_true", help="show the questions of the letter, and ask none"
    )
    mail.add_argument(
        "--state", metavar="FILE", help="answer each letter once: FILE knows the answered ones"
    )
    mail.add_argument("--reply", metavar="FILE", help="write the draft of a reply, a new .eml")
    where = parser.add_argument_group("what to search")
    where.add_argument(
        "-d",
        "--archive",
        action="append",
        default=[],
        metavar="PATH",
        help="folder of segments, or segment (default: as configured)",
    )
    where.add_argument(
        "--fleet", metavar="LIST", help="ask each router of a list, and give one verdict"
    )
    where.add_argument(
        "--store",
        metavar="PLACE",
        help="ask the tables that ctship filled: clickhouse://HOST:PORT/DB, or .../DB/ROUTER",
    )
    where.add_argument(
        "--password-file", metavar="FILE", help="the password of the user of --store"
    )
    where.add_argument(
        "--wait",
        action="store_true",
        help="wait up to 90 s for a time that is not recorded yet",
    )
    where.add_argument(
        "--trust-clock",
        action="store_true",
        help="the router's clock was right, although not synchronised",
    )
    how = parser.add_argument_group("the answer")
    how.add_argument(
        "--names",
        metavar="NAMES",
        help="leases, accounting, list of customers, or |COMMAND",
    )
    how.add_argument(
        "--connections", action="store_true", help="show each connection of each inside host"
    )
    how.add_argument(
        "--format", choices=FORMATS, default="text", help="%(choices)s (default: %(default)s)"
    )
    how.add_argument(
        "-o", "--output", metavar="FILE", help="write the answer to a new file; - is stdout"
    )
    how.add_argument(
        "--redact", action="store_true", help="leave the remote ends out of HTML, JSON and packs"
    )
    how.add_argument(
        "--evidence-pack",
        metavar="FILE",
        help="write the answer and what proves it to a new tar file",
    )
    how.add_argument(
        "--hold", action="store_true", help="keep what the answer rests on from ctexpire"
    )
    how.add_argument("--case", metavar="ID", help="the case, for the answer and the journal")
    how.add_argument("--reason", metavar="TEXT", help="the reason, for the answer and the journal")
    how.add_argument(
        "-j",
        "--jobs",
        metavar="N",
        type=int,
        help="processes that share many questions (default: at a terminal 2, else 1)",
    )
    how.add_argument(
        "-v",
        "--verbose",
        action="store_true",
        help="report on stderr what was read and what was skipped",
    )
    check = parser.add_argument_group("check a page instead of asking")
    check.add_argument(
        "--verify",
        metavar="PAGE",
        help="check a page; ask again in the archive behind PAGE",
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

    for name in (
        "letter",
        "state",
        "reply",
        "output",
        "evidence_pack",
        "zone",
        "names",
        "to",
        "store",
    ):
        if getattr(args, name) == "":
            raise UsageError(f"--{name.replace('_', '-')}: it is empty")
    _check_fleet(args)
    _check_store(args)
    pages.check_options(args)
    letters.check_options(args)
    if args.verify and not args.words:
        return pages.verify(args)  # without an archive nobody's connections are asked for
    if args.utc and args.zone:
        raise UsageError("--zone and --utc: use one of them")
    common.check_local_time(utc=args.utc or bool(args.zone))
    if args.dry_run:
        _check_files(args)
        return letters.dry_run(args)
    choice = read(None).choose("query")
    for notice in choice.notices:
        common.report("ctwho", notice)
    if args.letter and args.fleet:
        from ctrecorder.asking import fleet

        _check_files(args)
        return fleet.answer_letters(args, _asking(args, time.time_ns()), choice.texts["audit"])
    if args.letter:
        _check_files(args)
        return letters.answer(args, _asking(args, time.time_ns()), choice.texts["audit"])
    audit = Audit(choice.texts["audit"], words, args.reason, "ctwho", args.case)
    try:
        _check_files(args)
        if args.fleet:
            from ctrecorder.asking import fleet

            code = fleet.answer(args, questions(args, time.time_ns()), _asking, audit)
        else:
            code = pages.verify(args, audit) if args.verify else _answer(args, audit)
        audit.written = True
        return code
    finally:
        audit.record()


def _check_fleet(args: argparse.Namespace) -> None:
    """Raise UsageError for what cannot be asked of many routers at once."""
    if not args.fleet:
        return
    names = ("verify", "archive", "wait", "names", "connections", "redact")
    for name in (*names, "evidence_pack", "hold", "verbose", "reply", "state"):
        if getattr(args, name):
            option = "-d" if name == "archive" else f"--{name.replace('_', '-')}"
            raise UsageError(f"{option} cannot be used with --fleet: ask that router alone")
    if args.format == "html":
        raise UsageError("--format html cannot be used with --fleet: use text, json or csv")


def _check_store(args: argparse.Namespace) -> None:
    """Raise UsageError for what needs the segments themselves."""
    if not args.store:
        if args.password_file and not args.fleet:
            raise UsageError("--password-file: it is for --store, or for --fleet")
        return
    for name in ("fleet", "archive", "verify", "wait", "hold", "evidence_pack"):
        if getattr(args, name):
            option = "-d" if name == "archive" else f"--{name.replace('_', '-')}"
            raise UsageError(f"{option} cannot be used with --store: ask the segments themselves")
    from ctrecorder.store.manifest import place

    place(args.store)


def _check_files(args: argparse.Namespace) -> None:
    """Raise UsageError if a file exists that would be written at the end, or two are one."""
    options = {"-o": args.output, "--evidence-pack": args.evidence_pack, "--reply": args.reply}
    found: dict[str, str] = {}
    for option, path in options.items():
        if not path or (option == "-o" and path == pages.STDOUT):
            continue
        if os.path.lexists(path):
            raise UsageError(f"{option}: {path}: exists already, and is not overwritten")
        folder = os.path.dirname(path) or "."
        if not os.path.isdir(folder):
            raise UsageError(f"{option}: {path}: there is no folder {folder}")
        place = os.path.join(os.path.realpath(folder), os.path.basename(path))
        if place in found:
            raise UsageError(f"{option} and {found[place]}: {path}: name two files")
        found[place] = option


def questions(args: argparse.Namespace, now: int) -> list[Question]:
    """The questions of the arguments, one for each reading of the time.  Raises UsageError."""
    from ctrecorder.inquiry import typed
    from ctrecorder.inquiry.question import DEFAULT_TOLERANCE_SECONDS

    return typed.questions(
        args.words,
        now,
        zone="UTC" if args.utc else args.zone or "",
        remote=args.to,
        protocols=args.protocol,
        tolerance=DEFAULT_TOLERANCE_SECONDS if args.tolerance is None else args.tolerance,
    )


def _answer(args: argparse.Namespace, audit: Audit) -> int:
    from ctrecorder.inquiry import ask, verdicts

    now = time.time_ns()
    answers = ask.answer_all(questions(args, now), _asking(args, now), wait=args.wait)
    audit.verdict = ", ".join(dict.fromkeys(one.judged.word.value for one in answers))
    audit.proved = all(one.judged.proved for one in answers)
    audit.rows = sum(one.connections for one in answers)
    if args.evidence_pack:
        pages.write_pack(args, answers)
    pages.write(args, _as_text(args, answers))
    pages.report(args, answers)
    codes = [one.code for one in answers]
    return verdicts.code_of_letter([*codes, *pages.hold(args, answers)])


def _asking(args: argparse.Namespace, now: int) -> Asking:
    from ctrecorder.inquiry.ask import Asking
    from ctrecorder.service.login import login_user
    from ctrecorder.watch import here

    here_or_there = (args.store,) if args.store else args.archive or common.archive("ctwho")
    return Asking(
        tuple(here_or_there if args.store else map(os.path.abspath, here_or_there)),
        now,
        login_user().name,
        args.case or "",
        args.reason or "",
        args.trust_clock,
        _names(args, now) if args.names else None,
        (socket.gethostname(), tuple(here.own())),
        common.jobs(args.jobs),
        args.password_file or "",
    )


def _names(args: argparse.Namespace, now: int) -> Callable[[int, int, Collection[str]], Directory]:
    """What reads the names of customers, once the inside hosts are known."""

    def read(since: int, until: int, addresses: Collection[str]) -> Directory:
        from ctrecorder.names import reader

        zone = "UTC" if args.utc else args.zone or ""
        return reader.read(
            args.names, now, zone=zone, since=since, until=until, addresses=addresses
        )

    return read


def _as_text(args: argparse.Namespace, answers: Sequence[Answered]) -> str:
    """The answers in the format that was chosen."""
    if args.format == "json":
        return "".join(f"{json.dumps(one)}\n" for one in pages.twins(args, answers))
    if args.format == "html":
        return pages.html(args, answers)
    if args.format == "csv":
        from ctrecorder.inquiry import table

        return table.text(answers)
    from ctrecorder.inquiry import screen

    return "\n".join(
        screen.text(one, utc=args.utc, connections=args.connections) for one in answers
    )


def _with_times(words: Sequence[str]) -> list[str]:
    """The words, with a space before a time such as -2h, which argparse takes for an option."""
    return [f" {word}" if re.match(r"-\d+[a-z]", word, re.IGNORECASE) else word for word in words]
