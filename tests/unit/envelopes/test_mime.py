"""Mails, split: compared with the standard library, and what that one gets wrong."""

from __future__ import annotations

import email
import email.policy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctrecorder.envelopes.bounds import Budget, Refused
from ctrecorder.envelopes.mime import Mail, is_mail, parse_mail
from tests.support.letters import Style, mail

HEADERS = b"From: a@kiesel.example\nTo: b@kiesel.example\nSubject: x\nMIME-Version: 1.0\n"


def split(data: bytes) -> Mail:
    return parse_mail(data, "letter", Budget())


def texts(data: bytes) -> list[str]:
    return [part.text.text for part in split(data).parts]


@given(
    st.lists(st.text("ab =-\n.é", max_size=60), min_size=1, max_size=4),
    st.sampled_from(["7bit", "base64", "quoted-printable"]),
    st.sampled_from(["utf-8", "latin-1"]),
)
def test_the_standard_library_splits_it_alike(
    bodies: list[str], transfer: str, charset: str
) -> None:
    style = Style(transfer=transfer, charset=charset)
    data = mail("x", [("text/plain", "a.txt", body) for body in bodies], style)
    message = email.message_from_bytes(data)
    theirs = [part for part in message.walk() if not part.is_multipart()]
    ours = split(data).parts
    assert len(ours) == len(theirs)
    for part, other in zip(ours, theirs, strict=True):
        payload = other.get_payload(decode=True)
        assert isinstance(payload, bytes)
        assert part.text.text.rstrip("\n") == payload.decode(charset).rstrip("\n")
        assert (part.kind, part.name) == ("text/plain", "a.txt")


def test_numbers_of_parts_are_those_of_imap() -> None:
    inner = b'Content-Type: multipart/alternative; boundary="i"\n\n--i\n\none\n--i\n\ntwo\n--i--\n'
    data = HEADERS + b"Content-Type: multipart/mixed; boundary=o\n\npreamble\n--o\n" + inner
    data += (
        b"--o\nContent-Type: message/rfc822\n\n" + HEADERS + b"\nthree\n--o\n\nfour\n--o--\nend\n"
    )
    parts = split(data).parts
    assert [part.text.part for part in parts] == ["1.1", "1.2", "2", "3"]
    enclosed = parts[2].mail
    assert enclosed is not None
    assert [part.text.part for part in enclosed.parts] == ["2.1"]
    assert enclosed.words("subject") == "x"
    assert enclosed.headers[0].text.part == "2"


def test_a_feedback_report_is_no_container() -> None:
    data = HEADERS + b"Content-Type: message/feedback-report\n\nSource-IP: 198.51.100.1\n"
    assert texts(data) == ["Source-IP: 198.51.100.1\n"]


def test_the_end_of_the_last_part_may_be_missing() -> None:
    data = HEADERS + b'Content-Type: multipart/mixed; boundary="o"\n\n--o\n\none\n--o\n\ntwo\n'
    assert texts(data) == ["one\n", "two\n"]


def test_a_boundary_that_never_comes_is_one_part() -> None:
    assert texts(HEADERS + b"Content-Type: multipart/mixed; boundary=o\n\nall\n") == ["all\n"]


@pytest.mark.parametrize(
    ("packed", "expected", "broken"),
    [
        (b"aGVsbG8=", "hello", ""),
        (b"aGVs\nbG8", "hello", ""),
        (b"aGVsbG8=\n-- \nfoot", "hello", "its base64 is broken"),
        (b"aGVs*bG8=", "hel", "its base64 is broken"),
        (b"aGVsb", "hel", "its base64 is broken"),
    ],
)
def test_broken_base64_gives_what_is_whole(packed: bytes, expected: str, broken: str) -> None:
    (part,) = split(HEADERS + b"Content-Transfer-Encoding: base64\n\n" + packed).parts
    assert (part.text.text, part.broken) == (expected, broken)


def test_folded_and_encoded_headers() -> None:
    data = (
        b"From: a@b.example\nTo: c@d.example\nSubject: =?utf-8?q?K=C3=A4se?=\n =?x?b?!?= 7\n\nbody"
    )
    header = split(data).header("subject")
    assert header is not None
    assert header.value == "=?utf-8?q?K=C3=A4se?= =?x?b?!?= 7"
    assert header.words.startswith("Käse")
    assert header.text.text[header.start : header.end].startswith(" =?utf-8?q?K=C3=A4se?=\n =?x")


def test_what_is_a_mail() -> None:
    assert is_mail(HEADERS + b"\n")
    assert is_mail(b"From a@b Tue Nov 24 06:00:05 2026\n" + HEADERS)
    assert not is_mail(b"---\nReported-From: a@b.example\nDate: x\nSource: 198.51.100.1\n")
    assert not is_mail(b'{"From": 1}')


def test_html_is_read_without_its_marks_at_the_same_places() -> None:
    html = b"<style>ip: 1</style><p>IP:&nbsp;<b>198.51.100.1</b><br>Time: 6&#58;00</p>"
    (part,) = split(HEADERS + b"Content-Type: text/html\n\n" + html).parts
    assert part.text.text.split() == ["IP:", "198.51.100.1", "Time:", "6:", "00"]
    start = part.text.text.index("198")
    place = part.text.field(0, start, start + 12).place
    assert (place.raw, place.line) == (b"198.51.100.1", 1)
    assert html[start : start + 12] == place.raw


def test_parts_and_depth_are_bounded() -> None:
    many = HEADERS + b"Content-Type: multipart/mixed; boundary=o\n\n" + b"--o\n\nx\n" * 600
    with pytest.raises(Refused, match="more than 500 parts"):
        split(many)
    deep = b"x"
    for number in range(12):
        deep = b"Content-Type: multipart/mixed; boundary=b%d\n\n--b%d\n" % (number, number) + deep
    with pytest.raises(Refused, match="nested deeper"):
        split(HEADERS + deep)
    with pytest.raises(Refused, match="lines"):
        split(HEADERS + b"\n" + b"\n" * 200_001)


def test_images_and_signatures_hold_no_fields() -> None:
    for kind in (b"image/png", b"application/pgp-signature", b"application/pdf"):
        assert texts(HEADERS + b"Content-Type: " + kind + b"\n\n198.51.100.1\n") == [""]
