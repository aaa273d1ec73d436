"""ctlog(5) against the code: its tables, a reader written from the page alone, golden segments."""

from __future__ import annotations

import fcntl
import json
import re
import shutil
import subprocess
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ctrecorder import uapi
from ctrecorder.check.collect import check_segment
from ctrecorder.columns import ADDRESSES, BY_NAME, COLUMNS, Column, Table
from ctrecorder.ctlog import bloom, header, index
from ctrecorder.ctlog import entry as entries
from ctrecorder.ctlog import frame as form
from ctrecorder.ctlog.frame import FRAME, INDEX, TRAILER, Gap, Kind
from ctrecorder.ctlog.header import Header
from ctrecorder.ctlog.plans import GROUPS, LIVE, SQUEEZED, EncodingPlan
from ctrecorder.segment.reader import Segment
from ctrecorder.segment.writer import SegmentWriter
from tests.data.make_golden import KEY, plain
from tests.support import ctlog_reader, tables
from tests.support.tables import CONNECTION_COLUMNS, EVENT_COLUMNS, FAMILIES, NOON

ROOT = Path(__file__).resolve().parents[3]
PAGE = ROOT / "man" / "ctlog.5"
GOLDEN = sorted((ROOT / "tests" / "data" / "golden").glob("*.ctlog"))


def tables_of_page() -> list[list[list[str]]]:
    """The tables of the page: lists of rows of cells; the first row has the heads."""
    found = []
    for part in re.findall(
        r"^\.Bl -column.*?\n(.*?)^\.El", PAGE.read_text(), re.MULTILINE | re.DOTALL
    ):
        rows = [row for row in part.splitlines() if row.startswith(".It ")]
        found.append(
            [
                [re.sub(r"\b(Sy|Va|Ql) ", "", cell).strip() for cell in row[4:].split(" Ta ")]
                for row in rows
            ]
        )
    return found


def table(*heads: str) -> dict[str, list[str]]:
    """The rows of the one table with these first heads, by their first cell."""
    (found,) = [rows for rows in tables_of_page() if tuple(rows[0][: len(heads)]) == heads]
    cells = {row[0]: row[1:] for row in found[1:]}
    assert len(cells) == len(found) - 1
    return cells


def layout(packed: str) -> list[tuple[int, int]]:
    """Offset and size of each field of a struct's format, pad bytes as one field."""
    sizes = {"B": 1, "H": 2, "I": 4, "Q": 8, "q": 8}
    at, found = 0, []
    for count, code in re.findall(r"(\d*)([sxBHIQq])", packed):
        times, size = (1, int(count)) if code in "sx" else (int(count or 1), sizes[code])
        for _ in range(times):
            found.append((at, size))
            at += size
    return found


def rows_of(cells: dict[str, list[str]]) -> list[tuple[int, int]]:
    return [(int(offset), int(rest[0])) for offset, rest in cells.items()]


def test_the_frame() -> None:
    frame, entry = [
        rows
        for rows in tables_of_page()
        if rows[0][:3] == ["offset", "size", "field"] and rows[1][2] != "addresses"
    ]
    assert [(int(row[0]), int(row[1])) for row in frame[1:]] == layout(FRAME.format)
    assert [row[2] for row in frame[1:]] == ["magic", *form.Frame._fields[:-1]]
    assert frame[1][3] == f"the bytes {form.MAGIC.hex(' ')}"
    versions = f"{form.VERSION}, or {form.VERSION_REQUIRES} if the HEADER has requires"
    assert frame[4][3].startswith(versions)
    assert f"of a version above {form.VERSION_REQUIRES};" in PAGE.read_text()
    assert f"{uapi.AF_INET} (IPv4) or {uapi.AF_INET6} (IPv6)" in frame[3][3]
    assert f"{index.FORM_COLUMNS} (COLUMNS) or {index.FORM_SMALL} (SMALL)" in frame[5][3]
    assert [(int(row[0]), int(row[1])) for row in entry[1:]] == layout(entries.ENTRY.format)
    assert [row[2] for row in entry[1:] if row[2] != "-"] == list(entries.Entry._fields[:11])
    assert f"at most {entries.MAX_SCALE}" in entry[5][3]


def test_the_dictionary_of_packed_headers() -> None:
    """The page, the code and the page's reader have the same."""
    page = PAGE.read_text().partition(".Ss Packed headers")[2].partition(".Bd -literal\n")[2]
    text = page.partition(".Ed")[0].replace("\n", "").replace("\\-", "-")
    assert text == header.DICTIONARY == ctlog_reader.PACKED_WITH.replace("\n", "")


