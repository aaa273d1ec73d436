"""Tops as text, JSON and CSV.  Pure."""

from __future__ import annotations

import ipaddress
import json
import time
from collections.abc import Callable, Iterator

from ctrecorder import labels, uapi
from ctrecorder.times import MICROSECOND, SECOND
from ctrecorder.tops.count import Counted, Row
from ctrecorder.tops.fields import Field, Measure

CSV_HEAD = "top,rank,key,by,amount,total,share\n"
_MICROSECONDS = SECOND // MICROSECOND
_SIGN, _DAY = 1 << 63, 86_400


def text(counted: Counted, measure: Measure, whole: int, *, utc: bool) -> str:
    """A top as a table of lines, with a line before it that says what it is of."""
    lines = [title(counted, measure, whole)]
    table = [
        [measure.value, "share", *(field.text for field in counted.top.fields)],
        *(
            [
                amount_text(row.amount, measure),
                f"{percent(row.amount, whole)} %",
                *_values(counted, row, utc=utc),
            ]
            for row in counted.rows
        ),
    ]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for line in table:
        numbers = [cell.rjust(width) for cell, width in zip(line[:2], widths[:2], strict=True)]
        names = [cell.ljust(width) for cell, width in zip(line[2:], widths[2:], strict=True)]
        lines.append("  ".join([*numbers, *names]).rstrip())
    return "".join(f"{line}\n" for line in lines)


def title(counted: Counted, measure: Measure, whole: int) -> str:
    """What a top is of, and how much is in it and in all."""
    missing = f"; {counted.without:,} connections without" if counted.without else ""
    return (
        f"{counted.top.text}: {len(counted.rows):,} of {counted.distinct:,} by {measure.value}, "
        f"{amount_text(whole, measure)} in all{missing}"
    )


def texts(counted: Counted, *, utc: bool) -> list[list[str]]:
    """The values of each row as text."""
    return [_values(counted, row, utc=utc) for row in counted.rows]


def json_lines(counted: Counted, measure: Measure, whole: int, *, utc: bool) -> str:
    """A top as JSON, an object for each row."""
    found = []
    for rank, row in enumerate(counted.rows, 1):
        key = {
            field.text: value if field.name in ("port", "anyport", "mark", "zone") else shown
            for field, value, shown in zip(
                counted.top.fields,
                row.values,
                _values(counted, row, utc=utc, exact=True),
                strict=True,
            )
        }
        found.append(
            f'{{"top":{json.dumps(counted.top.text)},"rank":{rank},"key":{json.dumps(key)},'
            f'"{measure.value}":{_exact(row.amount, measure)},'
            f'"total":{_exact(whole, measure)},"share":{share(row.amount, whole)}}}\n'
        )
    return "".join(found)


def csv_lines(counted: Counted, measure: Measure, whole: int, *, utc: bool) -> str:
    """A top as CSV, without CSV_HEAD.  A key of several fields is one cell, with commas."""
    found = []
    for rank, row in enumerate(counted.rows, 1):
        cells = [
            _cell(counted.top.text),
            str(rank),
            _cell(",".join(_values(counted, row, utc=utc, exact=True))),
            measure.value,
            _exact(row.amount, measure),
            _exact(whole, measure),
            share(row.amount, whole),
        ]
        found.append(",".join(cells) + "\n")
    return "".join(found)


def percent(amount: int, whole: int) -> str:
    """The share with two decimals, rounded to the nearest."""
    parts = (amount * 20_000 + whole) // (2 * whole) if whole else 0
    return f"{parts // 100}.{parts % 100:02}"


def share(amount: int, whole: int) -> str:
    """The share of the whole, 0 to 1, with six decimals."""
    parts = (amount * 2_000_000 + whole) // (2 * whole) if whole else 0
    return f"{parts // 1_000_000}.{parts % 1_000_000:06}"


def label(field: Field, family: int, value: int, *, utc: bool, exact: bool = False) -> str:
    """A value as text.  `exact`: times as in JSON."""
    if field.is_address:
        v6 = family == uapi.AF_INET6
        address = str(ipaddress.IPv6Address(value) if v6 else ipaddress.IPv4Address(value))
        prefix = field.prefix(v6=v6)
        return address if prefix is None else f"{address}/{prefix}"
    if field.name == "proto":
        return labels.protocol(value)
    if field.name in ("hour", "day"):
        return _time(field.name, value - 2 * (value & _SIGN), utc=utc, exact=exact)
    return str(value)


def _values(counted: Counted, row: Row, *, utc: bool, exact: bool = False) -> list[str]:
    return [
        label(field, row.family, value, utc=utc, exact=exact)
        for field, value in zip(counted.top.fields, row.values, strict=True)
    ]


def _time(name: str, second: int, *, utc: bool, exact: bool) -> str:
    """An hour by its first second; a day by its first second in the count of UTC."""
    if name == "day":
        fields = time.gmtime(second)
        return time.strftime("%Y-%m-%d" if exact else "%Y.%m.%d", fields)
    fields = time.gmtime(second) if utc else time.localtime(second)
    if not exact:
        return time.strftime("%Y.%m.%d %H:%M", fields)
    return time.strftime("%Y-%m-%dT%H:%M:%S", fields) + offset(fields.tm_gmtoff)


def offset(seconds: int) -> str:
    """An offset from UTC as in RFC 3339."""
    minutes = abs(seconds) // 60
    sign = "-" if seconds < 0 else "+"
    return "Z" if not seconds else f"{sign}{minutes // 60:02}:{minutes % 60:02}"


def amount_text(amount: int, measure: Measure) -> str:
    """A sum as text for readers."""
    if measure != Measure.DURATION:
        return f"{amount:,}"
    seconds = amount // SECOND
    days, rest = divmod(seconds, _DAY)
    clock = f"{rest // 3600:02}:{rest // 60 % 60:02}:{rest % 60:02}"
    return f"{days:,}d {clock}" if days else clock


def _exact(amount: int, measure: Measure) -> str:
    """The number; of a duration seconds with six decimals."""
    if measure != Measure.DURATION:
        return str(amount)
    micros = amount // MICROSECOND
    return f"{micros // _MICROSECONDS}.{micros % _MICROSECONDS:06}"


def _cell(text_: str) -> str:
    return f'"{text_}"' if "," in text_ else text_


Form = Callable[..., str]
FORMS: dict[str, Form] = {"text": text, "json": json_lines, "csv": csv_lines}


def lines(
    found: list[Counted], form: str, measure: Measure, whole: int, *, utc: bool
) -> Iterator[str]:
    """The tops in a format of FORMS."""
    if form == "csv":
        yield CSV_HEAD
    for number, counted in enumerate(found):
        if number and form == "text":
            yield "\n"
        yield FORMS[form](counted, measure, whole, utc=utc)
