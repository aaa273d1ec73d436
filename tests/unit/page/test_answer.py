"""The page: all that an answer says, nothing that runs, nothing that is loaded."""

from __future__ import annotations

import hashlib
import re
from base64 import b64encode
from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctrecorder.page import answer, mail_text, pack, redact, twin, verify
from ctrecorder.page.shape import TwinError
from tests.support import page_twins
from tests.support.page_twins import FREE, HOSTILE, with_text
from tests.unit.page.test_twin import JSON, changed, places

# No element of these loads, runs, sends or refers to anything.
ELEMENTS = {"html", "head", "meta", "title", "style", "body", "main", "h1", "h2", "h3", "p", "div"}
ELEMENTS |= {"ul", "li", "dl", "dt", "dd", "table", "caption", "thead", "tbody", "tr", "th", "td"}
ELEMENTS |= {"details", "summary", "pre", "span", "strong", "bdo", "bdi"}
ATTRIBUTES = {"charset", "http-equiv", "content", "name", "lang", "class", "id", "scope", "dir"}
VOID = {"meta"}


class Reader(HTMLParser):
    """The elements, attributes and texts of a page; each element must be closed in its order."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: set[str] = set()
        self.attributes: set[str] = set()
        self.open: list[str] = []
        self.texts: dict[str, list[str]] = {}
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.add(tag)
        self.attributes |= {name for name, _ in attrs}
        if tag not in VOID:
            self.open.append(tag)
            self.texts.setdefault(tag, []).append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        for tag in self.open:
            self.texts[tag][-1] += data

    def handle_comment(self, data: str) -> None:
        pytest.fail(f"a comment: {data}")


def shown(page: str) -> str:
    """The text of a page as it is read: one space for each space and each new line."""
    (body,) = Reader(page).texts["body"]
    return " ".join(body.split())


@pytest.mark.parametrize("make", [page_twins.answer, page_twins.several, page_twins.of_letter])
def test_a_page_has_its_twin_and_nothing_that_runs(make: Any) -> None:
    page = answer.html(make())
    read = Reader(page)
    assert read.elements <= ELEMENTS
    assert read.attributes <= ATTRIBUTES
    spelled = twin.spelling(make())
    assert read.texts["pre"][-1] == spelled
    assert twin.read(read.texts["pre"][-1]) == make()
    assert page.count(twin.digest(spelled)) == 3, "for eyes, on each sheet, in the mail"
    (sheet,) = read.texts["style"]
    digest = b64encode(hashlib.sha256(sheet.encode()).digest()).decode()
    assert f'content="default-src &#x27;none&#x27;; style-src &#x27;sha256-{digest}&#x27;' in page
    assert not re.search(r"url\(|@import|expression|//", sheet)


@pytest.mark.parametrize("text", HOSTILE)
def test_what_others_wrote_is_text(text: str) -> None:
    """Each text of a twin can be anything."""
    for whole in (page_twins.of_letter(), page_twins.several()):
        page = answer.html(with_text(whole, text, FREE))
        read = Reader(page)
        assert read.elements <= ELEMENTS
        assert read.attributes <= ATTRIBUTES
        assert all(char.isprintable() or char == "\n" for char in page)
        assert [cell for cell in read.texts["td"] if cell.strip()[:1] in ("=", "+", "-", "@")] == []
        assert len(read.texts["style"]) == 1


TWINS = [page_twins.several(), page_twins.unread_letter()]
PLACES = [(whole, path) for whole in TWINS for path in places(whole)]


@pytest.mark.slow
@given(st.sampled_from(PLACES), JSON)
def test_whatever_is_a_twin_can_be_shown_copied_packed_and_checked(
    place: tuple[Any, tuple[Any, ...]], value: Any
) -> None:
    """A page can be a stranger's: no traceback for any value in any place."""
    whole = changed(place[0], place[1], value)
    try:
        for each in (whole, redact.redact(whole)):
            page = answer.html(each)
            assert Reader(page).elements <= ELEMENTS
            assert mail_text.text(each).replace("\n", "").isprintable()
            pack.pack(each, None, {})
            (found,) = verify.check(page.encode(), None)
            assert found.state is verify.State.SAME or "sightings" in found.text
    except TwinError:
        pass


