"""Times in free texts."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctrecorder.errors import UsageError
from ctrecorder.moments.find import find
from ctrecorder.moments.reader import read
from tests.unit.moments.test_reader import FORMS, NOW

FOUND = [text for text, _, _ in FORMS if ":" in text.replace("UTC+5", "") or "pm" in text]


def found(text: str) -> list[str]:
    return [text[start:end] for start, end in find(text)]


@pytest.mark.parametrize("written", [text for text in FOUND if "[" not in text])
@pytest.mark.parametrize(
    "around", ["{}", "seen at {}.", "({})", "[{}] GET /x", "*{}*, port 40000", "Date:{}\nTo: x"]
)
def test_each_form_is_found_whole(written: str, around: str) -> None:
    parts = found(around.format(written))
    assert len(parts) == 1
    # A comment of words is no part of the time; the time is the same.
    assert written.startswith(parts[0])
    assert read(parts[0], NOW).readings == read(written, NOW).readings


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        (
            "Nov 23 18:17:30 gate sshd[71]: Invalid user from 203.0.113.9 port 40000",
            ["Nov 23 18:17:30"],
        ),
        (
            "203.0.113.9 - - [23/Nov/2026:18:17:30 +0100] \"GET / HTTP/1.1\" 404 7",
            ["23/Nov/2026:18:17:30 +0100"],
        ),
        (
            "2026-11-23 18:17:30,123 fail2ban.actions: NOTICE [sshd] Ban 203.0.113.9",
            ["2026-11-23 18:17:30,123"],
        ),
        (
            "from 2026-11-23 18:17 to 2026-11-23 18:20 UTC",
            ["2026-11-23 18:17", "2026-11-23 18:20 UTC"],
        ),
        (
            "Mon, 23 Nov 2026\r\n  18:17:30 +0100 (CET)",
            ["Mon, 23 Nov 2026\r\n  18:17:30 +0100 (CET)"],
        ),
        ("2026-11-23 18:17:30 CET was the time", ["2026-11-23 18:17:30 CET"]),
        ("2026-11-23 18:17:30 CAN be wrong", ["2026-11-23 18:17:30"]),
        ("2026-11-23 18:17:30 est parti", ["2026-11-23 18:17:30"]),
        ("2026-11-23 18:17:30 Europe/Berlin, port 4", ["2026-11-23 18:17:30 Europe/Berlin"]),
        ("2026-11-23 18:17:30 CST (UTC+8).", ["2026-11-23 18:17:30 CST (UTC+8)"]),
        ("2026-11-23 18:17:30 -10 hosts", ["2026-11-23 18:17:30"]),
        ("Nov 23 18:17:30 2001:db8::1 denied", ["Nov 23 18:17:30"]),
        # Found, so that `read` tells why it is refused.
        ("2026-11-23 04:17-05:00", ["2026-11-23 04:17-05:00"]),
        # What is no time.
        ("198.51.100.7:40000, 10.0.2.15 10:00, v1.2.2026", []),
        ("2026-11-23 or 18:17, 1790000000, 40000", []),
        ("99/99/2026 10:00 and 2026-02-30 10:00 and 2026-11-23 25:00", []),
        ("report_2026-11-23T18:17:30Z.csv", []),
        ("http://example.net/2026-11-23T18:17:30Z", []),
    ],
)  # fmt: skip
def test_what_is_found_in_a_line(text: str, parts: list[str]) -> None:
    assert found(text) == parts


@given(st.lists(st.sampled_from(FOUND), max_size=5), st.text(alphabet="abc xyz.,\n", max_size=300))
def test_times_between_words_are_found_in_order(times: list[str], words: str) -> None:
    text = f"; {words} ;".join(["", *times, ""])
    parts = found(text)
    assert len(parts) == len(times)
    assert all(whole.startswith(part) for part, whole in zip(parts, times, strict=True))


def _refused(text: str) -> str:
    """Why a time is refused; "" if it is read."""
    try:
        read(text, NOW)
    except UsageError as error:
        return str(error)
    return ""


@given(st.text(alphabet="0123456789:/-.TZ+ apmNovJan,", max_size=200))
def test_what_is_found_can_be_read(text: str) -> None:
    reached = 0
    for start, end in find(text):
        assert reached <= start < end
        reached = end
        assert "no known form" not in _refused(text[start:end])


@pytest.mark.unmeasured
@pytest.mark.parametrize("part", ["1:00 ", "Mon, ", "11/11/2026 ", "9" * 40, " " * 50, "Nov 1 1:1"])
def test_a_hostile_text_takes_no_longer_than_its_length(part: str) -> None:
    text = part * (200_000 // len(part))
    begin = time.process_time()
    list(find(text))
    assert time.process_time() - begin < 3
