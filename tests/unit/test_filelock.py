"""Locks in a file that only the owner can open, with a bounded wait."""

from __future__ import annotations

import fcntl
import os
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from ctrecorder import filelock
from ctrecorder.filelock import LOCK_FILE, Holder, Purpose
from ctrecorder.folder import Folder
from tests.support.router import CHECKOUT

NOBODY = 65534


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Folder]:
    tmp_path.chmod(0o755)
    (tmp_path / "a").touch()
    with Folder(str(tmp_path)) as opened:
        yield opened


@pytest.fixture
def file(folder: Folder, tmp_path: Path) -> os.stat_result:
    return os.stat(tmp_path / "a")


@contextmanager
def reader() -> Iterator[None]:
    """As a user who may read the folder."""
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


def test_one_holder_at_a_time(folder: Folder, file: os.stat_result) -> None:
    assert filelock.holder_of(folder, file) is None
    lock = filelock.take(folder, file, Holder.SQUEEZE)
    assert lock is not None
    assert filelock.holder_of(folder, file) is Holder.SQUEEZE
    assert filelock.take(folder, file, Holder.EXPIRE) is None
    assert filelock.holder_of(folder, Purpose.EXPIRE) is None
    for purpose in Purpose:
        other = filelock.take(folder, purpose, Holder.EXPIRE)
        assert other is not None
        assert filelock.holder_of(folder, purpose) is Holder.EXPIRE
        other.release()
    lock.release()
    lock.release()
    assert filelock.holder_of(folder, file) is None
    assert filelock.take(folder, file, Holder.EXPIRE) is not None


def test_the_wait_is_bounded(folder: Folder, file: os.stat_result) -> None:
    lock = filelock.take(folder, file, Holder.SQUEEZE)
    begin = time.monotonic()
    assert filelock.take(folder, file, Holder.SQUEEZE, 0.1) is None
    assert 0.1 <= time.monotonic() - begin < 5
    assert lock is not None
    release = threading.Timer(0.1, lock.release)
    release.start()
    assert filelock.take(folder, file, Holder.SQUEEZE, 30) is not None
    release.join()


def test_a_process_that_is_killed_leaves_no_lock(folder: Folder, file: os.stat_result) -> None:
    code = (
        "import os, sys, time\n"
        "from ctrecorder import filelock\nfrom ctrecorder.folder import Folder\n"
        "folder = Folder(sys.argv[1])\n"
        "status = os.stat(sys.argv[1] + '/a')\n"
        "lock = filelock.take(folder, status, filelock.Holder.RECORDER)\n"
        "print('locked', flush=True)\ntime.sleep(60)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, folder.path], stdout=subprocess.PIPE, cwd=CHECKOUT
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"locked\n"
        assert filelock.holder_of(folder, file) is Holder.RECORDER
        process.kill()
    assert filelock.holder_of(folder, file) is None


def test_a_reader_sees_locks_and_takes_none(folder: Folder, file: os.stat_result) -> None:
    """The kernel's list shows the locks of a file that a reader cannot open."""
    with reader():
        assert filelock.holder_of(folder, file) is None
    lock = filelock.take(folder, file, Holder.RECORDER)
    with reader():
        assert filelock.holder_of(folder, file) is Holder.RECORDER
        assert filelock.holder_of(folder, Purpose.START) is None
        with pytest.raises(PermissionError):
            filelock.take(folder, Purpose.START, Holder.RECORDER)
        with pytest.raises(PermissionError):
            os.open(os.path.join(folder.path, LOCK_FILE), os.O_RDONLY)
    assert lock is not None
    lock.release()
    with reader():
        assert filelock.holder_of(folder, file) is None


def test_a_reader_without_the_kernels_list(
    folder: Folder, file: os.stat_result, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a unit with ProcSubset=pid."""
    lock = filelock.take(folder, file, Holder.RECORDER)
    opened = Path.open

    def without(path: Path, *args: Any, **named: Any) -> Any:
        if str(path) == "/proc/locks":
            raise FileNotFoundError(2, "No such file or directory")
        return opened(path, *args, **named)

    monkeypatch.setattr(Path, "open", without)
    with reader(), pytest.raises(FileNotFoundError):
        filelock.holder_of(folder, file)
    assert filelock.holder_of(folder, file) is Holder.RECORDER
    assert lock is not None


def symlink(path: Path, elsewhere: Path) -> None:
    path.symlink_to(elsewhere)


def hard_link(path: Path, elsewhere: Path) -> None:
    path.hardlink_to(elsewhere)


def fifo(path: Path, elsewhere: Path) -> None:
    os.mkfifo(path)


def others(path: Path, elsewhere: Path) -> None:
    path.touch()
    os.chown(path, NOBODY, NOBODY)


@pytest.mark.parametrize("plant", [symlink, hard_link, fifo, others])
def test_what_is_not_the_owners_file_is_refused(
    folder: Folder,
    file: os.stat_result,
    tmp_path: Path,
    plant: Callable[[Path, Path], None],
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_text("precious")
    elsewhere.chmod(0o644)
    plant(tmp_path / LOCK_FILE, elsewhere)
    with pytest.raises(OSError):  # noqa: PT011 -- of several kinds
        filelock.take(folder, file, Holder.SQUEEZE)
    assert elsewhere.read_text() == "precious"
    assert elsewhere.stat().st_mode & 0o777 == 0o644


def test_it_has_the_owner_of_the_folder_and_is_closed_again(
    folder: Folder, file: os.stat_result, tmp_path: Path
) -> None:
    """chmod -R opens it to the group; the next command closes it."""
    os.chown(tmp_path, NOBODY, NOBODY)
    path = tmp_path / LOCK_FILE
    assert filelock.take(folder, file, Holder.SQUEEZE) is not None
    status = path.stat()
    assert (status.st_uid, status.st_mode & 0o777) == (NOBODY, 0o600)
    path.chmod(0o640)
    assert filelock.take(folder, Purpose.START, Holder.SQUEEZE) is not None
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_lock_of_something_else(folder: Folder, file: os.stat_result, tmp_path: Path) -> None:
    """By another program of the owner's, over the whole file."""
    (tmp_path / LOCK_FILE).touch(0o600)
    with (tmp_path / LOCK_FILE).open("r+b") as other:
        whole = struct.pack("hhqqi0q", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
        fcntl.fcntl(other, fcntl.F_OFD_SETLK, whole)
        assert filelock.take(folder, file, Holder.SQUEEZE) is None
        assert filelock.holder_of(folder, file) is Holder.OTHER
        with reader():
            assert filelock.holder_of(folder, file) is Holder.OTHER


def test_the_flock_of_version_1_0(tmp_path: Path, folder: Folder) -> None:
    one, other = (os.open(tmp_path / "a", os.O_RDONLY) for _ in range(2))
    assert not filelock.has_exclusive_flock(other)
    fcntl.flock(one, fcntl.LOCK_SH)
    assert not filelock.has_exclusive_flock(other)
    fcntl.flock(one, fcntl.LOCK_EX)
    assert filelock.has_exclusive_flock(other)
    os.close(one)
    assert not filelock.has_exclusive_flock(other)
    os.close(other)
