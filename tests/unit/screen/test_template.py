"""Templates, and CSV and JSON of chosen columns."""

from __future__ import annotations

import csv
import io
import json

import pytest

from ctrecorder.columns import Table
from ctrecorder.errors import UsageError
from ctrecorder.screen import fields
from ctrecorder.screen.fields import Look
from ctrecorder.screen.selected import Selected
from ctrecorder.screen.template import Template
from ctrecorder.uapi import AF_INET6
from tests.support.rows import event, table

EXACT = Look(connections=False, utc=True, exact=True)


def made(text: str, *tables: Table) -> str:
    return b"".join(Template(text, EXACT).lines(tables)).decode()


def rows(count: int) -> Table:
    return table([event(time=10**18 + 2 * number, id=number) for number in range(count)])


def test_names_widths_braces_and_escapes() -> None:
    one = table([event(orig_src="10.0.0.1", orig_sport=7)])
    line = made("{orig_src:>10}|{orig_sport:<3}|{{x}}\\t{proto}", one)
    assert line == "  10.0.0.1|7  |{x}\ttcp\n"


def test_many_rows_of_two_families_in_order_of_time() -> None:
    six = {"orig_src": "fd00::1", "orig_dst": "fd00::2", "reply_src": "fd00::2"}
    other = [event(**six, reply_dst="fd00::1", time=10**18 + 5, id=99)]
    text = made("{id}", rows(9000), table(other, AF_INET6))
    expected = [0, 1, 2, 99, *range(3, 9000)]
    assert list(map(int, text.split())) == expected


@pytest.mark.parametrize(
    "text", ["{", "}", "{remte}", "{bytes:d}", "{bytes!r}", "{bytes:9999}", "{}", "{0}", "{id.x}"]
)
def test_a_wrong_template_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        Template(text, EXACT)


def test_chosen_columns_as_csv_and_json() -> None:
    counts = {"orig_bytes": 3, "reply_bytes": 4}
    one = table([event(id=5, status=0xE, **counts), event(id=6, status=0)])
    columns = fields.fields_of("id,bytes,status,remote,orig_src", connections=False)
    selected = Selected("csv", columns, EXACT)
    text = (selected.head + b"".join(selected.lines([one]))).decode()
    first, second = csv.DictReader(io.StringIO(text))
    assert list(first) == ["id", "bytes", "status", "remote", "orig_src"]
    assert (first["bytes"], second["bytes"]) == ("7", "")
    assert first["status"] == "SEEN_REPLY|ASSURED|CONFIRMED"
    lines = b"".join(Selected("json", columns, EXACT).lines([one])).decode().splitlines()
    found = json.loads(lines[0])
    assert list(found) == ["id", "bytes", "status", "remote", "orig_src"]
    assert (found["id"], found["bytes"]) == (5, 7)
    assert found["status"] == ["SEEN_REPLY", "ASSURED", "CONFIRMED"]
    assert found["remote"] == first["remote"]
    assert "bytes" not in json.loads(lines[1])