def test_the_addresses(tmp_path: Path) -> None:
    """The page's reader finds each address of a segment in its filter.

    For other addresses, its result is that of the program.
    """
    told = [rows for rows in tables_of_page() if "field" in rows[0] and rows[1][2] == "addresses"]
    assert [(int(row[0]), row[1]) for row in told[0][1:]] == [
        *((at, str(size)) for at, size in layout(bloom._HEAD.format)),
        (8, "-"),
    ]
    assert (
        f"of {bloom.LEAST_ROWS:,} rows or more and {bloom.MOST_ADDRESSES:,} addresses"
        in PAGE.read_text()
    )
    random = np.random.default_rng(1)
    for family in FAMILIES:
        collector = bloom.Collector()
        table = tables.connections(family, 5000, kinds=2000)
        collector.add(table)
        payload = collector.payload()
        assert payload is not None
        values = table["orig_src"][:500]
        data = values.tobytes() if family == uapi.AF_INET6 else values.astype(">u4").tobytes()
        size = len(data) // 500
        assert all(
            ctlog_reader.may_hold(payload, data[at : at + size]) for at in range(0, len(data), size)
        )
        others = [random.bytes(size) for _ in range(500)]
        found = bloom.Bloom(payload)
        assert [ctlog_reader.may_hold(payload, each) for each in others] == [
            found.may_hold(each) for each in others
        ]


def test_the_footer() -> None:
    record = table("offset", "size", "record")
    fields = INDEX.fields
    assert fields is not None
    assert [
        (at, size, rest[1])
        for (at, size), rest in zip(rows_of(record), record.values(), strict=True)
    ] == [(fields[name][1], fields[name][0].itemsize, name) for name in INDEX.names or ()]
    trailer = table("offset", "size", "trailer")
    assert rows_of(trailer) == layout(TRAILER.format)
    assert trailer["12"][2] == f"the bytes {form.TRAILER_MAGIC.hex(' ')}"


def test_the_footer_of_very_many_blocks() -> None:
    assert f"more than {form.MAX_INDEXED:,} blocks" in PAGE.read_text()


def test_the_names_and_numbers() -> None:
    assert {name: int(value) for value, (name, _) in table("value", "kind").items()} == {
        kind.name: kind.value for kind in Kind
    }
    assert {name: int(value) for value, (name, _) in table("value", "name").items()} == dict(
        entries.ENCODINGS
    )
    assert {reason: rest[0] for reason, rest in table("reason").items()} == dict(form.REASONS)
    assert set(table("what")) == set(form.MARKS)
    limits = {int(number.replace(",", "")) for number in table("at most")}
    assert limits == {form.MAX_ROWS, form.MAX_PAYLOAD, index.MAX_SMALL, form.MAX_JSON}
    assert f"writes {form.ROWS_WRITTEN:,}" in table("at most")[f"{form.MAX_ROWS:,}"][0]


def test_the_rules_of_an_entry() -> None:
    section = PAGE.read_text().partition("\n.Ss Rules of an entry\n")[2].partition("\n.Ss ")[0]
    told = {
        name: " ".join(text.split())
        for name, text in re.findall(r"^\.It Cm (\S+)\n((?:[^.].*\n)+)", section, re.MULTILINE)
    }
    assert told == {rule.name: rule.text for rule in entries.RULES}


def test_the_columns() -> None:
    kinds = {"<i8": "i64", "<u8": "u64", "<u4": "u32", "<u2": "u16", "u1": "u8", "addr": "address"}
    kinds["bytes"] = "bytes"

    def row(column: Column) -> list[str]:
        return [
            column.name,
            kinds[column.kind],
            column.doc + (f" ({column.unit})" if column.unit else ""),
        ]

    assert table("id", "name", "type") == {str(column.id): row(column) for column in COLUMNS}


def test_what_is_defined_for_later_is_free_or_as_it_is_defined() -> None:
    """A number or name that the page keeps for a feature means that feature or nothing."""
    text = PAGE.read_text()
    assert "of kind 8, SEAL" in text
    assert {kind.name for kind in Kind if kind == 8} <= {"SEAL"}
    for feature in form.FEATURES:
        assert f"requires\n.Ql {feature}" in text
    assert "WATERMARK, 128" in text
    assert max(index.WHOLE, index.FORM_COLUMNS, index.FORM_SMALL) < 128
    assert rows_of(table("offset", "size", "seal")) == layout("<II32s")


