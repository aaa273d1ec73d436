"""The archive of a real router: squeezed, it says what it said before; ctwho finds all who held a
public port, and no one else.
"""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections import Counter
from pathlib import Path

import pytest

from tests.support.listeners import ConntrackE, Recorder, Row, ctwho, listed
from tests.support.router import (
    CHECKOUT,
    INSIDE,
    INSIDE6,
    INSIDE6_2,
    INSIDE_2,
    PUBLIC,
    PUBLIC6,
    SERVER,
    SERVER6,
    SERVER6_2,
    SERVER_2,
    Lab,
)

Flow = tuple[str, str, str, str]


def test_a_squeezed_segment_is_never_larger(lab: Lab, tmp_path: Path) -> None:
    """Of seconds, with few connections, rotated or left by a crash; what they say stays."""
    recorder = Recorder(lab, tmp_path / "log")
    for connections in (0, 1, 12):
        for _ in range(connections):
            lab.udp(INSIDE, (SERVER, 53))
        recorder.flush()
        rotate(recorder)
    lab.udp(INSIDE, (SERVER, 53))
    recorder.flush()
    recorder.process.kill()
    recorder.process.wait()
    before = {path: path.stat().st_size for path in recorder.segments}
    rows = connections_of(recorder.folder)
    sh(CHECKOUT / "bin/ctsqueeze", recorder.folder)
    assert len(before) == 4
    for path, size in before.items():
        assert path.stat().st_size < size
    assert connections_of(recorder.folder) == rows
    sh(CHECKOUT / "bin/cttest", "-q", recorder.folder)


def connections_of(folder: Path) -> list[Row]:
    """The ends of all connections of a folder, and their times."""
    names = ("protocol", "start_source", "end_source")
    ends = [f"{way}_{end}" for way in ("orig", "reply") for end in ("src", "dst", "sport", "dport")]
    microseconds = len("2026-11-28T14:13:26.289716")
    return [
        {name: row.get(name) for name in (*names, *ends)}
        | {name: str(row.get(name))[:microseconds] for name in ("start", "end")}
        for row in listed("-s", folder)
    ]


def flows_of(lines: list[str]) -> Counter[Flow]:
    """Of conntrack's NEW lines: inside, remote, public end, and what replies come from, as
    ADDRESS:PORT.
    """
    found: Counter[Flow] = Counter()
    for line in lines:
        if "[NEW]" in line:
            there, back = re.findall(r"src=(\S+) dst=(\S+) sport=(\d+) dport=(\d+)", line)
            found[
                joined(there[0], there[2]),
                joined(there[1], there[3]),
                joined(back[1], back[3]),
                joined(back[0], back[2]),
            ] += 1
    return found


def sh(*command: object) -> None:
    done = subprocess.run(
        list(map(str, command)), capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr


def rotate(recorder: Recorder) -> None:
    """A new segment, in a new second: it is named after it."""
    time.sleep(1.1)
    recorder.rotate()


def joined(address: str, port: str) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


# Seconds of recording before and after a question, more than its tolerance.
CLEAR = 0.5


def who(
    folder: Path, public: str, at: float, *options: str, code: int = 0
) -> list[dict[str, object]]:
    """The connections of all persons; the log must be complete."""
    asked = (public, f"@{at:.3f}", "--tolerance", "0.2", "--format", "json", "--connections")
    found = json.loads(ctwho(*asked, *options, "-d", folder, code=code).stdout)
    assert found["complete"] is True, found
    return [flow for person in found["persons"] for flow in person["flows"]]


def end(candidate: dict[str, object], name: str) -> str:
    facts = candidate[name]
    assert isinstance(facts, dict)
    return joined(facts["address"], str(facts["port"]))


def event_of(row: dict[str, object]) -> tuple[object, ...]:
    """What stays of an event when it is squeezed: no id."""
    return tuple(
        row.get(name)
        for name in (
            "event",
            "protocol",
            "orig_src",
            "orig_sport",
            "orig_dst",
            "orig_dport",
            "reply_dst",
            "reply_dport",
        )
    )


@pytest.mark.parametrize("squeezed", [False, True])
def test_two_insiders_hold_one_public_port(lab: Lab, tmp_path: Path, squeezed: bool) -> None:
    """To two servers, at once, one of them over three segments; and a server inside is called from
    outside.
    """
    folder = tmp_path / "log"
    recorder, peer = Recorder(lab, folder), ConntrackE(lab, tmp_path)
    time.sleep(CLEAR)
    ports = [lab.tcp(INSIDE, (SERVER, 25)), lab.tcp(INSIDE6, (SERVER6, 25))]
    lab.tcp(INSIDE_2, (SERVER_2, 25), sport=ports[0])
    lab.tcp(INSIDE6_2, (SERVER6_2, 25), sport=ports[1])
    lab.tcp(SERVER, (PUBLIC, 8080))
    recorder.flush()
    at = time.time()
    for _ in range(2):
        rotate(recorder)
        lab.udp(INSIDE, (SERVER, 53))
        recorder.flush()
    lab.flush()
    recorder.flush()
    theirs = flows_of(peer.lines())
    recorder.stop()
    if squeezed:
        before = Counter(map(event_of, listed(folder)))
        sh(CHECKOUT / "bin/ctsqueeze", folder)
        assert Counter(map(event_of, listed(folder))) == before
    for port, public in zip(ports, (PUBLIC, PUBLIC6), strict=True):
        address = joined(public, str(port))
        found = who(folder, address, at)
        wanted = {(inside, remote) for inside, remote, held, _ in theirs if held == address}
        assert len(wanted) == 2
        assert {(end(one, "inside"), end(one, "remote")) for one in found} == wanted
        for one in found:
            assert one["start"] is not None
            assert one["end"] is not None
            assert [
                end(only, "inside") for only in who(folder, address, at, "--to", end(one, "remote"))
            ] == [end(one, "inside")]
    (called,) = who(folder, joined(PUBLIC, "8080"), at)
    (behind,) = {back for _, remote, _, back in theirs if remote == joined(PUBLIC, "8080")}
    assert (end(called, "inside"), called["direction"]) == (behind, "in")
    assert who(folder, joined(PUBLIC, "8080"), at, "--to", SERVER_2, code=1) == []


def test_expired_segments_leave_the_rest_whole(lab: Lab, tmp_path: Path) -> None:
    """Recorded, squeezed and expired at once with the recorder: the live segment stays, and what is
    kept answers for itself.
    """
    folder = tmp_path / "log"
    recorder = Recorder(lab, folder)
    port = lab.tcp(INSIDE, (SERVER, 25))
    recorder.flush()
    rotate(recorder)
    sh(CHECKOUT / "bin/ctsqueeze", folder)
    sh(CHECKOUT / "bin/ctexpire", "--max-size", "1", folder)
    assert len(list(folder.glob("*.ctlog"))) == 1
    recorder.wait("table recorded", 2)
    recorder.flush()
    at = time.time()
    time.sleep(CLEAR)
    recorder.stop()
    (one,) = who(folder, joined(PUBLIC, str(port)), at)
    assert end(one, "inside") == joined(INSIDE, str(port))
    assert one["start_source"] in ("kernel", "bound")
    receipt = json.loads((folder / "ctexpire.receipts").read_text())
    assert receipt["reason"]
