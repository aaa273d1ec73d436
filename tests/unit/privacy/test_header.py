"""ctsqueeze --omit and --anonymize: what is left out is nowhere in the file, what stays answers."""

from __future__ import annotations

import ipaddress
import json
import os
from pathlib import Path
from typing import Any

import pytest

from ctrecorder.asking import ctwho
from ctrecorder.cli import cttest
from ctrecorder.cli.ctsqueeze import main
from ctrecorder.ctlog.bloom import LEAST_ROWS
from ctrecorder.ctlog.frame import Gap, Kind
from ctrecorder.maintain.squeeze import SqueezeOptions, squeeze
from ctrecorder.privacy.header import without_networks
from ctrecorder.segment.reader import Segment
from tests.unit.listing.test_ctlist import Recording, Run, at, in_utc, run
from tests.unit.listing.test_privacy import FLOWS, REMOTE, addresses_in, key, replaced

__all__ = ["in_utc", "key", "run"]
OMIT = ("--omit", "remote")


@pytest.fixture(params=["raw", "squeezed before"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Two segments; a connection goes on from the first to the second."""
    (tmp_path / "log").mkdir()
    recording = Recording(tmp_path / "log")
    v4: list[Any] = []
    v6: list[Any] = []
    for number, flow in enumerate(FLOWS):
        rows = v6 if ":" in flow["orig_src"] else v4
        rows += [at(number, number, **flow), at(number + 20, number, 3, **flow)]
    long = {**FLOWS[0], "orig_sport": 4321, "reply_dport": 4321}
    facts = {"networks": ["198.51.100.0/24"], "family": 2}
    gap = ("gap", 25, 26, "notrack", 3, "to 198.51.100.0/24", facts)
    dump = ("dump", -1, -0.5)
    first = recording.segment("a.ctlog", dump, v4, v6, [at(6, 99, **long)], gap, begin=-2)
    second = recording.segment(
        "b.ctlog",
        [at(40, 99, 4, **long)],
        ("dump", 40, 40.5),
        [at(50, 99, 3, **long)],
        begin=39,
    )
    if request.param != "raw":
        for path in (first, second):
            assert squeeze(str(path), SqueezeOptions("ms")) is not None
    return tmp_path / "log"


def content(path: Path) -> list[str]:
    """All addresses in the columns, and all text of the other blocks."""
    found = []
    with Segment(str(path)) as segment:
        found.append(json.dumps(segment.header.to_json()))
        found += [json.dumps([gap.detail, gap.facts]) for gap in segment.gaps]
        for block in segment.blocks_of(Kind.CONNECTIONS, Kind.EVENTS):
            table = segment.read(block)
            for name in ("orig_src", "orig_dst", "reply_src", "reply_dst"):
                for place in range(len(table)):
                    one = table[name][place : place + 1]
                    data = one.tobytes() if one.dtype.kind == "S" else one.astype(">u4").tobytes()
                    found.append(str(ipaddress.ip_address(data)))
    return found


def may_hold(path: Path, address: str) -> bool:
    """What the filter of addresses says."""
    with Segment(str(path)) as segment:
        (block,) = segment.blocks_of(Kind.ADDRESSES)
        return segment.addresses(block).may_hold(ipaddress.ip_address(address).packed)


def test_no_remote_end_is_left(folder: Path, run: Run) -> None:
    before = run("-s", *OMIT, "--format", "json", folder)[1]
    assert main([*OMIT, str(folder)]) == 0
    for name in ("a.ctlog", "b.ctlog"):
        left = addresses_in(content(folder / name))
        assert not left & {*REMOTE, "198.51.100.0"}, name
        assert "192.168.1.5" in left
        with Segment(str(folder / name)) as segment:
            assert segment.header.omit == "remote"
            assert "omit" in (segment.header.requires or ())
            assert not segment.findings
    after = run("-s", "--format", "json", folder)[1]
    assert [_known(line) for line in after] == [_known(line) for line in before]
    assert main([*OMIT, str(folder)]) == 0  # nothing is left to do
    assert run("-s", "--format", "json", folder)[1] == after
    assert cttest.main([str(folder)]) == 0


def _known(line: str) -> dict[str, Any]:
    """A connection without its id, which squeezing drops, and its times to the millisecond."""
    row: dict[str, Any] = json.loads(line)
    row.pop("id", None)
    return {name: value[:23] if name in ("start", "end") else value for name, value in row.items()}


def test_who_is_found_by_address_and_port_alone(
    folder: Path, run: Run, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main([*OMIT, str(folder)]) == 0
    for end, host in (("203.0.113.1:1024", "192.168.1.5"), ("203.0.113.1:80", "192.168.1.80")):
        capfd.readouterr()
        asked = [end, "2026-11-23 17:37:19", "--trust-clock", "-d", str(folder), "--utc"]
        ctwho.main(asked)
        answer = capfd.readouterr().out
        assert host in answer, (end, answer)
        assert not addresses_in([answer]) & set(REMOTE)


def test_anonymous_copies(folder: Path, run: Run, key: Path, tmp_path: Path) -> None:
    whole = (folder / "a.ctlog").read_bytes()
    new = tmp_path / "new.ctlog"
    words = ["--anonymize", str(key), "-f", str(folder / "a.ctlog"), "-o", str(new)]
    plain = [_known(line) for line in run("-s", "--format", "json", folder / "a.ctlog")[1]]
    assert main(words) == 0
    assert (folder / "a.ctlog").read_bytes() == whole
    rows = [_known(line) for line in run("-s", "--format", "json", new)[1]]
    for row in plain:
        for name in ("orig_src", "orig_dst", "reply_src", "reply_dst"):
            row[name] = replaced(row[name])

    def order(row: dict[str, Any]) -> str:
        return json.dumps(row, sort_keys=True)

    assert sorted(rows, key=order) == sorted(plain, key=order)
    assert "198.51.100" not in " ".join(content(new))
    os.unlink(new)
    assert main([*words, *OMIT]) == 0
    assert not addresses_in(content(new)) & {*REMOTE, *map(replaced, REMOTE)}


def test_the_log_itself_is_not_made_anonymous(
    folder: Path, key: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["--anonymize", str(key), str(folder)]) == 2
    assert "name a segment with -f, and that file with -o" in capfd.readouterr().err


def test_the_filter_of_addresses_has_no_remote_end(tmp_path: Path, key: Path) -> None:
    (tmp_path / "log").mkdir()
    rows = []
    for number in range(LEAST_ROWS):
        inside = {"orig_src": f"192.168.{number % 200}.{number // 200}", "l4proto": 6}
        rows += [at(number, number, **{**FLOWS[0], **inside})]
        rows += [at(number + 1, number, 3, **{**FLOWS[0], **inside})]
    rows.sort(key=lambda row: int(row["time"]))
    path = Recording(tmp_path / "log").segment("a.ctlog", rows)
    for words, left, gone in (
        (["--anonymize", str(key)], replaced("192.168.7.1"), ("192.168.7.1", REMOTE[0])),
        ([*OMIT], "192.168.7.1", (REMOTE[0],)),
    ):
        new = tmp_path / "new.ctlog"
        assert main([*words, "-f", str(path), "-o", str(new)]) == 0
        assert may_hold(new, left)
        assert not any(may_hold(new, address) for address in gone)
        os.unlink(new)


def test_a_gap_without_networks_is_wider() -> None:
    gap = Gap(
        1, 2, "notrack", None, "to 192.0.2.0/24", {"networks": ["192.0.2.0/24"], "open": True}
    )
    assert without_networks(gap) == Gap(1, 2, "notrack", None, "", {"open": True})
    other = Gap(1, 2, "overrun", 3, "socket")
    assert without_networks(other) is other