def test_the_verdict_comes_first_and_each_fact_is_shown() -> None:
    page = shown(answer.html(page_twins.several()))
    order = ["Who had 198.51.100.1 port 40000, tcp?", "SEVERAL", "10.0.0.5, zone 3"]
    order += ["Question, as it was understood", "Inside hosts", "Coverage of the log", "Clock"]
    order += ["Evidence", "Check this page", "ctwho --verify FILE.html /var/log/ctrecorder"]
    places = [page.index(each) for each in order]
    assert places == sorted(places)
    for fact in (
        "40000 (the port that it sent from)",
        "Remote end 203.0.113.9 port 443",
        "“2026-11-24 06:00:05 +01:00”",
        "From 2026-11-24 06:00:04 +01:00 2026-11-24 05:00:04 +00:00 (UTC)",
        "Time zone the zone is written in the time: +01:00",
        "1 s, added at both ends",
        "“A-2026-117”",
        "“Ada Example, line 12”",
        "host known, customer not",
        "10.0.0.77, mark 0x9 only by the tolerance: it had ended before, or began after",
        "Began at or before, seen in a dump of the table: 2026-11-24 05:59:58.12 +01:00",
        "Began: not recorded",
        "by the clock of the recorder, when the event arrived: 2026-11-24 06:03:11.004512 +01:00",
        "tcp, incoming",
        "2001:db8:5:6::9 port 50500",
        "Not complete: 1 hole.",
        "the kernel dropped events: the receive buffer was full at least 3,511 events lost",
        "only udp only 192.0.2.0/24",
        "“gate1”: synchronised, at most 0.012 s off",
        "c0ffee00c0ffee00c0ffee00c0ffee00 17 00000000000000000000000000000011 yes recorded",
        "ctrecorder 1.1.0",
    ):
        assert fact in page, fact


def test_a_letter_has_an_overview_its_hash_and_the_bytes_of_each_field() -> None:
    page = shown(answer.html(page_twins.of_letter()))
    together = "All sightings together 1 inside host fits all 3 sightings."
    assert page.startswith(f"Answers to 9 questions of a letter {together} Not each of the answers")
    for number, verdict in enumerate(twin.VERDICTS, 1):
        assert f"Question {number} of 9: 198.51.100.1" in page
        assert page.count(verdict) >= 2
    for fact in (
        f"SHA-256 of the letter {page_twins.LETTER_SHA256}",
        "port “40000” “notice.eml” 1.2 5",
        "the zone is noted elsewhere in the letter: Europe/Berlin",
        "the time has no zone: ask with --zone",
        "43 inside hosts shared this address at that time.",
        "Recorded until 2026-11-24 05:59:00 +01:00",
        "00000000000000000000000000000013 no imported not asked 1-5",
        "not known 2026-11-24 06:00:08 +01:00",
    ):
        assert fact in page, fact


def test_a_letter_without_a_question() -> None:
    page = shown(answer.html(page_twins.unread_letter()))
    assert page.startswith("A letter from which no question could be read Evidence")
    assert "Why nothing is asked the form of this letter is not known" in page
    assert "and are not asked" in page
    assert f"seen “{page_twins.REMOTE}” “hello.txt” 2" in page


def test_an_id_of_icmp_a_vouched_clock_and_a_receipt() -> None:
    whole = page_twins.answer(
        question=page_twins.question(port=None, id=4711, protocol="icmp", clock_error_seconds=0.25),
        clock=[{"host": "g", "synchronised": False, "error_seconds": None, "trusted": True}],
        persons=[page_twins.person(flows=[page_twins.flow(remote_behind={"address": "10.9.9.9"})])],
        evidence={
            "segments": [],
            "receipts": [
                {
                    "file": "old.ctlog",
                    "since": "2026-01-01T00:00:00Z",
                    "until": "2026-01-02T00:00:00Z",
                    "rows": 5,
                    "hashes": ["aa", "bb"],
                    "deleted": "2026-04-01T00:00:00Z",
                    "reason": "age",
                }
            ],
        },
    )
    page = shown(answer.html(whole))
    assert "Who had 198.51.100.1 id 4711, icmp?" in page
    assert "ICMP id 4711" in page
    assert "the port that it sent from" not in page
    assert "Error of the clock of the router 0.25 s, added at both ends" in page
    assert "not synchronised; the operator vouches for it (--trust-clock)" in page
    assert "203.0.113.9 port 443 which is 10.9.9.9" in page
    assert (
        "“old.ctlog” 2026-01-01 00:00:00 +00:00 (UTC) 2026-01-02 00:00:00 +00:00 (UTC) aa bb"
        in page
    )


def test_a_zone_that_this_machine_lacks_is_said() -> None:
    whole = page_twins.answer(question=page_twins.question(zone="Atlantis/Capital"))
    page = shown(answer.html(whole))
    assert "Not known here, so that only UTC is shown: Atlantis/Capital." in page
    assert "2026-11-24 05:00:04 +00:00 (UTC)" in page


def test_the_command_quotes_paths() -> None:
    whole = page_twins.answer(question=page_twins.question(archive=["/a b", "$(x)", "/a b"]))
    assert answer.check_command(twin.known(whole)) == ("ctwho --verify FILE.html '/a b' '$(x)'")
