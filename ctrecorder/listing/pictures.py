"""ctlist --histogram and --plot: when connections began, and bars of a top."""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from ctrecorder import times
from ctrecorder.arguments import top_options
from ctrecorder.cli import common
from ctrecorder.columns import Table
from ctrecorder.ctlog.decoder import LazyTable
from ctrecorder.errors import UsageError
from ctrecorder.listing.guarded import as_told
from ctrecorder.pictures import histogram, plot
from ctrecorder.pictures.rates import (
    COLUMNS,
    MAX_BINS,
    Offsets,
    Rates,
    edges_of,
    step_for,
)
from ctrecorder.query.connections import count_connections
from ctrecorder.query.listing import shown_in_listing, verdict_of_listing
from ctrecorder.render.dates import utc_offset
from ctrecorder.render.holes import describe
from ctrecorder.spans import Span
from ctrecorder.terminal import count
from ctrecorder.tops import shown
from ctrecorder.tops.fields import Measure

if TYPE_CHECKING:
    from ctrecorder.archive.silent_loss import SilentLoss
    from ctrecorder.listing.guarded import Guard
    from ctrecorder.query.open import Archive
    from ctrecorder.segment.live import LiveState
    from ctrecorder.service.audit import Audit
    from ctrecorder.tops.count import Counted

# Bins of a histogram that fit a screen, and of a picture that can be told apart.
_LINES, _DOTS = 40, 300


def show(
    opened: Archive,
    args: argparse.Namespace,
    audit: Audit,
    states: Mapping[str, LiveState],
    guard: Guard | None,
) -> tuple[int, bool]:
    """Show when connections began; returns how many there are, and if it is proved that they are
    all.
    """
    now = time.time_ns()
    if args.plot:
        plot.format_of(args.plot)
        plot.check()
    made = _rates(opened, args, now)

    def add(rows: Table | LazyTable) -> None:
        for _, rates in made.values():
            rates.add(rows)
        audit.rows += len(rows)

    losses: dict[str, SilentLoss] = {}
    if guard is None:
        count_connections(opened, COLUMNS, add, losses)
    else:
        guarded = guard.adding(add, COLUMNS)
        count_connections(opened, guard.columns(COLUMNS), guarded, losses)
    verdict = verdict_of_listing(opened, states, now, losses)
    holes = shown_in_listing(verdict, opened.query, strict=args.strict)
    for hole in holes:
        common.report("ctlist", describe(as_told(hole, args), utc=args.utc))
    _draw(made, args, [(hole.start, hole.end) for hole in holes])
    if unknown := next(iter(made.values()))[1].unknown:
        common.report(
            "ctlist", f"{count(unknown, 'connection')} without a known start are not shown"
        )
    audit.verdict, audit.proved = verdict.completeness.value, verdict.proved
    return audit.rows, verdict.proved


def _rates(opened: Archive, args: argparse.Namespace, now: int) -> dict[str, tuple[int, Rates]]:
    """What is counted for "histogram" and for "plot": the length of a bin, ns, and the counts."""
    since, until = _window(opened, now)
    asked = top_options.bin_of(args.histogram or "")
    made = {}
    for name, most in (("histogram", _LINES), ("plot", _DOTS)):
        if getattr(args, name) is None:
            continue
        step = asked or step_for(since, until, most)
        if (until - since) // step > MAX_BINS:
            raise UsageError(f"--histogram {args.histogram}: too many bins; take longer ones")
        made[name] = step, Rates(edges_of(since, until, step, _offsets(args)))
    return made


def _draw(
    made: Mapping[str, tuple[int, Rates]], args: argparse.Namespace, holes: list[Span]
) -> None:
    """Write the histogram, and the picture."""
    if "histogram" in made:
        step, rates = made["histogram"]
        for line in histogram.lines(
            rates,
            holes,
            step,
            width=shutil.get_terminal_size().columns,
            ascii_only=args.ascii or not _is_unicode(),
            utc=args.utc,
            offsets=_offsets(args),
        ):
            common.write_out(f"{line}\n".encode())
    if "plot" in made:
        step, rates = made["plot"]
        plot.rates(args.plot, rates, holes, step, utc=args.utc, offsets=_offsets(args))


def _offsets(args: argparse.Namespace) -> Offsets:
    return np.zeros_like if args.utc else utc_offset


def draw_tops(path: str, found: list[Counted], measure: Measure, whole: int, *, utc: bool) -> None:
    """Draw tops as bars."""
    unit, divisor = measure.value, 1
    if measure == Measure.DURATION:
        unit, divisor = "hours", times.HOUR
    plot.bars(
        path,
        [
            (
                shown.title(one, measure, whole),
                unit,
                [
                    (", ".join(texts), row.amount / divisor, shown.amount_text(row.amount, measure))
                    for row, texts in zip(one.rows, shown.texts(one, utc=utc), strict=True)
                ],
            )
            for one in found
        ],
    )


def _window(opened: Archive, now: int) -> tuple[int, int]:
    """The time to show, ns: the one that was asked for, else the recorded one."""
    query = opened.query
    since = query.since if query.since > times.BEGIN else opened.first
    until = query.until
    if until == times.END:
        until = max((one.times[1] for one in opened.segments if len(one.index)), default=now) + 1
    until = min(until, now)
    return since, max(until, since + times.SECOND)


def _is_unicode() -> bool:
    encoding = sys.stdout.encoding if sys.stdout is not None else ""
    return encoding.lower().replace("-", "") == "utf8"
