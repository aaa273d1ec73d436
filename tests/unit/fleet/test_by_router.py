"""ctlist, ctwho and cttest of many routers: one order of time, the router in each line, and no
router can change what another one's log says.
"""

from __future__ import annotations

import csv
import io
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ctrecorder.asking import ctwho
from ctrecorder.cli import cttest
from ctrecorder.fleet import by_router
from ctrecorder.listing import ctlist
from ctrecorder.maintain.squeeze import SqueezeOptions, squeeze
from ctrecorder.order.batches import Batch
from ctrecorder.query.open import Archive
from tests.support import asked
from tests.support.inquiries import Json, connection, log
from tests.support.slow_pairing import SECOND, T

CHAIN = "0123456789abcdef"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two routers; the inside host of edge2 has the same private address as another's."""
    for name, host in (("edge1", "10.0.0.5"), ("edge2", "10.0.0.6")):
        place = tmp_path / "root" / name / CHAIN
        place.mkdir(parents=True)
        asked.record(place, host)
    return tmp_path / "root"


def run(capfd: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    capfd.readouterr()
    code = ctlist.main(list(map(str, arguments)))
    return (code, *capfd.readouterr())


@pytest.mark.parametrize("squeezed", [False, True])
@pytest.mark.parametrize("connections", [False, True])
def test_the_lines_are_those_of_each_router_in_one_order(
    root: Path, capfd: pytest.CaptureFixture[str], squeezed: bool, connections: bool
) -> None:
    if squeezed:
        for path in root.rglob("*.ctlog"):
            squeeze(str(path), SqueezeOptions())
    options = ["-s"] if connections else []
    alone = []
    for name in ("edge1", "edge2"):
        place = root / name / CHAIN
        moved = root.parent / f"{name}-alone"
        shutil.copytree(place, moved)
        code, out, _ = run(capfd, *options, "--format", "json", moved)
        assert code == 0
        alone += [{"router": name, **json.loads(line)} for line in out.splitlines()]
    code, out, _ = run(capfd, *options, "--format", "json", root)
    together = [json.loads(line) for line in out.splitlines()]
    key = "start" if connections else "time"
    assert code == 0
    assert len(together) == (6 if connections else 12)
    assert together == sorted(alone, key=lambda one: (one[key], one["router"]))
    code, out, _ = run(capfd, *options, "--utc", root)
    text = out.splitlines()
    assert [line.split()[0] for line in text] == [one["router"] for one in together]
    code, out, _ = run(capfd, *options, "--format", "csv", root)
    rows = list(csv.DictReader(io.StringIO(out)))
    assert [row["router"] for row in rows] == [one["router"] for one in together]
    assert [row[key] for row in rows] == [one[key] for one in together]


def test_small_pieces_keep_the_order(
    root: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the batches are: each router's rows come one by one here."""
    whole = run(capfd, "-s", "--format", "json", root)
    merged = by_router.merged

    def one_by_one(found: Any, listed: by_router.List, *rest: Any) -> Iterator[Batch]:
        def small(archive: Archive) -> Iterator[Batch]:
            for batch in listed(archive):
                for table in batch.tables:
                    for row in range(len(table)):
                        yield batch._replace(tables=[table.slice(row, row + 1)], order=None)

        return merged(found, small, *rest)

    monkeypatch.setattr(by_router, "merged", one_by_one)
    assert run(capfd, "-s", "--format", "json", root) == whole


def test_a_name_that_is_strange_is_quoted(root: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (root / "edge2").rename(root / 'e"2,\033[2J')
    code, out, _ = run(capfd, "--format", "json", root)
    names = {json.loads(line)["router"] for line in out.splitlines()}
    assert (code, names) == (0, {"edge1", 'e"2,\033[2J'})
    _, out, _ = run(capfd, "--format", "csv", root)
    assert {row["router"] for row in csv.DictReader(io.StringIO(out))} == {
        "edge1",
        'e"2,\\x1b[2J',
    }
    _, out, _ = run(capfd, root)
    assert "\033" not in out


def test_one_inside_address_behind_two_routers_is_two_hosts(
    root: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for path in (root / "edge2" / CHAIN).iterdir():
        path.unlink()
    remote = f"{asked.REMOTE} 443"
    flow = connection("tcp", ("10.0.0.5 999", remote), (remote, f"{asked.PUBLIC} 40000"))
    log(root / "edge2" / CHAIN, flow)
    answer = who(capfd, root, 3)
    assert answer["verdict"] == "SEVERAL"
    assert [(one["address"], one["routers"]) for one in answer["persons"]] == [
        ("10.0.0.5", ["edge1"]),
        ("10.0.0.5", ["edge2"]),
    ]
    code = ctwho.main([f"{asked.PUBLIC}:40000", f"@{T // SECOND + 70}", "-d", str(root)])
    out = capfd.readouterr().out
    assert code == 0
    assert "10.0.0.5 behind edge1: 1 connection" in out
    assert "10.0.0.5 behind edge2: 1 connection" in out


def who(capfd: pytest.CaptureFixture[str], root: Path, least: int) -> Json:
    capfd.readouterr()
    words = [f"{asked.PUBLIC}:40000", f"@{T // SECOND + 70}", "--format", "json", "-d", str(root)]
    assert ctwho.main(words) < least
    answer: Json = json.loads(capfd.readouterr().out)
    return answer


def test_a_router_cannot_speak_for_another(root: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """edge2 puts a squeezed, sound segment of edge1's recording into its folder, in which another
    host had the port: it is a copy in name only, and hides and covers nothing.
    """
    before = who(capfd, root / "edge1", 1)
    assert [one["address"] for one in before["persons"]] == ["10.0.0.5"]
    shutil.rmtree(root / "edge2" / CHAIN)
    (root / "edge2" / CHAIN).mkdir()
    for path in asked.record(root / "edge2" / CHAIN, "10.0.0.66"):
        squeeze(path, SqueezeOptions())
    answer = who(capfd, root, 3)
    assert [(one["address"], one["routers"]) for one in answer["persons"]] == [
        ("10.0.0.5", ["edge1"]),
        ("10.0.0.66", ["edge2"]),
    ]
    # And it covers no hole of edge1: without its second hour, edge1 is not complete.
    next(iter(sorted((root / "edge1" / CHAIN).iterdir()))).unlink()
    answer = who(capfd, root, 4)
    assert answer["complete"] is False


def test_cttest_checks_the_chain_of_each_router(
    root: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert cttest.main([str(root)]) == 0
    out = capfd.readouterr().out
    assert "6 segments checked: 6 whole, 0 damaged" in out
    sorted((root / "edge2" / CHAIN).iterdir())[1].unlink()
    assert cttest.main(["-q", str(root)]) == 1
    out = capfd.readouterr().out
    assert "edge2" in out
    assert "edge1" not in out


WIDE = ("--columns", "start,inside", "--format", "csv")


def test_the_last_lines_are_those_of_all_routers(
    root: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """-n and -r, of events and of connections, as text and as JSON."""
    for options in ([], ["-s"], ["--format", "json"], ["-s", "--format", "csv"]):
        head = 1 if "csv" in options else 0
        whole = run(capfd, *options, root)[1].splitlines()[head:]
        for number in (0, 1, 3, 100):
            last = run(capfd, *options, "-n", number, root)[1].splitlines()[head:]
            assert last == whole[len(whole) - min(number, len(whole)) :]
            newest = run(capfd, *options, "-r", "-n", number, root)[1].splitlines()[head:]
            assert sorted(newest) == sorted(last)
        turned = run(capfd, *options, "-r", root)[1].splitlines()[head:]
        assert sorted(turned) == sorted(whole)
        assert turned[0].split()[1:3] == whole[-1].split()[1:3] or "json" in options or head


def test_sort_and_columns_have_the_router(root: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """In the order of columns over all routers; as CSV, JSON, template and on a screen."""
    rows = list(csv.DictReader(io.StringIO(run(capfd, "-s", *WIDE, root)[1])))
    assert list(rows[0]) == ["router", "start", "inside"]
    found = run(capfd, "-s", *WIDE, "--sort=-inside,start", root)[1]
    wanted = sorted(rows, key=lambda row: row["start"])
    wanted.sort(key=lambda row: row["inside"].split(":")[0], reverse=True)
    assert list(csv.DictReader(io.StringIO(found))) == wanted
    found = run(capfd, "-s", "--columns", "start", "--format", "json", root)[1]
    assert [json.loads(line)["router"] for line in found.splitlines()] == [
        row["router"] for row in rows
    ]
    found = run(capfd, "-s", "--format", "{router}: {inside}", root)[1]
    assert found.splitlines() == [f"{row['router']}: {row['inside']}" for row in rows]
    shown = run(capfd, "-s", "--format", "screen", "--color", "never", root)[1].splitlines()
    assert shown[0].split()[0] == "ROUTER"
    assert [line.split()[0] for line in shown if "edge" in line] == [row["router"] for row in rows]


def test_a_router_is_no_column_of_one_folder(root: Path, capfd: pytest.CaptureFixture[str]) -> None:
    alone = shutil.copytree(root / "edge1" / CHAIN, root.parent / "alone")
    code, _, err = run(capfd, "--format", "{router}", alone)
    assert (code, "no column 'router'" in err) == (2, True)


def test_of_many_routers_the_worst_clock_is_shown(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for number in range(12):
        place = tmp_path / f"edge{number:02}" / CHAIN
        place.mkdir(parents=True)
        asked.record(place, f"10.0.1.{number}")
    end, at = f"{asked.PUBLIC}:40000", f"@{T // SECOND + 70}"
    assert ctwho.main(["-d", str(tmp_path), end, at]) == 0
    out = capfd.readouterr().out
    clocks = [line for line in out.splitlines() if line.startswith("clock")]
    assert clocks == ["clock       12 routers, at worst edge00: synchronised, at most 0.002 s off"]
