"""What a forger can do to a folder, and what finds it: the chain by itself, what was logged, a
seal.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pytest

from ctrecorder.kept.retention import RECEIPTS, Receipt
from tests.support.faulttable import Table
from tests.support.folders import paths
from tests.support.forge import reseal
from tests.support.history import NOON, History, blocks_of, entry_of, replay
from tests.support.traffic import cttest


@pytest.fixture
def history(tmp_path: Path) -> History:
    return History(tmp_path / "log")


@pytest.fixture
def key(tmp_path: Path) -> Path:
    path = tmp_path / "key"
    path.write_text("correct horse battery staple\n")
    path.chmod(0o600)
    return path


def change(path: Path, what: Callable[[list[bytes]], list[bytes]]) -> None:
    """Rewrite a segment's blocks."""
    path.write_bytes(b"".join(what(blocks_of(path.read_bytes()))))


def removed_block(history: History) -> None:
    change(history.paths[2], lambda blocks: blocks[:2] + blocks[3:])


def repeated_block(history: History) -> None:
    change(history.paths[2], lambda blocks: [*blocks[:3], blocks[2], *blocks[3:]])


def reordered_blocks(history: History) -> None:
    change(history.paths[2], lambda blocks: [*blocks[:2], blocks[3], blocks[2], *blocks[4:]])


def swapped_block(history: History) -> None:
    foreign = blocks_of(history.paths[3].read_bytes())[2]
    change(history.paths[2], lambda blocks: [*blocks[:2], foreign, *blocks[3:]])


def removed_block_with_right_hashes(history: History) -> None:
    change(history.paths[2], lambda blocks: [reseal(b"".join(blocks[:2] + blocks[3:-1]))])


def shortened_end(history: History) -> None:
    change(history.paths[2], lambda blocks: blocks[:-2])


def removed_segment(history: History) -> None:
    history.paths[2].unlink()


def from_another_recorder(history: History) -> None:
    """Of the same name, place and time, from another chain."""
    other = History(history.folder.with_name("other"), seed=77)
    shutil.copy(other.paths[2], history.paths[2])


def added_from_another_recorder(history: History) -> None:
    """Slipped in between, from another chain that has the same template."""
    other = History(history.folder.with_name("other"), seed=77)
    shutil.copy(other.paths[2], history.folder / "1430.ctlog")


def doubled_segment(history: History) -> None:
    shutil.copy(history.paths[2], history.folder / "1430.ctlog")


def another_history(history: History) -> None:
    """One segment made anew: right checksums, other events."""
    other = History(history.folder.with_name("other"), seed=77)
    blocks, others = (blocks_of(path.read_bytes()) for path in (history.paths[2], other.paths[2]))
    history.paths[2].write_bytes(reseal(b"".join([blocks[0], *others[1:-1]])))


BY_ITSELF = [
    removed_block,
    repeated_block,
    reordered_blocks,
    swapped_block,
    removed_block_with_right_hashes,
    shortened_end,
    removed_segment,
    from_another_recorder,
    added_from_another_recorder,
    doubled_segment,
    another_history,
]


@pytest.mark.parametrize("forge", BY_ITSELF, ids=lambda forge: forge.__name__)
def test_found_by_itself(history: History, forge: Callable[[History], None], table: Table) -> None:
    """No log, no key: the chain of the folder shows it; and so it does beside the anchors."""
    assert "5 segments checked: 5 whole" in cttest(history.folder)
    forge(history)
    cttest(history.folder, code=1)
    cttest("--anchors", history.anchors, history.folder, code=1)
    table.add_row(f"forged: {forge.__name__.replace('_', ' ')}")


