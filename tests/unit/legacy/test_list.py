"""ctlist on files of the C ctrecorder: classic is byte for byte what that one printed; elsewhere
what it did not know is unknown.
"""

from __future__ import annotations

import gzip
import json
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from ctrecorder.asking import ctwho
from ctrecorder.cli import cttest
from ctrecorder.listing import ctlist
from ctrecorder.render import dates
from tests.support import c_ctrecorder as old
from tests.support.c_ctrecorder import RAW, SAMPLES, SQUEEZED

ZONES = ("UTC", "Europe/Warsaw", "America/St_Johns", "Pacific/Apia")
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str]) -> Run:
    """Runs ctlist: its exit code, stdout and stderr, but for the line that each listing of such
    files has.
    """

    def run(*args: object) -> tuple[int, str, str]:
        code = ctlist.main([str(arg) for arg in args])
        out, err = capfd.readouterr()
        return (
            code,
            out,
            re.sub(r"^ctlist: imported: proves nothing: .*\n", "", err, flags=re.MULTILINE),
        )

    return run


def set_zone(name: str | None) -> None:
    """As if the process had begun with this TZ."""
    os.environ.pop("TZ", None)
    if name is not None:
        os.environ["TZ"] = name
    time.tzset()
    dates._hour_offsets.cache_clear()


@pytest.fixture(params=ZONES)
def zone(request: pytest.FixtureRequest) -> Iterator[ZoneInfo]:
    before = os.environ.get("TZ")
    set_zone(request.param)
    yield ZoneInfo(request.param)
    set_zone(before)


@pytest.fixture
def utc() -> Iterator[None]:
    before = os.environ.get("TZ")
    set_zone("UTC")
    yield
    set_zone(before)


# How the C one prints a time.
FORM = "%Y.%m.%d %H:%M:%S"


def moved(text: str, zone: ZoneInfo) -> str:
    """What the C one printed with TZ=UTC, as it would have printed it in another zone."""

    def move(match: re.Match[str]) -> str:
        moment = datetime.strptime(f"{match[0]} +0000", f"{FORM} %z").astimezone(zone)
        return moment.strftime(FORM)

    return re.sub(r"(?<!startd: )\b\d{4}\.\d\d\.\d\d \d\d:\d\d:\d\d", move, text)


def printed(path: Path, kind: str, zone: ZoneInfo) -> str:
    return moved(path.with_name(f"{path.name}.{kind}.txt").read_text(), zone)


def ids(path: Path) -> str:
    return path.name.removeprefix("legacy-014-")


@pytest.fixture
def check(capfd: pytest.CaptureFixture[str]) -> Run:
    """Runs cttest: its exit code, stdout and stderr."""

    def check(*args: object) -> tuple[int, str, str]:
        code = cttest.main([str(arg) for arg in args])
        return code, *capfd.readouterr()

    return check


@pytest.mark.parametrize("path", [*RAW, *SQUEEZED], ids=ids)
def test_list_and_header(path: Path, zone: ZoneInfo, run: Run) -> None:
    assert run("--format", "classic", path) == (0, printed(path, "list", zone), "")
    assert run("--format", "classic", "-H", path) == (0, printed(path, "header", zone), "")


@pytest.mark.parametrize("path", RAW, ids=ids)
def test_squeezed_list_has_also_what_the_old_one_loses(
    path: Path, zone: ZoneInfo, run: Run
) -> None:
    """It loses the last unfinished flow of each chain of its hash table."""
    done, left = old.squeeze(old.events_of(path.read_bytes()))
    theirs = printed(path, "list-squeeze", zone)
    code, ours, errors = run("--format", "classic", "-s", path)
    assert (code, errors) == (0, "")
    assert ours == old.list_pairs(done + left, zone)
    assert ours.startswith(theirs)
    # All samples but that of ICMPv6, whose five flows look alike, have no unfinished flow.
    assert ours.removeprefix(theirs).count("\n") == ("ipv6" in path.name)


# These files prove nothing.
NO_MATCH = "ctlist: no match, but the log does not prove that there was none: see ctlist --coverage"


