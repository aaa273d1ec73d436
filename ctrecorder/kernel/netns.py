"""Named network namespaces: entering one, and noticing that its name is gone or names another.

Routers for hosting and VPNs keep NAT in namespaces that ip-netns(8) names in /run/netns.  A process
in one keeps it alive after its name was deleted, so a recorder must check that it still is in the
namespace with that name.
"""

from __future__ import annotations

import ctypes
import errno
import os
import shlex
from dataclasses import dataclass
from pathlib import Path

from ctrecorder.errors import KernelError, UsageError

FOLDER = "/run/netns"
_OWN = "/proc/thread-self/ns/net"
_CLONE_NEWNET = 0x40000000  # linux/sched.h


@dataclass(frozen=True)
class Namespace:
    """A network namespace that this process is in.

    name: as it was given, a name of ip-netns(8) or a path.
    device, inode: they identify the namespace.
    """

    name: str
    device: int
    inode: int

    @property
    def path(self) -> str:
        """The file of the namespace."""
        return path_of(self.name)

    @property
    def inside(self) -> str:
        """What goes before a shell command so that it runs in this namespace."""
        if "/" in self.name:
            return f"nsenter --net={shlex.quote(self.name)} "
        return f"ip netns exec {shlex.quote(self.name)} "

    def is_current(self) -> bool:
        """True if the name still names this namespace, or this process may not stat it."""
        try:
            found = os.stat(self.path)
        except PermissionError:
            return True
        except OSError:
            return False
        return (found.st_dev, found.st_ino) == (self.device, self.inode)


def path_of(name: str) -> str:
    """The file of the namespace `name`; a name with a slash is a path."""
    return name if "/" in name else f"{FOLDER}/{name}"


def names() -> list[str]:
    """The names in /run/netns, sorted; [] if there is no such folder."""
    try:
        return sorted(os.listdir(FOLDER))
    except OSError:
        return []


def enter(name: str) -> Namespace:
    """Move the calling thread, and what it starts from now on, into the namespace `name`.

    Needs CAP_SYS_ADMIN unless this process is in that namespace already.  By ctypes, for os.setns()
    is Python 3.12.  UsageError if there is no such namespace, KernelError if the kernel refuses.
    """
    path = path_of(name)
    try:
        # O_NONBLOCK: a path may be a FIFO
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise UsageError(_missing(name)) from error
    except OSError as error:
        raise KernelError(f"cannot open the network namespace {path}: {error.strerror}") from error
    try:
        found, own = os.fstat(fd), Path(_OWN).stat()
        if (found.st_dev, found.st_ino) != (own.st_dev, own.st_ino):
            _setns(fd, path)
    finally:
        os.close(fd)
    return Namespace(name, found.st_dev, found.st_ino)


def _setns(fd: int, path: str) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(fd, _CLONE_NEWNET) == 0:
        return
    code = ctypes.get_errno()
    if code == errno.EPERM:
        raise KernelError(
            f"cannot enter the network namespace {path}: needs CAP_SYS_ADMIN; run as root"
        )
    if code == errno.EINVAL:
        raise UsageError(f"{path} is not a network namespace")
    raise KernelError(f"cannot enter the network namespace {path}: {os.strerror(code)}")


def _missing(name: str) -> str:
    if "/" in name:
        return f"there is no network namespace {name}"
    known = ", ".join(names())
    return f"there is no network namespace {name}; " + (
        f"there are: {known}" if known else f"{FOLDER} has none"
    )
