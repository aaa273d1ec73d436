"""Log lines: who is accused, and what a line says about it."""

from __future__ import annotations

import pytest

from tests.support.letter_cases import letter, mail, ports, questions

TIME = "2026-11-24T06:00:05Z"
A = "198.51.100.1"


@pytest.mark.parametrize(
    ("line", "port", "remote", "protocol"),
    [
        (f"{TIME} h sshd[1]: Invalid user x from {A} port 40000", 40000, None, None),
        (
            f"{TIME} h sshd[1]: Connection from {A} port 40000 on 192.0.2.1 port 22 rdomain",
            40000,
            ("192.0.2.1", 22),
            None,
        ),
        (
            f"{TIME} kernel: SRC={A} DST=192.0.2.1 PROTO=TCP SPT=40000 DPT=22 SYN",
            40000,
            ("192.0.2.1", 22),
            "tcp",
        ),
        (
            f"{TIME} kernel: SRC={A} DST=192.0.2.1 LEN=84 ID=99 DF PROTO=ICMP TYPE=8 CODE=0 ID=4711"
            " SEQ=1",
            4711,
            ("192.0.2.1", None),
            "icmp",
        ),
        (
            f"{TIME} kernel: SRC={A} DST=192.0.2.1 ID=99 PROTO=ICMP TYPE=3 CODE=3 [SRC=192.0.2.1]",
            None,
            ("192.0.2.1", None),
            "icmp",
        ),
        (f"{TIME} dovecot: login failed: rip={A}, lip=192.0.2.1", None, ("192.0.2.1", None), None),
        (f"{TIME} [1:1:1] x {{UDP}} {A}:40000 -> 192.0.2.1:53", 40000, ("192.0.2.1", 53), "udp"),
        (f'{A} - - [24/Nov/2026:06:00:05 +0000] "GET /" 404 1', None, None, None),
        (f'www.x.example {A} - - [24/Nov/2026:06:00:05 +0000] "GET /" 1', None, None, None),
        (f"/var/log/auth.log:{TIME} h sshd[1]: from {A} port 40000", 40000, None, None),
        (f"{TIME} postfix/smtpd[6]: lost connection from unknown[{A}]:40000", 40000, None, None),
        (f"{TIME} named: client @0x7 {A}#40000 (x): denied", 40000, None, None),
    ],
)
def test_lines(
    line: str, port: int | None, remote: tuple[str, int | None] | None, protocol: str | None
) -> None:
    (found,) = questions(mail(f"Hello\n\n{line}\n", f"Abuse from {A}"))
    assert (found.address, found.port) == (A, port)
    assert (found.remote, found.remote_port) == (remote or (None, None))
    assert (found.protocol, f"{found.time:%H:%M:%S}") == (protocol, "06:00:05")


def test_an_echo_whose_id_is_0_has_none() -> None:
    line = f"{TIME} kernel: SRC={A} DST=192.0.2.1 PROTO=ICMPv6 TYPE=128 CODE=0 ID=0 SEQ=1"
    assert ports(mail(line, f"abuse {A}")) == [(A, None, "none")]


@pytest.mark.parametrize(
    "line",
    [
        f"{TIME} h sshd[1]: Accepted publickey from 192.0.2.9 port 40000",
        f"{TIME} fail2ban.actions [1]: NOTICE [sshd] Ban {A}",
        f"the attack of {A} began at {TIME}, we think",
        f"h sshd[1]: Invalid user x from {A} port 40000",
    ],
)
def test_lines_that_ask_nothing(line: str) -> None:
    assert not questions(mail(f"Hello\n\n{line}\n", f"Abuse from {A}"))


def test_a_packet_to_the_address_has_no_port_of_it() -> None:
    line = f"{TIME} kernel: SRC=192.0.2.1 DST={A} PROTO=TCP SPT=22 DPT=40000"
    assert ports(mail(line, f"abuse {A}")) == [(A, None, "none")]


@pytest.mark.parametrize(
    "accusation",
    [
        f"The IP {A} has just been banned after 3 tries.",
        f"Lines containing failures of {A} (max 1000)",
        f"We saw abuse from the IP address {A}.",
        f"your server with the IP: *{A}* was loud",
    ],
)
def test_the_text_accuses(accusation: str) -> None:
    """Lines of others are no question; without an accusation, all that connected are."""
    lines = "".join(
        f"{TIME} h sshd[1]: Invalid user x from {each} port 40000\n" for each in (A, "192.0.2.9")
    )
    assert ports(mail(f"{accusation}\n{lines}")) == [(A, 40000, "source")]
    assert len(ports(mail(lines))) == 2


