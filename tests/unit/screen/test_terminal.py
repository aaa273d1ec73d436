"""ctlist in a real terminal, compared with golden files that were looked at.

To write them again, after a change that was wanted:

    GOLDEN=write python3 -B -m pytest tests/unit/screen/test_terminal.py
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest

from ctrecorder.ctlog.frame import NO_HASH, Gap
from ctrecorder.ctlog.header import Header
from ctrecorder.segment.writer import SegmentWriter
from ctrecorder.uapi import AF_INET, AF_INET6
from tests.support.rows import Row, event, table
from tests.support.terminals import shown, terminal

pytestmark = pytest.mark.slow

S = 10**9
BEGIN = 1795474800 * S  # 2026-11-23 23:00:00 UTC, midnight in Berlin
GOLDEN = Path(__file__).parents[2] / "data" / "screens"
UTF8, C = {"LC_ALL": "C.UTF-8"}, {"LC_ALL": "C"}
COUNTS = ("orig_bytes", "orig_packets", "reply_bytes", "reply_packets")

INSIDE, PUBLIC, REMOTE = ("192.168.1.5", 40000), ("203.0.113.1", 1024), ("198.51.100.9", 443)
CALLER, SERVER = ("198.51.100.77", 51515), ("192.168.1.80", 8080)


def flow(
    number: int,
    seconds: float,
    source: Any,
    target: Any,
    answers: Any,
    back: Any,
    life: float = 0,
    size: int = 0,
    **more: Any,
) -> list[Row]:
    """NEW and, after a `life`, DESTROY."""
    ends = {
        "orig_src": source[0],
        "orig_sport": source[1],
        "orig_dst": target[0],
        "orig_dport": target[1],
        "reply_src": answers[0],
        "reply_sport": answers[1],
        "reply_dst": back[0],
        "reply_dport": back[1],
        "id": number,
        **more,
    }
    start = BEGIN + round(seconds * S)
    rows = [event(time=start, event=1, **ends)]
    if life:
        stop = start + round(life * S)
        last = event(
            time=stop + 2_000_000,
            event=3,
            status=0xE,
            start=start,
            stop=stop,
            **ends,
            **dict(zip(COUNTS, (size, size // 500, 9 * size, size // 60), strict=True)),
        )
        rows.append(last)
    return rows


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A log with NAT of both kinds, none, hairpin, ICMP, IPv6, two days, a hole, an open flow."""
    folder: Path = tmp_path_factory.mktemp("log")
    four = [
        *flow(1, -700, INSIDE, REMOTE, REMOTE, PUBLIC, 65.5, 1999),
        *flow(2, -600, CALLER, ("203.0.113.1", 80), SERVER, CALLER, 7500, 123_456_789),
        *flow(
            3,
            -590,
            ("192.168.100.105", 60001),
            ("198.51.100.251", 65001),
            ("198.51.100.251", 65001),
            ("203.0.113.201", 61024),
            0.25,
            0,
        ),
        *flow(4, -580, INSIDE, SERVER, SERVER, INSIDE, 12, 777),
        *flow(
            5,
            30,
            ("192.0.2.7", 53),
            ("198.51.100.9", 53),
            ("198.51.100.9", 53),
            ("192.0.2.7", 53),
            30,
            120,
            l4proto=17,
        ),
        *flow(
            6,
            31,
            ("192.168.1.7", 4711),
            ("192.0.2.1", 0x800),
            ("192.0.2.1", 4711),
            ("203.0.113.1", 0),
            30,
            84,
            l4proto=1,
        ),
        *flow(7, 400, INSIDE, ("192.0.2.200", 22), ("192.0.2.200", 22), ("203.0.113.1", 40001)),
    ]
    six = [
        *flow(
            8,
            50,
            ("fd00:db8::100", 50000),
            ("2001:db8:5::25", 443),
            ("2001:db8:5::25", 443),
            ("2001:db8:ffff:1::1", 50000),
            2,
            4096,
        ),
    ]
    writer = SegmentWriter.create(
        str(folder / "20261123-220000.ctlog"),
        Header.from_json({"host": "router", "chain": "c1", "boot_id": "b"}),
        NO_HASH,
        time_ns=BEGIN - 3600 * S,
    )
    for rows, family in ((four, AF_INET), (six, AF_INET6)):
        writer.append(table(sorted(rows, key=lambda row: row["time"]), family))
    writer.gap(Gap(BEGIN + 100 * S, BEGIN + 160 * S, "overrun", 1234))
    writer.close()
    return folder


