"""Root runs a command that changes an archive: it becomes the owner of the folder first.

So a file in the folder that deceives the command gains what its owner has, and nothing more.  The
process that root started stays as the scribe.  A folder of root's is worked on as root.
"""

from __future__ import annotations

import ctypes
import itertools
import os
import socket
import stat
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from ctrecorder.errors import CtrecorderError, ExitCode, UsageError
from ctrecorder.folder import Folder
from ctrecorder.forked import die_with
from ctrecorder.service import privileges
from ctrecorder.service.log import Send
from ctrecorder.service.login import user_name
from ctrecorder.terminal import printable
from ctrecorder.witness import scribe
from ctrecorder.witness.relay import Relay
from ctrecorder.witness.scribe import Scribe, ScribeClient

_LINK = 3  # the first descriptor after the standard ones
# What the worker gets of root's environment; and LC_*.
_ENVIRONMENT = {"LANG", "LANGUAGE", "PATH", "TZ", "OPENBLAS_NUM_THREADS"}


class Workplace(NamedTuple):
    """Where a command works: the paths that it is to use.

    `log`: logs as root; None if this process logs itself.
    """

    folder: str
    output: str | None
    log: Send | None


def become_owner(command: str, folder: str, output: str | None = None) -> Workplace:
    """Go on in a child as the owner of `folder`, for good, if this is root and the owner is not.

    `output`: a file that the command will make elsewhere.  Both are absolute paths.  To be called
    before a file of the archive is opened, and after what only root can read was read; the child
    works in "/", with a small environment.

    For root, the paths of the result have no links, and lead to the folders that were opened here
    or nowhere (Folder.pin).

    Raises GoneError or ArchiveError if the folder cannot be opened, UsageError if its owner cannot
    work there or if everybody may write there, KernelError if this process cannot become the owner.
    """
    if os.geteuid() != 0:
        return Workplace(folder, output, None)
    with Folder(folder) as opened:
        owner = os.fstat(opened.descriptor)
        folder, segments = opened.pin(), _entries(opened)
    folders = {folder}
    if output is not None:
        with Folder.of(output) as opened:
            where = opened.pin()
        folders.add(where)
        output = os.path.join(where, os.path.basename(output))
    if owner.st_uid == 0:
        if owner.st_mode & stat.S_IWOTH:
            raise UsageError(
                f"{folder}: belongs to root, but every user may write there: "
                f"{command} does not work as root on what anybody put there; use another folder"
            )
        return Workplace(folder, output, None)
    if owner.st_gid == 0:
        raise UsageError(
            f"{folder}: belongs to {user_name(owner.st_uid)}, but to the group root, which that "
            "user must not get: chgrp -R to a group of that user"
        )
    parent = os.getpid()
    client = _separate(command, sorted(folders), segments)
    privileges.become(owner.st_uid, owner.st_gid)
    if not die_with(parent):
        raise KeyboardInterrupt
    _check_access(command, folder, output)
    return Workplace(folder, output, client.send)


def in_owner(command: str, folder: str, act: Callable[[Workplace], int]) -> int:
    """What `act` returns, as the owner of `folder`.  If this is root and the owner is not, a child
    becomes the owner (`become_owner`), and this process stays root.

    Raises what `become_owner` and `act` raise; of a child, the error is printed, and the exit code
    is FAILED.
    """
    folder = os.path.abspath(folder)
    with Folder(folder) as opened:
        others = os.geteuid() == 0 != os.fstat(opened.descriptor).st_uid
    if not others:
        return act(become_owner(command, folder))
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    code: int = ExitCode.FAILED
    try:
        code = act(become_owner(command, folder))
    except CtrecorderError as error:
        print(printable(f"{command}: {error}"), file=sys.stderr)
    finally:  # nothing of the parent runs here
        sys.stderr.flush()
        os._exit(code)


def _entries(folder: Folder) -> int:
    """How many names are in the folder, at most the limit of the scribe."""
    with os.scandir(folder.descriptor) as names:
        return sum(1 for _ in itertools.islice(names, scribe.MAX_SEGMENTS))


def _separate(command: str, folders: Sequence[str], segments: int) -> ScribeClient:
    """Fork: returns in the child.  The parent is its scribe, and ends as it ends."""
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()
    for descriptor in range(_LINK):
        _open_if_closed(descriptor)
    here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    pipes = os.pipe(), os.pipe()
    privileges.adopt_orphans()
    child = os.fork()
    if child:
        there.close()
        for _, end in pipes:
            os.close(end)
        printed = [Relay(end, number) for number, (end, _) in enumerate(pipes, 1)]
        work = Scribe(command, folders, child, segments)
        status = work.serve(here, scribe.outlet(), printed)
        scribe.end_orphans()
        scribe.end_like(status)
    os.setsid()
    here.close()
    for number, (_, end) in enumerate(pipes, 1):
        os.dup2(end, number)
    link = _without_roots_files(there)
    os.chdir("/")
    _clean_environment()
    return ScribeClient(link)


def _open_if_closed(descriptor: int) -> None:
    try:
        os.fstat(descriptor)
    except OSError:
        os.dup2(os.open(os.devnull, os.O_RDWR), descriptor)


def _without_roots_files(link: socket.socket) -> socket.socket:
    """Give back what root had open, but for the pipes to the scribe.  Returns the link."""
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    moved = os.dup2(link.detach(), _LINK, inheritable=False)
    os.closerange(_LINK + 1, os.sysconf("SC_OPEN_MAX"))
    return socket.socket(fileno=moved)


def _clean_environment() -> None:
    """Leave root's environment, also in the memory in which the kernel put it."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if name in _ENVIRONMENT or name.startswith("LC_")
    }
    os.environ.clear()
    os.environ.update(kept)  # to new memory
    numbers = Path("/proc/self/stat").read_text("ascii", "replace").rpartition(")")[2].split()
    begin, end = map(int, numbers[47:49])  # env_start, env_end: proc(5), 50 and 51
    ctypes.memset(begin, 0, end - begin)


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
