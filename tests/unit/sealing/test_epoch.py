"""The key of a recording: moved on, killed at each step, restored from a backup, fought over."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from pathlib import Path

import pytest

from ctrecorder.errors import FormatError
from ctrecorder.sealing.epoch import EPOCH_NS, GRACE_NS, exclusive
from ctrecorder.sealing.ledgerfile import read_ledger
from ctrecorder.sealing.state import BusyKeyError, NoKeyError, SealError
from ctrecorder.seals.keys import EpochKeys
from ctrecorder.seals.ledger import NO_LINE, Line
from ctrecorder.times import DAY, YEAR
from tests.support.sealed import Recording

# Every call that changes a file, or makes a change last.
STEPS = ("open", "write", "pwrite", "fsync", "fdatasync", "rename", "unlink", "ftruncate", "fchmod")


@pytest.fixture
def ours(tmp_path: Path) -> Recording:
    return Recording(tmp_path)


def use(ours: Recording, what: str = "hold") -> int:
    """Use the key once, as a timer does; returns its epoch."""
    with exclusive(str(ours.state), str(ours.folder), ours.clock.clocks) as key:
        key.note(what, {})
        return key.epoch


def lines(ours: Recording) -> list[Line]:
    """The lines of the ledger, each checked: its seal, and that it follows on the one before."""
    keys, before, found = EpochKeys(ours.key), NO_LINE, []
    for number, line in read_ledger(str(ours.ledger)):
        assert not isinstance(line, FormatError), number
        assert line.previous == before
        assert line.is_right(keys.at(line.epoch)), number
        before = line.hash
        found.append(line)
    return found


def epochs(ours: Recording) -> list[tuple[int, str]]:
    return [(line.epoch, line.what) for line in lines(ours)]


def follow_on(found: list[Line]) -> bool:
    """Whether no epoch is missing or comes twice."""
    return all(after.epoch == before.onward for before, after in pairwise(found))


def test_the_first_use_begins_the_ledger(ours: Recording) -> None:
    assert use(ours) == 1
    assert epochs(ours) == [(0, "begin"), (0, "next"), (1, "hold")]
    assert {path.stat().st_mode & 0o777 for path in ours.state.iterdir()} == {0o600}
    assert ours.ledger.stat().st_mode & 0o777 == 0o640
    assert ours.key.hex() not in (ours.state / "key").read_text()


def test_an_epoch_lasts(ours: Recording) -> None:
    assert use(ours) == use(ours) == 1
    ours.clock.passes(EPOCH_NS + GRACE_NS - 1)
    assert use(ours) == 1
    ours.clock.passes(1)
    assert use(ours) == 2
    ours.clock.reboot()
    assert use(ours) == use(ours) == 3


@pytest.mark.slow
def test_a_week_without_the_recorder_moves_the_key(ours: Recording) -> None:
    last = use(ours)
    for _ in range(7 * 24):
        ours.clock.passes(DAY // 24)
        last = use(ours)
    assert last == 1 + 7 * 24 * 4
    assert follow_on(lines(ours))
    ours.clock.passes(YEAR)
    assert use(ours) == last + YEAR // EPOCH_NS


@pytest.mark.parametrize("step", [80 * YEAR, -80 * YEAR])
def test_the_wall_clock_burns_no_key(ours: Recording, step: int) -> None:
    use(ours)
    ours.clock.wall += step
    assert use(ours) == 1
    ours.clock.passes(EPOCH_NS + GRACE_NS)
    assert use(ours) == 2


def kill_at(number: int, act: Callable[[], object]) -> bool:
    """Call `act` in a process that ends at its call `number` of STEPS; False: it made fewer."""
    child = os.fork()
    if child == 0:
        left = number

        def counted(call: Callable[..., object]) -> Callable[..., object]:
            def step(*args: object, **named: object) -> object:
                nonlocal left
                left -= 1
                if left < 0:
                    os._exit(7)
                return call(*args, **named)

            return step

        try:
            for name in STEPS:
                setattr(os, name, counted(getattr(os, name)))
            act()
            os._exit(0)
        finally:
            os._exit(1)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in (0, 7)
    return code == 7


@pytest.mark.slow
def test_killed_at_each_step_the_next_user_goes_on(tmp_path: Path) -> None:
    number = 0
    while True:
        root = tmp_path / str(number)
        root.mkdir()
        ours = Recording(root)
        if number % 2:
            use(ours)
        ours.clock.passes(EPOCH_NS + GRACE_NS)
        killed = kill_at(number // 2, partial(use, ours))
        if not killed and number % 2:
            break
        before = use(ours)
        found = lines(ours)
        assert follow_on(found)
        assert found[-1].epoch == before <= 3
        assert "restored" not in {line.what for line in found}
        shutil.rmtree(root)
        number += 1
    assert number > 30


def test_a_torn_line_is_cut_off(ours: Recording) -> None:
    use(ours)
    before = ours.ledger.read_bytes()
    for torn in (b'{"epoch":1,', b"\0" * 300):
        ours.ledger.write_bytes(before + torn)
        use(ours)
        assert ours.ledger.read_bytes().startswith(before + b"{")
        assert follow_on(lines(ours))


def test_a_key_from_a_backup_seals_no_epoch_again(ours: Recording) -> None:
    use(ours)
    backup = (ours.state / "key").read_bytes()
    for _ in range(5):
        ours.clock.passes(EPOCH_NS + GRACE_NS)
        use(ours)
    (ours.state / "key").write_bytes(backup)
    with exclusive(str(ours.state), str(ours.folder), ours.clock.clocks) as key:
        assert (key.restored, key.epoch) == (1, 7)
    found = lines(ours)
    assert follow_on(found)
    assert [line.facts for line in found if line.what == "restored"] == [{"from": 1}]


def test_a_ledger_from_a_backup_shows(ours: Recording) -> None:
    use(ours)
    backup = ours.ledger.read_bytes()
    ours.clock.passes(9 * EPOCH_NS)
    use(ours)
    ours.ledger.write_bytes(backup)
    use(ours)
    found = lines(ours)
    assert not follow_on(found)
    assert found[-2].what == "begin"


def test_a_ledger_of_another_key_is_refused(ours: Recording, tmp_path: Path) -> None:
    use(ours)
    (tmp_path / "other").mkdir()
    other = Recording(tmp_path / "other")
    use(other)
    ours.ledger.write_bytes(other.ledger.read_bytes())
    with pytest.raises(SealError, match="not sealed with the key"):
        use(ours)
    ours.ledger.write_bytes(ours.ledger.read_bytes() + b"nonsense\n")
    with pytest.raises(SealError, match="move the file aside"):
        use(ours)


def test_one_user_at_a_time(ours: Recording) -> None:
    use(ours)
    where = (str(ours.state), str(ours.folder), ours.clock.clocks)
    lock = ours.lock_key()
    with (
        pytest.raises(BusyKeyError, match="another process"),
        exclusive(*where, wait_seconds=0.05),
    ):
        pass
    lock.release()
    assert use(ours) == 1


def test_two_users_at_once(ours: Recording) -> None:
    """Many processes: no line is lost, none comes between others' halves."""
    children = []
    for number in range(8):
        child = os.fork()
        if child == 0:
            for _ in range(5):
                ours.clock.passes(EPOCH_NS + GRACE_NS + number)
                use(ours)
            os._exit(0)
        children.append(child)
    assert {os.waitpid(child, 0)[1] for child in children} == {0}
    found = lines(ours)
    assert sum(line.what == "hold" for line in found) == 40
    assert follow_on(found)