@pytest.mark.claim("byte")
def test_a_changed_byte(history: History, table: Table) -> None:
    """Here and there in each segment."""
    tried = 0
    for path in history.paths[::2]:
        data = path.read_bytes()
        for at in range(5, len(data), len(data) // 7):
            path.write_bytes(data[:at] + bytes([data[at] ^ 0x10]) + data[at + 1 :])
            assert f"{path}: at byte " in cttest("-q", history.folder, code=1)
            tried += 1
        path.write_bytes(data)
    table.add_row("forged: a changed byte", tried=tried)


def last_removed(history: History) -> None:
    history.paths[-1].unlink()


def last_shortened(history: History) -> None:
    """The last segment, as if a crash had ended it two blocks earlier."""
    change(history.paths[-1], lambda blocks: blocks[:-3])


def all_anew(history: History) -> None:
    replay(history, history.folder, keep=0, seed=55)


def anew_from_the_third(history: History) -> None:
    replay(history, history.folder, keep=2, seed=55)


def first_removed(history: History) -> None:
    history.paths[0].unlink()


def removed_with_a_forged_receipt(history: History) -> None:
    from ctrecorder.segment.reader import Segment

    path = history.paths[2]
    with Segment(str(path)) as one:
        hashes = [one.last_hash.hex()]
        receipt = Receipt(
            path.name,
            *one.times,
            18,
            one.size,
            hashes,
            history.paths[1].name,
            one.previous_hash.hex(),
            NOON,
            "too old",
        )
    path.unlink()
    (history.folder / RECEIPTS).write_text(json.dumps(asdict(receipt)) + "\n")


def replaced_under_the_name_of_squeezing(history: History) -> None:
    """A forged segment whose header claims to replace the logged one, as a squeezed one does."""
    from dataclasses import replace

    from ctrecorder.archive import chain
    from ctrecorder.ctlog.frame import Kind
    from ctrecorder.segment.pending import PendingBlock
    from ctrecorder.segment.reader import Segment
    from ctrecorder.segment.writer import SegmentWriter

    path = history.paths[2]
    with Segment(str(path)) as one:
        header = replace(one.header, replaces=chain.successor(one), squeezed={"torn": 0})
        previous, blocks = one.previous_hash, one.blocks[1:3]
        payloads = [bytes(one.file.payload(block.offset, one.frame(block))) for block in blocks]
    path.unlink()
    writer = SegmentWriter.create(str(path), header, previous, time_ns=NOON)
    for block, payload in zip(blocks, payloads, strict=True):
        times = (block.time_min, block.time_max)
        kind, shape = Kind(block.kind), (block.family, block.form, block.rows)
        writer.write(PendingBlock(kind, payload, times, *shape))
    writer.close()


BY_ANCHORS = [
    last_removed,
    last_shortened,
    all_anew,
    anew_from_the_third,
    first_removed,
    removed_with_a_forged_receipt,
    replaced_under_the_name_of_squeezing,
]


@pytest.mark.parametrize("forge", BY_ANCHORS, ids=lambda forge: forge.__name__)
def test_found_by_anchors(history: History, forge: Callable[[History], None], table: Table) -> None:
    """The folder alone does not show it; what was logged does.

    From a text log, and from the journal's JSON.
    """
    assert "5 segments checked: 5 whole" in cttest("--anchors", history.anchors, history.folder)
    forge(history)
    cttest(history.folder)
    said = cttest("--anchors", history.anchors, history.folder, code=1)
    assert "logged" in said
    as_json = history.anchors.with_suffix(".json")
    as_json.write_text("".join(map(entry_of, history.log.lines)))
    cttest("--anchors", as_json, history.folder, code=1)
    table.add_row(f"forged: {forge.__name__.replace('_', ' ')}")


def test_the_journals_entries(history: History) -> None:
    """JSON log: whole. Entries of other users are ignored: they cannot raise a false alarm."""
    as_json = history.anchors.with_suffix(".json")
    stranger = (
        f"ctrecord: closed {history.folder}/9999.ctlog: 1 rows, 1 bytes, last hash {'0' * 32}"
    )
    as_json.write_text("".join(map(entry_of, history.log.lines)) + entry_of(stranger, uid=12345))
    assert "5 whole" in cttest("--anchors", as_json, history.folder)
    as_json.write_text("".join(map(entry_of, history.log.lines)) + entry_of(stranger))
    assert "9999.ctlog" in cttest("--anchors", as_json, history.folder, code=1)


def test_what_is_no_forgery(history: History, table: Table) -> None:
    """Squeezed, expired, both; a copy of the folder elsewhere; a single segment: the chain and the
    anchors hold.
    """
    history.run("ctsqueeze", history.folder)
    cttest("--anchors", history.anchors, history.folder)
    sizes = sum(path.stat().st_size for path in history.paths)
    history.run("ctexpire", "--max-age", "9000d", "--max-size", sizes * 3 // 5, history.folder)
    assert len(list(history.folder.glob("*.ctlog"))) < 5
    cttest(history.folder)
    cttest("--anchors", history.anchors, history.folder)
    copy = history.folder.with_name("copy")
    shutil.copytree(history.folder, copy)
    assert "is this a copy?" in cttest("--anchors", history.anchors, copy)
    cttest("--anchors", history.anchors, history.paths[-1])
    table.add_row("no forgery: squeezed, expired, copied", tried=4)


def test_expired_in_the_middle(history: History) -> None:
    """A hold keeps an older one; the chain goes on over what went, by its receipt."""
    held = (
        "--since",
        "2024-10-04 12:00:00",
        "--until",
        "2024-10-04 12:30:00",
        "--utc",
        "--reason",
        "a case",
    )
    history.run("ctexpire", "--hold", *held, history.folder)
    history.run(
        "ctexpire",
        "--max-age",
        "9000d",
        "--max-size",
        history.paths[0].stat().st_size * 3,
        history.folder,
    )
    kept = sorted(path.name for path in history.folder.glob("*.ctlog"))
    assert history.paths[0].name in kept
    assert history.paths[1].name not in kept
    cttest(history.folder)
    cttest("--anchors", history.anchors, history.folder)


def test_after_a_crash(tmp_path: Path) -> None:
    """The last one was never closed: that it was opened is logged, and the next one's opening logs
    how it ended.
    """
    history = History(tmp_path / "log", crash=True)
    said = cttest("--anchors", history.anchors, history.folder)
    assert f"1 segment whose end was not logged yet is not proved: {history.paths[-1]}\n" in said
    history.paths[-2].unlink()
    cttest("--anchors", history.anchors, history.folder, code=1)


def test_anchors_that_cannot_be_read(history: History) -> None:
    said = cttest("--anchors", history.folder / "missing", history.folder, code=2)
    assert "missing: No such file" in said
    nothing = history.folder.with_name("nothing")
    nothing.write_text("Nov 24 06:00:00 router sshd[1]: hello\n")
    assert "none of the logged hashes belongs to these segments" in cttest(
        "-q", "--anchors", nothing, history.folder, code=2
    )


def test_sealed(tmp_path: Path, key: Path, table: Table) -> None:
    """With the key: whole; a forger without it can make a folder anew, but not one that its key
    fits.
    """
    history = History(tmp_path / "log", key=key)
    assert "5 whole" in cttest("--key", key, history.folder)
    assert "is sealed" in cttest(history.folder, code=2)
    copy = tmp_path / "copy"
    shutil.copytree(history.folder, copy)
    change(
        history.paths[2], lambda blocks: [reseal(b"".join(blocks))]
    )  # every hash right, for who has no key
    cttest("--key", key, history.folder, code=1)
    shutil.rmtree(history.folder)
    copy.rename(history.folder)
    replay(history, history.folder, keep=2, seed=5)
    assert "is not sealed" in cttest("--key", key, history.folder, code=1)
    shutil.rmtree(history.folder)
    other = tmp_path / "other.key"
    other.write_text("another key, of the forger\n")
    other.chmod(0o600)
    forged = History(tmp_path / "log2", key=other)
    assert "another key" in cttest("--key", key, forged.folder, code=2)
    table.add_row("sealed: forged without the key", tried=3)


def test_sealed_and_squeezed(tmp_path: Path, key: Path) -> None:
    """What is squeezed stays sealed; without the key it cannot be squeezed, and nothing is left
    behind.
    """
    history = History(tmp_path / "log", key=key)
    history.run("ctsqueeze", "--key", key, history.folder)
    cttest("--key", key, "--anchors", history.anchors, history.folder)
    assert "is sealed" in cttest(history.folder, code=2)
    other = History(tmp_path / "other", key=key)
    before = {path.name: path.read_bytes() for path in paths(other.folder)}
    with pytest.raises(AssertionError, match="is sealed, and cannot be made anew without its key"):
        other.run("ctsqueeze", other.folder)
    assert {path.name: path.read_bytes() for path in paths(other.folder)} == before


def test_sealed_from_some_time_on(tmp_path: Path, key: Path) -> None:
    """Segments from before the key are covered by those that follow on them."""
    history = History(tmp_path / "log")
    replay(history, history.folder, keep=3, seed=0, key=key)
    assert "5 whole" in cttest("--key", key, history.folder)
    history.paths[1].write_bytes(reseal(history.paths[1].read_bytes()[:-9]))
    cttest("--key", key, history.folder, code=1)
