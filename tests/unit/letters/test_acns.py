"""ACNS: what a notice in XML asks, and what it does not."""

from __future__ import annotations

import pytest

from tests.support.letter_cases import letter, mail, ports, questions

TIME = "<TimeStamp>2026-11-24T06:00:05Z</TimeStamp>"
SPACE = "http://www.acns.net/ACNS"


def notice(source: str, content: str = "", space: str = SPACE) -> str:
    return f'<Infringement xmlns="{space}">{source}<Content>{content}</Content></Infringement>'


def source(address: str, port: str = "", time: str = TIME) -> str:
    return f"<Source>{time}<IP_Address>{address}</IP_Address>{port}</Source>"


@pytest.mark.parametrize(
    ("port", "expected"),
    [
        ("<Port>40000</Port>", (40000, "source")),
        ("<Port> 40000\n</Port>", (40000, "source")),
        ("<Port>&#52;0000</Port>", (40000, "source")),
        ("<Port><![CDATA[40000]]></Port>", (40000, "source")),
        ("<Port>51413</Port>", (51413, "listening")),
        ("<Port>6881</Port>", (6881, "listening")),
        ("<Port>6969</Port>", (6969, "listening")),
        ("<Port>6880</Port>", (6880, "source")),
        ("<Port>49160</Port>", (49160, "listening")),
        ("<Port>0</Port>", (None, "none")),
        ("<Port>40000-40010</Port>", (None, "none")),
        ("<Port>1</Port><Port>2</Port>", (None, "none")),
        ("<Port/>", (None, "none")),
        ("", (None, "none")),
    ],
)
def test_ports(port: str, expected: tuple[int | None, str]) -> None:
    assert ports(notice(source("198.51.100.1", port))) == [("198.51.100.1", *expected)]


@pytest.mark.parametrize(("port", "may"), [("40000", True), ("6881", False), ("", False)])
def test_a_port_that_is_not_known_may_still_be_a_listening_one(port: str, may: bool) -> None:
    (one,) = letter(notice(source("198.51.100.1", f"<Port>{port}</Port>"))).sightings
    assert one.may_listen is may


def test_two_sources_keep_their_own_port_and_time() -> None:
    """The times of the content could be of either."""
    other = source("198.51.100.2", "<Port>40002</Port>", TIME.replace("06:", "07:"))
    text = notice(source("198.51.100.1", "<Port>40001</Port>") + other, f"<Item>{TIME}</Item>")
    found = questions(text)
    assert [(each.address, each.port, each.time.hour) for each in found] == [
        ("198.51.100.1", 40001, 6),
        ("198.51.100.2", 40002, 7),
    ]


def test_times_of_the_content() -> None:
    items = "".join(f"<Item>{TIME.replace('06:00', hour)}</Item>" for hour in ("06:00", "08:30"))
    found = questions(notice(source("198.51.100.1"), items))
    assert [each.time.strftime("%H:%M") for each in found] == ["06:00", "08:30"]


def test_other_addresses_are_no_question() -> None:
    more = "<Service_Provider><IP_Address>203.0.113.1</IP_Address></Service_Provider>"
    assert ports(notice(more + source("198.51.100.1"))) == [("198.51.100.1", None, "none")]


@pytest.mark.parametrize(
    ("space", "form"),
    [
        (SPACE, "ACNS 1.2 XML"),
        ("http://www.movielabs.com/ACNS", "ACNS 2.x XML"),
        ("HTTP://WWW.ACNS.NET/acns/", "ACNS 1.2 XML"),
        ("", "ACNS XML"),
    ],
)
def test_namespaces(space: str, form: str) -> None:
    assert letter(notice(source("198.51.100.1"), space=space)).form == form


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (notice(source("198.51.100.1"), space="http://x.example/"), "unknown namespace"),
        (notice(source("shop.example")), "names no address"),
        (notice("<Source>"), "is broken"),
        (notice(source("198.51.100.1")).replace("</Infringement>", ""), "is broken"),
        (f"<!DOCTYPE x>{notice(source('198.51.100.1'))}", "document type"),
    ],
)
def test_problems(text: str, problem: str) -> None:
    found = letter("\n\n" + text)
    assert problem in found.problem
    assert not found.sightings


def test_a_broken_notice_is_shown_beside_a_whole_one() -> None:
    text = notice(source("198.51.100.1")) + "\n" + notice("<Source>198.51.100.2")
    found = letter(text)
    assert [each.address.value for each in found.sightings] == ["198.51.100.1"]
    assert [(each.value, each.place.line) for each in found.seen] == [("198.51.100.2", 2)]


def test_quoted_lines_and_foreign_characters() -> None:
    text = notice(source("198.51.100.1"), "<Item><Title>A & B \x01 é &bogus;</Title></Item>")
    quoted = "\n".join(f"> {line}" for line in text.replace("><", ">\n<").split("\n"))
    assert ports(mail(quoted)) == [("198.51.100.1", None, "none")]
