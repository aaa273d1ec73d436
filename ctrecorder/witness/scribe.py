"""A scribe: the process that stays root to log what a command says that gave up root.

The kernel stamps each entry of the journal with the uid of its sender, and anchors count from root.
But who reads an archive must not be root.  So the process that root started becomes the scribe,
which opens no file of an archive, and the command goes on in its child.  The child is in a session
of its own, without a terminal that it could type into.  Neither outlives the other.

The child asks for one entry at a time.  The scribe takes only evidence of the kinds that this
command logs, about the folders that it works on, and of this moment.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import time
from collections.abc import Collection
from dataclasses import dataclass, replace

from ctrecorder.errors import ExitCode
from ctrecorder.service import journal, messages, syslog
from ctrecorder.service.daemon import SignalPipe
from ctrecorder.service.log import Outlet
from ctrecorder.service.messages import Message
from ctrecorder.service.unsent import Entry

KINDS: dict[str, tuple[Message, ...]] = {
    "ctsqueeze": (messages.SQUEEZED,),
    "ctexpire": (messages.EXPIRED, messages.HOLD),
    "cttest": (messages.REPAIRED,),
}
# An entry has 1 KiB.  A reason of a hold may be long; a longer packet is refused.
MAX_BYTES = 1 << 16
# The scribe answers at once; one that does not is stopped or gone.
_ANSWER_SECONDS = 10.0
# Clocks that are set meanwhile must not lose an entry.
_SLACK_NS = 3600 * 10**9
# Packets between two looks at the signals.
_PACKETS = 100
_TAKEN, _REFUSED = b"1", b"0"
# From a terminal they reach all processes of a command, from elsewhere one.
_TO_ALL, _TO_ONE = (signal.SIGINT, signal.SIGQUIT), (signal.SIGTERM, signal.SIGHUP)


class ScribeClient:
    """The child's end: asks the scribe to log."""

    def __init__(self, link: socket.socket) -> None:
        self._link = link
        self._link.settimeout(_ANSWER_SECONDS)

    def send(self, entry: Entry, late: bool) -> bool:
        """Log an entry as root; False if that was not done.  Waits at most ten seconds."""
        try:
            self._link.send((b"L" if late else b"N") + entry.to_line())
            return self._link.recv(1) == _TAKEN
        except OSError:
            self._link.close()  # an answer that comes later would be taken for that of another
            return False


@dataclass(frozen=True)
class Scribe:
    """The scribe of `command`, which works on `folders` in the process `child`."""

    command: str
    folders: Collection[str]
    child: int

    def serve(self, link: socket.socket, outlet: Outlet) -> int:
        """Log what the child asks for, and pass signals on, until it ends; its wait status."""
        begun, pidfd = time.time_ns(), os.pidfd_open(self.child)
        link.setblocking(False)
        with SignalPipe((*_TO_ALL, *_TO_ONE, signal.SIGTSTP)) as pipe:
            poll = select.poll()
            for descriptor in (link.fileno(), pipe.fileno(), pidfd):
                poll.register(descriptor, select.POLLIN)
            ended = False
            while not ended:
                ready = {descriptor for descriptor, _ in poll.poll()}
                ended = pidfd in ready
                for number in pipe.read():
                    self._pass_on(number)
                for _ in range(_PACKETS):
                    if (packet := _received(link)) is None:
                        break
                    if not packet:  # the child has closed its end
                        with contextlib.suppress(KeyError):
                            poll.unregister(link.fileno())
                        break
                    answer = _TAKEN if self._log(packet, begun, outlet) else _REFUSED
                    with contextlib.suppress(OSError):
                        link.send(answer)
        os.close(pidfd)
        outlet.close()
        return os.waitpid(self.child, 0)[1]

    def accepts(self, packet: bytes, begun: int) -> Entry | None:
        """The entry of a packet; None if it is not one to log."""
        entry = Entry.parse(packet[1:]) if len(packet) <= MAX_BYTES else None
        if entry is None or entry.command != self.command:
            return None
        if entry.kind not in KINDS[self.command] or set(entry.fields) != set(entry.kind.fields):
            return None
        if not begun - _SLACK_NS <= entry.time <= time.time_ns() + _SLACK_NS:
            return None
        path = entry.fields.get("path")
        if path is not None and os.path.dirname(path) not in self.folders:
            return None
        return replace(entry, stored=False)

    def _log(self, packet: bytes, begun: int, outlet: Outlet) -> bool:
        entry, late = self.accepts(packet, begun), packet[:1] == b"L"
        if entry is None:
            return False
        if os.path.exists(journal.SOCKET):
            return outlet.to_journal(entry, late)
        return outlet.to_syslog(entry, late)

    def _pass_on(self, number: int) -> None:
        """Do to the child what was done to this process."""
        if number == signal.SIGTSTP:
            self._send(signal.SIGSTOP, to_all=True)
            os.kill(os.getpid(), signal.SIGSTOP)  # returns when both are to go on
            number = signal.SIGCONT
        self._send(number, to_all=number not in _TO_ONE)

    def _send(self, number: int, *, to_all: bool) -> None:
        try:
            (os.killpg if to_all else os.kill)(self.child, number)
        except ProcessLookupError:  # its group is not made yet
            os.kill(self.child, number)


def _received(link: socket.socket) -> bytes | None:
    """A packet; b"" at the end, None if there is none yet."""
    try:
        return link.recv(MAX_BYTES + 1)
    except BlockingIOError:
        return None
    except OSError:
        return b""


def end_like(status: int) -> None:
    """End this process as the child did that has the wait status `status`."""
    code = os.waitstatus_to_exitcode(status)
    if code < 0:
        with contextlib.suppress(OSError, ValueError):  # SIGKILL has no handler
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code if code >= 0 else ExitCode.FAILED)


def outlet() -> Outlet:
    """The outlet to the log of this machine."""
    return Outlet(journal.SOCKET, syslog.SOCKET)
