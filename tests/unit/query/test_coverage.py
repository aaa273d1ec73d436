"""Coverage: the verdict against a model that looks at each second by itself."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctrecorder import uapi
from ctrecorder.query.coverage import (
    DAMAGED,
    MISSING,
    NOT_RECORDED,
    NOT_RECORDING,
    NOT_YET,
    Basis,
    Hole,
    LiveWatermark,
    Recording,
    Scope,
    SegmentSpan,
)
from ctrecorder.query.verdict import Completeness, Verdict, judge
from ctrecorder.times import MINUTE

NOW = 1000


def segment(start: int, until: int | None, number: int = 1, **rest: object) -> SegmentSpan:
    facts = {"chain": "c", "host": "h", "boot_id": "b", "netns": "1", **rest}
    return SegmentSpan(sequence=number, start=start, until=until, **facts)  # type: ignore[arg-type]


def reasons(verdict: Verdict) -> list[tuple[int, int, str]]:
    return [(hole.start, hole.end, hole.reason) for hole in verdict.holes]


def ask(since: int, until: int, *recordings: Recording, **scope: object) -> Verdict:
    return judge(Scope(since, until, **scope), recordings, NOW)  # type: ignore[arg-type]


def test_covered_by_segments_that_follow_each_other() -> None:
    one = Recording([segment(100, 200), segment(205, 300, 2)])
    assert ask(100, 300, one) == Verdict(Completeness.COMPLETE)
    assert reasons(ask(90, 150, one)) == [(90, 100, NOT_RECORDING)]
    assert reasons(ask(290, 320, one)) == [(300, 320, NOT_RECORDING)]


def test_a_restart_is_a_hole_and_has_the_reason_of_its_gap() -> None:
    gap = Hole(200, 230, "crashed")
    noted = Recording([segment(100, 200), segment(230, 300, 2, restarted=True, holes=(gap,))])
    assert reasons(ask(150, 250, noted)) == [(200, 230, "crashed")]
    assert ask(230, 250, noted).proved
    silent = Recording([segment(100, 200), segment(230, 300, 2, restarted=True)])
    assert reasons(ask(150, 250, silent)) == [(200, 230, NOT_RECORDING)]


def test_a_missing_segment() -> None:
    one = Recording([segment(100, 200), segment(300, 400, 3, follows=False)])
    assert reasons(ask(150, 350, one)) == [(200, 300, MISSING)]
    assert ask(300, 400, one).proved


def test_without_a_watermark_nothing_is_proved() -> None:
    one = Recording([segment(100, None)])
    assert not ask(100, 101, one).proved


def test_not_yet_while_the_recorder_runs_and_in_the_future() -> None:
    live = Recording([segment(100, 900)], LiveWatermark(995))
    assert ask(950, 990, live).proved
    found = ask(990, 1000, live)
    assert (found.completeness, found.until) == (Completeness.NOT_YET, 995)
    future = ask(2000, 2001, live)
    assert (future.completeness, future.until) == (Completeness.NOT_YET, 995)
    stopped = ask(990, 1100, Recording([segment(100, 900)]))
    assert stopped.completeness is Completeness.NOT_COMPLETE
    assert reasons(stopped) == [(990, 1000, NOT_RECORDING), (1000, 1100, NOT_YET)]
    beyond = ask(1500, 1600, Recording([segment(100, 900)]))
    assert beyond.completeness is Completeness.NOT_YET


@pytest.mark.parametrize(
    ("hole", "scope", "complete"),
    [
        ({"family": uapi.AF_INET6}, {"families": {uapi.AF_INET}}, True),
        ({"family": uapi.AF_INET}, {"families": {uapi.AF_INET}}, False),
        ({"family": uapi.AF_INET}, {}, False),
        ({"protocols": {17}}, {"protocols": {6}}, True),
        ({"protocols": {6}}, {"protocols": {6}}, False),
        ({"protocols": {6}}, {}, False),
        ({"ports": {53}}, {"ports": {40000}}, True),
        ({"ports": {53}}, {}, False),
        ({"untranslated": True}, {"only_translated": True}, True),
        ({"untranslated": True}, {}, False),
        ({"networks": ("10.0.0.0/8",)}, {}, False),
    ],
)
def test_a_narrow_hole_hides_only_what_is_in_it(
    hole: dict[str, object], scope: dict[str, object], complete: bool
) -> None:
    sets = {name: frozenset(v) if isinstance(v, set) else v for name, v in hole.items()}
    gap = replace(Hole(120, 130, "no-events"), **sets)  # type: ignore[arg-type]
    one = Recording([segment(100, 200, holes=(gap,))])
    asked = {name: frozenset(v) if isinstance(v, set) else v for name, v in scope.items()}
    assert ask(110, 140, one, **asked).proved is complete
    assert ask(130, 140, one, **asked).proved


def test_an_accepted_hole_is_named_and_changes_nothing() -> None:
    gap = Hole(120, 130, "notrack", accepted=True)
    found = ask(110, 140, Recording([segment(100, 200, holes=(gap,))]))
    assert found == Verdict(Completeness.COMPLETE, accepted=(gap,))


def test_another_recording_of_the_same_table_covers_for_one_that_stopped() -> None:
    stopped = Recording([segment(100, 200)])
    beside = Recording([segment(150, 300, chain="d")])
    assert ask(110, 290, stopped, beside).proved
    udp = Recording([segment(150, 300, chain="d", protocols=frozenset({17}))])
    assert reasons(ask(110, 290, stopped, udp)) == [(200, 290, NOT_RECORDED)]
    assert reasons(ask(110, 290, stopped, udp, protocols=frozenset({6}))) == [
        (200, 290, NOT_RECORDED)
    ]
    assert ask(160, 290, stopped, udp, protocols=frozenset({17})).proved


def test_a_recording_of_another_table_covers_for_nobody() -> None:
    stopped = Recording([segment(100, 200)])
    other = Recording([segment(100, 300, chain="d", netns="2")])
    assert reasons(ask(150, 250, stopped, other)) == [(200, 250, NOT_RECORDING)]
    host = Recording([segment(100, 300, chain="d", host="other")])
    assert not ask(150, 250, stopped, host).proved


def test_a_recorder_that_was_set_up_anew_goes_on_with_the_table() -> None:
    before = Recording([segment(100, 200, boot_id="a")])
    after = Recording([segment(200, 300, boot_id="b", chain="d")])
    assert ask(150, 250, before, after).proved


def test_nat_only_answers_for_translated_addresses() -> None:
    one = Recording([segment(100, 200, nat_only=True)])
    assert ask(110, 120, one, only_translated=True).proved
    assert reasons(ask(110, 120, one)) == [(110, 120, NOT_RECORDED)]


def test_version_1_0_and_the_c_program() -> None:
    old = Recording([segment(100, 200, basis=Basis.VERSION_1_0)])
    assert ask(110, 120, old).completeness is Completeness.VERSION_1_0
    both = Recording([segment(100, 200, basis=Basis.VERSION_1_0), segment(200, 300, 2)])
    assert ask(150, 250, both).completeness is Completeness.VERSION_1_0
    assert ask(220, 250, both).completeness is Completeness.COMPLETE
    c_files = Recording([segment(100, 200, basis=Basis.NOTHING)])
    assert reasons(ask(110, 120, c_files)) == [(110, 120, NOT_RECORDED)]


def test_damage_is_a_hole() -> None:
    one = Recording([segment(100, 200, holes=(Hole(100, 200, DAMAGED),))])
    assert reasons(ask(110, 120, one)) == [(100, 200, DAMAGED)]


def test_an_empty_archive() -> None:
    assert reasons(ask(110, 120)) == [(110, 120, NOT_RECORDING)]


SPANS = st.tuples(st.integers(0, 60), st.integers(1, 15)).map(lambda p: (p[0], p[0] + p[1]))


@given(
    st.lists(SPANS, max_size=4),
    st.lists(st.tuples(SPANS, st.sampled_from([None, 2, 10])), max_size=4),
    SPANS,
    st.sampled_from([frozenset(), frozenset({2}), frozenset({10})]),
)
def test_complete_just_where_each_second_is(
    parts: list[tuple[int, int]],
    gaps: list[tuple[tuple[int, int], int | None]],
    window: tuple[int, int],
    families: frozenset[int],
) -> None:
    holes = tuple(Hole(*span, "overrun", family=family) for span, family in gaps)
    ordered = sorted(parts)
    spans = [
        segment(start, until, number, follows=False, holes=holes if number == 0 else ())
        for number, (start, until) in enumerate(ordered)
    ]
    found = ask(*window, Recording(spans), families=families)

    def is_covered(second: int) -> bool:
        held = any(start <= second < until for start, until in ordered)
        hidden = spans and any(
            first <= second < last and (family is None or not families or family in families)
            for (first, last), family in gaps
        )
        return held and not hidden

    assert found.proved == all(is_covered(second) for second in range(*window))
    for second in range(*window):
        if not is_covered(second):
            assert any(hole.start <= second < max(hole.end, hole.start + 1) for hole in found.holes)


def test_what_was_open_is_known_from_a_dump_before_or_after() -> None:
    """A hole matters to what was open if no dump of the table lies between."""

    def proved(since: int, dumps: tuple[tuple[int, int], ...], *gaps: tuple[int, int]) -> bool:
        holes = tuple(Hole(*gap, "overrun") for gap in gaps)
        one = Recording([segment(100, 900, dumps=dumps, holes=holes)])
        return ask(since, since + 10, one, open_flows=True).proved

    assert proved(300, ((101, 110),))
    assert proved(300, ((400, 410),)), "no dump before, but nothing is missing up to one"
    assert not proved(300, ()), "what was open when it began is not known"
    assert not proved(300, ((101, 110),), (200, 210))
    assert proved(300, ((101, 110), (220, 230)), (200, 210))
    assert proved(300, ((101, 110), (400, 410)), (200, 210))
    assert not proved(300, ((101, 110), (400, 410)), (200, 210), (350, 360))
    assert not proved(300, ((101, 110), (400, 410)), (305, 306))


def test_a_dump_of_other_protocols_proves_nothing() -> None:
    main = segment(100, 900)
    udp = segment(100, 900, chain="d", protocols=frozenset({17}), dumps=((101, 110),))
    both = Recording([main]), Recording([udp])
    assert not ask(300, 310, *both, open_flows=True).proved
    assert ask(300, 310, *both, open_flows=True, protocols=frozenset({17})).proved


def test_times_of_a_wrong_clock_cover_nothing() -> None:
    ahead = Recording([segment(100, 5000), segment(300, 400, 2)])
    assert not ask(450, 460, ahead).proved
    assert ask(250, 350, ahead).proved
    last = Recording([segment(100, 5000)])
    assert judge(Scope(1500, 1501), [last], NOW).completeness is not Completeness.COMPLETE


STEPS = {  # in minutes
    "forward, and right again": ([(200, 5200), (5260, 260)], [(200, 260), (5200, 5260)]),
    "back, and right again": ([(500, 100), (150, 550)], [(100, 500), (150, 550)]),
    "forward alone": ([(200, 5200)], [(200, 5200)]),
    "back alone": ([(500, 100)], [(100, 500)]),
    "back twice": ([(500, 100), (300, 200)], [(100, 500), (200, 300)]),
    "forward, right again, and forward": (
        [(200, 600), (650, 250), (300, 400)],
        [(200, 250), (600, 650), (300, 400)],
    ),
    "back before the step": ([(200, 600), (610, 150)], [(150, 200), (600, 610)]),
    "forward, and a part of the way back": (
        [(200, 900), (920, 800)],
        [(200, 800), (900, 920)],
    ),
    "less than a minute in common": ([(200, 205), (208.5, 204.5)], [(200, 205), (204.5, 208.5)]),
}


@pytest.mark.parametrize(("steps", "left"), STEPS.values(), ids=list(STEPS))
@pytest.mark.parametrize("apart", [True, False])
def test_steps_of_the_clock(
    steps: list[tuple[float, float]], left: list[tuple[float, float]], apart: bool
) -> None:
    """(before, after) of each step: times that came just once are no hole."""
    spans = [(int(before * MINUTE), int(after * MINUTE)) for before, after in steps]
    known = [(Hole(min(step), max(step), "clock"), step[1] - step[0]) for step in spans]
    if apart:  # each in a segment of its own
        segments = [segment(0, None, 1 + at, steps=(step,)) for at, step in enumerate(known)]
    else:
        segments = [segment(0, NOW, steps=tuple(known))]
    found = [(hole.start, hole.end) for hole in Recording(segments).holes]
    assert sorted(found) == sorted((int(a * MINUTE), int(b * MINUTE)) for a, b in left)


def test_expired_and_skipped_segments_are_not_missing() -> None:
    expired = Recording([segment(100, 200), segment(300, 400, 3, follows=False, expired=True)])
    assert reasons(ask(150, 350, expired)) == [(200, 300, NOT_RECORDING)]
    skipped = Recording([segment(100, 200), segment(300, 400, 3, follows=False, skipped=True)])
    assert not skipped.holes


def test_holes_of_files_that_cannot_be_read() -> None:
    one = Recording([segment(100, 200)])
    unread = [Hole(0, 2000, "unproved")]
    assert judge(Scope(110, 120), [one], NOW).proved
    assert not judge(Scope(110, 120), [one], NOW, unread).proved
