"""Texts: charsets, lines, and the very bytes of a field."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctrecorder.envelopes.text import Text, as_utf8, decode

CHARSETS = ["", "utf-8", "latin-1", "cp1252", "utf-16", "utf-16-be", "koi8-r", "x-unknown", "idna"]


@given(st.binary(max_size=200), st.sampled_from(CHARSETS))
def test_a_field_has_the_very_bytes(data: bytes, charset: str) -> None:
    """What was decoded is encoded to the same bytes, also if it was not of that charset."""
    text = Text("file", "1", data, charset)
    whole = text.field(0, 0, len(text.text)).place.raw
    marks = (b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")
    if not data.startswith(marks) and "16" not in charset:
        assert whole == data


@given(st.text("a\r\n", max_size=40))
def test_lines_are_counted_like_universal_newlines(text: str) -> None:
    page = Text("file", "", text.encode())
    for position in range(len(text) + 1):
        if text[position - 1 : position + 1] != "\r\n":
            before = len(re.findall(r"\r\n|\r|\n", text[:position]))
            assert page.line(position) == before + 1
    assert page.count == len(re.findall(r"\r\n|\r|\n", text)) + 1


def test_lines_beyond_a_chunk() -> None:
    page = Text("file", "", b"ab\r\n" * 5_000 + b"end")
    assert page.line(20_000) == 5_001
    assert page.line(4 * 1_024 * 3) == 3_073
    assert [page.line(start) for start, _ in page.lines()] == list(range(1, 5_002))


@pytest.mark.parametrize("name", ["utf-16", "utf-32", "utf-8-sig"])
def test_marks_of_byte_order(name: str) -> None:
    data = "Käse 198.51.100.1".encode(name)
    assert decode(data, "")[0] == "Käse 198.51.100.1"
    assert as_utf8(data) == "Käse 198.51.100.1".encode()


def test_codecs_that_are_no_charsets_are_not_used() -> None:
    """Some take quadratic time; hex and rot13 are no charsets at all."""
    for name in ("idna", "punycode", "rot13", "hex", "unicode_escape", "raw_unicode_escape"):
        assert decode(b"\\x41-abc", name) == ("\\x41-abc", "utf-8")


def test_long_lines_are_not_searched() -> None:
    page = Text("file", "", b"x" * 5_000 + b"\nshort\n")
    assert [line for _, line in page.lines()] == ["short"]
