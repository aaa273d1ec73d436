"""What the parser refuses: where, and which words it names."""

from __future__ import annotations

import pytest

from ctrecorder.errors import UsageError
from ctrecorder.filters.compile import compile_filter
from tests.support import filter_data

WRONG = [
    ("hots 192.0.2.7", 1, "no word 'hots' here: did you mean host"),
    ("host", 5, "a value is missing here"),
    ("host 192.0.2.7 and", 19, "the expression ends too early"),
    ("host 192.0.2.7 or or tcp", 19, "no word 'or' here"),
    ("(tcp", 1, "this parenthesis is not closed"),
    ("bytes > 1 MB", 11, "a unit stands next to its number: write 1MB"),
    ("duration > 5 min", 14, "a unit stands next to its number: write 5min"),
    ("tcp)", 4, "no word ')' here"),
    ("host 192.0.2.300", 6, "no address or network '192.0.2.300'"),
    ("host www.example.org", 6, "names are not looked up"),
    ("port 70000", 6, "no port '70000'"),
    ("port 80-70", 6, "no port '80-70'"),
    ("port tcp", 6, "tcp is a protocol"),
    ("port nosuch", 6, "no port 'nosuch'"),
    ("host > 10.0.0.1", 6, "'>' compares numbers"),
    ("proto tpc", 7, "no proto 'tpc': write tcp"),
    ("state establishd", 7, "no state 'establishd': write established"),
    ("event ended", 7, "no event 'ended'"),
    ("bytes > 10Q", 9, "no number '10Q'"),
    ("duration > 1y2", 12, "no duration '1y2'"),
    ("bytes 20-10", 7, "write the lower number first"),
    ("host 10.0.0.9-10.0.0.1", 6, "write the lower address first"),
    ("icmp type 300", 11, "no ICMP type '300'"),
    ("before noon", 8, "cannot read the time 'noon'"),
    ("before", 7, "a time is missing here"),
    ("between 2026-11-24 and 2026-11-23", 9, "the second time is before the first one"),
    ("host 'a", 6, "a quote without its end"),
    ("tcp & udp", 5, "no sign '&' here"),
    ("less 100", 1, "'less' is not recorded"),
    ("tcp and vlan 3", 9, "'vlan' is not recorded"),
    ("host in", 8, "a list or a file is missing after 'in'"),
    ("host in [192.0.2.7", 19, "a value is missing here"),
    ("tcp and\nprt 443", 1, "line 2, character 1: no word 'prt' here"),
    ("not " * 300 + "tcp", 401, "too many parentheses"),
    ("event new", 1, "'event' is of events, and -s lists connections"),
]


@pytest.mark.parametrize(("text", "at", "why"), WRONG, ids=[text[:30] for text, _, _ in WRONG])
def test_an_error_has_its_place_and_what_to_write(text: str, at: int, why: str) -> None:
    with pytest.raises(UsageError) as caught:
        compile_filter(text, filter_data.context(connections=True))
    assert why in str(caught.value)
    assert f"character {at}: " in str(caught.value)
    shown, caret = caught.value.context
    assert caret.strip() == "^"
    assert len(shown) <= 76
    place = caret.index("^")
    assert shown[place : place + 3].startswith(text.splitlines()[-1][at - 1 : at + 1][:2].strip())


def test_open_is_of_connections() -> None:
    with pytest.raises(UsageError, match="write -s"):
        compile_filter("open", filter_data.context(connections=False))


def test_an_empty_expression_matches_everything() -> None:
    for text in ("", "  ", "# nothing", "any"):
        assert filter_data.query(text, connections=True).terms == ()
