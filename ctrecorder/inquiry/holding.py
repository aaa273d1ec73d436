"""--hold: what an answer rests on is not deleted while the case is open."""

from __future__ import annotations

import os
from collections.abc import Iterable
from functools import partial

from ctrecorder import times
from ctrecorder.errors import ExitCode
from ctrecorder.inquiry.ask import Answered
from ctrecorder.maintain import holds
from ctrecorder.sealing.successor import KeyUser
from ctrecorder.service.log import Log
from ctrecorder.spans import joined
from ctrecorder.witness.owner import Workplace, in_owner

COMMAND = "ctwho"


def hold(answers: Iterable[Answered], case: str, reason: str, seals: KeyUser) -> ExitCode:
    """Set holds over the segments that were read, in each folder, as its owner.

    Segments that touch are under one hold.  `seals`: the keys of the ledgers in the folders.
    Raises UsageError, ArchiveError.
    """
    periods: dict[str, set[tuple[int, int]]] = {}
    for answer in (one.answer for one in answers if one.answer is not None):
        for segment in answer.segments:
            folder = os.path.dirname(segment.path) or "."
            periods.setdefault(folder, set()).add((segment.since, segment.until + times.SECOND))
    text = f"case {case}{f': {reason}' if reason else ''}"
    code = ExitCode.OK
    for folder, spans in sorted(periods.items()):
        done = in_owner(COMMAND, folder, partial(_hold_in, spans, text, seals))
        code = max(code, ExitCode.OK if done == ExitCode.OK else ExitCode.FAILED)
    return code


def _hold_in(spans: set[tuple[int, int]], text: str, seals: KeyUser, place: Workplace) -> ExitCode:
    """Set the holds of one folder."""
    code = ExitCode.OK
    with Log(COMMAND) as log:
        log.witness(place.log)
        log.keep_in(place.folder)
        for since, until in joined(spans):
            period = _at(since), _at(until)
            done = holds.hold(
                place.folder, period, text, log, seals, utc=True, trust_clock=False, once=True
            )
            code = max(code, ExitCode(done))
    return code


def _at(ns: int) -> str:
    return f"@{ns // times.SECOND}.{ns % times.SECOND:09}"
