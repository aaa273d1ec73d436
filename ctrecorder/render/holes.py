"""Holes of coverage in words and as JSON.  Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ctrecorder import labels, times
from ctrecorder.ctlog.frame import REASONS
from ctrecorder.render.coverage import hole_json, rfc3339
from ctrecorder.render.timeline import CoverageHole
from ctrecorder.terminal import count

# Of reasons that no GAP has.
_WORDS: Mapping[str, str] = {
    "memory": "the memory for waiting events was full",
    "missing-segment": "a segment is missing",
    "not-recorded": "not all connections are recorded",
    "not-yet": "it is not recorded yet",
    "tracking-unknown": "it is unknown if all connections were tracked",
    "not-recordable": "packets were translated without connection tracking",
    "unproved": "nothing proves that all was recorded",
}
# In these the recorder did not run, or its segment is lost.
_NOT_RECORDING = ("stopped", "crashed", "not-recording", "missing-segment")
# In these nothing is known to be lost.
_UNCERTAIN = ("unproved", "tracking-unknown", "not-recordable", "not-recorded", "not-yet")
# The words of these say more than their reason.
_DETAILED = {
    "not-recording",
    "damaged",
    "no-events",
    "not-tracked",
    "notrack",
    "unheard",
    "not-recordable",
}
# The GAPs of these have a detail for cttest; the words of the reason are enough here.
_KNOWN = frozenset(REASONS) - _DETAILED


def describe(
    hole: CoverageHole, *, utc: bool = False, stamp: Callable[[int], str] | None = None
) -> str:
    """One line for a hole: how many events are missing, from when to when, and why.

    `stamp`: a time as text, with its zone; None: as in `times.dated`, in UTC if `utc`, else local.
    """
    if hole.reason == "not-recording" and expired(hole.detail):
        return f"no longer kept {_span(hole, utc, stamp)}: {expired(hole.detail)}"
    words = reason(hole.reason)
    if hole.detail and hole.reason not in _KNOWN:
        words += f" ({hole.detail})"
    narrow = "".join(f", only {part}" for part in _narrow(hole))
    if hole.reason in _NOT_RECORDING:
        return f"not recording {_span(hole, utc, stamp)}{narrow}: {words}"
    if hole.reason in _UNCERTAIN:
        return f"not proved {_span(hole, utc, stamp)}{narrow}: {words}"
    lost = "events lost"
    if hole.lost is not None:
        lost = f"{'at least ' if hole.at_least else ''}{count(hole.lost, 'event')} lost"
    return f"gap: {lost} {_span(hole, utc, stamp)}{narrow}: {words}"


def expired(detail: str) -> str:
    """Why what was recorded is no longer there, from the detail of a hole; "": it is not that."""
    return detail.removeprefix("expired: ") if detail.startswith("expired: ") else ""


def reason(name: str) -> str:
    """The reason of a hole in words; a newer one is its name."""
    return REASONS.get(name, _WORDS.get(name, name))


def as_json(hole: CoverageHole, since: int, until: int) -> dict[str, Any]:
    """A hole in the verdict of a question about since..until, as an object for json.dumps()."""
    return {
        "start": None if hole.start == times.BEGIN else rfc3339(hole.start),
        "end": None if hole.end == times.END else rfc3339(hole.end),
        **hole_json(hole),
        "why": why(hole, since, until),
    }


def why(hole: CoverageHole, since: int, until: int) -> str:
    """Why a hole matters to a question about what was open in since..until."""
    if hole.reason == "not-yet":
        return "connections of that time are not in the log yet"
    if hole.reason == "not-recorded":
        return "connections that are not recorded can be the answer"
    if max(hole.end, hole.start + 1) <= since:
        return "connections that began in it may have been open: no later table dump shows them"
    if hole.start >= until:
        return "connections that were open may have ended in it, before the next table dump"
    return "connections of that time may be missing"


def _narrow(hole: CoverageHole) -> list[str]:
    parts = [] if hole.family is None else [labels.FAMILIES.get(hole.family, str(hole.family))]
    parts += [", ".join(labels.protocol(number) for number in sorted(hole.protocols))]
    parts += [f"ports {', '.join(map(str, sorted(hole.ports)))}" if hole.ports else ""]
    parts += [", ".join(hole.networks), "connections without NAT" if hole.untranslated else ""]
    return [part for part in parts if part]


def _span(hole: CoverageHole, utc: bool, stamp: Callable[[int], str] | None) -> str:
    start, end = (
        times.dated(ns, utc=utc) if stamp is None else stamp(ns) for ns in (hole.start, hole.end)
    )
    if hole.start == times.BEGIN and hole.end == times.END:
        return "at any time"
    if hole.start == times.BEGIN:
        return f"until {end}"
    if hole.end == times.END:
        return f"from {start} on"
    return f"from {start} to {end}"
