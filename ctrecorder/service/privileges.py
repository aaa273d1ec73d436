"""Dropping root: become a user that has CAP_NET_ADMIN or no capability, and verify it."""

from __future__ import annotations

import contextlib
import ctypes
import grp
import os
import pwd
import resource
from pathlib import Path

from ctrecorder.errors import KernelError, UsageError

DEFAULT_USER = "ctrecorder"
CAP_NET_ADMIN = 12  # linux/capability.h
# linux/prctl.h, linux/capability.h
PR_SET_DUMPABLE = 4
PR_SET_NO_NEW_PRIVS, PR_CAPBSET_DROP = 38, 24
PR_SET_CHILD_SUBREAPER = 36
PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL = 47, 4
_CAPABILITY_VERSION = 0x20080522
_MAX_CAPABILITIES = 64


def drop_privileges(user: str | None, group: str | None, *, keep_net_admin: bool = True) -> str:
    """Become `user` and `group` permanently, with only CAP_NET_ADMIN (a table dump needs it) or no
    capability.

    `user`: None is the default user; if that does not exist (a checkout without the package) the
    process stays root.  `group`: None is the user's own.  A process that is not root keeps its
    user, and needs CAP_NET_ADMIN if that is to be kept.

    Returns the name of a missing default user, "" otherwise: the caller warns.  Raises UsageError
    for a user or group that does not exist, KernelError if the change failed or is not complete:
    then the caller must end.
    """
    if os.geteuid() != 0:
        _check_unprivileged(user, keep_net_admin)
        return ""
    uid, gid = _uid_gid(user or DEFAULT_USER)
    if uid is None:
        if user is not None:
            raise UsageError(
                f"no user {user}: create it (useradd --system {user}), or choose another with -U"
            )
        if group is not None:
            raise UsageError(
                f"-G {group} needs a user: there is no user {DEFAULT_USER}; choose one with -U"
            )
        return DEFAULT_USER
    if group is not None:
        gid = _gid(group)
    keep = 1 << CAP_NET_ADMIN if keep_net_admin else 0
    _change(uid, gid, keep_net_admin)
    _verify(uid, gid, keep)
    return ""


def become(uid: int, gid: int) -> None:
    """Become another user than root permanently, in no other group and without a capability.

    Raises KernelError if that failed or is not complete: then the caller must end.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    for capability in range(_MAX_CAPABILITIES):  # EINVAL: of a later kernel
        libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)
    libc.prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
    try:
        os.setgroups([])
        os.setresgid(gid, gid, gid)
        os.setresuid(uid, uid, uid)
    except OSError as error:
        raise KernelError(f"cannot become uid {uid}, gid {gid}: {error.strerror}") from error
    # The inheritable ones stay with a change of the user.
    libc.capset((ctypes.c_uint32 * 2)(_CAPABILITY_VERSION, 0), (ctypes.c_uint32 * 6)())
    libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    _verify(uid, gid, 0)


def adopt_orphans() -> None:
    """Have those that descend from this process become its children when their parents end."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def forbid_core_dumps() -> None:
    """Have no memory of this process written to a file if it crashes."""
    ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
    # A later change of the user can undo that (fs.suid_dumpable).  The units forbid this call, and
    # do not change the user.
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def ids_of(user: str | None, group: str | None) -> tuple[int, int]:
    """The uid and gid that `drop_privileges` changes to; those of this process if to none.

    Raises UsageError for a group that does not exist.
    """
    uid, gid = _uid_gid(user or DEFAULT_USER)
    if os.geteuid() != 0 or uid is None:
        return os.geteuid(), os.getegid()
    return uid, gid if group is None else _gid(group)


def status_of(pid: int | str = "self") -> dict[str, str]:
    """/proc/PID/status as a dict: "Uid" -> "0\\t0\\t0\\t0", "CapEff" -> 16 hex digits, ..."""
    lines = Path(f"/proc/{pid}/status").read_text("ascii", "replace").splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def has_net_admin() -> bool:
    """True if this process has CAP_NET_ADMIN (in its own user namespace)."""
    return bool(int(status_of()["CapEff"], 16) >> CAP_NET_ADMIN & 1)


def _check_unprivileged(user: str | None, keep_net_admin: bool) -> None:
    if user is not None and _uid_gid(user)[0] != os.geteuid():
        raise UsageError(f"cannot become user {user}: only root can; leave out -U")
    if keep_net_admin and not has_net_admin():
        raise KernelError("recording needs CAP_NET_ADMIN: run as root, or start ctrecord.service")


def _uid_gid(user: str) -> tuple[int | None, int]:
    """The uid and own gid of `user`, a name or a number that the user database knows; (None, 0) if
    there is none.
    """
    try:
        entry = pwd.getpwuid(int(user)) if user.isdecimal() else pwd.getpwnam(user)
    except (KeyError, OverflowError, ValueError):
        return None, 0
    return entry.pw_uid, entry.pw_gid


def _gid(group: str) -> int:
    try:
        return (grp.getgrgid(int(group)) if group.isdecimal() else grp.getgrnam(group)).gr_gid
    except (KeyError, OverflowError, ValueError) as error:
        raise UsageError(
            f"no group {group}: create it (groupadd --system {group}), or choose another with -G"
        ) from error


def _change(uid: int, gid: int, keep_net_admin: bool) -> None:
    """Change ids; clear supplementary groups and the bounding set; keep at most one capability."""
    # Imported only here: Debian 13's binding (0.8.5, by SWIG) can crash an interpreter that ends
    # with it loaded.
    import capng

    capng.capng_clear(capng.CAPNG_SELECT_BOTH)
    if keep_net_admin:
        capng.capng_update(
            capng.CAPNG_ADD, capng.CAPNG_EFFECTIVE | capng.CAPNG_PERMITTED, capng.CAP_NET_ADMIN
        )
    result = capng.capng_change_id(
        uid, gid, capng.CAPNG_DROP_SUPP_GRP | capng.CAPNG_CLEAR_BOUNDING | capng.CAPNG_CLEAR_AMBIENT
    )
    if result != 0:
        raise KernelError(
            f"cannot become uid {uid}, gid {gid}: capng_change_id failed with {result}; "
            "start as root with all capabilities"
        )
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        raise KernelError(f"cannot set no_new_privs: {os.strerror(ctypes.get_errno())}")


def _verify(uid: int, gid: int, capabilities: int) -> None:
    """Compare the process's status with what it must be; KernelError at the first difference."""
    expected = {
        "Uid": "\t".join([str(uid)] * 4),
        "Gid": "\t".join([str(gid)] * 4),
        "Groups": "",
        "CapInh": f"{0:016x}",
        "CapPrm": f"{capabilities:016x}",
        "CapEff": f"{capabilities:016x}",
        "CapBnd": f"{0:016x}",
        "CapAmb": f"{0:016x}",
        "NoNewPrivs": "1",
    }
    found = status_of()
    for name, value in expected.items():
        if found.get(name) != value:
            raise KernelError(
                f"privileges were not dropped: {name} is {found.get(name)!r}, not {value!r}; "
                "not continuing"
            )
