"""Coverage as text and JSON."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctrecorder.query import coverage as query
from ctrecorder.render import coverage
from ctrecorder.render.coverage import LETTERS, as_json, json_text, rfc3339, text
from ctrecorder.render.timeline import (
    UNCOUNTED,
    VERSION_1_0,
    Coverage,
    CoverageHole,
    CoveredSpan,
    Window,
)
from ctrecorder.render.timeline import rows as rows_of
from ctrecorder.times import SECOND
from tests.support.local_zone import WARSAW, local_zone

HOUR = 3600 * SECOND
DAY = 24 * HOUR
START = 20_420 * DAY  # 2025-11-28
WINDOW = Window(START, START + DAY)
DAY_WITH_HOLES = Coverage(
    "c0ffee",
    "router",
    26,
    [CoveredSpan(START - DAY, START + DAY)],
    [
        CoverageHole(START + 9 * HOUR, START + 9 * HOUR + 5 * SECOND, "overrun", 3511),
        CoverageHole(START + 20 * HOUR, START + 21 * HOUR, "not-tracked", family=10),
    ],
)

EXPECTED = """\
recording c0ffee of router: 26 segments; 95.82 % complete, 2 holes
##############################O###################################tttt##########
'11.28    '03:00    '06:00    '09:00    '12:00    '15:00    '18:00    '21:00

from (+00:00)        to (+00:00)              for  state
2025.11.28 00:00:00  2025.11.28 09:00:00    9h 0m  recorded: all protocols
2025.11.28 09:00:00  2025.11.28 09:00:05    5.0 s  HOLE overrun: 3,511 lost
2025.11.28 09:00:05  2025.11.29 00:00:00  14h 59m  recorded: all protocols
2025.11.28 20:00:00  2025.11.28 21:00:00    1h 0m  HOLE not-tracked: only IPv6

