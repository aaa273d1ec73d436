"""Texts without the addresses that are to be left out."""

from __future__ import annotations

import html
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctrecorder.page.sweep import LEFT_OUT, Address, Sweep

OURS: set[Address] = {ip_address("198.51.100.1"), ip_address("10.0.0.5"), ip_address("2001:db8::5")}


def notations(address: Address) -> Iterator[str]:
    """The spellings of an address that a letter, a log or a URL can have."""
    raw, text = address.packed, str(address)
    yield from (text, address.exploded, text.upper(), f"[{text}]:443", f"http://{text}/")
    if isinstance(address, IPv4Address):
        octets = list(raw)
        yield from (".".join(f"{one:03}" for one in octets), f"::ffff:{text}", f"{text}:443")
        yield from (
            ".".join(f"{one:#x}" for one in octets),
            ".".join(f"0{one:o}" for one in octets),
        )
        yield from (str(int(address)), f"{int(address):#010x}", f"{text}.40001")
        yield from ("-".join(map(str, octets)) + ".example", " . ".join(map(str, octets)))
        yield ".".join(map(str, reversed(octets))) + ".in-addr.arpa"
    else:
        yield from (f"{text}:443", f"{address.exploded}:443", f"{text}%eth0")
        yield ".".join(reversed(raw.hex())) + ".ip6.arpa"
    yield from (raw.hex(), raw.hex(":"), raw.hex(" ").upper(), raw[::-1].hex())
    yield from ("".join(f"%{ord(char):02x}" for char in text), text.replace(".", "%2E"))
    yield "".join(f"%25{ord(char):02x}" for char in text)
    yield "".join(f"&#{ord(char)};" for char in text)
    wide = {char: chr(ord(char) + 0xFEE0) for char in "0123456789abcdef.:"}
    yield "".join(wide.get(char, char) for char in text)
    for before in ("", "a", "ab", "GET / "):
        yield b64encode(f"{before}{text} more".encode()).decode()
        yield urlsafe_b64encode(before.encode() + raw).decode()
    for before in ("x", "id", "key"):  # what is encoded does not begin where the word does
        yield before + b64encode(f"{text} more".encode()).decode()


ADDRESSES = st.one_of(
    st.integers(1 << 24, (224 << 24) - 1).map(IPv4Address),
    st.integers(0x2000 << 112, (0x2001 << 112) - 1).map(IPv6Address),
)


@pytest.mark.parametrize("text", ["203.0.113.9", "8.8.8.8", "2001:db8:5:6::9", "2001:db8::"])
@pytest.mark.parametrize("around", ["{}", "the server {} was hit", "x={};", "({})"])
def test_a_remote_address_is_left_out_in_each_spelling(text: str, around: str) -> None:
    sweep = Sweep(OURS, {ip_address(text)})
    for spelled in notations(ip_address(text)):
        swept = sweep.text(around.format(spelled))
        assert LEFT_OUT in swept, spelled
        assert spelled not in swept


@given(ADDRESSES)
def test_no_spelling_of_any_address_stays(address: Address) -> None:
    sweep = Sweep(OURS, {address})
    for spelled in notations(address):
        swept = sweep.text(f"from {spelled} on")
        assert LEFT_OUT in swept, spelled
        assert spelled not in swept


@given(ADDRESSES)
def test_an_address_that_is_not_ours_is_left_out_though_nobody_named_it(address: Address) -> None:
    sweep = Sweep(OURS, set())
    mapped = [f"::ffff:{address}"] if address.version == 4 else []
    for spelled in (str(address), f"[{address}]:25", *mapped):
        assert str(address) not in sweep.text(f"seen {spelled}, twice")


@pytest.mark.parametrize(
    "text",
    ["198.51.100.1", "198.51.100.1:40000", "10.0.0.5 and [2001:DB8::5]:40000", "::ffff:10.0.0.5"]
    + ["2026-11-24 06:00:05 +01:00", "24/Nov/2026:06:00:05 +0100", "ctrecorder 1.1.0", "", "ONE"]
    + ["2026-11-24T05:00:04.203000113Z", "/var/log/ctrecorder", "<1@agency.example>", "2026.11.24"]
    + ["Zürich", "A-2026-117", "5e" * 32, "198.51.100.1.40000", "2001:db8::5:40000", "1.2.3"],
)
def test_what_is_ours_or_no_address_stays(text: str) -> None:
    sweep = Sweep(OURS, {ip_address("203.0.113.9"), ip_address("2001:db8:5:6::9")})
    assert sweep.text(text) == text


def test_an_end_that_is_remote_and_ours_is_ours() -> None:
    """A hairpin connection."""
    sweep = Sweep(OURS, {ip_address("10.0.0.5"), ip_address("203.0.113.9")})
    assert sweep.text("10.0.0.5 to 203.0.113.9") == f"10.0.0.5 to {LEFT_OUT}"


def test_values_within_others() -> None:
    sweep = Sweep(OURS, {ip_address("203.0.113.9")})
    value = {"a": ["203.0.113.9", 7, None, {"b": html.escape("x 203.0.113.9")}]}
    assert sweep.within(value) == {"a": [LEFT_OUT, 7, None, {"b": f"x {LEFT_OUT}"}]}