def test_the_facts_of_a_header(tmp_path: Path) -> None:
    """The members that the writer adds, and those in the source of recorder and squeeze."""
    SegmentWriter.create(str(tmp_path / "a"), Header()).close()
    with Segment(str(tmp_path / "a")) as segment:
        always = set(segment.header.to_json())
    lists = re.findall(r"^Only\n(.*?)^are always there", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert [set(words.split()) - {"and", ".Va", ","} for words in lists] == [always]
    heads = [rows for rows in tables_of_page() if rows[0] == ["member", "meaning"]]
    members = {row[0] for row in heads[0][1:]}
    assert always <= members
    assert members == {member.name for member in fields(Header)} - {"extra"}
    writers = ["record/recorder", "record/options", "spool/segments", "segment/writer"]
    writers += ["maintain/squeeze", "privacy/header", "legacy/segment", "check/repair"]
    source = "".join((ROOT / "ctrecorder" / f"{name}.py").read_text() for name in writers)
    assert {name for name in members if f"{name}=" not in source} == set()


def test_the_page_is_sound() -> None:
    done = subprocess.run(
        ["mandoc", "-T", "lint", "-W", "warning", str(PAGE)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == ""


def values_of(table: Table) -> dict[str, list[int | str]]:
    return {name: plain(array) for name, array in table.columns.items()}


def without_zeros(columns: dict[str, list[Any]]) -> dict[str, list[int | str]]:
    """Columns as in JSON, without columns that are all zero."""
    found = {
        name: [value.hex() if isinstance(value, bytes) else value for value in values]
        for name, values in columns.items()
    }
    return {
        name: values
        for name, values in found.items()
        if any(value not in (0, "00" * 16) for value in values)
    }


PLANS: list[EncodingPlan] = [
    LIVE,
    SQUEEZED,
    {**GROUPS, "start": replace(GROUPS["start"], ranges=2)},
    {},
]


@pytest.mark.parametrize("seed", range(4))
def test_a_reader_written_from_the_page_reads_what_the_code_writes(
    tmp_path: Path, seed: int
) -> None:
    """Random segments, each block by each plan."""
    random = np.random.default_rng(seed)
    path = tmp_path / "segment"
    writer = SegmentWriter.create(str(path), Header(host="router"), bytes(range(16)))
    written: list[tuple[Kind, Table]] = []
    for family in FAMILIES:
        for plan in PLANS:
            rows = int(random.choice([1, 2, 7, 300]))
            kinds = int(random.choice([1, 3, 300]))
            for kind, made in (
                (Kind.EVENTS, tables.events(family, rows, seed, kinds)),
                (
                    Kind.CONNECTIONS,
                    tables.connections(
                        family, rows, seed, kinds, step=int(random.choice([1, 1000, 10**9]))
                    ),
                ),
                (Kind.EVENTS, tables.extremes(family, rows, EVENT_COLUMNS)),
                (
                    Kind.CONNECTIONS,
                    tables.extremes(family, rows + 1, CONNECTION_COLUMNS).slice(1, rows + 1),
                ),
                (
                    Kind.EVENTS,
                    Table(
                        family,
                        rows,
                        {name: tables.noise(random, name, family, rows) for name in EVENT_COLUMNS},
                    ),
                ),
            ):
                writer.append(made, kind=kind, plan=plan)
                written.append((kind, made))
    writer.gap(Gap(5, 7, "overrun", 3))
    last_hash = writer.close({"x": 1})
    data = path.read_bytes()
    blocks = ctlog_reader.read(data)
    assert (blocks[0].previous, blocks[-1].hash) == (bytes(range(16)), last_hash)
    assert blocks[-2].json == {"reason": "overrun", "lost": 3, "detail": ""}
    for block, (kind, made) in zip(
        [block for block in blocks if block.kind in form.TABLES], written, strict=True
    ):
        assert (block.kind, block.family, block.rows) == (kind, made.family, made.rows)
        assert (block.time_min, block.time_max) == form.block_times(kind, made)
        assert without_zeros(block.columns) == without_zeros(values_of(made))
    records, totals, _ = ctlog_reader.footer(data)
    assert totals == {"x": 1, "rows": sum(made.rows for _, made in written)}
    assert [record[0] for record in records] == [block.offset for block in blocks[:-1]]
    assert [record[1:6] for record in records] == [
        (block.time_min, block.time_max, block.rows, block.kind, block.family)
        for block in blocks[:-1]
    ]


def golden_blocks(facts: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {"columns": {}, "json": {}, "family": 0, "rows": 0, **block} for block in facts["blocks"]
    ]


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_golden_segments_are_read(path: Path) -> None:
    """This version reads segments of each version of the format.

    The expected values are those that were written, not values that a reader read.
    """
    facts = json.loads(path.with_suffix(".json").read_text())
    key = KEY if "sealed" in path.stem else b""
    assert check_segment(str(path), key).findings == []
    with Segment(str(path), key) as segment:
        assert segment.state == ("closed" if facts["closed"] else "crashed")
        assert segment.last_hash.hex() == facts["last_hash"]
        assert segment.sealed == bool(key)
        for block, expected in zip(segment.blocks[1:], golden_blocks(facts), strict=True):
            assert (block.kind, block.family, block.rows) == (
                expected["kind"],
                expected["family"],
                expected["rows"],
            )
            if block.kind in form.TABLES:
                read = segment.read(block)
                assert without_zeros(values_of(read)) == expected["columns"]
                assert all(
                    array.dtype == BY_NAME[name].dtype(block.family)
                    for name, array in read.columns.items()
                )
        gaps = [
            {"reason": gap.reason, "lost": gap.lost, "detail": gap.detail} for gap in segment.gaps
        ]
        marks = [{"what": mark.what, **mark.facts} for mark in segment.marks]
        told = golden_blocks(facts)
        assert gaps == [block["json"] for block in told if block["kind"] == Kind.GAP]
        assert marks == [block["json"] for block in told if block["kind"] == Kind.MARK]
        assert [(gap.begin, gap.end) for gap in segment.gaps] == [
            (one["begin"], one["end"]) for one in told if one["kind"] == Kind.GAP
        ]


@pytest.mark.parametrize(
    "path", [path for path in GOLDEN if "crashed" not in path.stem], ids=lambda path: path.stem
)
def test_golden_segments_are_read_by_the_page(path: Path) -> None:
    facts = json.loads(path.with_suffix(".json").read_text())
    key = KEY if "sealed" in path.stem else b""
    blocks = ctlog_reader.read(path.read_bytes(), key, known=form.FEATURES)
    for block, expected in zip(blocks[1:-1], golden_blocks(facts), strict=True):
        assert (block.kind, block.family, block.rows) == (
            expected["kind"],
            expected["family"],
            expected["rows"],
        )
        assert without_zeros(block.columns) == expected["columns"]
        assert block.json == expected["json"]


def test_the_golden_packed_header_is_read_by_both_readers() -> None:
    (path,) = [path for path in GOLDEN if "packed" in path.stem]
    data = path.read_bytes()
    (told, *_) = ctlog_reader.read(data, known=form.FEATURES)
    with Segment(str(path)) as segment:
        assert segment.header.to_json() == told.json
        assert segment.header.replaces[0].last_hash == "0123456789abcdef" * 2
        assert told.json["chain"] == "0123456789abcdef"
    assert b'"chain"' not in data
    assert ctlog_reader.footer(data)[0] == []


def test_the_golden_squeezed_segment_has_the_addresses_of_its_rows() -> None:
    (path,) = [path for path in GOLDEN if "squeezed" in path.stem]
    blocks = ctlog_reader.read(path.read_bytes())
    (addresses,) = [block for block in blocks if block.kind == Kind.ADDRESSES]
    told = {
        (block.family, value)
        for block in blocks
        for name in ADDRESSES
        for value in block.columns.get(name, [])
    }
    assert len(told) > 100
    for family, value in told:
        address = value if isinstance(value, bytes) else value.to_bytes(4, "big")
        assert len(address) == (4 if family == uapi.AF_INET else 16)
        assert ctlog_reader.may_hold(addresses.bloom, address)


def test_golden_segments_use_every_encoding_and_column() -> None:
    encodings, columns, forms = 0, set(), set()
    for path in GOLDEN:
        with Segment(str(path)) as segment:
            for block in segment.blocks_of(*form.TABLES):
                forms.add((block.form, block.family))
                columns |= set(segment.read(block).columns)
                if block.form == index.FORM_COLUMNS:
                    for entry in segment.read_index(block).columns.values():
                        encodings |= entry.encoding
    assert encodings == sum(entries.ENCODINGS.values())
    assert columns == set(BY_NAME)
    assert forms == {
        (each, family) for each in (index.FORM_COLUMNS, index.FORM_SMALL) for family in FAMILIES
    }


def test_a_golden_segment_under_a_lock_is_live(tmp_path: Path) -> None:
    path = tmp_path / "live.ctlog"
    shutil.copy(next(path for path in GOLDEN if "crashed" in path.stem), path)
    with path.open("rb") as recorder:
        fcntl.flock(recorder, fcntl.LOCK_EX)
        with Segment(str(path)) as segment:
            assert (segment.state, segment.findings) == ("live", [])
            assert segment.times[0] <= NOON
