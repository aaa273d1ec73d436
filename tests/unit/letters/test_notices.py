"""Notices in words: which time and port belong to which address."""

from __future__ import annotations

import time

import pytest

from ctrecorder.times import SECOND
from tests.support.letter_cases import letter, mail, ports, questions

TIME = "2026-11-24 06:00:05 +0000"


def test_copyright() -> None:
    """ "Port:" is the infringer's beside the name of a work, and of nobody elsewhere."""
    text = f"Title: X\nTimestamp: {TIME}\nIP Address: 198.51.100.1\nPort: {{}}\nType: BitTorrent\n"
    assert ports(mail(text.format(40000))) == [("198.51.100.1", 40000, "source")]
    assert ports(mail(text.format(51413))) == [("198.51.100.1", 51413, "listening")]
    assert letter(mail(text.format(1))).form == "ACNS text"
    assert letter(mail(text.format(40000))).sightings[0].may_listen
    other = text.format(22).replace("Title: X\n", "")
    assert ports(mail(other)) == [("198.51.100.1", None, "none")]
    assert letter(mail(other)).sightings[0].prose
    sent = other.replace("Port:", "Source Port:")
    assert ports(mail(sent)) == [("198.51.100.1", 22, "source")]
    assert not letter(mail(sent)).sightings[0].may_listen


@pytest.mark.parametrize(
    ("value", "port"),
    [
        ("198.51.100.1:40000", 40000),
        ("198.51.100.1 Port: 40000", 40000),
        ("[198.51.100.1]", None),
        ("198.51.100.1 (a.example)", None),
    ],
)
def test_a_port_beside_the_address(value: str, port: int | None) -> None:
    expected = ("198.51.100.1", port, "source" if port else "none")
    assert ports(mail(f"Source IP: {value}\nTime: {TIME}\n")) == [expected]


def test_the_protocol_is_one_of_layer_4() -> None:
    text = f"Source IP: 198.51.100.1\nTime: {TIME}\nProtocol: {{}}\n"
    assert [each.protocol for each in questions(mail(text.format("UDP")))] == ["udp"]
    assert [each.protocol for each in questions(mail(text.format("BitTorrent")))] == [None]


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ("Destination IP: 192.0.2.7\nDestination Port: 443", ("192.0.2.7", 443)),
        ("Destination: 192.0.2.7:443", ("192.0.2.7", 443)),
        ("Target: 192.0.2.7", ("192.0.2.7", None)),
        ("Remote: [2001:db8::7]:443", ("2001:db8::7", 443)),
        ("Destination Port: 443", (None, 443)),
        ("Destination Port: 443\nTarget: 192.0.2.7:80", ("192.0.2.7", None)),
        ("Destination: 192.0.2.7\nTarget: 192.0.2.8", (None, None)),
        ("Remote IP: 198.51.100.1:443", (None, None)),
        ("Destination: shop.example", (None, None)),
    ],
)
def test_the_other_end(lines: str, expected: tuple[str | None, int | None]) -> None:
    text = f"Source IP: 198.51.100.1\nSource Port: 40000\n{lines}\nTime: {TIME}\n"
    (found,) = questions(mail(text))
    assert (found.remote, found.remote_port) == expected
    assert (found.address, found.port) == ("198.51.100.1", 40000)


@pytest.mark.parametrize("mark", ["'", "’", "´", ""])
def test_apostrophes(mark: str) -> None:
    text = f"Infringer{mark}s IP Address: 198.51.100.1\nRecent Infringement Timestamp: {TIME}\n"
    assert len(questions(mail(text))) == 1


def test_each_event_in_a_paragraph_of_its_own() -> None:
    later = TIME.replace("06:00", "06:01")
    text = f"Offending IP: 198.51.100.1\n\n- Time: {TIME}\n- Issue: x\n\n- Time: {later}\n"
    assert len(questions(mail(text))) == 2


@pytest.mark.parametrize(
    "text",
    [
        f"IP: 198.51.100.1\n\nOther: 198.51.100.2\n\nTime: {TIME}\n",
        f"IP: 198.51.100.1\n\nFrom: x\nSubject: y\nDate: {TIME}\n",
        f"Time: {TIME}\nIP: 198.51.100.1\nIP: 198.51.100.2\n",
        f"IP: 198.51.100.1\nTime: {TIME}\nServer: 192.0.2.1\nTime: 2026-11-24 07:00:00Z\n",
        f"Destination IP: 198.51.100.1\nTime: {TIME}\n",
        f"IP: 198.51.100.0/24\nTime: {TIME}\n",
    ],
)
def test_times_that_could_belong_to_another(text: str) -> None:
    assert not questions(mail(text))


def test_groups_in_one_paragraph() -> None:
    text = f"IP: 198.51.100.1\nTime: {TIME}\nIP: 198.51.100.2\nTime: 2026-11-24 07:00:00Z\n"
    found = questions(mail(text))
    assert [(each.address, each.time.hour) for each in found] == [
        ("198.51.100.1", 6),
        ("198.51.100.2", 7),
    ]