@pytest.mark.parametrize("path", [*RAW, *SQUEEZED], ids=ids)
@pytest.mark.parametrize("address", ["10.9.0.3", "198.51.100.1", "10.9.0.0/30", "192.0.2.1"])
def test_list_by_address(path: Path, address: str, run: Run, utc: None) -> None:
    lines = path.with_name(f"{path.name}.list.txt").read_text().splitlines(keepends=True)
    wanted = r"10\.9\.0\.[0-3]" if "/" in address else re.escape(address)
    matching = "".join(line for line in lines if re.search(rf"={wanted}:", line))
    said = "" if matching else f"{NO_MATCH}\n"
    assert run("--format", "classic", "-i", address, path) == (0 if matching else 1, matching, said)


@pytest.mark.parametrize("path", [*RAW, *SQUEEZED], ids=ids)
@pytest.mark.parametrize("port", [8080, 53, 9, 41331])
def test_list_by_port(path: Path, port: int, run: Run, utc: None) -> None:
    lines = path.with_name(f"{path.name}.list.txt").read_text().splitlines(keepends=True)
    matching = "".join(
        line for line in lines if re.search(rf":{port}\b", line.partition("src=")[2])
    )
    said = "" if matching else f"{NO_MATCH}\n"
    assert run("--format", "classic", "-p", port, path) == (0 if matching else 1, matching, said)


def test_squeezed_list_of_an_address(run: Run, utc: None) -> None:
    path = SAMPLES / "legacy-014-tcp.ct"
    wanted = "".join(
        line
        for line in printed(path, "list-squeeze", ZoneInfo("UTC")).splitlines(keepends=True)
        if "=10.9.0.3:" in line
    )
    assert wanted.count("\n") > 50
    assert run("--format", "classic", "-s", "-i", "10.9.0.3", path) == (0, wanted, "")


