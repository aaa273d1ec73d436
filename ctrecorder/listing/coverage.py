"""ctlist --coverage: what each recording covers."""

from __future__ import annotations

import argparse
import shutil
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

from ctrecorder import times
from ctrecorder.cli import common
from ctrecorder.errors import ArchiveError, ExitCode, UsageError

if TYPE_CHECKING:
    from ctrecorder.archive.find import FolderListing
    from ctrecorder.query.coverage import Recording
    from ctrecorder.render.timeline import Coverage
    from ctrecorder.segment.live import LiveState


def show(args: argparse.Namespace) -> int:
    """Show the coverage of the window, or of all that is there.

    Returns the exit code: FAILED if a file cannot be read.
    """
    from ctrecorder.archive import find
    from ctrecorder.listing.output import is_unicode
    from ctrecorder.moments.typed import parse_span
    from ctrecorder.query.evidence import live_states
    from ctrecorder.render import coverage as render
    from ctrecorder.render.timeline import Window

    _check(args)
    now = time.time_ns()
    since = parse_span(args.since, now, utc=args.utc)[0] if args.since else times.BEGIN
    until = parse_span(args.until, now, utc=args.utc)[1] if args.until else now
    states = live_states()  # before the folder and the segments
    paths = [*args.paths, *args.files] or common.archive("ctlist")
    listing = find.find(paths, spans=True)
    if not listing.segments:
        raise ArchiveError(f"{', '.join(paths)}: no segments here; is ctrecord running?")
    problems = [f"{path}: not a segment of ctrecorder" for path in listing.foreign]
    problems += [why for _, why in listing.unreadable]
    if until <= since:
        raise UsageError("the time window ends before it begins: see --since and --until")
    recordings = _recordings(listing, since, until, states, problems)
    if not args.since:
        since = min((one.start for one in recordings), default=since)
    window = Window(since, max(until, since + 1))
    shown = [_as_shown(one, now) for one in recordings]
    if args.format == "json":
        common.write_out(render.json_text(shown, window).encode())
    else:
        lines = render.text(
            shown,
            window,
            width=shutil.get_terminal_size().columns,
            ascii_only=not is_unicode(),
            utc=args.utc,
        )
        common.write_out("".join(f"{line}\n" for line in lines).encode())
    for problem in dict.fromkeys(problems):
        common.report("ctlist", problem)
    return ExitCode.FAILED if problems else ExitCode.OK


def _check(args: argparse.Namespace) -> None:
    """Raise UsageError for options that do not go with --coverage."""
    others = (args.ip, args.port, args.protocol, args.event, args.connections, args.headers)
    question = (args.who, args.at, args.to, args.wait, args.strict, args.tolerance is not None)
    if any((*others, *question)):
        raise UsageError(
            "--coverage can be combined with --since, --until, --format text or json, and --utc"
        )
    if args.format not in ("text", "json"):
        raise UsageError("--coverage has --format text or json only")


def _recordings(
    listing: FolderListing,
    since: int,
    until: int,
    states: Mapping[str, LiveState],
    problems: list[str],
) -> list[Recording]:
    """The recordings of the segments near the window; `problems` gets what cannot be read."""
    from ctrecorder.archive.near import Chains
    from ctrecorder.ctlog.predicate import Query
    from ctrecorder.query import evidence
    from ctrecorder.query.open import open_archive

    chains = Chains(listing.spans)
    archive = open_archive(chains.near(since, until).paths, Query())
    try:
        for path, other in archive.copies:
            common.report("ctlist", f"{path}: a copy of {other}, which is read instead")
        known = evidence.gather(archive.segments, chains, states)
        problems += map(str, archive.findings)
        return known.recordings
    finally:
        archive.close()


def _as_shown(one: Recording, now: int) -> Coverage:
    """A recording as `render.timeline` takes it."""
    from ctrecorder.render.timeline import Coverage, CoveredSpan

    first = one.segments[0]
    return Coverage(
        name=first.chain or first.host or "without a chain",
        host=first.host,
        segments=len(one.segments),
        spans=[
            CoveredSpan(
                start,
                min(end, now),
                segment.basis.value,
                segment.protocols,
                segment.nat_only,
                segment.on,
            )
            for (start, end), segment in one.spans
            if start < now
        ],
        holes=one.holes,
        live_until=None if one.live is None else one.live.watermark,
    )
