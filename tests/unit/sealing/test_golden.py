"""A sealed recording of before, by the program and by the reader that is written from ctlog(5)."""

from __future__ import annotations

import re
from pathlib import Path

from ctrecorder.check import verify
from ctrecorder.sealing.examine import SealCheck
from tests.data.make_golden_seals import GOLDEN, KEY
from tests.support import ctlog_reader

PAGE = Path(__file__).resolve().parents[3] / "man" / "ctlog.5"
SEGMENTS = sorted(GOLDEN.glob("*.ctlog"))


def test_it_is_whole() -> None:
    lines: list[str] = []
    seals = SealCheck(KEY, [str(GOLDEN)], 0)
    assert verify.check([str(GOLDEN)], lines.append, seals=seals, quiet=True) == verify.WHOLE
    assert lines == []


def test_the_page_reads_its_seals() -> None:
    found = [ctlog_reader.read(path.read_bytes(), verification_key=KEY) for path in SEGMENTS]
    seals = [[block.seal for block in blocks if block.kind == 8] for blocks in found]
    assert [[epoch - since for epoch, since in each] for each in seals] == [[0], [0, 0]]
    assert [blocks[-2].kind for blocks in found] == [8, 8]


def test_the_page_reads_its_ledger() -> None:
    (path,) = GOLDEN.glob("seal-*.ledger")
    lines = ctlog_reader.check_ledger(path.read_bytes(), KEY)
    assert lines[0]["key"] == path.name[5:21]
    ends = {
        (path.name, block.hash.hex())
        for path in SEGMENTS
        for block in ctlog_reader.read(path.read_bytes())
    }
    ended = [line for line in lines if line["what"] == "next" and line.get("segment")]
    assert (ended[-1]["segment"], ended[-1]["seal"]) in ends
    squeezed = [line for line in lines if line["what"] == "squeeze"]
    assert [(line["segment"], line["last_hash"]) in ends for line in squeezed] == [True]


def test_the_page_has_every_line_with_its_members() -> None:
    (path,) = GOLDEN.glob("seal-*.ledger")
    rows = re.findall(r"^\.It (\w+) Ta ([\w, -]+) Ta ", PAGE.read_text(), re.MULTILINE)
    members = {what: set(names.replace("-", "").replace(",", "").split()) for what, names in rows}
    always = {"epoch", "time", "what", "previous"}
    for line in ctlog_reader.check_ledger(path.read_bytes(), KEY):
        assert line.keys() - always <= members[line["what"]]
