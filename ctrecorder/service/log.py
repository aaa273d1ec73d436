"""The log of a command: lines on stderr, entries of the journal with fields, or syslog.

A log that hangs, is slow or is away never stops a command: no send waits.  What is not taken now is
kept and sent later, with its own time.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable
from types import TracebackType

from ctrecorder.errors import ArchiveError
from ctrecorder.service import journal, messages, syslog, unsent
from ctrecorder.service.journal import JournalSocket
from ctrecorder.service.messages import field_name
from ctrecorder.service.syslog import SyslogSocket
from ctrecorder.service.unsent import Backlog, Entry
from ctrecorder.terminal import count, printable

JOURNAL_SOCKET, SYSLOG_SOCKET = journal.SOCKET, syslog.SOCKET
# How long a command that ends waits for a log that does not take its last entries.
CLOSE_SECONDS = 1.0
_PAUSE_SECONDS = 0.02
# The time of an entry that was sent late.
TIME_FIELD = field_name("time")
# An entry that was in the file `unsent.UNSENT` meanwhile: its owner could have written it.
STORED_FIELD = field_name("stored")
# Sends an entry, with whether it is late; False if it is not taken now.
Send = Callable[[Entry, bool], bool]


class Outlet:
    """Sends to the journal at `journal_path`, or to syslog at `syslog_path`; never waits."""

    def __init__(self, journal_path: str, syslog_path: str) -> None:
        self._paths = journal_path, syslog_path
        self._journal: JournalSocket | None = None
        self._syslog: SyslogSocket | None = None

    def close(self) -> None:
        """Close the sockets."""
        for opened in (self._journal, self._syslog):
            if opened is not None:
                opened.close()
        self._journal = self._syslog = None

    @property
    def unread(self) -> int:
        """Bytes that journald has not received yet."""
        return 0 if self._journal is None else self._journal.unread

    def to_syslog(self, entry: Entry, late: bool) -> bool:
        """Send `entry` to syslog; False if it is not taken now."""
        if self._syslog is None:
            self._syslog = SyslogSocket(self._paths[1])
        text = entry.late_text if late else entry.text
        return self._syslog.send(entry.command, entry.kind.level, text, entry.time)

    def to_journal(self, entry: Entry, late: bool) -> bool:
        """Send `entry` to the journal, with its fields; False if it is not taken now."""
        if self._journal is None:
            self._journal = JournalSocket(self._paths[0])
        fields = {
            "MESSAGE": entry.late_text if late else entry.text,
            "MESSAGE_ID": entry.kind.id,
            "PRIORITY": str(entry.kind.level),
            "SYSLOG_IDENTIFIER": entry.command,
            **{field_name(name): value for name, value in entry.fields.items()},
        }
        if late:
            fields[TIME_FIELD] = entry.time_text
        if entry.stored:
            fields[STORED_FIELD] = "yes"
        return self._journal.send(fields)


class Log:
    """Writes entries to stderr, to the journal (with fields), or to syslog.

    An entry that the log does not take at once is sent again at each later `send` and `retry`, in
    order.  Then it has its own time: in the text, and in the field CTRECORDER_TIME.  At most
    `unsent.MAX_ENTRIES` wait.  Evidence (`Message.evidence`) that still waits at `close` is stored
    in the folder of `keep_in`, and sent by the next Log of that folder.

    What root does by hand is told on stderr, and its evidence is logged too (`witness`).

    Attributes:
    `target`: "stderr", "journal" or "syslog".  At the start it is the journal if stderr is the
    journal (JOURNAL_STREAM: a unit), otherwise stderr; a daemon calls `detach`.
    """

    def __init__(self, command: str) -> None:
        self.command = command
        self.target = "journal" if _stderr_is_journal() else "stderr"
        self._backlog = Backlog()
        self._folder: str | None = None
        self._stored = 0  # entries in the folder's file; -1: unknown
        self._has_anchors = self._is_witnessed = False
        self._witness: Send | None = None
        self._outlet = Outlet(JOURNAL_SOCKET, SYSLOG_SOCKET)

    def __enter__(self) -> Log:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def unsent(self) -> int:
        """How many entries that are evidence wait, in memory and beside the archive.

        0 if they are discarded, because this machine has no log.
        """
        if self._discards():
            return 0
        return len(self._backlog.evidence) + max(self._stored, 0)

    def detach(self, warn: bool = True) -> None:
        """Log to the journal if journald runs, otherwise to syslog.

        `warn` on stderr if neither runs.
        """
        if os.path.exists(JOURNAL_SOCKET):
            self.target = "journal"
        else:
            if warn and not os.path.exists(SYSLOG_SOCKET):
                self.send(
                    messages.NO_LOG,
                    f"neither journald nor syslog ({SYSLOG_SOCKET}) is running: "
                    "the log is discarded",
                )
            self.target = "syslog"
        self._deliver()

    def witness(self, send: Send | None) -> None:
        """Log evidence as root: with `send`, or by this process if it is root.

        So it is an anchor also if root runs the command by hand.  Does nothing if this is not root
        and has no `send`, or if the machine has no log.
        """
        self._witness = send
        logs = os.path.exists(JOURNAL_SOCKET) or os.path.exists(SYSLOG_SOCKET)
        self._is_witnessed = logs and (send is not None or os.geteuid() == 0)

    def keep_in(self, folder: str) -> None:
        """Store evidence that cannot be sent in `folder`, that of the archive.

        Sends what earlier commands stored there, unless the target is stderr.
        """
        self._folder, self._stored = folder, -1
        self._deliver()

    def send(self, kind: messages.Message, text: str, **fields: object) -> None:
        """Write an entry of `kind`: `text` for people, `fields` (of `kind.fields`) for searches.

        A field that is None is "unknown"; True and False are "yes" and "no".
        """
        text = printable(text)
        if self.target == "stderr":
            self._print(text)
            if not (kind.evidence and self._is_witnessed):
                return
        self._has_anchors |= kind.evidence and "path" in kind.fields
        named = {name: _words(value) for name, value in fields.items()}
        entry = Entry(kind, self.command, text, named, time.time_ns())
        self._flush()
        if len(self._backlog) or not self._send(entry):
            self._backlog.add(entry)

    def retry(self) -> None:
        """Send what waits.  Cheap if nothing does: a recorder calls it each second."""
        self._flush()
        if self._stored > 0 and not len(self._backlog):
            self._deliver()

    def close(self, wait_seconds: float = CLOSE_SECONDS) -> None:
        """Send what waits, for at most `wait_seconds`; store the rest that is evidence.

        What can neither be sent nor stored is printed on stderr, unless that is the journal.  On a
        machine without any log all is discarded, as `detach` warned.
        """
        if self._discards():
            self._backlog = Backlog()
        self._flush()
        listens = os.path.exists(JOURNAL_SOCKET if self._has_journal() else SYSLOG_SOCKET)
        deadline = time.monotonic() + (wait_seconds if listens else 0.0)
        # journald finds the unit of an entry by the process, which must still be there then.
        while time.monotonic() < deadline and (
            len(self._backlog) or (self._has_anchors and self._outlet.unread)
        ):
            time.sleep(_PAUSE_SECONDS)
            self._flush()
        left = list(self._backlog)
        evidence = self._backlog.evidence
        if evidence and self._folder is not None:
            try:
                stored = evidence[: unsent.store(self._folder, evidence)]
            except (OSError, ArchiveError):
                stored = []  # the disk or the folder refuses it too
            done = set(map(id, stored))
            left = [entry for entry in left if id(entry) not in done]
        if self.target == "stderr":
            if left:
                missing = count(len(left), "anchor")
                self._print(f"the log did not take {missing}: cttest --anchors will report that")
        elif not _stderr_is_journal():
            for entry in left:
                self._print(entry.text)
        self._backlog = Backlog()
        self._outlet.close()

    def _has_journal(self) -> bool:
        """Whether entries go to the journal: that of a command by hand goes where there is one."""
        if self.target == "stderr":
            return os.path.exists(JOURNAL_SOCKET)
        return self.target == "journal"

    def _discards(self) -> bool:
        """Whether neither journald nor syslog runs."""
        return self.target == "syslog" and not os.path.exists(SYSLOG_SOCKET)

    def _flush(self) -> None:
        """Send waiting entries until one is not accepted; then one about the dropped entries."""
        if not len(self._backlog) and not self._backlog.dropped:
            return
        self._backlog.send(self._send_late)
        dropped = self._backlog.dropped
        if dropped and not len(self._backlog):
            self._backlog.dropped = 0
            text = f"the journal or syslog accepted no entries for a time: {dropped:,} were dropped"
            lost = Entry(
                messages.ENTRIES_LOST,
                self.command,
                text,
                {"entries": str(dropped)},
                time.time_ns(),
            )
            if not self._send(lost):
                self._backlog.dropped = dropped

    def _deliver(self) -> None:
        """Send what the folder's file has, unless root runs the command: its owner's units do."""
        if self._folder is not None and self.target != "stderr" and self._witness is None:
            self._stored, dropped = unsent.deliver(self._folder, self._send_late)
            if dropped:
                path = os.path.join(self._folder, unsent.UNSENT)
                lines = count(dropped, "line")
                text = f"{path}: {lines} that no command stored there: dropped, not logged"
                self.send(messages.ENTRIES_LOST, text, entries=dropped)

    def _send_late(self, entry: Entry) -> bool:
        return self._send(entry, late=True)

    def _send(self, entry: Entry, late: bool = False) -> bool:
        """Send an entry; False if it is not taken now.  Never waits for the log."""
        # What the owner of the folder could have written is not logged as root.
        if self._witness is not None and entry.kind.evidence and not entry.stored:
            return self._witness(entry, late)
        if self._has_journal():
            return self._outlet.to_journal(entry, late)
        return self._outlet.to_syslog(entry, late)

    def _print(self, text: str) -> None:
        with contextlib.suppress(OSError, ValueError):
            print(f"{self.command}: {text}", file=sys.stderr, flush=True)


def _words(value: object) -> str:
    """The value of a field, without words of Python."""
    if value is None:
        return "unknown"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)


def _stderr_is_journal() -> bool:
    """True if systemd connected stderr to the journal: JOURNAL_STREAM is its device:inode."""
    try:
        status = os.fstat(2)
    except OSError:
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"
