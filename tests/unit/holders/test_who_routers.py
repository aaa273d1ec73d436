"""Two routers, one person: a pair in which the standby has the flows of the active one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ctrecorder.asking import ctwho
from tests.support.slow_pairing import DESTROY, NEW, SECOND, T
from tests.unit.query.test_verdict import HOUR, INSIDE, Recorder, flow

QUESTION = ("192.0.2.1:40000", f"@{T // SECOND + 60}", "--connections", "--utc", "-d")


def router(folder: Path, name: str) -> Recorder:
    return Recorder(folder, name, {"host": name, "boot_id": name, "netns": "1"})


def candidates(
    folder: Path, capfd: pytest.CaptureFixture[str], *options: str
) -> list[dict[str, Any]]:
    """The connections of all persons."""
    ctwho.main([*QUESTION, str(folder), "--format", "json", *options])
    persons = json.loads(capfd.readouterr().out)["persons"]
    return [flow for person in persons for flow in person["flows"]]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "log"
    path.mkdir()
    return path


def test_a_flow_of_both_is_one_line_with_both_named(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    first, second = router(folder, "active"), router(folder, "standby")
    first.segment([flow(NEW, T + 50 * SECOND)])  # it dies before the end
    second.segment([flow(NEW, T + 55 * SECOND, 9), flow(DESTROY, T + 90 * SECOND, 9)])
    ctwho.main([*QUESTION, str(folder)])
    text = capfd.readouterr().out
    assert "    udp: 10.0.0.1:1234 as 192.0.2.1:40000\n" in text
    assert "      to 203.0.113.1:443; recorded by active and standby\n" in text
    assert "      from 2023-11-14 22:14:10.000000 +00:00 (receipt)\n" in text
    assert "      to   its end (not recorded, or still open)\n" in text
    (one,) = candidates(folder, capfd)
    assert one["recorded_by"] == ["active", "standby"]
    assert (one["start"], one["end"]) == ("2023-11-14T22:14:10.000000000Z", None)


def test_one_that_only_one_of_them_knows_names_it(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    router(folder, "active").segment([flow(NEW, T + 50 * SECOND)])
    router(folder, "standby").segment()
    (one,) = candidates(folder, capfd)
    assert one["recorded_by"] == ["active"]


def test_the_name_of_a_strangers_router_does_not_control_the_terminal(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    facts: dict[str, Any] = {"state": {"clock": {"synchronised": False, "error_us": 1}}}
    router(folder, "active").segment([flow(NEW, T + 50 * SECOND)], **facts)
    router(folder, "standby").segment([flow(NEW, T + 50 * SECOND)], host="\x1b[2Jx\n", **facts)
    ctwho.main([*QUESTION, str(folder)])
    out = capfd.readouterr().out
    assert "recorded by " in out
    assert out.count("clock       ") == 2
    assert "\x1b" not in out
    assert not any(line.startswith(("x", ":")) for line in out.splitlines())


@pytest.mark.parametrize(
    ("inside", "begin"),
    [(INSIDE + 1, 55 * SECOND), (INSIDE, 62 * SECOND)],
    ids=["another host", "the port was used again"],
)
def test_what_is_not_one_flow_stays_two(
    folder: Path, capfd: pytest.CaptureFixture[str], inside: int, begin: int
) -> None:
    first, second = router(folder, "active"), router(folder, "standby")
    first.segment([flow(NEW, T + 50 * SECOND), flow(DESTROY, T + 60 * SECOND)])
    second.segment(
        [flow(NEW, T + begin, inside=inside), flow(DESTROY, T + HOUR - 1, inside=inside)]
    )
    found = candidates(folder, capfd, "--tolerance", "5")
    assert [one["recorded_by"] for one in found] == [["active"], ["standby"]]


def test_flows_of_one_router_are_never_joined(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    first = router(folder, "active")
    first.segment([flow(NEW, T + 59 * SECOND, 1), flow(DESTROY, T + 60 * SECOND, 1)] * 2)
    router(folder, "standby").segment([flow(NEW, T + 59 * SECOND, 1)])
    found = candidates(folder, capfd)
    assert sum(one["recorded_by"] == ["active", "standby"] for one in found) == 1
    assert len(found) == 2
