"""What a stranger puts beside the segments, or in their place: pipes, devices, sockets, folders,
links, and a state of a recorder that lies.  No command waits, opens a device, or has a traceback.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest

from ctrecorder.asking import ctwho
from ctrecorder.cli import ctexpire, ctsqueeze, cttest
from ctrecorder.errors import UsageError
from ctrecorder.filelock import LOCK_FILE
from ctrecorder.folder import NotAFileError, open_file
from ctrecorder.listing import ctlist
from ctrecorder.sealing.state import SealError, SealState
from ctrecorder.segment import live
from ctrecorder.segment.live import LiveState
from ctrecorder.segment.reader import Segment
from ctrecorder.service.key import read_key
from ctrecorder.times import SECOND
from tests.support.sealed import Recording

# A device whose driver is not there: to open it is an error of its own.
_NO_DRIVER = os.makedev(240, 4095)
_MOST_SECONDS = 20
_STATES = 1_000


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(path))


PLANTS: dict[str, Callable[[Path], object]] = {
    "pipe": os.mkfifo,
    "device": lambda path: os.mknod(path, stat.S_IFCHR | 0o600, _NO_DRIVER),
    "socket": _socket,
    "folder": Path.mkdir,
    "link to a device": lambda path: path.symlink_to("/dev/zero"),
    "link to itself": lambda path: path.symlink_to(path),
}


@contextlib.contextmanager
def in_time() -> Iterator[None]:
    """Raises TimeoutError in what waits."""

    def late(*_: object) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(_MOST_SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@pytest.fixture
def ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Recording:
    """Two closed segments, one of them squeezed, with each file that can be beside them."""
    made = Recording(tmp_path)
    made.squeeze(made.record(1))
    made.record(1)
    made.hold("case 17")
    (made.folder / "ctexpire.receipts").touch()
    (made.folder / "ctrecorder.unsent").touch()
    (tmp_path / "run").mkdir()
    (tmp_path / "none.conf").touch()
    monkeypatch.setattr(live, "FOLDER", str(tmp_path / "run"))
    return made


def commands(ours: Recording) -> dict[str, Callable[[], int]]:
    conf = ["-c", str(ours.folder.parent / "none.conf")]
    log, state = str(ours.folder), ["--seal-state", str(ours.state)]
    return {
        "ctlist": lambda: ctlist.main(["--coverage", log]),
        "ctwho": lambda: ctwho.main(["198.51.100.1:4000", "2026-11-24T06:00:00Z", "-d", log]),
        "cttest": lambda: cttest.main([*conf, log]),
        "holds": lambda: ctexpire.main([*conf, "--holds", log]),
        "expire": lambda: ctexpire.main([*conf, *state, "--max-size", "1", log]),
        "squeeze": lambda: ctsqueeze.main([*conf, *state, log]),
    }


@pytest.mark.parametrize("plant", PLANTS)
def test_what_is_no_file(ours: Recording, plant: str, capfd: pytest.CaptureFixture[str]) -> None:
    kept = ours.folder.with_name("kept")
    shutil.copytree(ours.folder, kept)
    victims = [*sorted(path.name for path in ours.folder.iterdir()), LOCK_FILE, "key", "state"]
    for victim in dict.fromkeys(victims):
        folders = {"key": ours.state, "state": ours.folder.parent / "run"}
        path = folders.get(victim, ours.folder) / ("c0.json" if victim == "state" else victim)
        whole = path.read_bytes() if path.exists() else None
        for name, run in commands(ours).items():
            path.unlink(missing_ok=True)
            PLANTS[plant](path)
            with in_time():
                assert run() in (0, 1, 2, 3), (name, victim)
            said = "".join(capfd.readouterr())
            assert "Traceback" not in said
            assert path.is_symlink() or not path.is_file(), f"{name} replaced {victim}"
            (Path.rmdir if plant == "folder" else Path.unlink)(path)
            if victim in folders and whole is not None:
                path.write_bytes(whole)
                path.chmod(0o600)
            if victim not in folders:
                shutil.rmtree(ours.folder)
                shutil.copytree(kept, ours.folder)


@pytest.mark.parametrize("plant", PLANTS)
def test_nothing_but_a_file_is_opened(tmp_path: Path, plant: str) -> None:
    path = tmp_path / "planted"
    PLANTS[plant](path)
    for follow in (False, True):
        with in_time(), pytest.raises(OSError, match=r"is not a file|symbolic link") as error:
            os.close(open_file(str(path), follow=follow))
        is_link = (plant.startswith("link") and not follow) or plant == "link to itself"
        assert isinstance(error.value, NotAFileError) is not is_link


def test_states_that_lie(ours: Recording, capfd: pytest.CaptureFixture[str]) -> None:
    """Who has the uid of a recorder writes its state: any type and number is read or left out."""
    queue = ours.start()
    ours.add(queue)
    with Segment(queue.path) as segment:
        chain = segment.header.chain or ""
    status, run = os.stat(queue.path), ours.folder.parent / "run"
    gap = {"start": ours.clock.wall, "end": None, "reason": "no-events", "number": 1, "family": 2}
    facts: dict[str, Any] = {"tracking": {"ipv4": "on"}, "events": "on", "timestamps": "on"}
    place = (chain, queue.path, status.st_dev, status.st_ino, ours.clock.wall + SECOND)
    publisher = live.Publisher(str(run))
    random = Random(7)
    values: list[Any] = [None, True, -1, 0, 1e400, 2**63, 10**30, 10**4000, "", "x" * 999, "\0"]
    values += [
        "\ud800",
        [],
        {},
        [[]],
        [None],
        [{}],
        {"a": []},
        [10**30],
        ["\x1b[2J"],
        -(2**63),
        1.5,
    ]
    for number in range(_STATES):
        publisher.publish(LiveState(*place, (gap,), facts, {"unheard": {"a": 1}}))
        path = run / f"{chain}.json"
        members = json.loads(path.read_text())
        parts = [members, members["holes"][0], members["state"], members["counters"]]
        for _ in range(random.randrange(1, 4)):
            part = random.choice(parts)
            name = random.choice(
                [*part, "lost", "ports", "detail", "networks", "protocols", "open"]
            )
            if name not in ("boottime_ns", "pid", "start_ticks") or random.random() < 0.1:
                part[name] = random.choice(values)
        data = json.dumps(members).encode()
        path.write_bytes(data[: random.randrange(len(data))] if number % 9 == 0 else data)
        form = ["--format", "json"] if number % 2 else []
        with in_time():
            assert ctlist.main(["--coverage", *form, str(ours.folder)]) in (0, 1, 2, 3)
        assert "Traceback" not in "".join(capfd.readouterr())
    publisher.close()


def test_keys_that_lie(ours: Recording) -> None:
    """Any change of the key of a recording is a SealError, and nothing is sealed with it."""
    path, random = ours.state / "key", Random(7)
    whole = path.read_bytes()
    values: list[Any] = [None, True, -1, 2**32, 10**30, 1.5, "", "zz", "a" * 63, [], {}, "\0"]
    refused = 0
    for number in range(_STATES):
        data = bytearray(whole)
        if number % 2:
            facts = json.loads(whole)
            facts[random.choice(["id", "epoch", "key", "folder", "begun"])] = random.choice(values)
            data[:] = json.dumps(facts).encode()
        else:
            data[random.randrange(len(data))] ^= 1 << random.randrange(8)
        path.write_bytes(data)
        with contextlib.closing(SealState(str(ours.state))) as state, in_time():
            try:
                assert len(state.read().bytes) == len(ours.key)
            except SealError:
                refused += 1
    assert refused > _STATES // 2
    for name, make in PLANTS.items():
        planted = ours.folder.parent / name
        make(planted)
        with in_time(), pytest.raises(UsageError):
            read_key(str(planted))
