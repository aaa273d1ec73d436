"""Words and lines: every table of ready text against Python, ipaddress and inet_ntop."""

from __future__ import annotations

import ipaddress
import random
import socket
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctrecorder.render import words as lines
from ctrecorder.render.words import Words


def texts(words: Words) -> list[str]:
    """Each row's words as one text, NULs dropped."""
    return [row.tobytes().replace(b"\0", b"").decode() for row in np.ascontiguousarray(words)]


@pytest.mark.parametrize("dtype", ["u1", "u2", "u4", "u8"])
def test_decimal(dtype: str) -> None:
    top = np.iinfo(dtype).max
    near = {
        power + step
        for power in (0, *(10**n for n in range(20)), 1 << 16, top)
        for step in (-1, 0, 1)
    }
    numbers = sorted(number for number in near if 0 <= number <= top)
    assert texts(lines.decimal(np.array(numbers, dtype))) == [str(number) for number in numbers]
    for number in numbers:  # alone: the number of words depends on the greatest
        assert texts(lines.decimal(np.array([number], dtype))) == [str(number)]


@given(st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=50))
def test_decimals_of_all_lengths_together(numbers: list[int]) -> None:
    assert texts(lines.decimal(np.array(numbers, np.uint64))) == [str(number) for number in numbers]


@pytest.mark.parametrize(("colon", "end"), [(True, ":"), (False, "")])
def test_ipv4(colon: bool, end: str) -> None:
    numbers = [
        0,
        2**32 - 1,
        *range(256),
        *(n << 8 for n in range(256)),
        *(n << 16 for n in range(256)),
        *(n << 24 for n in range(256)),
    ]
    words = lines.ipv4(np.array(numbers, "<u4"), colon=colon)
    assert texts(words) == [f"{ipaddress.IPv4Address(number)}{end}" for number in numbers]


def test_ipv6_against_inet_ntop() -> None:
    """Every pattern of zero groups, with groups of one to four digits, and the dotted forms."""
    chance = random.Random(1)
    groups = (b"\0\1", b"\0\xab", b"\x0a\xbc", b"\xff\xff", b"\x10\x00")
    patterns = [
        [b"\0\0" if mask >> place & 1 else chance.choice(groups) for place in range(8)]
        for mask in range(256)
        for _ in range(20)
    ]
    packed = [b"".join(pattern) for pattern in patterns]
    packed += [bytes(10) + b"\xff\xff" + chance.randbytes(4) for _ in range(50)]
    packed += [bytes(12) + chance.randbytes(4) for _ in range(50)] + [
        bytes(15) + b"\1",
        bytes(16),
        b"\0" * 14 + b"\1\0",
    ]
    assert texts(lines.ipv6(np.array(packed, "S16"))) == [
        socket.inet_ntop(socket.AF_INET6, address) for address in packed
    ]


def test_ipv6_of_a_broadcast_column() -> None:
    """A constant column has stride 0."""
    column = np.broadcast_to(np.array(b"\x20\x01" + bytes(13) + b"\1", "S16"), (3,))
    assert texts(lines.ipv6(column)) == ["2001::1"] * 3


@given(
    st.lists(st.integers(-(2**62), 2**62), min_size=1, max_size=20),
    st.sampled_from([0, 1, 10**6, 2**40]),
)
def test_times(base: list[int], spread: int) -> None:
    ns = np.array([base[0] % 2**61 + step % (spread + 1) for step in base])
    parts = [divmod(int(one), 10**9) for one in ns]
    days = [time.gmtime(second) for second, _ in parts]
    assert texts(lines.clock(ns, utc=True)) == [
        f"{time.strftime('%Y.%m.%d %H:%M:%S', day)}.{rest // 1000:06}"
        for day, (_, rest) in zip(days, parts, strict=True)
    ]
    assert texts(lines.rfc3339(ns)) == [
        f"{time.strftime('%Y-%m-%dT%H:%M:%S', day)}.{rest:09}Z"
        for day, (_, rest) in zip(days, parts, strict=True)
    ]
    assert texts(lines.epoch(ns)) == [f"{second}.{rest // 1000:06}" for second, rest in parts]


@given(
    st.lists(st.one_of(st.integers(-5, 5), st.integers(-(2**62), 2**62)), min_size=1, max_size=50)
)
def test_distinct_close_together_and_far_apart(values: list[int]) -> None:
    unique, which = lines.distinct(np.array(values))
    assert unique.tolist() == sorted(set(values))
    assert unique[which].tolist() == values


def test_by_value_asks_once_for_each() -> None:
    asked = []

    def text(value: int) -> str:
        asked.append(value)
        return "" if value == 7 else f"<{value}> and more than eight bytes"

    words = lines.by_value(np.array([7, 9, 9, 7, 300]), text)
    assert texts(words) == [
        "",
        "<9> and more than eight bytes",
        "<9> and more than eight bytes",
        "",
        "<300> and more than eight bytes",
    ]
    assert asked == [7, 9, 300]


def test_assemble_text_and_words_some_of_them_in_some_rows() -> None:
    numbers, where = np.array([1, 22, 333], "u2"), np.array([True, False, True])
    pieces: list[bytes | lines.Words] = [
        b"a constant of many bytes ",
        lines.decimal(numbers),
        *lines.only(where, b" odd"),
        *lines.only(False, b"never"),
        b"\n",
    ]
    ends = (b"1 odd", b"22", b"333 odd")
    assert bytes(lines.assemble(3, pieces)) == b"".join(
        b"a constant of many bytes %b\n" % end for end in ends
    )