# recorded; O overrun; T not-tracked; lower case: partial, or accepted
"""


def shown(*recordings: Coverage, window: Window = WINDOW, width: int = 80) -> list[str]:
    return text(recordings, window, width=width, ascii_only=True, utc=True)


def test_a_day_with_two_holes() -> None:
    lines = shown(DAY_WITH_HOLES)
    assert "\n".join(lines) + "\n" == EXPECTED
    blocks = text([DAY_WITH_HOLES], WINDOW, width=80, utc=True)
    assert blocks[1] == lines[1].replace("#", "█")


def test_each_time_has_its_offset_where_that_changes() -> None:
    """On 2025-10-26, 02:30 is twice in Warsaw."""
    begin = 20_387 * DAY
    one = Coverage("c0ffee", "gw", 1, [CoveredSpan(begin + HOUR // 2, begin + 3 * HOUR // 2)], [])
    with local_zone(WARSAW):
        lines = text([one], Window(begin, begin + DAY), width=80, ascii_only=True)
    assert "from, to" in lines
    assert "2025.10.26 02:30:00 +02:00  2025.10.26 02:30:00 +01:00" in lines


def test_nothing() -> None:
    (line,) = shown()
    assert line == "no recording from 2025.11.28 00:00:00 +00:00 to 2025.11.29 00:00:00 +00:00"
    assert as_json([], WINDOW) == {
        "since": "2025-11-28T00:00:00.000000000Z",
        "until": "2025-11-29T00:00:00.000000000Z",
        "recordings": [],
    }


def test_a_live_recording_has_nothing_before_it_and_its_future_is_not_yet() -> None:
    live = Coverage(
        "c0ffee", "", 1, [CoveredSpan(START + HOUR, START + 11 * HOUR)], [], START + 11 * HOUR
    )
    lines = shown(live)
    assert lines[0] == "recording c0ffee: 1 segment, live; 41.66 % complete, 0 holes"
    assert lines[1] == "..." + "+" + "#" * 32 + ">"
    assert [line[44:] for line in lines[5:8]] == [
        "1h 0m  nothing recorded",
        "0h 0m  recorded: all protocols",
        "3h 0m  not yet",
    ]
    (facts,) = as_json([live], WINDOW)["recordings"]
    assert facts["live_until"] == rfc3339(START + 11 * HOUR)
    assert [one["reason"] for one in facts["unrecorded"]] == ["not-recording", "not-yet"]


def test_two_recorders_have_a_bar_each_and_one_legend() -> None:
    second = Coverage(
        "beef",
        "router",
        2,
        [CoveredSpan(START, START + DAY, VERSION_1_0, frozenset({6, 17}), nat_only=True)],
        [CoverageHole(START + HOUR, START + HOUR, "clock", detail="set back by 5 s")],
    )
    lines = shown(DAY_WITH_HOLES, second, width=120)
    assert sum(line.startswith("recording ") for line in lines) == 2
    assert any(
        line.endswith("recorded: tcp, udp, only with NAT, as far as version 1.0 could know")
        for line in lines
    )
    assert any(line.endswith("<0.1 s  HOLE clock: set back by 5 s") for line in lines)
    assert lines[-1].startswith(
        "# recorded; = as far as version 1.0 could know; O overrun; K clock;"
    )


@pytest.mark.parametrize(("reason", "detail"), [("x" * 60_000, ""), ("clock", "x" * 60_000)])
def test_a_strangers_text_is_cut(reason: str, detail: str) -> None:
    hole = CoverageHole(START, START + HOUR, reason, detail=detail)
    one = Coverage("beef", "router", 1, [CoveredSpan(START, START + DAY)], [hole])
    assert sum(map(len, shown(one))) < 4000
    assert len(json_text([one], WINDOW)) < 4000


def test_a_share_is_never_rounded_up_to_all() -> None:
    hole = CoverageHole(START, START, "crashed")
    one = Coverage("c", "", 1, [CoveredSpan(START, START + 90 * DAY)], [hole])
    assert "99.99 % complete, 1 hole" in shown(one, window=Window(START, START + 90 * DAY))[0]


def test_only_what_is_proved_is_complete() -> None:
    """Losses that were not counted prove nothing; an accepted hole takes nothing away."""
    half = START + DAY // 2
    spans = [CoveredSpan(START, half), CoveredSpan(half, START + DAY, UNCOUNTED)]
    accepted = CoverageHole(START, START + DAY, "notrack", family=2, accepted=True)
    partial = CoverageHole(START, START + DAY // 4, "notrack", family=2)
    for holes, share in (([], "50.00"), ([accepted], "50.00"), ([accepted, partial], "25.00")):
        (title, *_) = shown(Coverage("c", "", 1, spans, holes))
        assert f"; {share} % complete" in title


def test_ninety_days_in_json() -> None:
    hole = CoverageHole(
        START + 30 * DAY + 1,
        START + 31 * DAY,
        "disk-full",
        12,
        "the disk was full",
        at_least=True,
        family=2,
        protocols=frozenset({17}),
    )
    one = Coverage("c0ffee", "r", 2160, [CoveredSpan(START, START + 90 * DAY, on=("x",))], [hole])
    facts = json.loads(json_text([one], Window(START, START + 90 * DAY)))["recordings"][0]
    assert facts["holes"] == [
        {
            "start": "2025-12-28T00:00:00.000000001Z",
            "end": "2025-12-29T00:00:00.000000000Z",
            "reason": "disk-full",
            "lost": 12,
            "at_least": True,
            "family": "ipv4",
            "protocols": ["udp"],
            "detail": "the disk was full",
        }
    ]
    assert facts["recorded"] == [
        {
            "start": "2025-11-28T00:00:00.000000000Z",
            "end": "2026-02-26T00:00:00.000000000Z",
            "basis": "watermarks",
            "protocols": "all",
            "nat_only": False,
            "on": ["x"],
        }
    ]


def test_each_reason_has_a_letter_of_its_own() -> None:
    letters = [*LETTERS.values(), coverage._OTHER_LETTER]
    assert len(set(letters)) == len(letters)
    assert all(letter.isupper() for letter in letters)
    from ctrecorder.ctlog.frame import REASONS

    assert LETTERS.keys() >= {*REASONS, query.NOT_RECORDED, query.MISSING, query.DAMAGED}
    assert LETTERS.keys() >= {query.NOT_YET, query.UNPROVED, query.NOT_RECORDING}


def test_a_hole_of_query_has_these_fields_and_no_others() -> None:
    """A field that a hole gains must not be lost on the way to the terminal."""
    assert list(CoverageHole.__dataclass_fields__) == list(query.Hole.__dataclass_fields__)


spans = st.tuples(st.integers(-5, 60), st.integers(0, 25))


@given(
    st.lists(st.tuples(spans, st.sampled_from(["watermarks", "version 1.0"])), max_size=4),
    st.lists(st.tuples(spans, st.sampled_from([None, 2])), max_size=4),
    st.one_of(st.none(), st.integers(0, 60)),
)
def test_the_rows_say_of_each_moment_just_what_is_so(
    recorded: list[tuple[tuple[int, int], str]],
    holes: list[tuple[tuple[int, int], int | None]],
    live: int | None,
) -> None:
    one = Coverage(
        "c",
        "",
        1,
        [CoveredSpan(start, start + length, basis) for (start, length), basis in recorded],
        [
            CoverageHole(start, start + length, "overrun", family=family)
            for (start, length), family in holes
        ],
        live,
    )
    rows = rows_of(one, Window(0, 50))
    assert all(0 <= row.start < row.end <= 50 for row in rows)
    for moment in range(50):
        here = [row for row in rows if row.start <= moment < row.end]
        kinds = [type(row.what) for row in here]
        hidden = any(
            hole.start <= moment < max(hole.end, hole.start + 1) and hole.family is None
            for hole in one.holes
        )
        covered = any(span.start <= moment < span.end for span in one.spans)
        assert kinds.count(CoveredSpan) == (covered and not hidden)
        assert kinds.count(type(None)) == (not covered and not hidden)
        assert kinds.count(CoverageHole) == sum(
            hole.start <= moment < max(hole.end, hole.start + 1) for hole in one.holes
        )
        for row in here:
            if row.what is None:
                assert row.not_yet == (live is not None and moment >= live)


@pytest.mark.parametrize("width", [1, 40, 60, 75, 76, 80, 120, 300])
def test_no_line_is_wider_than_the_terminal_whatever_a_header_says(width: int) -> None:
    rude = "\x1b[31m" + "路由器" * 30 + "\u202e"
    hole = CoverageHole(START, START + HOUR, rude, 10**30, rude * 3, networks=(rude,))
    one = Coverage(rude, rude, 10**9, [CoveredSpan(START, START + DAY, rude, on=(rude,))], [hole])
    for ascii_only in (True, False):
        lines = text([one], WINDOW, width=width, ascii_only=ascii_only, utc=True)
        assert max(map(len, lines)) <= max(width, 40)
        assert all(line.isprintable() for line in lines)
        assert all(line.isascii() for line in lines) or not ascii_only


@pytest.mark.parametrize(
    ("ns", "duration"),
    [
        (0, "<0.1 s"),
        (SECOND // 2, "0.5 s"),
        (60 * SECOND, "1m 0s"),
        (DAY - 1, "23h 59m"),
        (90 * DAY + 5 * HOUR, "90d 5h"),
        (59_999_999_999, "59.9 s"),
    ],
)
def test_durations(ns: int, duration: str) -> None:
    assert coverage._duration(ns) == duration
