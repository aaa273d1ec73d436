"""flock with a bounded wait."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ctrecorder import filelock


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[int, int]]:
    """Two open files of one path: their locks exclude each other."""
    path = tmp_path / "file"
    path.touch()
    one, other = (os.open(path, os.O_RDONLY) for _ in range(2))
    yield one, other
    for descriptor in (one, other):
        try:
            os.close(descriptor)
        except OSError:
            pass  # the test has closed it


def test_only_one_open_file_has_the_lock(pair: tuple[int, int]) -> None:
    one, other = pair
    assert not filelock.is_locked(other)
    assert filelock.lock(one)
    assert filelock.is_locked(other)
    assert not filelock.lock(other)
    os.close(one)
    assert not filelock.is_locked(other)
    assert filelock.lock(other)


def test_the_wait_is_bounded(pair: tuple[int, int]) -> None:
    one, other = pair
    assert filelock.lock(one)
    begin = time.monotonic()
    assert not filelock.lock(other, 0.1)
    assert 0.1 <= time.monotonic() - begin < 5


def test_a_lock_that_is_released_meanwhile_is_taken(pair: tuple[int, int]) -> None:
    one, other = pair
    assert filelock.lock(one)
    release = threading.Timer(0.1, os.close, [one])
    release.start()
    assert filelock.lock(other, 30)
    release.join()


def test_what_has_no_locks_raises() -> None:
    read, write = os.pipe()
    os.close(read)
    os.close(write)
    with pytest.raises(OSError, match="descriptor"):
        filelock.lock(read)
