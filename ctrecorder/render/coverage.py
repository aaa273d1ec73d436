"""Coverage of recordings as a bar over time and a table, or as JSON.  Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from ctrecorder import labels, times
from ctrecorder.render.timebar import ASCII, BLOCKS, SEVERAL, Glyphs, Stretch, axis, bar
from ctrecorder.render.timeline import (
    UNCOUNTED,
    VERSION_1_0,
    Coverage,
    CoverageHole,
    CoveredSpan,
    Row,
    Window,
    complete_ns,
)
from ctrecorder.render.timeline import rows as rows_of
from ctrecorder.terminal import count, printable
from ctrecorder.times import SECOND

# Below this width a row does not have its three times and a readable state on one line.
_ONE_LINE_WIDTH, MIN_WIDTH = 76, 40
_TIME_FORMAT = "{:<19}  {:<19}  {:>7}  "
_BASES = {VERSION_1_0: "as far as version 1.0 could know", UNCOUNTED: "losses were not counted"}
# The letter of each reason in a bar.
LETTERS = {
    "overrun": "O",
    "disk-full": "F",
    "write-error": "W",
    "memory": "M",
    "stopped": "S",
    "crashed": "C",
    "unreadable": "U",
    "damaged": "D",
    "clock": "K",
    "not-recording": "N",
    "late": "L",
    "no-events": "E",
    "not-tracked": "T",
    "notrack": "X",
    "unheard": "H",
    "missing-segment": "G",
    "not-recorded": "R",
    "not-yet": "Y",
    "unproved": "P",
    "tracking-unknown": "V",
    "not-recordable": "J",
}
_OTHER_LETTER = "Z"
# Characters of a hole's text: a stranger's has 60,000, and a file thousands of them.
_MAX_TEXT = 1000


def text(
    recordings: Sequence[Coverage],
    window: Window,
    *,
    width: int,
    ascii_only: bool = False,
    utc: bool = False,
) -> list[str]:
    """The lines for a terminal, each of at most `width` columns (at least MIN_WIDTH).

    `ascii_only`: the bar has no block characters.
    """
    width = max(width, MIN_WIDTH)
    glyphs = ASCII if ascii_only else BLOCKS
    lines: list[str] = []
    used: set[str] = set()
    for one in recordings:
        rows = rows_of(one, window)
        drawn = bar(list(_stretches(rows)), *window, width, glyphs)
        used |= set(drawn)
        lines += _wrapped(_title(one, rows, window), width, "  ")
        lines += [drawn.rstrip(), axis(*window, width, utc=utc), ""]
        lines += _table(rows, width, utc=utc)
        lines.append("")
    if not recordings:
        return _wrapped(
            f"no recording from {_dated(window.since, utc)} to {_dated(window.until, utc)}",
            width,
            "  ",
        )
    meanings = list(_legend(used, glyphs))
    words = [f"{meaning};" for meaning in meanings[:-1]] + meanings[-1:]
    return lines + _wrapped(words, width, "  ")


def as_json(recordings: Sequence[Coverage], window: Window) -> dict[str, Any]:
    """The coverage as an object for json.dumps().

    Times are RFC 3339 in UTC with nine decimals.  A recording has the lists `recorded`, `holes`
    (as in the verdict of a question) and `unrecorded`, each in order of time.
    """
    return {
        "since": rfc3339(window.since),
        "until": rfc3339(window.until),
        "recordings": [_recording_json(one, window) for one in recordings],
    }


def json_text(recordings: Sequence[Coverage], window: Window) -> str:
    """`as_json` on one line."""
    return json.dumps(as_json(recordings, window)) + "\n"


def rfc3339(ns: int) -> str:
    """ "2026-11-24T01:02:03.123456789Z"."""
    second, rest = divmod(ns, SECOND)
    moment = times.text(second * SECOND, utc=True)[:19].replace(".", "-").replace(" ", "T")
    return f"{moment}.{rest:09}Z"


def _stretches(rows: Iterable[Row]) -> Iterator[Stretch]:
    """The rows as what a bar shows."""
    for row in rows:
        if isinstance(row.what, CoveredSpan):
            yield Stretch(row.start, row.end, basis=row.what.basis)
        elif isinstance(row.what, CoverageHole):
            letter = LETTERS.get(row.what.reason, _OTHER_LETTER)
            yield Stretch(row.start, row.end, letter.lower() if row.what.is_partial else letter)
        elif row.not_yet:
            yield Stretch(row.start, row.end, not_yet=True)


def _title(one: Coverage, rows: Sequence[Row], window: Window) -> str:
    """ "recording c0ffee of router: 26 segments, live; 99.98 % complete, 2 holes"."""
    holes = sum(isinstance(row.what, CoverageHole) for row in rows)
    # Rounded down: 100 % is said only if nothing is missing.
    share = complete_ns(rows) * 10_000 // (window.until - window.since) / 100
    host = f" of {one.host}" if one.host else ""
    live = ", live" if one.live_until is not None else ""
    facts = (
        f"{count(one.segments, 'segment')}{live}; {share:.2f} % complete, {count(holes, 'hole')}"
    )
    return _plain(f"recording {one.name}{host}: {facts}")


def _table(rows: Sequence[Row], width: int, *, utc: bool) -> list[str]:
    """A heading, and a line or more for each row.

    The heading has the offset from UTC; if it changes, each time has it.
    """
    offsets = {times.offset(ns, utc=utc) for row in rows for ns in (row.start, row.end)}
    shown = _time if len(offsets) < 2 else _dated
    one_line = width >= _ONE_LINE_WIDTH and len(offsets) < 2
    offset = f" ({min(offsets)})" if len(offsets) == 1 else ""
    heading = _TIME_FORMAT.format(f"from{offset}", f"to{offset}", "for")
    lines = [heading + "state" if one_line else f"from, to{offset}"]
    for row in rows:
        moments = shown(row.start, utc), shown(row.end, utc)
        state = _state(row)
        if one_line:
            first = _TIME_FORMAT.format(*moments, _duration(row.end - row.start))
            lines += _wrapped(state, width, " " * len(first), first)
        else:
            lines.append("  ".join(moments)[:width])
            lines += _wrapped(f"{_duration(row.end - row.start)}  {state}", width, "    ", "    ")
    return lines


def _state(row: Row) -> str:
    """What a row is: recorded, a hole with its reason, or nothing."""
    if row.what is None:
        return "not yet" if row.not_yet else "nothing recorded"
    if isinstance(row.what, CoveredSpan):
        parts = [_protocols(row.what.protocols) or "all protocols"]
        parts += ["only with NAT"] if row.what.nat_only else []
        parts += [*row.what.on, *filter(None, [_BASES.get(row.what.basis)])]
        return _plain("recorded: " + ", ".join(parts))
    return _plain("HOLE " + _hole(row.what))


def _hole(hole: CoverageHole) -> str:
    """ "overrun: at least 3,511 lost, only IPv6, only tcp; the detail"."""
    parts = []
    if hole.lost is not None:
        parts.append(f"{'at least ' if hole.at_least else ''}{hole.lost:,} lost")
    if hole.family is not None:
        parts.append(f"only {labels.FAMILIES.get(hole.family, str(hole.family))}")
    parts += [f"only {_protocols(hole.protocols)}"] if hole.protocols else []
    parts += [f"only ports {', '.join(map(str, sorted(hole.ports)))}"] if hole.ports else []
    parts += [f"only {', '.join(hole.networks)}"] if hole.networks else []
    parts += ["only without NAT"] if hole.untranslated else []
    parts += ["accepted"] if hole.accepted else []
    facts = "; ".join(filter(None, (", ".join(parts), hole.detail)))
    return _cut(f"{hole.reason}: {facts}" if facts else hole.reason)


def _cut(text: str) -> str:
    return text if len(text) <= _MAX_TEXT else f"{text[:_MAX_TEXT]}..."


def _protocols(numbers: Iterable[int]) -> str:
    return ", ".join(labels.protocol(number) for number in sorted(numbers))


def _legend(used: set[str], glyphs: Glyphs) -> Iterator[str]:
    """The meaning of each character that a bar has."""
    meanings = {
        glyphs.recorded: "recorded",
        glyphs.version_1_0: _BASES[VERSION_1_0],
        glyphs.uncounted: _BASES[UNCOUNTED],
        glyphs.partly: "recorded for a part",
        glyphs.nothing: "nothing recorded",
        glyphs.live: "recorded until here so far",
        SEVERAL: "several kinds of holes",
    }
    yield from (f"{char} {meaning}" for char, meaning in meanings.items() if char in used)
    for reason, letter in (*LETTERS.items(), ("other", _OTHER_LETTER)):
        if letter in used or letter.lower() in used:
            yield f"{letter} {reason}"
    if any(char.isalpha() and char.islower() for char in used):
        yield "lower case: partial, or accepted"


def _recording_json(one: Coverage, window: Window) -> dict[str, Any]:
    rows = rows_of(one, window)
    return {
        "recording": one.name,
        "host": one.host,
        "segments": one.segments,
        "live_until": None if one.live_until is None else rfc3339(one.live_until),
        "recorded": [
            {**_span_json(row), **_covered_json(row.what)}
            for row in rows
            if isinstance(row.what, CoveredSpan)
        ],
        "holes": [
            {**_span_json(row), **hole_json(row.what)}
            for row in rows
            if isinstance(row.what, CoverageHole)
        ],
        "unrecorded": [
            {**_span_json(row), "reason": "not-yet" if row.not_yet else "not-recording"}
            for row in rows
            if row.what is None
        ],
    }


def _span_json(row: Row) -> dict[str, Any]:
    return {"start": rfc3339(row.start), "end": rfc3339(row.end)}


def _covered_json(span: CoveredSpan) -> dict[str, Any]:
    protocols = [labels.protocol(number) for number in sorted(span.protocols)]
    facts = {"basis": span.basis, "protocols": protocols or "all", "nat_only": span.nat_only}
    return {**facts, "on": list(span.on)}


def hole_json(hole: CoverageHole) -> dict[str, Any]:
    """The members of a hole in the verdict of a question; those without a value are absent."""
    facts: dict[str, Any] = {"reason": _cut(hole.reason)}
    members = {
        "family": labels.FAMILIES.get(hole.family or 0, "").lower(),
        "protocols": [labels.protocol(number) for number in sorted(hole.protocols)],
        "ports": sorted(hole.ports),
        "networks": list(hole.networks),
        "untranslated": hole.untranslated,
        "at_least": hole.at_least,
        "accepted": hole.accepted,
        "detail": _cut(hole.detail),
    }
    facts |= {} if hole.lost is None else {"lost": hole.lost}
    return facts | {name: value for name, value in members.items() if value}


def _time(ns: int, utc: bool) -> str:
    return times.text(ns, utc=utc)[:19]


def _dated(ns: int, utc: bool) -> str:
    return f"{_time(ns, utc)} {times.offset(ns, utc=utc)}"


def _duration(ns: int) -> str:
    """At most seven characters: "90d 3h", "9h 12m", "12m 5s", "5.2 s"."""
    seconds = ns // SECOND
    for length, unit, smaller, name in (
        (86400, "d", 3600, "h"),
        (3600, "h", 60, "m"),
        (60, "m", 1, "s"),
    ):
        if seconds >= length:
            return f"{seconds // length}{unit} {seconds % length // smaller}{name}"
    return f"{ns // (SECOND // 10) / 10:.1f} s" if ns >= SECOND // 10 else "<0.1 s"


def _plain(line: str) -> str:
    """`line` in characters of one column: a header's facts may be a stranger's."""
    return printable(line).encode("ascii", "backslashreplace").decode()


def _wrapped(line: str | Sequence[str], width: int, indent: str, first: str = "") -> list[str]:
    """The words of `line` in lines of at most `width` columns.

    `line`: a text, or its words.  `first` goes before the first line, `indent` before the others.
    """
    lines: list[str] = []
    current, empty = first, True
    waiting = list(reversed(line.split(" ") if isinstance(line, str) else line))
    while waiting:
        word = waiting.pop()
        room = width - len(current) - (not empty)
        if len(word) <= room:
            current += word if empty else f" {word}"
            empty = False
            continue
        if empty:  # a word that is longer than a line is cut
            current, word = current + word[:room], word[room:]
        lines.append(current)
        current, empty = indent, True
        waiting.append(word)
    return [*lines, current]