def test_without_an_accusation_a_line_must_say_who_connected() -> None:
    assert not questions(mail(f"{TIME} we ping 198.51.100.1 and it answers\n"))
    assert not questions(mail(f"Received: from x ([{A}]) by y; {TIME}\n"))
    assert ports(f'{A} - - [24/Nov/2026:06:00:05 +0000] "GET / HTTP/1.1" 200 1 "-"\n') == [
        (A, None, "none")
    ]


def test_a_line_without_a_year_is_before_the_date_of_the_mail() -> None:
    body = f"Local timezone is +0000\nDec 24 06:00:05 h sshd[1]: x from {A} port 40000\n"
    (found,) = questions(mail(body, f"Abuse from {A}"))
    assert f"{found.time:%Y-%m-%d}" == "2025-12-24"


def test_without_the_date_of_the_mail_a_year_is_a_guess() -> None:
    """A list that was saved in 2023 is not of this year."""
    line = f"Nov 14 06:00:05 h sshd[1]: x from {A} port 40000\n"
    (one,) = letter(f"All times are UTC.\n{line}").sightings
    assert one.first is not None
    assert sorted(each.spans[0][0] for each in one.first.value.readings) == [
        1_763_100_005 * 10**9,  # 2025-11-14 06:00:05 UTC
        1_794_636_005 * 10**9,  # 2026-11-14
    ]
    (dated,) = letter(mail(f"All times are UTC.\n{line}")).sightings
    assert dated.first is not None
    assert len(dated.first.value.readings) == 1


@pytest.mark.parametrize(
    ("line", "port"),
    [
        ('shop.example:443 198.51.100.1 - - [24/Nov/2026:07:00:05 +0100] "GET / HTTP/1.1" 200 1',
         None),
        ("2026/11/24 06:00:05 [error] 7#7: *9 x, client: 198.51.100.1, server: x", None),
        ("11/24/2026-06:00:05.500000  [**] [1:1:1] X [**] {UDP} 198.51.100.1:40000 -> 192.0.2.7:53",
         40000),
    ],
    ids=["Apache with the site", "nginx errors", "Suricata"],
)  # fmt: skip
def test_lines_of_more_programs(line: str, port: int | None) -> None:
    (found,) = questions(mail(f"All times are UTC.\n\n{line}\n"))
    assert (found.address, found.port) == ("198.51.100.1", port)
    assert f"{found.time:%d.%m. %H:%M:%S}" == "24.11. 06:00:05"


def test_only_suricata_settles_the_order_of_day_and_month() -> None:
    """It writes microseconds; of another program's "05/11/2026-" it is not known."""
    text = (
        "All times are UTC.\n\n05/11/2026-06:00:05{}  {{UDP}} 198.51.100.1:40000 -> 192.0.2.7:53\n"
    )
    (found,) = questions(mail(text.format(".500000")))
    assert f"{found.time:%d.%m.}" == "11.05."
    assert not letter(mail(text.format(""))).sightings


@pytest.mark.parametrize(
    "line",
    [
        "Nov 24 06:00:05 h sshd[1]: Failed password for invalid user from 203.0.113.9 from "
        "198.51.100.1 port 40000 ssh2",
        "11/24/2026-06:00:05.500000  [**] [1:1:1] from 203.0.113.9 [**] {UDP} 198.51.100.1:40000 "
        "-> 192.0.2.7:53",
    ],
    ids=["name of a user", "Suricata"],
)
def test_an_address_that_the_attacker_typed_is_not_asked(line: str) -> None:
    assert not letter(mail(f"All times are UTC.\n\n{line}\n")).sightings


def test_what_a_browser_says_of_itself_hides_nobody() -> None:
    line = '198.51.100.1 - - [24/Nov/2026:06:00:05 +0000] "GET / HTTP/1.1" 200 1 "from 203.0.113.9"'
    (found,) = questions(mail(line + "\n"))
    assert found.address == "198.51.100.1"
