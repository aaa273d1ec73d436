"""ctlist --who: who had a public address and port at a time, and whether that is proved."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from ctrecorder import labels, times
from ctrecorder.cli import common
from ctrecorder.errors import ExitCode, UsageError
from ctrecorder.terminal import count, printable

if TYPE_CHECKING:
    from ctrecorder.query import who
    from ctrecorder.query.clock import ClockState
    from ctrecorder.query.coverage import Hole, Scope
    from ctrecorder.render.who import Holder
    from ctrecorder.service.audit import Audit

DEFAULT_TOLERANCE_SECONDS = 1.0
MAX_TOLERANCE_SECONDS = 7 * 86_400.0  # no clock is wrong by more than a week
WAIT_SECONDS = 90  # an idle recorder writes a watermark each minute
_VERSION_1_0 = (
    "note: ctrecorder 1.0 recorded this time; it could not detect events that the kernel was set "
    "not to report, untracked packets, and losses in the last second before a crash"
)


def answer(args: argparse.Namespace, audit: Audit) -> int:
    """List the candidates, then whether the log proves that there are no others.

    Returns the exit code: OK or NO if that is proved, else UNPROVED; FAILED if a file cannot be
    read.
    """
    asked = ask(args, time.time_ns())
    found = _found(args, asked)
    audit.verdict, audit.proved = found.verdict.completeness.value, found.verdict.proved
    for line in _candidates(args, asked, found):
        common.write_out(f"{line}\n".encode())
        audit.rows += 1
    lines = _conclusion(args, found, audit.rows)
    common.write_out("".join(f"{line}\n" for line in lines).encode())
    _report(args, found)
    return _code(found, audit.rows)


def lines_and_code(
    args: argparse.Namespace, asked: who.WhoQuery, found: who.Answer
) -> tuple[list[str], int]:
    """What the command prints of an answer that is there already, and its exit code."""
    lines = [*_candidates(args, asked, found)]
    code = _code(found, len(lines))
    return [*lines, *_conclusion(args, found, len(lines))], code


def _candidates(args: argparse.Namespace, asked: who.WhoQuery, found: who.Answer) -> Iterator[str]:
    """A line for each candidate."""
    from ctrecorder.query import who
    from ctrecorder.render import who as render_who

    candidates: Iterable[Holder] = (
        one
        for router, table in zip(found.routers, found.tables, strict=True)
        for one in render_who.holders(table, *who.roles(table, asked), router)
    )
    named = len(found.hosts) > 1
    if named:
        candidates = render_who.joined(candidates)
    for one in candidates:
        yield (
            render_who.as_json(one, named=named)
            if args.format == "json"
            else render_who.text(one, utc=args.utc, named=named)
        )


def _conclusion(args: argparse.Namespace, found: who.Answer, rows: int) -> list[str]:
    """The lines after the candidates."""
    if args.format == "json":
        return [json.dumps({"candidates": rows, **_summary(found)})]
    return [
        *([] if rows else ["nobody"]),
        *_verdict_lines(found, utc=args.utc),
        *(_clock_line(one, named=len(found.clocks) > 1) for one in found.clocks),
    ]


def _report(args: argparse.Namespace, found: who.Answer) -> None:
    """Report on stderr what could not be read."""
    from ctrecorder.query.verdict import Completeness

    for path, instead in found.copies:
        common.report("ctlist", f"{path}: a copy of {instead}, which is read instead")
    for problem in dict.fromkeys(map(str, [*found.failed, *found.findings])):
        common.report("ctlist", problem)
    if found.verdict.completeness is Completeness.VERSION_1_0:
        common.report("ctlist", _VERSION_1_0)
    if args.verbose:
        common.report("ctlist", str(found.stats))


def _code(found: who.Answer, rows: int) -> int:
    if found.failed:
        return ExitCode.FAILED
    if not found.verdict.proved:
        return ExitCode.UNPROVED
    return ExitCode.OK if rows else ExitCode.NO


def _found(args: argparse.Namespace, asked: who.WhoQuery) -> who.Answer:
    """The answer; with --wait asked again while it is not yet known."""
    from ctrecorder.query import who
    from ctrecorder.query.verdict import Completeness

    paths = [*args.paths, *args.files] or common.archive("ctlist")
    deadline = time.monotonic() + WAIT_SECONDS
    while True:
        now = time.time_ns()
        found = who.answer(paths, asked, now)
        can_come = asked.until <= now + WAIT_SECONDS * times.SECOND
        waits = args.wait and can_come and found.verdict.completeness is Completeness.NOT_YET
        if not waits or time.monotonic() >= deadline:
            return found
        time.sleep(1)


def _verdict_lines(found: who.Answer, *, utc: bool) -> list[str]:
    """The verdict as lines for a terminal."""
    from ctrecorder.query.verdict import Completeness

    verdict, zone = found.verdict, " UTC" if utc else ""
    accepted = [f"accepted: {_described(hole, utc=utc)}" for hole in verdict.accepted]
    if verdict.completeness is Completeness.COMPLETE:
        return [*accepted, "complete: the log covers all of that time"]
    if verdict.completeness is Completeness.VERSION_1_0:
        return [*accepted, "complete: as far as version 1.0 could know"]
    if verdict.completeness is Completeness.NOT_YET:
        until = times.text(verdict.until or times.BEGIN, utc=utc)
        return [*accepted, f"not yet: recorded until {until}{zone}; ask again, or use --wait"]
    return [
        *accepted,
        f"not complete: {count(len(verdict.holes), 'hole')}",
        *(f"  {_described(hole, utc=utc)}; {_why(hole, found.scope)}" for hole in verdict.holes),
    ]


def _clock_line(clock: ClockState, *, named: bool) -> str:
    """How right the clock of a recorder was; `named`: with its host."""
    of = printable(f"clock of {clock.host}") if named and clock.host else "clock"
    if not clock.synchronised:
        return f"{of}: not synchronised: each time can be wrong by any amount"
    return f"{of}: synchronised, at most {clock.error_seconds:.3f} s off"


def _clock_json(clock: ClockState) -> dict[str, object]:
    error = clock.error_seconds if clock.synchronised else None
    return {"host": clock.host, "synchronised": clock.synchronised, "error_seconds": error}


def _described(hole: Hole, *, utc: bool) -> str:
    from ctrecorder.render.holes import describe  # most answers have no hole

    return describe(hole, utc=utc)


def _why(hole: Hole, scope: Scope) -> str:
    from ctrecorder.render.holes import why

    return why(hole, scope.since, scope.until)


def _summary(found: who.Answer) -> dict[str, object]:
    """The verdict as the last object of JSON."""
    from ctrecorder.query.verdict import Completeness
    from ctrecorder.render import holes
    from ctrecorder.render.coverage import rfc3339

    verdict = found.verdict
    version_1_0 = verdict.completeness is Completeness.VERSION_1_0
    window = found.scope.since, found.scope.until
    facts: dict[str, object] = {
        "verdict": verdict.completeness.value,
        "complete": "version 1.0" if version_1_0 else verdict.proved,
        "holes": [holes.as_json(hole, *window) for hole in verdict.holes],
    }
    if verdict.accepted:
        facts["accepted"] = [holes.as_json(hole, *window) for hole in verdict.accepted]
    if verdict.until is not None:
        facts["complete_until"] = rfc3339(verdict.until)
    if found.clocks:
        facts["clocks"] = [_clock_json(one) for one in found.clocks]
    return facts


def ask(args: argparse.Namespace, now: int) -> who.WhoQuery:
    """The query of the arguments.  Raises UsageError."""
    from ctrecorder import times
    from ctrecorder.query import who

    if not args.who or not args.at:
        raise UsageError(
            "--who ADDRESS:PORT needs --at TIME; --at, --tolerance, --to and --wait need --who"
        )
    if (
        args.ip
        or args.port
        or args.event
        or args.since
        or args.until
        or args.connections
        or args.headers
        or args.strict
    ):
        raise UsageError(
            "--who can be combined with --at, --tolerance, --to, --protocol, --wait, "
            "--format text or json, --utc, --reason and -v"
        )
    if args.format not in ("text", "json"):
        raise UsageError("--who has --format text or json only")
    tolerance = DEFAULT_TOLERANCE_SECONDS if args.tolerance is None else args.tolerance
    if not 0 <= tolerance <= MAX_TOLERANCE_SECONDS:
        raise UsageError("--tolerance: must be 0 to 604800 seconds")
    begin, end = times.parse_span(args.at, now, utc=args.utc)
    spread = int(tolerance * times.SECOND)
    protocols = [word.strip() for option in args.protocol for word in option.split(",")]
    return who.WhoQuery(
        who.parse_end(args.who),
        max(begin - spread, times.BEGIN),
        min(max(end, begin + 1) + spread, times.END),
        who.parse_end(args.to) if args.to else None,
        frozenset(labels.parse_protocol(word) for word in protocols),
    )
