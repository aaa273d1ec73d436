"""ctlist --top, from end to end: the same counts from raw, squeezed and mixed archives as by hand
from the list of connections.
"""

from __future__ import annotations

import csv
import json
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import pytest

from ctrecorder.maintain.squeeze import SqueezeOptions, squeeze
from tests.unit.listing.test_ctlist import (
    BEGIN,
    SIX,
    Recording,
    Run,
    S,
    at,
    by_family,
    in_utc,
    run,
)

__all__ = ["in_utc", "run"]
BYTES = {"orig_bytes": 100, "reply_bytes": 7, "orig_packets": 3, "reply_packets": 1}


def flows(count: int) -> list[dict[str, Any]]:
    """Connections of two families and three protocols, of which some never end."""
    rows = []
    for number in range(count):
        fields: dict[str, Any] = dict(SIX) if number % 3 == 0 else {}
        fields |= {"l4proto": (6, 17, 1)[number % 3 if number % 4 else 0], "status": 0x10}
        fields |= {"orig_dport": (25, 53, 443, 80)[number % 4], "mark": number % 2}
        if number % 3:
            fields["orig_src"] = f"192.168.1.{number % 11}"
            fields["orig_dst"] = fields["reply_src"] = f"198.51.100.{number % 5}"
        fields["reply_sport"] = fields["orig_dport"]
        rows.append(at(number * 7, number, **fields))
        if number % 7:
            ends = {"start": BEGIN + number * 7 * S, "stop": BEGIN + (number * 8 + 9) * S}
            rows.append(at(number * 8 + 9, number, 3, **fields, **BYTES, **ends))
    return sorted(rows, key=lambda row: row["time"])


@pytest.fixture(params=["raw", "squeezed", "mixed"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """An archive of two segments, and connections that go on from the first to the second."""
    (tmp_path / "log").mkdir()
    recording = Recording(tmp_path / "log")
    rows = flows(300)
    half = len(rows) // 2
    first = recording.segment("a", ("dump", -1, -0.5), *by_family(rows[:half]), begin=-2)
    begin = (rows[half]["time"] - BEGIN) / S
    second = recording.segment("b", *by_family(rows[half:]), begin=begin - 1)
    for path in {"raw": [], "squeezed": [first, second], "mixed": [first]}[request.param]:
        assert squeeze(str(path), SqueezeOptions()) is not None
    return tmp_path / "log"


def listed(run: Run, folder: Path, *query: str) -> list[dict[str, Any]]:
    """The connections that match, as ctlist lists them."""
    return [json.loads(line) for line in run("-s", "--format", "json", *query, folder)[1]]


def tops(run: Run, folder: Path, *words: str) -> dict[Any, Any]:
    code, out, _ = run("--format", "json", "-n", "99999", *words, folder)
    assert code == 0
    found = {}
    for rank, line in enumerate(map(json.loads, out), 1):
        assert line["rank"] == rank
        measure = next(name for name in line if name in ("connections", "bytes", "packets"))
        key = tuple(line["key"].values())
        found[key if len(key) > 1 else key[0]] = line[measure]
        assert line["share"] == pytest.approx(line[measure] / line["total"], abs=1e-6)
    return found


def test_as_counted_by_hand(run: Run, folder: Path) -> None:
    for query in ([], ["-p", "25,443"], ["-i", "192.168.1.4", "--since", "@1795455600"]):
        rows = listed(run, folder, *query)
        assert len(rows) > 3
        sources = Counter(row["orig_src"] for row in rows)
        assert tops(run, folder, "--top", "src", *query) == sources
        pairs = Counter((row["orig_src"], row["protocol"]) for row in rows)
        assert tops(run, folder, "--top", "src,proto", *query) == pairs
        ports = Counter(row["orig_dport"] for row in rows if "orig_dport" in row)
        assert tops(run, folder, "--top", "port", *query) == ports
        sums: dict[str, int] = defaultdict(int)
        for row in rows:
            sums[row["orig_src"]] += row.get("orig_bytes", 0) + row.get("reply_bytes", 0)
        assert tops(run, folder, "--top", "src", "--by", "bytes", *query) == sums


def test_inside_and_remote(run: Run, folder: Path) -> None:
    inside = tops(run, folder, "--top", "inside")
    assert set(inside) == {"fd00::1", *(f"192.168.1.{number}" for number in range(11))}
    assert sum(inside.values()) == 300
    remote = tops(run, folder, "--top", "remote/24")
    assert remote == {"198.51.100.0/24": 200, "2001:db8::/64": 100}


def test_the_table(run: Run, folder: Path) -> None:
    code, out, err = run("--top", "port", "--top", "day,proto", "-n", "2", folder)
    assert code == 0
    assert out[0].startswith("port: 2 of 4 by connections, 300 in all")
    assert out[1] == "connections    share  port"
    assert out[2].split()[2:] == ["%", "25"]
    assert out[4] == ""
    assert out[5].startswith("day,proto: 2 of ")
    assert out[6] == "connections    share  day         proto"
    assert out[7].split()[3] == "2026.11.23"
    assert any("43 connections had not ended" in line for line in err)


def test_csv_and_hours(run: Run, folder: Path) -> None:
    _, out, _ = run("--top", "hour", "--top", "src,mark", "-n", "3", "--format", "csv", folder)
    rows = list(csv.DictReader(out))
    assert [row["rank"] for row in rows] == ["1", "2", "1", "2", "3"]
    assert {row["key"] for row in rows[:2]} == {"2026-11-23T17:00:00Z", "2026-11-23T18:00:00Z"}
    assert rows[2]["key"].split(",")[0].startswith("fd00::1")
    assert sum(int(row["amount"]) for row in rows[:2]) == int(rows[0]["total"]) == 300


def test_a_hole_is_told(run: Run, tmp_path: Path) -> None:
    (tmp_path / "log").mkdir()
    recording = Recording(tmp_path / "log")
    recording.segment("a", [at(1), at(90, kind=3)], ("gap", 5, 9, "overrun", 3))
    code, out, err = run("--top", "port", tmp_path / "log")
    assert (code, len(out)) == (0, 3)
    assert any("events lost" in line for line in err)
    assert run("--top", "port", "--strict", tmp_path / "log")[0] == 3


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--top", "prot"], "did you mean proto?"),
        (["--by", "bytes"], "--by ranks a --top"),
        (["--top", "port", "--event", "new"], "not with"),
        (["--top", "port", "-H"], "not with"),
        (["--top", "port", "--coverage"], "not with"),
        (["--top", "port", "--format", "classic"], "text, json, csv"),
        (["--top", "port", "-n", "0"], "at least 1"),
    ],
)
def test_what_does_not_go_together(run: Run, folder: Path, words: list[str], says: str) -> None:
    code, out, err = run(*words, folder)
    assert (code, out, len(err)) == (2, [], 1)
    assert says in err[0]


def test_a_damaged_block_is_told(run: Run, folder: Path) -> None:
    before = sum(tops(run, folder, "--top", "proto").values())
    path = folder / "a"
    data = bytearray(path.read_bytes())
    place = len(data) // 3
    data[place : place + 40] = bytes(40)
    path.write_bytes(data)
    code, out, err = run("--top", "proto", "--format", "json", folder)
    assert code == 2
    assert any("does not match" in line or "damage" in line for line in err)
    assert sum(json.loads(line)["connections"] for line in out) <= before
