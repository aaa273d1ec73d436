"""The attacks of the tables in cttest(1), as the users whom they name, and what cttest finds:
without options, with anchors, with seals, with both.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from ctrecorder.check import repair
from ctrecorder.columns import Table
from ctrecorder.ctlog.frame import FRAME
from ctrecorder.filelock import LOCK_FILE
from ctrecorder.kept.retention import HOLDS, RECEIPTS
from ctrecorder.listing import ctlist
from ctrecorder.maintain import holds
from ctrecorder.maintain.expire import Expiry, Limits
from ctrecorder.maintain.squeeze import SqueezeOptions
from ctrecorder.maintain.squeeze_all import ArchiveSqueeze
from ctrecorder.sealing.epoch import EPOCH_NS
from ctrecorder.segment.pending import table_blocks
from ctrecorder.segment.reader import Segment
from ctrecorder.segment.writer import SegmentWriter
from ctrecorder.service import messages
from ctrecorder.service.unsent import Entry
from ctrecorder.witness.scribe import Scribe
from tests.support import attacks
from tests.support.attacked import (
    OWNER,
    READER,
    Attacked,
    Kept,
    as_user,
    give,
    recording_goes_on,
)
from tests.support.attacks import (
    ROWS,
    cut_back,
    ledger_lines,
    present,
    put,
    put_with_key,
    remove_with_receipt,
)
from tests.support.claims import BY_NAME, LEVELS
from tests.support.faulttable import Table as FaultTable
from tests.support.forge import pack, reseal
from tests.support.history import blocks_of
from tests.support.sealed import Recording

Attack = Callable[[Attacked], None]


@pytest.fixture(scope="module")
def kept() -> Iterator[dict[bool, Kept]]:
    # The folders of pytest are root's alone.
    with tempfile.TemporaryDirectory(prefix="ctrecorder-test-") as name:
        os.chmod(name, 0o755)
        yield {
            sealed: Kept(Path(name) / ("sealed" if sealed else "plain"), sealed=sealed)
            for sealed in (False, True)
        }


@pytest.fixture(params=LEVELS)
def level(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def site(kept: dict[bool, Kept], level: str) -> Attacked:
    """A recording, with seals if the check has them."""
    return kept[level in ("seals", "both")].fresh()


@pytest.fixture
def check(
    request: pytest.FixtureRequest,
    kept: dict[bool, Kept],
    site: Attacked,
    level: str,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    table: FaultTable,
) -> Callable[[Attack], str]:
    """Makes the attack of the test's claim, and compares what cttest says with it; returns that.

    With the mark's `goes_on`, the attack is made once more while all goes on.
    """
    mark = request.node.get_closest_marker("claim")
    claim = BY_NAME[mark.args[0]]

    def check(attack: Attack) -> str:
        said = once(attack)
        if mark.kwargs.get("goes_on"):
            kept[site.sealed].fresh()
            with recording_goes_on(site):
                once(attack)
            table.add_row(f"claim, while all goes on: {claim.name}", tried=1)
        return said

    def once(attack: Attack) -> str:
        site.attack(claim, attack)
        code, said = site.check(level, monkeypatch, capfd)
        assert code == claim.verdict(level).code, f"{claim.verdict(level)} by {level}:\n{said}"
        if level == LEVELS[-1]:
            table.add_row(f"claim: {claim.name}", tried=len(LEVELS))
        return said

    return check


def test_without_an_attack_all_is_whole(
    site: Attacked,
    level: str,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    code, said = site.check(level, monkeypatch, capfd)
    assert code == 0, said
    assert "5 segments checked: 5 whole, 0 damaged\n" in said
    with recording_goes_on(site):
        code, said = site.check(level, monkeypatch, capfd)
        assert code == 0, said


# No attacker, and a stranger's file.


@pytest.mark.claim("byte", goes_on=True)
@pytest.mark.parametrize("which", [0, 3, -1])
def test_byte(check: Callable[[Attack], str], which: int) -> None:
    def attack(site: Attacked) -> None:
        data = bytearray(site.paths[which].read_bytes())
        data[len(data) // 2] ^= 0x10
        site.paths[which].write_bytes(data)

    assert ": at byte " in check(attack)


@pytest.mark.claim("foreign", goes_on=True)
@pytest.mark.parametrize("place", ["in its place", "slipped in"])
def test_foreign(
    site: Attacked, check: Callable[[Attack], str], place: str, tmp_path: Path
) -> None:
    (tmp_path / "other").mkdir()
    other = Recording(tmp_path / "other")
    other.number = 33
    other.clock.passes(EPOCH_NS)
    made = other.record(1, sealed=site.sealed)

    def attack(site: Attacked) -> None:
        to = site.paths[1] if place == "in its place" else site.folder / made.name
        assert to.exists() == (place == "in its place")
        to.write_bytes(made.read_bytes())

    check(attack)


# Who can write to the folder.


@pytest.mark.claim("removed", goes_on=True)
def test_removed(site: Attacked, check: Callable[[Attack], str]) -> None:
    assert site.paths[1].name in check(attacks.remove_first)


@pytest.mark.claim("removed-last")
def test_removed_last(check: Callable[[Attack], str]) -> None:
    check(attacks.remove_last)


@pytest.mark.claim("cut", goes_on=True)
def test_cut(check: Callable[[Attack], str]) -> None:
    check(attacks.cut)


@pytest.mark.claim("cut-last")
def test_cut_last(check: Callable[[Attack], str]) -> None:
    check(attacks.cut_last)


def crash(site: Attacked) -> Path:
    """The recorder is killed, more than two epochs after its start; the segment that it left."""
    ours = site.ours
    log, ours.log = ours.log, site.log_as(OWNER, "ctrecord.service")
    queue = ours.start(sealed=site.sealed)
    for _ in range(2):
        ours.add(queue)
        ours.clock.passes(EPOCH_NS)
        assert queue.flush(ours.clock.wall)
    ours.add(queue)
    ours.add(queue)
    assert queue.series.writer is not None
    queue.series.writer.abandon()
    ours.seals.release()
    ours.log = log
    return Path(queue.path)


def change_end(path: Path, rows: Table | None = None) -> None:
    """Cut the last block of a segment, or record it anew."""
    blocks = blocks_of(path.read_bytes())[:-1]
    if rows is not None:
        blocks += [pack(one, bytes(16)) for one in table_blocks(rows)]
    path.write_bytes(reseal(b"".join(blocks)))


@pytest.mark.claim("cut-crashed")
@pytest.mark.parametrize("anew", [False, True])
def test_cut_crashed(site: Attacked, check: Callable[[Attack], str], anew: bool) -> None:
    path = crash(site)
    check(lambda site: change_end(path, site.ours.rows(ROWS) if anew else None))


@pytest.mark.claim("crashed-anew")
@pytest.mark.parametrize("anew", [False, True])
def test_crashed_anew(
    site: Attacked, check: Callable[[Attack], str], level: str, anew: bool
) -> None:
    """The last epoch is of anybody; a seal of an earlier one finds what is before it."""
    path = crash(site)
    site.attack(
        BY_NAME["crashed-anew"],
        lambda site: change_end(path, site.ours.rows(ROWS) if anew else None),
    )
    give(site.folder, OWNER)
    site.ours.log = site.log_as(OWNER, "ctrecord.service")
    site.ours.record(1, sealed=site.sealed)
    check(lambda site: None)


@pytest.mark.claim("changed-last")
def test_changed_last(check: Callable[[Attack], str]) -> None:
    check(attacks.change_last)


@pytest.mark.claim("before-squeeze")
def test_before_squeeze(site: Attacked, check: Callable[[Attack], str], level: str) -> None:
    def squeezed() -> None:
        options = SqueezeOptions(seals=site.ours.keys())
        log = site.log_as(OWNER, "ctsqueeze-sealed.service")
        assert ArchiveSqueeze(options, 1, log).folder(str(site.folder)) == (2 if site.sealed else 0)

    site.attack(BY_NAME["before-squeeze"], attacks.change_last)
    give(site.folder, OWNER)
    as_user(OWNER, squeezed)
    with Segment(str(site.paths[-1])) as segment:
        assert segment.header.is_squeezed != site.sealed
    check(lambda site: None)


@pytest.mark.claim("repaired")
def test_repaired(site: Attacked, check: Callable[[Attack], str]) -> None:
    """The owner repairs what cttest reports; the repair is logged."""
    path = site.paths[1]

    def attack(site: Attacked) -> None:
        with Segment(str(path)) as segment:
            blocks = segment.blocks
            other = SegmentWriter.create(f"{path}.x", segment.header, bytes(16))
        other.append(site.ours.rows(ROWS))
        other.close()
        added = blocks_of(Path(other.path).read_bytes())[1]
        os.unlink(other.path)
        data = bytearray(path.read_bytes())
        data[blocks[1].offset + FRAME.size + 1] ^= 1
        path.write_bytes(data[: blocks[1].offset] + added + data[blocks[1].offset :])

    def repaired() -> None:
        new = f"{path}.new"
        result = repair.repair(str(path), new, seals=site.ours.keys())
        assert result.rows == ROWS
        os.rename(new, path)
        repair.log_result(result, str(path), str(path), site.log_as(0))

    site.attack(BY_NAME["repaired"], attack)
    give(site.folder, OWNER)
    repaired()
    os.chown(path, OWNER, -1)
    check(lambda site: None)


@pytest.mark.claim("replaced", goes_on=True)
@pytest.mark.parametrize("disguise", ["no seals", "no seal", "a wrong seal"])
def test_replaced(check: Callable[[Attack], str], disguise: str) -> None:
    def attack(site: Attacked) -> None:
        if disguise == "no seals" or not site.sealed:
            put(site, site.paths[1], seals=None)
        else:
            put(site, site.paths[1], [(bytes(32), 2, 2)] if disguise == "a wrong seal" else [])

    check(attack)


@pytest.mark.claim("slipped-in", goes_on=True)
def test_slipped_in(
    site: Attacked, check: Callable[[Attack], str], capfd: pytest.CaptureFixture[str]
) -> None:
    said = check(attacks.slip_in)
    assert "imported: proves nothing: 1 file " in said
    assert "slipped.ctlog" in said
    assert ctlist.main(["-s", str(site.folder)]) == 0
    assert "ctlist: imported: proves nothing: 1 file without a seal: " in capfd.readouterr().err


@pytest.mark.claim("inserted", goes_on=True)
def test_inserted(check: Callable[[Attack], str]) -> None:
    check(attacks.insert)


@pytest.mark.claim("key-named")
@pytest.mark.parametrize("place", ["at the end", "on the last one", "in old log"])
@pytest.mark.parametrize("seal", [False, True])
def test_key_named(
    site: Attacked,
    check: Callable[[Attack], str],
    place: str,
    seal: bool,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """With a seal of no key, or without one: it is not closed, as a crash leaves it."""

    def attack(site: Attacked) -> None:
        with Segment(str(site.paths[-1])) as segment:
            header, last = segment.header, segment.last_hash
            time_ns = int(segment.index["time_min"][0])
        if place == "on the last one":
            sequence = (header.sequence or 0) + 1
            header = replace(header, sequence=sequence, previous=site.paths[-1].name)
        else:
            header = replace(header, chain="feed" * 8, sequence=1, template="other")
        if place == "in old log" and site.sealed:
            header = replace(header, seals={**(header.seals or {}), "epoch": 1})
        new = SegmentWriter.create(
            str(site.folder / "named.ctlog"),
            header,
            last if place == "on the last one" else bytes(16),
            time_ns=time_ns,
        )
        new.append(site.ours.rows(ROWS))
        if seal and site.sealed:
            new.seal(bytes(32), 1, 1, site.ours.clock.wall)
        new.sync()
        new.abandon()

    check(attack)
    assert ctlist.main(["-s", str(site.folder)]) == 0
    imported = "ctlist: imported: proves nothing: 1 file without a seal: "
    assert (imported in capfd.readouterr().err) == site.sealed


@pytest.mark.claim("made-anew")
def test_made_anew(check: Callable[[Attack], str]) -> None:
    def attack(site: Attacked) -> None:
        for path in site.folder.iterdir():
            if path.name != LOCK_FILE:
                path.unlink()
        (site.folder / LOCK_FILE).unlink()
        site.ours.log = site.log_as(os.getuid())
        site.ours.number = 50
        for _ in site.paths:
            site.ours.record(1, sealed=False)

    check(attack)


@pytest.mark.claim("receipt", goes_on=True)
def test_receipt(check: Callable[[Attack], str]) -> None:
    check(attacks.remove_with_its_receipt)


@pytest.mark.claim("text-log", goes_on=True)
def test_text_log(check: Callable[[Attack], str], level: str) -> None:
    def attack(site: Attacked) -> None:
        path = site.paths[1]
        last = remove_with_receipt(site, path)
        with site.journal.open("a") as file:
            file.write(f"Nov 24 06:00:00 router ctexpire: deleted {path}: old; last hash {last}\n")

    said = check(attack)
    assert ("which name no sender" in said) == (level in ("anchors", "both"))


@pytest.mark.claim("older")
def test_older(site: Attacked, check: Callable[[Attack], str], level: str) -> None:
    kept = [path.name for path in site.paths[3:]]
    lines = site.journal.read_text().splitlines(keepends=True)
    site.journal.write_text("".join(line for line in lines if any(name in line for name in kept)))

    def attack(site: Attacked) -> None:
        put(site, site.paths[0], seals=None)

    said = check(attack)
    assert ("older than the first anchor" in said) == (level in ("anchors", "both"))


@pytest.mark.claim("hold", goes_on=True)
@pytest.mark.parametrize("how", ["changed", "removed"])
def test_hold(check: Callable[[Attack], str], how: str) -> None:
    def attack(site: Attacked) -> None:
        path = site.folder / HOLDS
        text = path.read_text()
        assert "case 17" in text
        path.write_text(text.replace("case 17", "case 71") if how == "changed" else "")

    check(attack)


@pytest.mark.claim("ledger", goes_on=True)
def test_ledger(check: Callable[[Attack], str]) -> None:
    check(attacks.remove_ledger)


@pytest.mark.claim("ledger-emptied", goes_on=True)
@pytest.mark.parametrize("how", ["emptied", "a pipe", "a line that is cut", "another file"])
def test_ledger_emptied(check: Callable[[Attack], str], how: str) -> None:
    def attack(site: Attacked) -> None:
        if not site.sealed:
            return
        path = site.ours.ledger
        line = path.read_bytes()[:90]
        path.unlink()
        if how == "a pipe":
            os.mkfifo(path)
        else:
            path.write_bytes({"emptied": b"", "another file": b"nonsense\n"}.get(how, line))

    check(attack)


@pytest.mark.claim("ledger-line", goes_on=True)
@pytest.mark.parametrize("which", [1, -2])
def test_ledger_line(check: Callable[[Attack], str], which: int) -> None:
    def attack(site: Attacked) -> None:
        if lines := ledger_lines(site):
            del lines[which]
            site.ours.ledger.write_bytes(b"".join(lines))

    check(attack)


@pytest.mark.claim("cut-back")
def test_cut_back(check: Callable[[Attack], str], level: str) -> None:
    """To the stop before the last start."""
    said = check(lambda site: cut_back(site, "stop", 1))
    if level == "seals":
        assert "sealed until" in said


@pytest.mark.claim("cut-end")
def test_cut_end(check: Callable[[Attack], str], level: str) -> None:
    said = check(lambda site: cut_back(site, "start", 0))
    if level == "seals":
        assert "although the recorder was not stopped" in said


# The user of the recorder, who has the present key.


@pytest.mark.claim("swapped")
def test_swapped(check: Callable[[Attack], str], level: str) -> None:
    """The raw segment, before its squeeze."""

    said = check(attacks.swap_raw)
    if level == "seals":
        assert "not squeezed yet: " in said


@pytest.mark.claim("swapped-late")
def test_swapped_late(site: Attacked, check: Callable[[Attack], str]) -> None:
    site.ours.clock.passes(3 * EPOCH_NS)
    ended = present(site)[1] - 4 if site.sealed else 0

    def attack(site: Attacked) -> None:
        put_with_key(site, site.paths[3], ended)

    check(attack)


@pytest.mark.claim("key-replaced", goes_on=True)
def test_key_replaced(check: Callable[[Attack], str]) -> None:
    check(attacks.replace_with_key)


@pytest.mark.claim("key-backdated", goes_on=True)
def test_key_backdated(check: Callable[[Attack], str]) -> None:
    check(attacks.backdate)


@pytest.mark.claim("last-epoch")
def test_last_epoch(check: Callable[[Attack], str]) -> None:
    check(attacks.last_epoch)


def log_squeezed(site: Attacked, old: Path, replaced: str, unit: str = "") -> None:
    """Log that a segment was squeezed, as ctsqueeze does.  `unit`: of the process that sends it."""
    with Segment(str(old)) as segment:
        last = segment.last_hash.hex()
    site.log_as(os.getuid(), unit).send(
        messages.SQUEEZED,
        f"squeezed {old}: 9 rows; last hash {last}, before {replaced}",
        path=str(old),
        last_hash=last,
        replaced_hash=replaced,
    )


def replace_and_log(site: Attacked) -> None:
    """Replace a segment without a key, and log that it was squeezed."""
    path = site.paths[1]
    with Segment(str(path)) as segment:
        replaced = segment.last_hash.hex()
    put(site, path, seals=None)
    log_squeezed(site, path, replaced)


@pytest.mark.claim("logged", goes_on=True)
def test_logged(check: Callable[[Attack], str]) -> None:
    check(replace_and_log)


@pytest.mark.claim("within-unit")
def test_within_unit(check: Callable[[Attack], str]) -> None:
    def attack(site: Attacked) -> None:
        raw = site.paths[3]
        with Segment(str(raw)) as segment:
            replaced = segment.last_hash.hex()
        put_with_key(site, raw, present(site)[1] - 1 if site.sealed else 0)
        log_squeezed(site, raw, replaced, "ctrecord.service")

    check(attack)


def delete_first(site: Attacked) -> None:
    """Delete the first segment as ctexpire does."""
    log = site.log_as(os.getuid())
    (site.folder / HOLDS).chmod(0o640)
    holds.release(str(site.folder), 1, log, site.ours.keys())
    size = sum(path.stat().st_size for path in site.folder.glob("*.ctlog")) - 1
    limits = Limits(max_size=size)
    ours = site.ours
    run = Expiry(str(site.folder), limits, ours.clock.wall, log, seals=ours.keys())
    assert run.run() == 0
    assert not site.paths[0].exists()


@pytest.mark.claim("expired", goes_on=True)
def test_expired(site: Attacked, check: Callable[[Attack], str]) -> None:
    check(delete_first)
    assert site.paths[0].name in (site.folder / RECEIPTS).read_text()


@pytest.mark.claim("expired-by-root", goes_on=True)
def test_expired_by_root(check: Callable[[Attack], str]) -> None:
    """The scribe checks what it is asked for; it cannot know that it is false."""

    def attack(site: Attacked) -> None:
        path, folder = site.paths[0], str(site.folder)
        with Segment(str(path)) as segment:
            facts = {"path": str(path), "last_hash": segment.last_hash.hex(), "reason": "older"}
        delete_first(site)
        facts |= dict.fromkeys(("rows", "bytes"), "1") | dict.fromkeys(("since", "until"), "")
        asked = Entry(messages.EXPIRED, "ctexpire", "", facts, time.time_ns())
        packet = b"N" + asked.to_line()
        said = Scribe("ctexpire", [folder], os.getpid()).accepts(packet, time.time_ns())
        assert said is not None
        site.log_as(0, "session-1.scope").send(said.kind, said.text, **said.fields)

    check(attack)


# Root, from now on.


@pytest.mark.claim("root-expired", goes_on=True)
def test_root_expired(site: Attacked, check: Callable[[Attack], str]) -> None:
    check(delete_first)
    assert site.paths[0].name in (site.folder / RECEIPTS).read_text()


@pytest.mark.claim("wiped")
def test_wiped(check: Callable[[Attack], str]) -> None:
    check(attacks.wipe)


@pytest.mark.claim("root-logged", goes_on=True)
def test_root_logged(check: Callable[[Attack], str]) -> None:
    check(replace_and_log)


@pytest.mark.claim("no-journal")
def test_no_journal(check: Callable[[Attack], str]) -> None:
    check(lambda site: os.truncate(site.journal, 0))


@pytest.mark.claim("snapshot")
def test_snapshot(site: Attacked, check: Callable[[Attack], str]) -> None:
    ours = site.ours
    ledger = b"".join(ledger_lines(site))
    key = (ours.state / "key").read_bytes()
    ours.log = site.log_as(OWNER, "ctrecord.service")
    ours.record(2, sealed=site.sealed)

    def attack(site: Attacked) -> None:
        if site.sealed:
            ours.ledger.write_bytes(ledger)
            (ours.state / "key").write_bytes(key)
        ours.record(2, sealed=site.sealed)

    check(attack)


@pytest.mark.claim("machine-restored")
def test_machine_restored(site: Attacked, check: Callable[[Attack], str], tmp_path: Path) -> None:
    ours = site.ours
    folders = (ours.folder, ours.state)
    for path in folders:
        shutil.copytree(path, tmp_path / path.name)
    ours.log = site.log_as(OWNER, "ctrecord.service")
    ours.record(2, sealed=site.sealed)

    def attack(site: Attacked) -> None:
        for path in folders:
            shutil.rmtree(path)
            shutil.copytree(tmp_path / path.name, path)
        ours.record(2, sealed=site.sealed)

    check(attack)


@pytest.mark.claim("lies")
def test_lies(site: Attacked, check: Callable[[Attack], str]) -> None:
    """Its own recorder, which is sent what never was, and does all in order."""
    site.ours.log = site.log_as(OWNER, "ctrecord.service")

    def attack(site: Attacked) -> None:
        site.ours.number = 99
        site.ours.record(1, sealed=site.sealed)

    assert "6 segments checked: 6 whole" in check(attack)


# A member of the group.


@pytest.mark.claim("secrets")
@pytest.mark.parametrize("level", ["both"], indirect=True)
def test_a_reader_opens_and_writes_nothing(site: Attacked) -> None:
    folder, state = site.folder, site.ours.state

    def attack() -> None:
        assert site.paths[0].read_bytes()
        for path in (state / "key", folder / LOCK_FILE):
            with pytest.raises(PermissionError):
                path.read_bytes()
        for path in (*site.paths, site.ours.ledger, folder / HOLDS, folder / "new"):
            with pytest.raises(PermissionError):
                path.open("ab")
        with pytest.raises(PermissionError):
            site.paths[0].unlink()

    as_user(READER, attack)
