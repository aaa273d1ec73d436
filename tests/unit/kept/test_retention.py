"""Lines of holds, receipts and the ledger with members of any type: none but the right ones is
taken, and nothing else is raised than what callers expect.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ctrecorder.check.chains import check_chains
from ctrecorder.errors import ArchiveError, FormatError
from ctrecorder.folder import Folder
from ctrecorder.kept import retention
from ctrecorder.kept.retention import HOLDS, RECEIPTS, Hold, Receipt
from ctrecorder.sealing.ledgerfile import read_ledger, read_names
from ctrecorder.seals.ledger import NO_LINE, pack_line, parse_line

RECEIPT = Receipt("a.ctlog", 1, 2, 3, 4, ["a" * 32], "b.ctlog", "b" * 32, 5, "old")
HOLD = Hold(1, 1, 2, "case", 3, "me")
WRONG: Any = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=4,
)
MANY = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


@pytest.mark.parametrize("hashes", [[[]], [{}], [1], [None], "a", {}, 5])
def test_hashes_that_are_none_make_no_receipt(tmp_path: Path, hashes: object) -> None:
    line = json.dumps({**asdict(RECEIPT), "hashes": hashes}) + "\n"
    (tmp_path / RECEIPTS).write_text(line + json.dumps(asdict(RECEIPT)) + "\n")
    with Folder(str(tmp_path)) as folder:
        found = retention.receipts(folder)
    assert found == [RECEIPT]
    assert check_chains([], found).findings == []


@MANY
@given(name=st.sampled_from(sorted(asdict(RECEIPT))), value=WRONG)
def test_receipts_of_any_type(tmp_path: Path, name: str, value: object) -> None:
    made = {**asdict(RECEIPT), name: value}
    (tmp_path / RECEIPTS).write_text(json.dumps(made) + "\n" + json.dumps(value))
    with Folder(str(tmp_path)) as folder:
        for one in retention.receipts(folder):
            assert type(getattr(one, name)) is type(getattr(RECEIPT, name))
            check_chains([], [one])


@MANY
@given(name=st.sampled_from(sorted(asdict(HOLD))), value=WRONG)
def test_holds_of_any_type(tmp_path: Path, name: str, value: object) -> None:
    for content in ({"holds": [{**asdict(HOLD), name: value}]}, {"holds": value}, value):
        (tmp_path / HOLDS).write_text(json.dumps(content))
        try:
            with Folder(str(tmp_path)) as folder:
                found = retention.holds(folder)
        except ArchiveError:
            continue
        assert all(type(getattr(one, name)) is type(getattr(HOLD, name)) for one in found)


@MANY
@given(
    name=st.sampled_from(["epoch", "time", "what", "previous", "next", "segment", "last_hash"]),
    value=WRONG,
)
def test_lines_of_a_ledger_of_any_type(tmp_path: Path, name: str, value: object) -> None:
    good = pack_line(bytes(32), 3, 7, "close", NO_LINE, {"segment": "a", "last_hash": "0" * 32})
    text, _, seal = good.partition(b"\t")
    changed = json.dumps({**json.loads(text), name: value}).encode() + b"\t" + seal
    path = tmp_path / "seal-0000000000000000.ledger"
    path.write_bytes(good + changed)
    (_, first), (_, second) = read_ledger(str(path))
    assert first == parse_line(good)
    if not isinstance(second, FormatError):
        assert (type(second.epoch), type(second.time)) == (int, int)
        assert isinstance(second.named(name), str)
    assert read_names(str(path)).begins == 3


@pytest.mark.parametrize("name", [RECEIPTS, HOLDS])
def test_a_pipe_is_no_file(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / name)
    with Folder(str(tmp_path)) as folder, pytest.raises(ArchiveError):
        (retention.receipts if name == RECEIPTS else retention.holds)(folder)


def test_only_the_last_receipts_are_kept(tmp_path: Path) -> None:
    lines = [json.dumps({**asdict(RECEIPT), "rows": number}) + "\n" for number in range(9)]
    (tmp_path / RECEIPTS).write_text("".join(lines) + "torn")
    with Folder(str(tmp_path)) as folder:
        assert [one.rows for one in retention.receipts(folder, 3)] == [6, 7, 8]
        assert len(retention.receipts(folder)) == 9


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    (tmp_path / RECEIPTS).mkdir()
    with Folder(str(tmp_path)) as folder, pytest.raises(ArchiveError, match="is not a file"):
        retention.receipts(folder)