def test_html_is_read_if_there_is_nothing_else() -> None:
    html = f"<p>IP:&nbsp;198.51.100.1<br>Time: {TIME}</p>"
    assert len(questions(mail(html, kind="text/html"))) == 1


@pytest.mark.parametrize(
    "lines",
    [
        "Quell-IP: 198.51.100.1\nQuellport: 40000\nZielport: 443\n"
        "Zeitpunkt: 24. November 2026 um 07:00:05 Uhr MEZ",
        "Adresse IP : 198.51.100.1\nPort source : 40000\nPort destination : 443\n"
        "Date : 24 novembre 2026 à 07:00:05 CET",
        "IP-adres: 198.51.100.1\nBronpoort: 40000\nDoelpoort: 443\n"
        "Tijdstip: dinsdag 24 november 2026 om 07:00:05 +0100",
        "Dirección IP: 198.51.100.1\nPuerto de origen: 40000\nPuerto de destino: 443\n"
        "Fecha y hora: 24 de noviembre de 2026 07:00:05 CET",
        "IP-Adresse: 198.51.100.1\nQuellport: 40000\nZielport: 443\nDatum: 24.11.2026\n"
        "Uhrzeit: 07:00:05 MEZ",
    ],
    ids=["German", "French", "Dutch", "Spanish", "day and time of day"],
)
def test_labels_of_other_languages(lines: str) -> None:
    """The port of the other end is never ours."""
    (found,) = questions(mail(f"{lines}\n"))
    assert (found.address, found.port, found.role) == ("198.51.100.1", 40000, "source")
    assert (found.remote, found.remote_port) == (None, 443)
    assert f"{found.time:%d %H:%M:%S}" == "24 06:00:05"


def test_a_day_and_its_time_of_day() -> None:
    """In two lines, one below the other; what stands apart is not joined."""
    text = "IP: 198.51.100.1\nDate: 2026-11-24\n{}Time: 06:00:05 UTC\n"
    (found,) = letter(mail(text.format(""))).sightings
    assert found.first is not None
    (span,) = found.first.value.readings[0].spans
    assert span[1] - span[0] == SECOND
    (apart,) = letter(mail(text.format("Service: x\n"))).sightings
    assert apart.first is not None
    assert not apart.first.value.readings[0].spans


def test_several_source_ports() -> None:
    """Each of a list is asked; a range is not, and the letter says why."""
    text = f"Source IP: 198.51.100.1\nSource Port: {{}}\nTime: {TIME}\n"
    for value in ("40000, 40001", "40000 and 40001", "40000/40001"):
        assert ports(mail(text.format(value))) == [
            ("198.51.100.1", 40000, "source"),
            ("198.51.100.1", 40001, "source"),
        ]
    for value in ("40000-40010", "40000, 99999"):
        found = letter(mail(text.format(value)))
        assert not found.sightings
        assert found.problem.endswith(f"'{value}' is no single port")


def test_the_day_of_the_letter_is_not_asked() -> None:
    text = "Datum: 25.11.2026\nIP-Adresse: 198.51.100.1\nQuellport: 40000\nTatzeit: {}\n"
    (found,) = questions(mail(text.format("24.11.2026 07:00:05 MEZ")), "Europe/Berlin")
    assert f"{found.time:%d %H:%M:%S}" == "24 06:00:05"


def test_what_seems_a_list_takes_no_time() -> None:
    """Blanks between numbers: a pattern that can split them in many ways never ends."""
    value = "    ".join(["1"] * 30) + "x"
    text = f"Source IP: 198.51.100.1\nSource Port: {value}\nTime: {TIME}\n"
    begin = time.process_time()
    assert ports(mail(text)) == [("198.51.100.1", None, "none")]
    assert time.process_time() - begin < 1


@pytest.mark.parametrize(
    "lines",
    [
        "Von: a\nGesendet: 25.11.2026 12:00:00\nDatum: 25.11.2026 12:00:00\nBetreff: x",
        "De: a\nFecha: 25 de noviembre de 2026 12:00:00\nPara: b\nAsunto: x",
        "Van: a\nDatum: 25-11-2026 12:00:00\nOnderwerp: x",
        "De: a\nDate: 25/11/2026 12:00:00\nObjet: x",
    ],
    ids=["German", "Spanish", "Dutch", "French"],
)
def test_the_heads_of_quoted_mails_are_not_asked(lines: str) -> None:
    text = "IP: 198.51.100.1\nSource Port: 40000\n"
    assert not letter(mail(f"{text}\n{lines}\n"), "Europe/Berlin").sightings
    assert not letter(mail(f"{lines}\n{text}"), "Europe/Berlin").sightings


def test_the_date_of_the_letter_is_not_asked() -> None:
    text = "Date: 2026-11-25 12:00:00Z\nIP: 198.51.100.1\nTimestamp: 2026-11-24 06:00:05Z\n"
    (found,) = questions(mail(text))
    assert f"{found.time:%d %H:%M:%S}" == "24 06:00:05"
