"""The check of a page: no byte can be changed unseen, and what the log has lost makes no liar."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ctrecorder.errors import ExitCode
from ctrecorder.page import answer, redact, twin, verify
from ctrecorder.page.verify import State
from tests.support import page_twins
from tests.support.faces import ROOT
from tests.support.page_twins import flow, hole, person, question

PAGE = answer.html(page_twins.several()).encode()


def code(data: bytes) -> ExitCode:
    return verify.exit_code(verify.check(data, None))


@pytest.mark.parametrize("make", [page_twins.answer, page_twins.several, page_twins.of_letter])
def test_a_page_that_was_not_changed(make: Any) -> None:
    whole = make()
    (found,) = verify.check(answer.html(whole).encode(), None)
    assert found.state is State.SAME
    assert twin.digest(twin.spelling(whole)) in found.text


@given(st.integers(0, len(PAGE) - 1), st.integers(1, 255))
@example(0, 1)
@example(len(PAGE) - 1, 2)
@example(PAGE.index(b"form 1") + 5, ord("1") ^ ord("2"))
@example(PAGE.index(b"Ada Example"), 32)
def test_any_byte_that_is_changed_is_found(place: int, bits: int) -> None:
    changed = bytearray(PAGE)
    changed[place] ^= bits
    assert code(bytes(changed)) == ExitCode.NO


@given(st.integers(0, len(PAGE)), st.binary(min_size=1, max_size=3), st.integers(0, 3))
def test_bytes_that_are_put_in_or_taken_out_are_found(place: int, more: bytes, less: int) -> None:
    changed = PAGE[:place] + more + PAGE[place + less :]
    assert changed == PAGE or code(changed) == ExitCode.NO


@pytest.mark.slow
def test_thousands_of_changed_bits_are_found() -> None:
    chance = random.Random(5)
    for place in chance.sample(range(len(PAGE)), 2000):
        changed = bytearray(PAGE)
        changed[place] ^= 1 << chance.randrange(8)
        assert code(bytes(changed)) == ExitCode.NO, place


@pytest.mark.parametrize(
    "data",
    [b"", b"\xff", b"<html></html>", PAGE[:-1], PAGE + b"\n", PAGE.replace(b"\n", b"\r\n")]
    + [PAGE + PAGE, PAGE.replace(b"</pre>", b""), b"\xef\xbb\xbf" + PAGE],
)
def test_what_is_no_page_or_not_whole(data: bytes) -> None:
    (found,) = verify.check(data, None)
    assert found.state is State.CHANGED
    assert "\n" not in found.text


def test_the_line_that_was_changed_is_shown() -> None:
    (found,) = verify.check(PAGE.replace(b"<strong>10.0.0.5", b"<strong>10.0.0.6", 1), None)
    assert 'is "<li><strong>10.0.0.6' in found.text
    assert 'was "<li><strong>10.0.0.5' in found.text
    (found,) = verify.check(PAGE.replace(b"<p>Complete", b"<p>\x1b[2J") + b"\x1b[2J", None)
    assert found.text.isprintable()


def test_a_twin_of_another_hash_is_found_in_any_form_of_the_page() -> None:
    other = PAGE.replace(b"form 1", b"form 7").replace(b"A-2026-117", b"A-2026-118")
    (found,) = verify.check(other, None)
    assert found.state is State.CHANGED
    assert "SHA-256" in found.text


def test_a_page_of_this_form_that_was_made_before_is_still_right() -> None:
    """If this fails, a page has other words than before for the same twin: raise FORM, and make the
    file of that form, so that no page of before is called changed:

        python3 -B -c 'from tests.support import page_twins as t; from ctrecorder.page import answer
        print(answer.html(t.every_word()), end="")' > tests/data/page/form-N.html
    """
    made = ROOT / "tests" / "data" / "page" / f"form-{answer.FORM}.html"
    (found,) = verify.check(made.read_bytes(), None)
    assert found.state is State.SAME, found.text


def test_a_later_form_of_the_page_cannot_be_compared() -> None:
    later = PAGE.replace(b"form 1", b"form 2").replace(b"<h2>Clock", b"<h2>The clock")
    (found,) = verify.check(later, None)
    assert found.state is State.UNKNOWN
    assert "trust the twin" in found.text


def test_a_zone_that_is_not_installed_is_no_change() -> None:
    """Such a page comes from a machine that knows the zone."""
    whole = page_twins.answer(question=question(zone="Atlantis/Capital"))
    page = answer.html(whole).replace("+00:00 (UTC)", "+09:00")
    (found,) = verify.check(page.encode(), None)
    assert found.state is State.UNKNOWN
    assert "tzdata" in found.text


def archive(*answers: Any) -> verify.Ask:
    """An archive that gives these answers."""

    def ask(old: list[Any]) -> list[Any]:
        assert [one["question"]["address"] for one in old] == ["198.51.100.1"] * len(answers)
        return list(answers)

    return ask


def test_whoever_makes_a_page_cannot_make_the_archive() -> None:
    forged = page_twins.answer(persons=[person(address="10.0.0.99")])
    page = answer.html(forged).encode()
    assert code(page) == ExitCode.OK
    found = verify.check(page, archive(page_twins.answer()))
    assert [one.state for one in found] == [State.SAME, State.CHANGED]
    assert "10.0.0.99" in found[1].text
    assert "10.0.0.5" in found[1].text
    assert verify.exit_code(found) == ExitCode.NO


def test_a_changed_page_is_not_asked_again() -> None:
    def ask(old: list[Any]) -> list[Any]:
        pytest.fail("a question that may not be the one that was asked")

    assert len(verify.check(PAGE[:-1], ask)) == 1


LOST = {"complete": False, "holes": [hole(reason="missing-segment")]}
OTHER = person(address="10.0.0.6")
BOUND_START = {"start": "2026-11-24T05:00:00Z", "start_source": "bound"}
UNKNOWN_END = {"end": None, "end_source": "unknown"}


@pytest.mark.parametrize(
    ("old", "new", "state"),
    [
        (page_twins.answer(), page_twins.answer(), State.SAME),
        (page_twins.several(), page_twins.several(), State.SAME),
        (page_twins.answer("NOBODY", persons=[]), page_twins.answer(), State.CHANGED),
        (page_twins.answer(), page_twins.answer("NOBODY", persons=[]), State.CHANGED),
        (page_twins.answer(), page_twins.answer(persons=[OTHER]), State.CHANGED),
        (
            page_twins.answer(),
            page_twins.answer("SEVERAL", persons=[person(), OTHER]),
            State.CHANGED,
        ),
        (page_twins.answer(), page_twins.answer(persons=[person(zone=4)]), State.CHANGED),
        (page_twins.answer(), page_twins.answer(persons=[person(mark=4)]), State.CHANGED),
        (page_twins.answer(), page_twins.answer(persons=[person(ports=[1])]), State.CHANGED),
        (page_twins.answer(), page_twins.answer(persons=[person(connections=2)]), State.CHANGED),
        (
            page_twins.answer(),
            page_twins.answer(persons=[person(end="2026-11-24T05:04:00Z")]),
            State.CHANGED,
        ),
        (page_twins.answer(), page_twins.answer(persons=[person(**UNKNOWN_END)]), State.UNKNOWN),
        (page_twins.answer(), page_twins.answer(persons=[person(**BOUND_START)]), State.UNKNOWN),
        (
            page_twins.answer(),
            page_twins.answer(persons=[person(**BOUND_START, ports=[1])]),
            State.CHANGED,
        ),
        *(
            (page_twins.answer(), page_twins.answer(persons=[person(flows=flows)]), State.CHANGED)
            for flows in (
                [],
                [flow(), flow()],
                [flow(protocol="udp")],
                [flow(remote={"address": "203.0.113.10", "port": 443})],
                [flow(remote_behind={"address": "10.9.9.9"})],
                [flow(end="2026-11-24T05:03:10Z")],
            )
        ),
        (
            page_twins.answer(persons=[person(flows=[flow(), flow(protocol="udp")])]),
            page_twins.answer(persons=[person(flows=[flow(protocol="udp"), flow()])]),
            State.SAME,
        ),
        (page_twins.answer(persons=[person(flows=None)]), page_twins.answer(), State.SAME),
        (
            page_twins.answer(),
            page_twins.answer(clock=[{"host": "gate1", "synchronised": False}]),
            State.CHANGED,
        ),
        (page_twins.answer(shared_by=43), page_twins.answer(shared_by=1), State.CHANGED),
        # What was not known then, or is only more exact now.
        (page_twins.answer(persons=[person(**UNKNOWN_END)]), page_twins.answer(), State.SAME),
        (
            page_twins.answer(persons=[person(start_source="bound")]),
            page_twins.answer(persons=[person(start="2026-11-24T04:00:00Z")]),
            State.SAME,
        ),
        (
            page_twins.answer(persons=[person(end="2026-11-24T05:03:11.004512789Z")]),
            page_twins.answer(),
            State.SAME,
        ),
        (page_twins.answer("NOT YET", persons=[], **LOST), page_twins.answer(), State.UNKNOWN),
        (page_twins.answer("NOT RECORDED", persons=[], **LOST), page_twins.answer(), State.UNKNOWN),
        (page_twins.answer("ONE KNOWN (not proved)", **LOST), page_twins.answer(), State.UNKNOWN),
        (
            page_twins.answer("ONE KNOWN (not proved)", **LOST),
            page_twins.answer("SEVERAL", persons=[person(), OTHER]),
            State.UNKNOWN,
        ),
        # Who says more than the log does, which has lost nothing.
        (page_twins.answer(), page_twins.answer("ONE KNOWN (not proved)"), State.CHANGED),
        (page_twins.answer("ONE KNOWN (not proved)"), page_twins.answer(), State.UNKNOWN),
        (page_twins.answer("SEVERAL"), page_twins.answer(), State.CHANGED),
        # Two customers had one host; only --names knows that.
        (
            page_twins.answer(
                "SEVERAL", persons=[person(customers=[{"name": "a"}, {"name": "b"}])]
            ),
            page_twins.answer(),
            State.SAME,
        ),
        # What expired, or was lost since.
        (page_twins.answer(), page_twins.answer("NO LONGER KEPT", persons=[]), State.UNKNOWN),
        (
            page_twins.answer("NO LONGER KEPT", persons=[]),
            page_twins.answer("NO LONGER KEPT", persons=[]),
            State.SAME,
        ),
        (page_twins.answer(), page_twins.answer("ONE KNOWN (not proved)", **LOST), State.UNKNOWN),
        (
            page_twins.answer(),
            page_twins.answer("NOBODY KNOWN (not proved)", persons=[], **LOST),
            State.UNKNOWN,
        ),
        (
            page_twins.answer("NOBODY", persons=[]),
            page_twins.answer("ONE KNOWN (not proved)", **LOST),
            State.CHANGED,
        ),
        (page_twins.several(), page_twins.answer("ONE KNOWN (not proved)", **LOST), State.UNKNOWN),
        (page_twins.several(), page_twins.answer(), State.CHANGED),
    ],
)
def test_the_answer_then_and_now(old: Any, new: Any, state: State) -> None:
    old_known, new_known = (twin.known(one)["questions"][0] for one in (old, new))
    found = verify.compare(old_known, new_known)
    assert found.state is state, found.text
    asked = verify.check(answer.html(old).encode(), archive(new))
    assert asked[1] == found
    assert verify.exit_code(asked) == state.value


def test_each_question_of_a_letter_that_can_be_asked_is_asked_once() -> None:
    whole = page_twins.of_letter()
    asked: list[Any] = []

    def ask(old: list[Any]) -> list[Any]:
        asked.extend(old)
        return [one for one in whole["questions"] if one["verdict"] != "CANNOT BE ASKED"]

    found = verify.check(answer.html(whole).encode(), ask)
    assert [one["verdict"] for one in asked] == [
        verdict for verdict in twin.VERDICTS if verdict != "CANNOT BE ASKED"
    ]
    assert {one.state for one in found} == {State.SAME}
    assert found[8].text.startswith("question 8: could not be asked")


def sighted(line: int, *hosts: Any, verdict: str = "SEVERAL") -> Any:
    read = [{"field": "address", "text": "198.51.100.1", "line": line}]
    return page_twins.answer(verdict, question=question(read_from=read), persons=list(hosts))


def test_what_is_said_of_all_sightings_follows_from_the_answers() -> None:
    answers = [
        sighted(1, person(), OTHER),
        sighted(2, person(zone=9)),
        sighted(2, person()),
        sighted(3, verdict="NOT RECORDED"),
    ]
    whole = {"questions": answers, "common": {"sightings": 2, "persons": [person()]}}
    assert code(answer.html(whole).encode()) == ExitCode.OK
    for persons in ([], [OTHER], [person(), OTHER], [person(zone=9)]):
        forged = {**whole, "common": {"sightings": 2, "persons": persons}}
        assert code(answer.html(forged).encode()) == ExitCode.NO
    nobody = {**whole, "questions": [*answers, sighted(4, verdict="NOBODY")]}
    assert code(answer.html(nobody).encode()) == ExitCode.NO
    assert code(answer.html({**whole, "questions": []}).encode()) == ExitCode.NO


def test_without_its_remote_end_a_question_is_not_asked() -> None:
    whole = redact.redact(page_twins.answer())
    found = verify.check(answer.html(whole).encode(), archive())
    assert [one.state for one in found] == [State.SAME, State.UNKNOWN]
    whole = redact.redact(page_twins.answer(question=question(remote=None)))
    found = verify.check(answer.html(whole).encode(), archive(page_twins.answer()))
    assert [one.state for one in found] == [State.SAME, State.SAME]
