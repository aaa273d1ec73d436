"""Making the key of a recording."""

from __future__ import annotations

import contextlib
import os

from ctrecorder.errors import ArchiveError, UsageError
from ctrecorder.folder import Folder
from ctrecorder.sealing.epoch import new_key
from ctrecorder.sealing.locate import has_key
from ctrecorder.sealing.state import SealState

_MODE = 0o700


def set_up(path: str, uid: int, gid: int, *, replace: bool) -> bytes:
    """Make a key in the folder `path`, which is made for `uid` and `gid`; returns the verification
    key, which is kept nowhere.

    `replace`: a key that is there is destroyed.  Raises UsageError if there is one, and
    ArchiveError.
    """
    _make_folder(path, uid, gid)
    with contextlib.closing(SealState(path)) as state, state.locked():
        if has_key(path) and not replace:
            raise UsageError(
                f"{path}: there is a key already; --replace-key destroys it, and begins a new "
                "ledger with another verification key"
            )
        return new_key(state)


def _make_folder(path: str, uid: int, gid: int) -> None:
    """Make the folder, and the one that it is in, with nothing for others."""
    parent, name = os.path.split(os.path.abspath(path))
    try:
        made = not os.path.isdir(parent)
        if made:
            os.mkdir(parent, _MODE)
        with Folder(parent) as above:
            if made and os.geteuid() == 0:
                os.fchown(above.descriptor, uid, gid)
            with above.below(name, _MODE) as folder:
                if os.geteuid() == 0:
                    os.fchown(folder.descriptor, uid, gid)
                os.fchmod(folder.descriptor, _MODE)
                folder.sync()
            above.sync()
    except OSError as error:
        raise ArchiveError(f"{path}: cannot be made: {error.strerror}") from error
