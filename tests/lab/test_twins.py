"""Recorders side by side on a real table: ctlist lists each flow once, and counts as of one."""

from __future__ import annotations

import json
import subprocess
import time
from collections import Counter
from pathlib import Path

import pytest

from tests.support.listeners import Recorder, Row, ctwho, difference, listed, side
from tests.support.router import (
    CHECKOUT,
    INSIDE,
    INSIDE6,
    PUBLIC,
    SERVER,
    SERVER6,
    Lab,
)


def traffic(lab: Lab) -> None:
    """Flows that stay open, and one tuple that is used again and again."""
    lab.tcp(INSIDE, (SERVER, 25))
    lab.udp(INSIDE, (SERVER, 53))
    lab.udp(INSIDE6, (SERVER6, 53))
    lab.udp(SERVER, (PUBLIC, 5353))
    lab.ping(INSIDE, SERVER)
    for _ in range(5):
        lab.udp(INSIDE, (SERVER, 123), sport=123)
        lab.router.run("conntrack", "-D", "-p", "udp", "--dport", "123")


def settle(*recorders: Recorder) -> None:
    for each in recorders:
        each.flush()
    time.sleep(1.1)  # segments are named after their second


def connections(*folders: Path) -> Counter[tuple[str, ...]]:
    """The connections as tuples, with what is known of their start and end."""
    return Counter(
        (
            row["protocol"],
            side(row, "orig"),
            side(row, "reply"),
            str("start" in row),
            str("end" in row),
        )
        for row in listed("-s", *folders)
    )


def holders(at: float, *folders: Path) -> Counter[tuple[str, ...]]:
    """Who held the router's public address, by ctwho."""
    asked = (PUBLIC, f"@{at:.3f}", "--tolerance", 60, "--format", "json", "--connections")
    paths = [word for folder in folders for word in ("-d", folder)]
    persons = json.loads(ctwho(*asked, *paths, code=None).stdout)["persons"]
    rows: list[Row] = [flow for person in persons for flow in person["flows"]]
    return Counter(
        (row["protocol"], str(row["inside"]), str(row["remote"]), str(row["public"]))
        for row in rows
    )


def squeeze(folder: Path, resolution: str) -> None:
    subprocess.run(
        [CHECKOUT / "bin/ctsqueeze", "--resolution", resolution, str(folder)],
        check=True,
        capture_output=True,
        timeout=60,
    )


@pytest.mark.parametrize("timestamps", [1, 0])
def test_each_flow_is_listed_once(lab: Lab, tmp_path: Path, timestamps: int) -> None:
    """The second recorder comes later, stops in the middle and comes again; the third records UDP
    alone, in the folder of the second.
    """
    lab.router.sysctl(nf_conntrack_timestamp=timestamps)
    traffic(lab)
    first = Recorder(lab, tmp_path / "first")
    first.wait("table recorded")
    traffic(lab)
    settle(first)
    second = Recorder(lab, tmp_path / "second")
    second.wait("table recorded")
    third = Recorder(lab, tmp_path / "third", "-p", "udp", template="udp-%Y%m%d-%H%M%S.ctlog")
    third.wait("table recorded")
    traffic(lab)
    settle(first, second, third)
    second.stop()
    traffic(lab)
    first.rotate()
    settle(first, third)
    second = Recorder(lab, tmp_path / "second")
    second.wait("table recorded")
    traffic(lab)
    settle(first, second, third)
    third.stop()
    lab.flush()
    settle(first, second)
    traffic(lab)
    for each in (first, second):
        each.stop()
    for segment in third.segments:
        segment.rename(tmp_path / "second" / segment.name)
    folders, at = (tmp_path / "first", tmp_path / "second"), time.time() - 5
    alone, held = connections(folders[0]), holders(at, folders[0])
    assert alone.total() > 50
    assert held.total() > 30
    assert connections(folders[1]).total() > 20

    def check(what: str) -> None:
        assert not difference(connections(*folders), alone), what
        assert not difference(connections(*reversed(folders)), alone), what
        assert not difference(holders(at, *folders), held), what

    check("raw")
    squeeze(folders[1], "ms")
    check("mixed")
    squeeze(folders[0], "us")
    check("squeezed")