def test_a_key_is_for_one_folder(ours: Recording, tmp_path: Path) -> None:
    use(ours)
    with (
        pytest.raises(NoKeyError, match="its key seals the segments in"),
        exclusive(str(ours.state), str(tmp_path), ours.clock.clocks),
    ):
        pass
    assert not list(tmp_path.glob("*.ledger"))


def test_what_is_no_secret_key_is_refused(ours: Recording, tmp_path: Path) -> None:
    key = ours.state / "key"
    whole = key.read_bytes()
    key.chmod(0o640)
    with pytest.raises(SealError, match="not secret"):
        use(ours)
    key.unlink()
    with pytest.raises(NoKeyError, match="--setup-seal"):
        use(ours)
    (tmp_path / "elsewhere").write_bytes(whole)
    key.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(SealError):
        use(ours)
    key.unlink()
    for data in (b"", b"{}", whole.replace(b'"epoch": 0', b'"epoch": "0"'), whole[:-60] + b"}"):
        key.write_bytes(data)
        key.chmod(0o600)
        with pytest.raises(SealError, match="damaged"):
            use(ours)


def test_the_old_key_is_overwritten(ours: Recording) -> None:
    use(ours)
    with (ours.state / "key").open("rb") as old:
        ours.clock.passes(EPOCH_NS + GRACE_NS)
        use(ours)
        assert not any(old.read())