@pytest.mark.parametrize("columns", [80, 120])
@pytest.mark.parametrize(("locale", "name"), [(UTF8, "utf8"), (C, "c")], ids=["UTF-8", "C"])
@pytest.mark.parametrize(
    ("what", "options"),
    [
        ("events", ""),
        ("connections", "-s"),
        ("columns", "-s --columns time,proto,server,id,status"),
    ],
)
def test_golden(
    what: str,
    options: str,
    locale: dict[str, str],
    name: str,
    columns: int,
    folder: Path,
    tmp_path: Path,
) -> None:
    plain, coloured = shown(
        tmp_path, f"--no-pager {options} {folder}", columns, {**locale, "NO_COLOR": "1"}
    )
    assert max(map(len, plain.splitlines())) <= columns
    assert "\x1b" not in coloured
    assert plain.isascii() == (name == "c")
    golden = GOLDEN / f"{what}-{columns}-{name}.txt"
    if os.environ.get("GOLDEN") == "write":
        golden.write_text(plain)
    assert plain == golden.read_text()


def test_colours_and_what_turns_them_off(folder: Path, tmp_path: Path) -> None:
    """Starts green, ends red, NAT cyan, holes purple."""
    _, coloured = shown(tmp_path, f"--no-pager {folder}", 80, UTF8)
    for code, text in (("32", "S "), ("31", "E+"), ("36", "203.0.113.1:1024"), ("35", "── gap")):
        codes = rf"\x1b\[[0-9;]*{code}m(?:\x1b\[[0-9;]*m)*"
        assert re.search(codes + re.escape(text), coloured), text
    assert "\x1b" not in shown(tmp_path, f"--no-pager --color never {folder}", 80, UTF8)[1]


def test_a_long_list_is_paged_and_quit_in_order(folder: Path, tmp_path: Path) -> None:
    """less, with its options of journalctl; q ends both, with exit code 0."""
    with terminal(tmp_path) as one:
        one.start(f"bin/ctlist {folder}; echo exit $?; sleep 60", 80, 10, UTF8)
        one.wait("23:49:25")
        assert "exit" not in one.screen()
        one.keys("G")
        one.wait("01:55:00")
        one.keys("q")
        one.wait("exit 0")


@pytest.mark.parametrize(
    "command",
    [
        pytest.param("bin/ctlist {}; echo exit $?", id="it fits: LESS has F"),
        pytest.param("PAGER= bin/ctlist {} -s; echo exit $?", id="an empty PAGER"),
        pytest.param("PAGER=cat bin/ctlist {} -s; echo exit $?", id="cat"),
        pytest.param("PAGER=/none bin/ctlist {} -s; echo exit $?", id="a PAGER that is not there"),
        pytest.param("bin/ctlist --no-pager {} -s; echo exit $?", id="--no-pager"),
        pytest.param("PAGER='sed s/tcp/TCP/' bin/ctlist {} -s; echo exit $?", id="with words"),
    ],
)
def test_no_pager_waits(command: str, folder: Path, tmp_path: Path) -> None:
    with terminal(tmp_path) as one:
        one.start(command.format(folder) + "; sleep 60", 80, 40, UTF8)
        screen = one.wait("exit 0")
        assert ("TCP" in screen) == ("sed" in command)


def test_ctrl_c_leaves_the_terminal_as_it_was(folder: Path, tmp_path: Path) -> None:
    with terminal(tmp_path) as one:
        one.start(f"trap : INT; bin/ctlist {folder}; echo exit $?; sleep 60", 80, 10, UTF8)
        one.wait("23:49:25")
        one.keys("C-c")
        assert "exit" not in one.screen()  # less shows the rest
        one.keys("q")
        one.wait("exit 0")
