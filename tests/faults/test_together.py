"""Everything at once, for most of a minute: a recorder that begins segments; in loops two
ctsqueeze, ctexpire, ctlist and cttest.
"""

from __future__ import annotations

import re
import time
from pathlib import Path

from ctrecorder.folder import Folder
from ctrecorder.kept import retention
from tests.support.faulttable import Table
from tests.support.loops import loops
from tests.support.router import Lab
from tests.support.traffic import Account, Tough, Traffic, cttest

SECONDS = 40
SEGMENT_SECONDS = 2
# What a command may say while others are at work: that a segment went meanwhile, is being worked
# on, or has no event yet.
HARMLESS = re.compile(
    r"squeezed |deleted |No such file|has just been replaced|is being recorded|another command is "
    r"at work|no segments here|have no event yet"
)


def test_all_commands_at_once(lab: Lab, traffic: Traffic, tmp_path: Path, table: Table) -> None:
    """No event is lost but with a segment that has a receipt; nothing ends badly; what is left is
    whole, and as it was logged.
    """
    folder = tmp_path / "log"
    folder.mkdir()
    recorder = Tough(lab, folder)
    with (
        loops(
            ("ctsqueeze", folder),
            ("ctsqueeze", "--resolution", "ms", folder),
            ("ctexpire", "--max-age", "9000d", "--max-size", "150K", folder),
            ("ctlist", "-s", "--format", "csv", folder),
            ("cttest", "-q", folder),
        ) as running,
        traffic.steady(400),
    ):
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            time.sleep(SEGMENT_SECONDS)
            lab.flush()  # else each segment begins with a dump of all
            recorder.rotate()
    recorder.synced()
    said = recorder.stop()
    assert "gap (" not in said

    for loop in running:
        strange = [line for line in loop.lines if not HARMLESS.search(line)]
        assert not strange, f"{loop.command[0]}: {strange[:3]}"
        assert loop.codes.total() > 5, loop.command
    *keepers, _, checked = running
    for loop in keepers:
        assert loop.codes.keys() == {0}, (loop.command, loop.codes, loop.lines)
    assert 1 not in checked.codes, checked.codes

    account = Account(traffic, folder)
    receipts = retention.receipts(Folder(str(folder)))  # of squeezed segments with times to 1 ms
    assert receipts
    assert not account.twice
    for number in account.missing:
        first, last = traffic.sent[number]
        assert any(one.since - 10**9 <= last and first <= one.until + 10**6 for one in receipts), (
            f"flow {number} is nowhere"
        )
    anchors = tmp_path / "anchors"
    anchors.write_text(
        "\n".join([*said.splitlines(), *(line for loop in running for line in loop.lines)]) + "\n"
    )
    cttest("--anchors", anchors, folder)
    runs = sum(loop.codes.total() for loop in running)
    table.add("all commands at once, beside a recorder", account, tried=runs)
    table.note(
        f"lost there: all in {len(receipts)} segments that ctexpire deleted, each with a receipt"
    )
