"""Root runs a command that changes an archive: it becomes the owner of the folder first.

So a file in the folder that deceives the command gains what its owner has, and nothing more.  The
process that root started stays as the scribe.  A folder of root's is worked on as root.
"""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import stat
import sys
from collections.abc import Sequence

from ctrecorder.errors import UsageError
from ctrecorder.folder import Folder
from ctrecorder.service import privileges
from ctrecorder.service.log import Send
from ctrecorder.service.login import user_name
from ctrecorder.witness import scribe
from ctrecorder.witness.scribe import Scribe, ScribeClient

PR_SET_PDEATHSIG = 1  # linux/prctl.h
_LINK = 3  # the first descriptor after the standard ones


def become_owner(command: str, folder: str, output: str | None = None) -> Send | None:
    """Go on in a child as the owner of `folder`, for good, if this is root and the owner is not.

    `output`: a file that the command will make elsewhere.  Both are absolute paths.  To be called
    before a file of the archive is opened, and after what only root can read was read.

    Returns what logs as root; None if nothing changes.  Raises GoneError or ArchiveError if the
    folder cannot be opened, UsageError if its owner cannot work there or if everybody may write
    there, KernelError if this process cannot become the owner.
    """
    if os.geteuid() != 0:
        return None
    with Folder(folder) as opened:
        owner = os.fstat(opened.descriptor)
    if owner.st_uid == 0:
        if owner.st_mode & stat.S_IWOTH:
            raise UsageError(
                f"{folder}: belongs to root, but every user may write there: "
                f"{command} does not work as root on what anybody put there; use another folder"
            )
        return None
    if owner.st_gid == 0:
        raise UsageError(
            f"{folder}: belongs to {user_name(owner.st_uid)}, but to the group root, which that "
            "user must not get: chgrp -R to a group of that user"
        )
    folders = {folder}
    if output is not None:
        folders.add(os.path.dirname(output))
        Folder.of(output).close()  # who cannot reach it would not know whether it is there
    parent = os.getpid()
    client = _separate(command, sorted(folders))
    privileges.become(owner.st_uid, owner.st_gid)
    # After the change of the user, which resets it.
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != parent:  # it was ended before
        raise KeyboardInterrupt
    _check_access(command, folder, output)
    return client.send


def _separate(command: str, folders: Sequence[str]) -> ScribeClient:
    """Fork: returns in the child.  The parent is its scribe, and ends as it ends."""
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()
    here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    child = os.fork()
    if child:
        there.close()
        outlet = scribe.outlet()
        scribe.end_like(Scribe(command, folders, child).serve(here, outlet))
    os.setsid()
    here.close()
    return ScribeClient(_without_roots_files(there))


def _without_roots_files(link: socket.socket) -> socket.socket:
    """Give back what root had open, but for the output, which can then only be written.

    What reads a terminal could read what root types later.  Returns the link.
    """
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    for descriptor in (1, 2):
        if os.isatty(descriptor):
            path = f"/proc/self/fd/{descriptor}"
            again = os.open(path, os.O_WRONLY | os.O_NOCTTY | os.O_CLOEXEC)
            os.dup2(again, descriptor)
    moved = os.dup2(link.detach(), _LINK, inheritable=False)
    os.closerange(_LINK + 1, os.sysconf("SC_OPEN_MAX"))
    return socket.socket(fileno=moved)


def _check_access(command: str, folder: str, output: str | None) -> None:
    """Raise UsageError if this user cannot work in `folder`, or make `output`."""
    name, uid = user_name(os.getuid()), os.getuid()
    user = f"uid {uid}" if name == str(uid) else f"{name} (uid {uid})"
    if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        raise UsageError(
            f"{folder}: belongs to {user}, as whom {command} continues, but that user cannot work "
            "there: open it, and the folders above it, to that user; or give it to root"
        )
    where = os.path.dirname(output) if output is not None else folder
    if not os.access(where, os.W_OK | os.X_OK):
        raise UsageError(
            f"{where}: {user}, the owner of {folder}, as whom {command} continues, cannot write "
            "there: choose a folder of that user, or work on a copy that belongs to root"
        )
