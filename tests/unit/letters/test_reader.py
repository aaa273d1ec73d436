"""Letters of all forms, made and invented, read."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctrecorder.envelopes.clock import begin
from ctrecorder.letters.forms import Reading
from ctrecorder.letters.read import read
from ctrecorder.letters.reader import merged
from ctrecorder.letters.sighting import Letter, Sighting
from ctrecorder.moments.moment import Basis
from tests.support.letter_mutations import Original, check, mutated
from tests.support.letters import FORMS, Question, Style, asked
from tests.support.letters_strategy import questions, styles

# 2026-11-28 12:00 UTC.
NOW = 1_795_867_200 * 10**9
TWINS = Path(__file__).resolve().parents[2] / "data" / "letters"


def one(data: bytes, zone: str = "") -> Letter:
    (letter,) = read(data, "letter", NOW, zone)
    return letter


def twin(name: str) -> bytes:
    return (TWINS / name).read_bytes()


def ask(
    address: str, port: int | None = None, when: str = "", role: str = "", **more: Any
) -> Question:
    """A question as a person writes it down; the role is that of a source unless it is told."""
    second = int(datetime.fromisoformat(when).timestamp()) if when else None
    until = more.pop("until", None)
    found = Question(address, port, role or ("source" if port else "none"), second)
    if isinstance(until, str):
        found = replace(found, until=int(datetime.fromisoformat(until).timestamp()))
    return replace(found, **more)


# What a person reads in each invented letter: form, case number, questions.
TRUTH: dict[str, tuple[str, str, list[Question]]] = {
    "abusehub-three-ways.eml": (
        "AbuseHUB CSV",
        "",
        [
            ask(
                "203.0.113.99",
                2005,
                "2026-11-17T22:30:15Z",
                remote="192.0.2.40",
                remote_port=16465,
                protocol="udp",
            ),
        ],
    ),
    "acns-signed.eml": (
        "ACNS 1.2 XML",
        "SB-2026-118",
        [
            ask("198.51.100.44", 38121, "2026-11-23T21:40:07Z"),
            ask("198.51.100.44", 38121, "2026-11-23T21:55:30Z"),
        ],
    ),
    "acns2-listening.xml": (
        "ACNS 2.x XML",
        "Watt-9",
        [
            ask("2001:db8::7:0:0:9", 51413, "2026-10-31T23:59:59Z", "listening"),
            ask("2001:db8::7:0:0:9", 51413, "2026-11-01T00:30:00Z", "listening"),
        ],
    ),
    "arf-6692.eml": ("ARF", "", [ask("2001:db8:77::25", 41414, "2026-11-20T11:59:12Z")]),
    "arf-received.eml": (
        "ARF",
        "1abc-2def",
        [
            ask("198.51.100.200", 50449, "2026-11-20T11:59:10Z", until="2026-11-20T11:59:12Z"),
        ],
    ),
    "cells.csv": (
        "CSV",
        "",
        [
            ask(
                "198.51.100.60",
                41000,
                "2026-11-24T05:00:05Z",
                remote="192.0.2.80",
                remote_port=443,
                protocol="tcp",
            ),
            ask("198.51.100.61", None, "2026-11-24T06:00:06Z", protocol="udp"),
        ],
    ),
    "fail2ban-complain.eml": (
        "log lines",
        "",
        [
            ask("198.51.100.31", 52001, "2026-11-24T01:58:01Z"),
            ask("198.51.100.31", 52001, "2026-11-24T01:58:03Z"),
            ask("198.51.100.31", 52044, "2026-11-24T01:58:09Z"),
            ask("198.51.100.31", 53000, "2026-11-24T01:59:00Z"),
        ],
    ),
    "honeypot.eml": (
        "report in prose",
        "",
        [
            ask("198.51.100.3", None, "2026-11-21T07:00:00Z"),
            ask("198.51.100.3", None, "2026-11-21T19:05:00Z"),
            ask("2001:db8:3::1", None, "2026-11-21T06:59:00Z"),
        ],
    ),
    "kernel-lines.eml": (
        "log lines",
        "",
        [
            ask(
                "203.0.113.17",
                40777,
                "2026-11-22T09:30:00Z",
                remote="192.0.2.4",
                remote_port=23,
                protocol="tcp",
            ),
            ask(
                "203.0.113.17",
                40778,
                "2026-11-22T09:30:01Z",
                remote="192.0.2.5",
                remote_port=23,
                protocol="tcp",
            ),
        ],
    ),
    "list-utf16.txt": ("list", "", [ask("198.51.100.90", 40090, "2026-11-24T06:00:05Z")]),
    "list.txt": (
        "list",
        "",
        [
            ask("198.51.100.1", 40000, "2026-11-24T05:00:05Z"),
            ask("2001:db8::5", 443, "2026-11-24T06:00:05Z"),
            ask("198.51.100.2", 40001, "2026-11-24T06:00:05Z"),
            ask("198.51.100.3", 40002, "2026-11-24T06:00:05Z"),
            ask("198.51.100.4", 40003, "2026-11-24T05:00:05Z", protocol="tcp"),
            ask("198.51.100.5", None, "2026-11-24T06:00:05Z"),
            ask(
                "198.51.100.6", 40006, "2026-11-24T06:00:05Z", remote="203.0.113.9", remote_port=443
            ),
            ask("198.51.100.7", 40007, "2026-11-24T06:00:00Z"),
            ask("198.51.100.8", 40008),
        ],
    ),
    "unknown.eml": ("", "", []),
    "xarf1-octets.eml": (
        "X-ARF 0.1",
        "ft-0001",
        [ask("203.0.113.40", None, "2026-11-24T00:03:11Z")],
    ),
    "xarf1-uri.eml": ("X-ARF 0.1", "mu.5", [ask("203.0.113.8", None, "2026-11-24T07:12:00Z")]),
    "xarf2-lines.eml": (
        "X-ARF 0.2",
        "1795582805@leuchtturm.example",
        [
            ask("198.51.100.77", None, "2026-11-24T05:00:05Z"),
            ask("198.51.100.77", 40110, "2026-11-24T04:59:58Z"),
            ask(
                "198.51.100.77", 40112, "2026-11-24T05:00:01Z", remote="192.0.2.10", remote_port=22
            ),
        ],
    ),
    "xarf3-amplifier.json": (
        "XARF 3",
        "D-3",
        [
            ask(
                "203.0.113.53",
                53,
                "2026-11-20T10:10:10Z",
                "service",
                remote="192.0.2.66",
                remote_port=4444,
                protocol="udp",
            ),
        ],
    ),
    "xarf3-nested.json": (
        "XARF 3",
        "",
        [
            ask("198.51.100.9", 33444, "2026-11-20T10:00:00Z", until="2026-11-20T10:05:00Z"),
        ],
    ),
    "xarf4-peer.json": (
        "XARF 4",
        "00000000-0000-4000-8000-00000000c0de",
        [
            ask("198.51.100.120", 51413, "2026-11-19T19:00:00Z", "listening"),
            ask("2001:db8:5::1", None, "2026-11-19T20:00:00Z"),
        ],
    ),
}


@pytest.mark.parametrize("name", TRUTH)
def test_invented_letters(name: str) -> None:
    letter = one(twin(name))
    form, reference, questions = TRUTH[name]
    assert [asked(each) for each in letter.sightings] == questions
    assert (letter.form, letter.reference) == (form, reference)
    assert bool(letter.problem) == (not questions)


def test_every_invented_letter_has_its_truth() -> None:
    assert {path.name for path in TWINS.iterdir()} == TRUTH.keys()


@pytest.mark.parametrize("name", TRUTH)
def test_the_very_bytes_stand_at_their_place(name: str) -> None:
    """In a file, the line of each field holds its bytes; in a part, the bytes are those of it."""
    data = twin(name)
    for each in one(data).sightings:
        for field in (each.address, each.port, each.first, each.last, each.remote_address):
            if field is None:
                continue
            assert field.place.file == "letter"
            if field.place.part == "" and not data.startswith(b"\xff\xfe"):
                assert field.place.raw in data.splitlines()[field.place.line - 1]


@pytest.mark.slow
@pytest.mark.parametrize("name", FORMS)
@given(data=st.data())
def test_a_letter_made_from_questions_gives_them_back(name: str, data: st.DataObject) -> None:
    form = FORMS[name]
    made = data.draw(questions(form))
    letter = one(form.make(made, Style()))
    assert letter.form == form.name
    assert sorted(map(asked, letter.sightings), key=repr) == sorted(made, key=repr)
    assert letter.problem == ""


@pytest.mark.slow
@pytest.mark.parametrize("name", FORMS)
@given(data=st.data())
def test_what_a_reader_must_bear_changes_no_question(name: str, data: st.DataObject) -> None:
    """Line ends, folding, order of fields, encodings."""
    form = FORMS[name]
    made = data.draw(questions(form))
    letter = one(form.make(made, data.draw(styles(form))))
    assert sorted(map(asked, letter.sightings), key=repr) == sorted(made, key=repr)


@pytest.mark.slow
@pytest.mark.parametrize("name", TRUTH)
def test_random_changes_invent_no_question(name: str) -> None:
    """200 of each; tests/faults/fuzz_letters.py tries as many as one likes."""
    original = Original.of(twin(name))
    source = random.Random(name)
    for _ in range(200):
        check(original, *mutated(original.data, source))


def test_what_the_sender_writes_does_not_control_the_terminal() -> None:
    data = twin("unknown.eml").replace(
        b"From: someone@dorf.example",
        b"From: \x1b]0;gone\x07<a@b.example>\nMessage-ID: <\xe2\x80\xae>",
    )
    letter = one(data)
    assert "gone" in letter.sender
    assert letter.sender.isprintable()
    assert letter.message_id == "\\u202e"


def test_an_unknown_form_shows_what_it_saw() -> None:
    letter = one(twin("unknown.eml"))
    assert letter.problem == "of no known form: no question was read"
    assert [(each.value, each.place.part, each.place.line) for each in letter.seen] == [
        ("203.0.113.77", "1", 1),
        ("192.0.2.1", "1", 2),
        ("2026-11-21 18:02 UTC", "1", 4),
    ]


def test_the_zone_of_the_operator_is_the_last_resort() -> None:
    """A zone of the letter wins; a time without one is of unknown basis."""
    letter = one(twin("list.txt"), "Europe/Berlin")
    last = letter.sightings[-1].first
    assert last is not None
    assert last.value.readings[0].basis is Basis.OPTION
    assert asked(letter.sightings[-1]) == ask("198.51.100.8", 40008, "2026-11-24T05:00:05Z")
    assert asked(letter.sightings[0]) == TRUTH["list.txt"][2][0]
    unknown = one(twin("list.txt")).sightings[-1].first
    assert unknown is not None
    assert unknown.value.readings[0].basis is Basis.UNKNOWN


def test_what_is_told_twice_is_asked_once() -> None:
    (sighting,) = one(b"198.51.100.1:40000 2026-11-24T06:00:05Z\n").sightings
    (rough,) = one(b"198.51.100.1 2026-11-24 06:00:05 UTC\n").sightings
    (fine,) = one(b"198.51.100.1:40000 2026-11-24T06:00:05.000Z\n").sightings
    (other,) = one(b"198.51.100.1:40001 2026-11-24T06:00:05Z\n").sightings
    same = Reading("list", [rough, sighting, sighting])
    assert [*map(asked, merged(same))] == [asked(rough), asked(sighting)]
    assert len(merged(Reading("list", [sighting, other]))) == 2
    for pair in ([fine, sighting], [sighting, fine]):
        (both,) = merged(Reading("list", pair))
        assert both.first == sighting.first


def in_part(sighting: Sighting, part: str) -> Sighting:
    place = replace(sighting.address.place, part=part)
    return replace(sighting, address=replace(sighting.address, place=place))


def test_renderings_of_a_notice_are_joined_only_if_they_tell_one_sighting_each() -> None:
    (rough,) = one(b"198.51.100.1 2026-11-24 06:00:05 UTC\n").sightings
    (port,) = one(b"198.51.100.1:40000 2026-11-24T06:00:05Z\n").sightings
    (other,) = one(b"198.51.100.1:40001 2026-11-24T06:00:05Z\n").sightings
    first, second, third = in_part(rough, "1"), in_part(port, "2"), in_part(other, "2")

    def ports(*found: Sighting, twins: bool = True, lines: int = 0) -> list[int | None]:
        return [
            asked(each).port for each in merged(Reading("x", [*found], twins=twins, lines=lines))
        ]

    assert ports(first, second) == ports(second, first) == [40000]
    assert ports(first, in_part(port, "1")) == [None, 40000]
    assert ports(first, second, third) == [None, 40000, 40001]
    assert ports(first, second, twins=False) == [None, 40000]
    # A report and its only log line are one; two log lines are never one.
    assert ports(first, second, lines=1) == [40000]
    assert ports(first, in_part(rough, "2"), in_part(port, "3"), lines=2) == [None, 40000]


@pytest.mark.parametrize(
    "text",
    [
        b"198.51.100.1 2026-11-24 06:00:05 UTC\n198.51.100.1:40001 2026-11-24 06:00:05 UTC\n",
        b"ip,port,time\n198.51.100.1,,2026-11-24T06:00:05Z\n"
        b"198.51.100.1,40001,2026-11-24T06:00:05Z\n",
        b'198.51.100.1 - - [24/Nov/2026:06:00:05 +0000] "GET / HTTP/1.1" 200 1\n'
        b"2026-11-24T06:00:05Z fw kernel: DROP SRC=198.51.100.1 DST=192.0.2.7 SPT=40001 DPT=443\n",
    ],
    ids=["list", "table", "log"],
)
def test_two_lines_of_one_second_are_two_questions(text: bytes) -> None:
    """Behind NAT they can be of two hosts."""
    found = [asked(each) for each in one(text).sightings]
    assert [each.port for each in found] == [None, 40001]
    assert found[0].remote is None


def test_a_letter_in_a_letter() -> None:
    """A letter that was forwarded as an attachment is read; a spam mail in a report is not."""
    outer = (
        b"From: desk@provider.example\nTo: abuse@provider.example\nSubject: FW\n"
        b"MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=o\n\n--o\n"
        b"Content-Type: text/plain\n\nPlease have a look.\n--o\n"
        b"Content-Type: message/rfc822\n\n" + twin("xarf1-uri.eml") + b"\n--o--\n"
    )
    letter = one(outer)
    assert [asked(each) for each in letter.sightings] == TRUTH["xarf1-uri.eml"][2]
    assert letter.sightings[0].address.place.part == "2.2"
    notice = twin("acns2-listening.xml")
    spam = twin("arf-received.eml").replace(b"Buy from 203.0.113.200!", notice)
    assert [asked(each) for each in one(spam).sightings] == TRUTH["arf-received.eml"][2]


def test_a_table_tells_of_its_time_and_not_of_the_future() -> None:
    """11/12 can be of December, which the letter cannot know of yet."""
    letter = one(b"ip,port,time\n198.51.100.1,40000,11/12/2026 06:00:05 UTC\n")
    assert [asked(each) for each in letter.sightings] == [
        ask("198.51.100.1", 40000, "2026-11-12T06:00:05Z")
    ]
    first = letter.sightings[0].first
    assert first is not None
    assert len(first.value.readings) == 1
    assert begin(first) is not None


def test_a_letter_in_a_letter_in_a_letter() -> None:
    data = twin("xarf1-uri.eml")
    for mark in ("a", "b", "c"):
        data = (
            (
                f"From: {mark}@provider.example\nTo: abuse@provider.example\nSubject: FW\n"
                f"MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary={mark}\n\n--{mark}\n"
                f"Content-Type: text/plain\n\nPlease look.\n--{mark}\n"
                "Content-Type: message/rfc822\n\n"
            ).encode()
            + data
            + f"\n--{mark}--\n".encode()
        )
    letter = one(data)
    assert [asked(each) for each in letter.sightings] == TRUTH["xarf1-uri.eml"][2]
