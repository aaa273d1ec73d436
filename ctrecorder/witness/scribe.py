"""A scribe: the process that stays root to log what a command says that gave up root.

The kernel stamps each entry of the journal with the uid of its sender, and anchors count from root.
But who reads an archive must not be root.  So the process that root started becomes the scribe,
which opens no file of an archive, and the command goes on in its child.  The child is in a session
of its own, and prints through pipes: it has no terminal.  Neither outlives the other.

The child asks for one entry at a time.  The scribe logs only evidence of the kinds that this
command logs, about the folders that it works on, of this moment, in words of its own (`statement`);
and not more entries than there are segments.
"""

from __future__ import annotations

import contextlib
import math
import os
import select
import signal
import socket
import time
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

from ctrecorder.errors import ExitCode
from ctrecorder.service import journal, messages, syslog
from ctrecorder.service.daemon import SignalPipe
from ctrecorder.service.log import Outlet
from ctrecorder.service.unsent import Entry
from ctrecorder.terminal import printable
from ctrecorder.witness.relay import Relay
from ctrecorder.witness.statement import statement

# An entry has 1 KiB.  A reason of a hold may be long; a longer packet is refused.
MAX_BYTES = 1 << 16
# The scribe answers at once; one that does not is stopped or gone.
_ANSWER_SECONDS = 10.0
# Clocks that are set meanwhile must not lose an entry.
_SLACK_NS = 3600 * 10**9
# How long a child may take to end, or a terminal to take what it printed.
_END_SECONDS = 10.0
_PAUSE_SECONDS = 0.01
# A folder has fewer.
MAX_SEGMENTS = 1 << 20
# A run logs one entry for a segment, and some more.
_MORE_ENTRIES = 100
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


@dataclass
class Scribe:
    """The scribe of `command`, which works on `folders` in the process `child`.

    `segments`: that are there, at most MAX_SEGMENTS.
    """

    command: str
    folders: Collection[str]
    child: int
    segments: int = 0
    _logged: int = 0
    _refused: int = 0

    def serve(self, link: socket.socket, outlet: Outlet, printed: Collection[Relay] = ()) -> int:
        """Log what the child asks for, copy what it prints, and pass signals on, until it ends.

        Returns its wait status.  A child that does not end of a signal in time is killed.
        """
        begun, pidfd, deadline = time.time_ns(), os.pidfd_open(self.child), math.inf
        link.setblocking(False)
        watched = {pidfd, link.fileno()}
        with SignalPipe((*_TO_ALL, *_TO_ONE, signal.SIGTSTP)) as pipe:
            while True:
                ready = _wait({*watched, pipe.fileno()}, printed, deadline)
                for number in pipe.read():
                    self._pass_on(number)
                    if number != signal.SIGTSTP:
                        deadline = min(deadline, time.monotonic() + _END_SECONDS)
                if link.fileno() in ready and not self._answer(link, begun, outlet):
                    watched.discard(link.fileno())
                for relay in printed:
                    if relay.waits_for and relay.waits_for[0] in ready:
                        relay.copy()
                if pidfd in ready:
                    break
                if time.monotonic() >= deadline:
                    self._send(signal.SIGKILL, to_all=True)
        self._answer(link, begun, outlet)
        self._send(signal.SIGKILL, to_all=True)  # what the child has left
        status = os.waitpid(self.child, 0)[1]
        os.close(pidfd)
        self._say_refused(outlet, printed)
        for relay in printed:
            relay.finish(min(deadline, time.monotonic() + _END_SECONDS))
        outlet.close()
        return status

    def _answer(self, link: socket.socket, begun: int, outlet: Outlet) -> bool:
        """Answer the packets that are there, some at once; False at their end."""
        for _ in range(_PACKETS):
            packet = _received(link)
            if not packet:
                return packet is None
            answer = _TAKEN if self._log(packet, begun, outlet) else _REFUSED
            with contextlib.suppress(OSError):
                link.send(answer)
        return True

    def accepts(self, packet: bytes, begun: int) -> Entry | None:
        """The entry of a packet; None if it is not one to log."""
        entry = Entry.parse(packet[1:]) if len(packet) <= MAX_BYTES else None
        if entry is None or not begun - _SLACK_NS <= entry.time <= time.time_ns() + _SLACK_NS:
            return None
        return statement(entry, self.command, self.folders)

    def _log(self, packet: bytes, begun: int, outlet: Outlet) -> bool:
        """Log what the packet asks for; False if that was not done."""
        entry = self.accepts(packet, begun)
        if entry is None or self._logged >= self.segments + _MORE_ENTRIES:
            self._refused += 1
            return False
        if not _send(outlet, entry, late=packet[:1] == b"L"):
            return False
        self._logged += 1
        return True

    def _say_refused(self, outlet: Outlet, printed: Collection[Relay]) -> None:
        """Say once how many entries were refused, in the log too."""
        if not self._refused:
            return
        what = f"{self._refused:,} entr{'y' if self._refused == 1 else 'ies'} of this command"
        text = f"refused to log as root: {what} about {', '.join(self.folders)}"
        facts = {"entries": str(self._refused)}
        lost = Entry(messages.ENTRIES_LOST, self.command, printable(text), facts, time.time_ns())
        _send(outlet, lost, late=False)
        for relay in list(printed)[-1:]:  # stderr
            relay.say(f"{self.command}: {text}")

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


def _wait(descriptors: Iterable[int], printed: Iterable[Relay], deadline: float) -> set[int]:
    """Those descriptors that are ready, also of `printed`; none at the monotonic time `deadline`,
    or a second later.
    """
    poll = select.poll()
    for descriptor in descriptors:
        poll.register(descriptor, select.POLLIN)
    for relay in printed:
        if waits := relay.waits_for:
            poll.register(*waits)
    left = None if deadline == math.inf else max(deadline - time.monotonic(), 1.0) * 1000
    return {descriptor for descriptor, _ in poll.poll(left)}


def _send(outlet: Outlet, entry: Entry, *, late: bool) -> bool:
    if os.path.exists(journal.SOCKET):
        return outlet.to_journal(entry, late)
    return outlet.to_syslog(entry, late)


def _received(link: socket.socket) -> bytes | None:
    """A packet; b"" at the end, None if there is none yet."""
    try:
        return link.recv(MAX_BYTES + 1)
    except BlockingIOError:
        return None
    except OSError:
        return b""


def end_orphans() -> None:
    """Kill what the child started and left, such as a process in a session of its own.

    To be called when the child has ended, if this process adopts orphans and has no other child.
    """
    deadline = time.monotonic() + _END_SECONDS
    children = Path(f"/proc/self/task/{os.getpid()}/children")
    while time.monotonic() < deadline:
        found = children.read_text("ascii").split()
        if not found:
            return
        for pid in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        time.sleep(_PAUSE_SECONDS)


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
