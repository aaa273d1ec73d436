"""ctlist --top: what occurs most among the connections that match."""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

from ctrecorder import spill
from ctrecorder.arguments import top_options
from ctrecorder.arguments.ask import inside_addresses
from ctrecorder.cli import common
from ctrecorder.listing.guarded import Add, as_told
from ctrecorder.query.connections import count_connections
from ctrecorder.query.listing import shown_in_listing, verdict_of_listing
from ctrecorder.render.dates import utc_offset
from ctrecorder.render.holes import describe
from ctrecorder.sealing.imported import imported, line_of
from ctrecorder.terminal import count
from ctrecorder.tops import fields, shown
from ctrecorder.tops.count import Tops

if TYPE_CHECKING:
    from ctrecorder.archive.silent_loss import SilentLoss
    from ctrecorder.listing.guarded import Guard
    from ctrecorder.query.open import Archive
    from ctrecorder.segment.live import LiveState
    from ctrecorder.service.audit import Audit


def show(
    opened: Archive,
    args: argparse.Namespace,
    audit: Audit,
    states: Mapping[str, LiveState],
    guard: Guard | None,
) -> tuple[int, bool]:
    """Write the tops, and on stderr what makes them less than the whole; returns the number of
    connections that were counted, and if it is proved that they are all.
    """
    now = time.time_ns()
    if args.plot:
        from ctrecorder.pictures import plot

        plot.format_of(args.plot)
        plot.check()
    measure = fields.Measure(args.by or "connections")
    jobs = common.jobs(args.jobs)
    tops = Tops(
        [fields.parse(text) for text in args.tops],
        measure,
        inside_addresses(),
        lambda seconds: seconds * 0 if args.utc else utc_offset(seconds),
        now,
        spill.Store,
        jobs,
    )
    losses: dict[str, SilentLoss] = {}
    columns = tops.columns
    add: Add = tops.add
    if guard is not None:
        add, columns = guard.adding(add, columns), guard.columns(columns)
    count_connections(opened, columns, add, losses, tops, jobs)
    verdict = verdict_of_listing(opened, states, now, losses)
    for hole in shown_in_listing(verdict, opened.query, strict=args.strict):
        common.report("ctlist", describe(as_told(hole, args), utc=args.utc))
    found = tops.best(args.lines or top_options.USUAL_LENGTH)
    if guard is not None:
        found = [guard.anonymous(one) for one in found]
    for text in shown.lines(found, args.format, measure, tops.whole, utc=args.utc):
        common.write_out(text.encode())
    if args.plot:
        from ctrecorder.listing import pictures

        pictures.draw_tops(args.plot, found, measure, tops.whole, utc=args.utc)
    if tops.open:
        common.report(
            "ctlist",
            f"{count(tops.open, 'connection')} had not ended: their bytes and packets are the last "
            "that were told, they last until now",
        )
    if tops.unmeasured:
        common.report(
            "ctlist",
            f"of {count(tops.unmeasured, 'connection')} the {measure.value} are not known: they "
            "count 0",
        )
    if rests_on := imported(opened.segments, opened.query.since, opened.query.until):
        common.report("ctlist", line_of(rests_on))
    audit.rows = tops.connections
    audit.verdict, audit.proved = verdict.completeness.value, verdict.proved
    return tops.connections, verdict.proved
