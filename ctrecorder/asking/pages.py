"""ctwho: an answer as a page or a pack of evidence, and the check of a page."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ctrecorder.cli import common
from ctrecorder.errors import ArchiveError, ExitCode, UsageError, why
from ctrecorder.terminal import printable

if TYPE_CHECKING:
    from ctrecorder.cases.letter import LetterAnswered
    from ctrecorder.inquiry.ask import Answered
    from ctrecorder.inquiry.question import Question, Target
    from ctrecorder.names.directory import Directory
    from ctrecorder.page.pack import Letter
    from ctrecorder.page.shape import Json
    from ctrecorder.service.audit import Audit

_VERSION_1_0 = (
    "note: ctrecorder 1.0 recorded this time; it could not detect events that the kernel was set "
    "not to report, untracked packets, and losses in the last second before a crash"
)
# -o: the standard output.
STDOUT = "-"
# What is asked and how it is written is in the page already.
_NOT_WITH_VERIFY = (
    *("to", "protocol", "utc", "zone", "archive", "wait", "connections"),
    *("output", "redact", "evidence_pack", "hold", "letter", "names"),
)


def check_options(args: argparse.Namespace) -> None:
    """Raise UsageError for options that do not go together."""
    others = [name for name in _NOT_WITH_VERIFY if getattr(args, name)]
    if args.verify and (others or args.format != "text"):
        raise UsageError(
            "--verify PAGE can be followed by the archive, and combined with --trust-clock, "
            "--case, --reason and -v"
        )
    if args.hold and not args.case:
        raise UsageError("--hold needs --case: who releases the hold must know what it is for")
    if args.redact and args.format not in ("html", "json") and not args.evidence_pack:
        raise UsageError("--redact needs --format html or json, or --evidence-pack")


def twins(args: argparse.Namespace, answers: Sequence[Answered]) -> list[dict[str, Any]]:
    """The JSON twin of each answer."""
    from ctrecorder.inquiry.twin import twin
    from ctrecorder.page.redact import redact

    found = [twin(one, connections=args.connections) for one in answers]
    return [redact(one) for one in found] if args.redact else found


def _whole(args: argparse.Namespace, answers: Sequence[Answered]) -> Json:
    """The twin of all answers together."""
    found = twins(args, answers)
    if len(found) == 1:
        return found[0]
    return {"questions": found, **({"redacted": True} if args.redact else {})}


def letter_twin(args: argparse.Namespace, one: LetterAnswered) -> Json:
    """The twin of a letter."""
    from ctrecorder.cases import twin

    found = twin.letter_twin(one, connections=args.connections)
    if not args.redact:
        return found
    from ctrecorder.page.redact import redact

    return redact(found)


def html(args: argparse.Namespace, answers: Sequence[Answered]) -> str:
    """The answers as a page."""
    from ctrecorder.page import answer

    return answer.html(with_checks(args, _whole(args, answers)))


def with_checks(args: argparse.Namespace, whole: Json) -> Json:
    """The twin for a page or a pack: with what cttest finds in each segment."""
    from ctrecorder.page import evidence
    from ctrecorder.service import key

    archive = args.archive or common.archive("ctwho")
    return evidence.with_checks(whole, archive, key.find_key_for_reading(None, None)[0])


def write_pack(args: argparse.Namespace, answers: Sequence[Answered]) -> None:
    """Write the pack of evidence.  Raises UsageError, ArchiveError."""
    write_whole_pack(args, _whole(args, answers), None)


def write_whole_pack(args: argparse.Namespace, whole: Json, letter: Letter | None) -> None:
    """Write the pack of evidence of a twin, with the letter."""
    from ctrecorder.inquiry import output
    from ctrecorder.page import evidence, pack

    seals = evidence.ledgers(whole, args.archive or common.archive("ctwho"))
    output.write_new(args.evidence_pack, pack.pack(with_checks(args, whole), letter, seals))


def write(args: argparse.Namespace, text: str) -> None:
    """Write the answer to stdout, or to the file that was named."""
    data = text.encode("utf-8", "backslashreplace")
    if args.output in (None, STDOUT):
        common.write_out(data)
        return
    from ctrecorder.inquiry import output

    output.write_new(args.output, data)


def report(args: argparse.Namespace, answers: Sequence[Answered]) -> None:
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
    lines |= dict.fromkeys(f"--names: {each}" for one in answers for each in one.unread)
    for line in lines:
        common.report("ctwho", line)


def hold(args: argparse.Namespace, answers: Sequence[Answered]) -> list[ExitCode]:
    """With --hold, put what the answers rest on under one; [FAILED] if a segment could not be read.

    Raises ArchiveError.
    """
    if not args.hold:
        return []
    from ctrecorder.inquiry import holding
    from ctrecorder.sealing.locate import configured_state
    from ctrecorder.sealing.successor import KeyUser

    seals = KeyUser(configured_state(None))
    code = holding.hold(answers, args.case, args.reason or "", seals)
    return [code] if code else []


def verify(args: argparse.Namespace, audit: Audit | None = None) -> int:
    """Check a page, and print what was found; returns the exit code.

    `audit`: of the questions, if the archive is asked.  Raises UsageError, ArchiveError.
    """
    from ctrecorder.page import evidence
    from ctrecorder.page import verify as check

    data = _read(args.verify)
    failed: list[str] = []

    def ask(old: list[Json]) -> list[Json]:
        return _ask_again(args, old, failed)

    def segments(answers: Json) -> list[check.Finding]:
        return evidence.compare_segments(answers, args.words)

    found = check.check(data, ask, segments) if args.words else check.check(data, None)
    lines = [f"{printable(args.verify)}: {one.text}\n" for one in found]
    if not args.words:
        lines.append("not asked again: no archive was named; any ctwho can make such a page\n")
    if audit is not None:
        audit.verdict, audit.rows = "; ".join(one.text for one in found[1:]), len(lines)
    common.write_out("".join(lines).encode("utf-8", "backslashreplace"))
    for problem in failed:
        common.report("ctwho", problem)
    return ExitCode.FAILED if failed else check.exit_code(found)


def _read(path: str) -> bytes:
    from ctrecorder.page.verify import MAX_BYTES

    try:
        with Path(path).open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ArchiveError(f"{path}: cannot be read: {why(error)}") from error
    if len(data) > MAX_BYTES:
        raise UsageError(f"{path}: is longer than any page of ctwho")
    return data


def _ask_again(args: argparse.Namespace, old: list[Json], failed: list[str]) -> list[Json]:
    """The twins of the same questions now; `failed` gets what could not be read."""
    from ctrecorder.inquiry import ask
    from ctrecorder.inquiry.twin import twin
    from ctrecorder.service.login import login_user

    trusts = args.trust_clock or any(
        clock.get("trusted", False) for one in old for clock in one.get("clock", [])
    )
    asking = ask.Asking(
        tuple(args.words),
        time.time_ns(),
        login_user().name,
        trust_clock=trusts,
        names=_names_of(old),
    )
    answers = ask.answer_all([_question(one["question"]) for one in old], asking)
    failed += dict.fromkeys(
        str(error) for one in answers if one.answer is not None for error in one.answer.failed
    )
    return [twin(one, connections=True) for one in answers]


def _names_of(old: list[Json]) -> Callable[[int, int, Collection[str]], Directory] | None:
    """What names the same customers again: where the page was made they were known."""
    from ctrecorder.names.directory import Holder
    from ctrecorder.page.shape import nanoseconds
    from ctrecorder.times import BEGIN, END

    def ns(customer: Json, name: str) -> int | None:
        return nanoseconds(customer[name]) if name in customer else None

    known: dict[tuple[str, int, int], tuple[Holder, ...]] = {}
    for person in (each for one in old for each in one.get("persons", [])):
        if "customers" in person:
            key = (person["address"], person.get("zone", 0), person.get("mark", 0))
            found = [
                Holder(one["name"], ns(one, "from"), ns(one, "until"), "")
                for one in person["customers"]
            ]
            known[key] = (*known.get(key, ()), *found)

    class Named:
        problems: tuple[str, ...] = tuple(
            dict.fromkeys(line for one in old for line in one.get("names_unread", []))
        )

        def holders(
            self, address: str, since: int, until: int, zone: int | None, mark: int | None
        ) -> tuple[Holder, ...]:
            return tuple(
                one
                for one in known.get((address, zone or 0, mark or 0), ())
                if (BEGIN if one.since is None else one.since) < until
                and (END if one.until is None else one.until) > since
            )

    return (lambda _since, _until, _addresses: Named()) if known else None


def _question(asked: Json) -> Question:
    """The question of a twin.  Raises UsageError."""
    from ctrecorder.inquiry.question import Question, Window, checked, parse_protocols
    from ctrecorder.page.shape import nanoseconds
    from ctrecorder.times import SECOND

    if "address" not in asked or "since" not in asked or "until" not in asked:
        raise UsageError("a question of the page has no address or no time")
    tolerance = asked.get("tolerance_seconds", 0.0)
    spread = int(tolerance * SECOND) + round(asked.get("clock_error_seconds", 0.0) * SECOND)
    window = Window(
        nanoseconds(asked["since"]) + spread,
        nanoseconds(asked["until"]) - spread,
        asked.get("written", ""),
        asked.get("zone", ""),
        asked.get("basis", ""),
        asked.get("readings", 1),
    )
    if window.end <= window.begin:
        raise UsageError("a question of the page ends before it begins")
    return checked(
        Question(
            _target(asked),
            window,
            asked.get("role", ""),
            parse_protocols([asked["protocol"]] if "protocol" in asked else []),
            _target(asked["remote"]) if "remote" in asked else None,
            tolerance,
        )
    )


def _target(end: Json) -> Target:
    from ctrecorder.inquiry.question import parse_target

    return parse_target(end["address"])._replace(port=end.get("port", end.get("id")))
