"""Making the key of a recording."""

from __future__ import annotations

import contextlib
import os
import stat

from ctrecorder.errors import ArchiveError, UsageError
from ctrecorder.folder import Folder
from ctrecorder.sealing.epoch import new_key
from ctrecorder.sealing.locate import has_key
from ctrecorder.sealing.state import SealState
from ctrecorder.service import privileges
from ctrecorder.service.login import user_name

_MODE = 0o700


def set_up(path: str, uid: int, gid: int, *, replace: bool) -> bytes:
    """Make a key in the folder `path`, which is made for `uid` and `gid`; returns the verification
    key, which is kept nowhere.

    Root goes on as that user, for good, as soon as a folder belongs to that user.

    `replace`: a key that is there is destroyed.  Raises UsageError if there is one, or if another
    user could exchange the folder meanwhile; ArchiveError; KernelError.
    """
    path = os.path.abspath(path)
    try:
        _make_folder(path, uid, gid)
    except OSError as error:
        raise ArchiveError(f"{path}: cannot be made: {error.strerror}") from error
    with contextlib.closing(SealState(path)) as state, state.locked():
        if has_key(path) and not replace:
            raise UsageError(
                f"{path}: there is a key already; --replace-key destroys it, and begins a new "
                "ledger with another verification key"
            )
        return new_key(state)


def _make_folder(path: str, uid: int, gid: int) -> None:
    """Make the folder, and the one that it is in, with nothing for others.  Raises OSError."""
    parent, name = os.path.split(path)
    if not os.path.isdir(parent):
        with Folder(os.path.dirname(parent)) as top:
            _make_below(top, os.path.basename(parent), uid, gid)
    with Folder(parent) as above:
        _make_below(above, name, uid, gid)
    _become(uid, gid)


def _make_below(above: Folder, name: str, uid: int, gid: int) -> None:
    """Make the folder `name` in `above`."""
    status = os.fstat(above.descriptor)
    if os.geteuid() == 0 != uid:
        _check_owner(above.path, status, uid)
        if status.st_uid == uid:
            _become(uid, gid)
    with above.below(name, _MODE) as folder:
        if os.geteuid() == 0:
            os.fchown(folder.descriptor, uid, gid)
        os.fchmod(folder.descriptor, _MODE)
        folder.sync()
    above.sync()


def _check_owner(path: str, status: os.stat_result, uid: int) -> None:
    """Raise UsageError if somebody else could exchange what root makes in the folder `path`."""
    if status.st_uid not in (0, uid):
        what = f"belongs to {user_name(status.st_uid)}"
    elif status.st_uid == 0 and status.st_mode & 0o022 and not status.st_mode & stat.S_ISVTX:
        what = "belongs to root, but others may write there"
    else:
        return
    raise UsageError(
        f"{path}: {what}, who could exchange the folder of the key: choose one of root's, or of "
        f"{user_name(uid)}"
    )


def _become(uid: int, gid: int) -> None:
    """Go on as the user, for good, if this is root and the user is not."""
    if os.geteuid() == 0 != uid:
        privileges.become(uid, gid)
