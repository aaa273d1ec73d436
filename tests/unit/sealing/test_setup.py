"""Making a key: as the user of the recorder, in folders that nobody else can exchange."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ctrecorder.errors import CtrecorderError
from ctrecorder.sealing.setup import set_up
from ctrecorder.sealing.state import KEY

UID = 4000


@pytest.fixture
def top() -> Iterator[Path]:
    """A folder that the user can reach: those of pytest are root's alone."""
    with tempfile.TemporaryDirectory(prefix="ctrecorder-test-") as name:
        os.chmod(name, 0o755)
        yield Path(name)


def in_child(act: Callable[[], object]) -> str:
    """What an error of `act` says; "" for none.  Who becomes another user stays it."""
    read, write = os.pipe()
    child = os.fork()
    if not child:
        said = "no end"
        try:
            act()
            said = ""
        except CtrecorderError as error:
            said = str(error)
        finally:
            os.write(write, said.encode())
            os._exit(0)
    os.close(write)
    os.waitpid(child, 0)
    with os.fdopen(read) as pipe:
        return pipe.read()


@pytest.mark.parametrize("owner", [0, UID])
@pytest.mark.parametrize("name", ["state", "new/state"])
def test_the_folders_are_of_the_user(top: Path, owner: int, name: str) -> None:
    os.chown(top, owner, owner)

    def act() -> None:
        set_up(str(top / name), UID, UID, replace=False)
        assert os.getresuid() == (UID,) * 3, "root is given up for good"

    assert in_child(act) == ""
    path = top / name / KEY
    for one in (path, path.parent, *([path.parent.parent] if "/" in name else [])):
        status = one.stat()
        assert (status.st_uid, status.st_mode & 0o077) == (UID, 0), one


@pytest.mark.parametrize("owner", [0, UID])
def test_a_folder_that_is_exchanged_for_a_link_meanwhile(
    top: Path, owner: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between its making and its use, by the user of the recorder."""
    home, roots = top / "home", top / "roots"
    home.mkdir()
    roots.mkdir()
    os.chown(home, owner, owner)
    mkdir = os.mkdir

    def exchanged(path: str, mode: int = 0o777, *, dir_fd: int | None = None) -> None:
        mkdir(path, mode, dir_fd=dir_fd)
        with contextlib.suppress(FileExistsError):
            (home / "p").rename(home / "q")
            (home / "p").symlink_to(roots)

    def act() -> None:
        monkeypatch.setattr(os, "mkdir", exchanged)
        set_up(str(home / "p" / "state"), UID, UID, replace=False)

    assert "is a symbolic link" in in_child(act)
    assert roots.stat().st_uid == 0
    assert list(roots.iterdir()) == []


@pytest.mark.parametrize(
    ("owner", "mode", "refused"),
    [
        (4711, 0o755, "belongs to 4711, who could exchange the folder of the key"),
        (0, 0o777, "belongs to root, but others may write there"),
        (0, 0o1777, ""),
    ],
)
def test_a_folder_of_somebody_else(top: Path, owner: int, mode: int, refused: str) -> None:
    os.chown(top, owner, owner)
    top.chmod(mode)
    said = in_child(lambda: set_up(str(top / "state"), UID, UID, replace=False))
    assert (refused in said) if refused else said == ""
    assert (top / "state").exists() == (not refused)
