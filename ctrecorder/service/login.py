"""The user on whose behalf a command runs."""

from __future__ import annotations

import os
import pwd
from pathlib import Path
from typing import NamedTuple

# The loginuid of a process outside any login session (linux/uidgid.h, INVALID_UID).
_NO_LOGIN = 2**32 - 1


class LoginUser(NamedTuple):
    """A user: number, and name (the number as text if the user database has no name)."""

    uid: int
    name: str


def login_user() -> LoginUser:
    """The user that logged in, also behind su and sudo; outside a login session the process's own
    user.
    """
    try:
        uid = int(Path("/proc/self/loginuid").read_text("ascii"))
    except (OSError, ValueError):
        uid = _NO_LOGIN
    if uid == _NO_LOGIN:
        uid = os.getuid()
    return LoginUser(uid, user_name(uid))


def user_name(uid: int) -> str:
    """The name of the user `uid`, or the number as text if there is no name."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