def test_flows_that_look_alike_pair_in_turn(tmp_path: Path, run: Run, utc: None) -> None:
    """ICMP of one host, of which many flows are open at once, ends without a start, and flows that
    stay open.
    """
    made = []
    for number, kind in enumerate("SSESEEESSSESSE" * 30):
        ends = (0x0A090001, 0, 0x0A090002 + number % 2, 0) * 2
        made.append(
            old.Old({"S": old.NEW, "E": old.DESTROY}[kind], old.START + number // 3, number, ends)
        )
    path = tmp_path / "icmp.ct"
    path.write_bytes(old.header(1) + b"".join(event.pack() for event in made))
    done, left = old.squeeze(made)
    assert run("--format", "classic", "-s", path) == (
        0,
        old.list_pairs(done + left, ZoneInfo("UTC")),
        "",
    )


def test_what_was_not_recorded_is_shown_as_unknown(run: Run, utc: None) -> None:
    _, text, _ = run(SAMPLES / "legacy-014-udp.ct")
    assert (
        "2026.11.23 18:17:18.620095 S  udp src=?:47024 dst=?:5353 src=?:5353 dst=?:47024\n" in text
    )
    assert "0.0.0.0" not in text
    _, text, _ = run(
        "--format", "json", SAMPLES / "legacy-014-icmp.ct", SAMPLES / "legacy-014-ipv6-icmp.ct"
    )
    for line in map(json.loads, text.splitlines()):
        addresses = (
            {"orig_src", "orig_dst", "reply_src", "reply_dst"}
            if line["protocol"] == "icmp"
            else set()
        )
        assert line.keys() == {"time", "event", "protocol", "status"} | addresses
    _, text, _ = run("-s", "--format", "json", SAMPLES / "legacy-014-ipv6-icmp.ct.squeezed")
    first = json.loads(text.splitlines()[0])
    unknown = {"end_source": "unknown", "start_source": "receipt", "seen": ["NEW"]}
    assert first == {"start": "2026-11-23T18:17:18.621433000Z", "protocol": "icmpv6", **unknown}


def test_the_header_in_words(run: Run) -> None:
    _, text, _ = run("-H", SAMPLES / "legacy-014-tcp.ct")
    for line in (r"host: +vm", r"protocols: +tcp", r"utc_offset: +3600", r"state: +closed"):
        assert re.search(f"^  {line}$", text, re.MULTILINE)


def test_a_folder_of_all_kinds_and_one_that_is_foreign(tmp_path: Path, run: Run, utc: None) -> None:
    """Plain, compressed and damaged files and one of another version, in order of time; what can be
    listed is.
    """
    tcp = (SAMPLES / "legacy-014-tcp.ct").read_bytes()
    shutil.copy(SAMPLES / "legacy-014-udp.ct", tmp_path / "a")
    (tmp_path / "b.gz").write_bytes(gzip.compress(tcp[: 256 + 33 * 80]))
    (tmp_path / "c").write_bytes(
        tcp[:256] + tcp[256 + 33 * 80 : 256 + 33 * 100] + tcp[256 + 33 * 100 + 20 :]
    )
    (tmp_path / "d").write_bytes(tcp[:7] + b"\x03" + tcp[8:])
    code, text, errors = run("--format", "classic", tmp_path)
    events = old.events_of(tcp)
    events = sorted(
        [*events[:100], *events[101:], *old.events_of((tmp_path / "a").read_bytes())],
        key=lambda event: event[1:3],
    )
    assert (code, sorted(text.splitlines())) == (
        2,
        sorted(old.list_events(events, ZoneInfo("UTC")).splitlines()),
    )
    assert [line[:26] for line in text.splitlines()] == [
        old.clock(*event[1:3], ZoneInfo("UTC")) for event in events
    ]
    told = errors.replace(f"{tmp_path}/", "").splitlines()
    assert len(told) == 3
    assert told[0].startswith("ctlist: gap: events lost from 2026.11.23 18:17:")
    assert (
        "ctlist: d: at byte 4: format 3 of the C ctrecorder is not known, only format 2 (0.1.3 to "
        "0.1.6)" in told
    )
    assert any(line.startswith("ctlist: c: at byte 916: 13 bytes are not records") for line in told)
    assert any(line.startswith("ctlist: c: at byte 916: 13 bytes are not records") for line in told)


def test_who_says_that_losses_were_not_counted(
    utc: None, capfd: pytest.CaptureFixture[str]
) -> None:
    path = SAMPLES / "legacy-014-tcp.ct"
    asked = ["10.9.0.3:53663", "2026-11-23 18:17:20", "-d", str(path)]
    assert ctwho.main(asked) == 3
    text, errors = capfd.readouterr()
    assert (text.splitlines()[0], errors) == ("ONE KNOWN (not proved): 10.9.0.1", "")
    assert "\n  from 2026-11-23 18:17:18.618611 +00:00 (receipt)\n" in text
    unwrapped = " ".join(text.split())
    assert "not complete: " in unwrapped
    assert "did not count the events that it lost" in unwrapped
    ctwho.main([*asked, "--format", "json"])
    found = json.loads(capfd.readouterr().out)
    assert (found["persons"][0]["connections"], found["complete"]) == (1, False)
    assert "not-recorded" in {hole["reason"] for hole in found["holes"]}
    assert found["evidence"]["segments"][0]["imported"] is True


def test_cttest_on_whole_and_cut_files(check: Run, tmp_path: Path) -> None:
    """A cut end is what a crash leaves: it is said, but no damage."""
    path = tmp_path / "old.ct"
    path.write_bytes((SAMPLES / "legacy-014-tcp.ct").read_bytes()[:-1])
    code, text, errors = check(path, SAMPLES / "legacy-014-udp.ct.squeezed")
    assert (code, errors) == (0, "")
    lines = text.replace(f"{tmp_path}/", "").replace(f"{SAMPLES}/", "").splitlines()
    assert (
        "old.ct: at byte 5965: the last record is cut: 32 of 33 bytes are there: torn off by a "
        "crash" in lines
    )
    assert any(
        line.startswith(
            "old.ct: whole, crashed: 4 blocks, 173 rows, 1 gap, 2026.11.23 18:17:17.331590 +"
        )
        for line in lines
    )
    assert (
        "legacy-014-udp.ct.squeezed: of the C ctrecorder, which wrote no checksums: only its "
        "structure was checked" in lines
    )
    assert lines[-1] == "2 segments checked: 2 whole, 0 damaged"


def test_cttest_on_one_out_of_step_and_a_foreign_one(check: Run, tmp_path: Path) -> None:
    data = (SAMPLES / "legacy-014-tcp.ct").read_bytes()
    (tmp_path / "a").write_bytes(data[:4000] + data[4051:])
    (tmp_path / "b").write_bytes(data[:7] + b"\1" + data[8:])
    code, text, errors = check("-q", tmp_path)
    assert (code, errors) == (1, "")
    assert text.replace(f"{tmp_path}/", "").splitlines() == [
        "a: at byte 3985: 15 bytes are not records (impossible times or types); "
        "in step again at byte 4000",
        "b: at byte 4: format 1 of the C ctrecorder is not known, only format 2 (0.1.3 to 0.1.6)",
    ]
    (tmp_path / "a").unlink()
    assert check("-q", tmp_path)[0] == 2
