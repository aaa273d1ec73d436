"""Widths that share what there is, and texts that are shortened."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctrecorder.screen.layout import shorten, widths


@pytest.mark.parametrize(
    ("text", "width", "short"),
    [
        ("192.168.1.5:40000", 17, "192.168.1.5:40000"),
        ("192.168.100.105:40000", 17, "192.1…0.105:40000"),
        ("[2001:db8:ffff:1::25]:443", 17, "[2001:…::25]:443"),
        ("(192.168.1.80:22)", 15, "(192.…1.80:22)"),
        ("2001:db8:ffff:1::25", 10, "2001:…::25"),
        ("SEEN_REPLY|ASSURED", 9, "SEEN…URED"),
        ("192.168.100.105:40000", 4, "192…"),
        ("192.168.100.105:40000", 1, "…"),
        ("192.168.100.105:40000", 0, ""),
    ],
)
def test_shorten(text: str, width: int, short: str) -> None:
    assert len(short) <= width
    assert len(shorten(text, width, "…")) == min(width, len(text))
    if len(short) == width:
        assert shorten(text, width, "…") == short


@given(st.text("0123456789abcdef:.[]()", max_size=50), st.integers(0, 60))
def test_a_shortened_text_fits(text: str, width: int) -> None:
    assert len(shorten(text, width, "~")) <= width


@given(st.lists(st.integers(0, 60), max_size=6), st.integers(0, 200))
def test_widths_fit_and_waste_nothing(natural: list[int], room: int) -> None:
    found = widths(natural, room)
    assert sum(found) == min(sum(natural), room) or not natural
    assert all(width <= most for width, most in zip(found, natural, strict=True))
    # No column is cut to leave more to a wider one.
    cut = [width for width, most in zip(found, natural, strict=True) if width < most]
    assert not cut or max(found) - min(cut) <= 1
