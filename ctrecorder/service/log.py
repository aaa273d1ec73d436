"""The log of a command: lines on stderr, entries of the journal with fields, or syslog."""

from __future__ import annotations

import contextlib
import os
import sys
import syslog

from systemd import journal

from ctrecorder.service import messages
from ctrecorder.terminal import printable

JOURNAL_SOCKET, SYSLOG_SOCKET = "/run/systemd/journal/socket", "/dev/log"


class Log:
    """Writes entries to stderr, to the journal (with fields), or to syslog.

    A log that cannot be written never stops the command: the line goes to stderr instead, and is
    lost if that is closed too.

    Attributes:
    `target`: "stderr", "journal" or "syslog".  At the start it is the journal if stderr is the
    journal (JOURNAL_STREAM: a unit), otherwise stderr; a daemon calls `detach`.
    """

    def __init__(self, command: str) -> None:
        self.command = command
        self.target = "journal" if _stderr_is_journal() else "stderr"

    def detach(self, warn: bool = True) -> None:
        """Log to the journal if journald runs, otherwise to syslog.

        `warn` on stderr if neither runs.
        """
        if os.path.exists(JOURNAL_SOCKET):
            self.target = "journal"
            return
        if warn and not os.path.exists(SYSLOG_SOCKET):
            self.send(
                messages.NO_LOG,
                f"neither journald nor syslog ({SYSLOG_SOCKET}) is running: the log is discarded",
            )
        self.target = "syslog"
        syslog.openlog(self.command, syslog.LOG_PID, syslog.LOG_DAEMON)

    def send(self, kind: messages.Message, text: str, **fields: object) -> None:
        """Write an entry of `kind`: `text` for people, `fields` (of `kind.fields`) for searches."""
        text = printable(text)
        if self.target == "journal":
            named = {messages.field_name(name): str(value) for name, value in fields.items()}
            try:
                journal.send(
                    text,
                    MESSAGE_ID=kind.id,
                    PRIORITY=str(kind.level),
                    SYSLOG_IDENTIFIER=self.command,
                    **named,
                )
                return
            except OSError:
                pass  # journald does not run at the moment
        if self.target == "syslog":
            syslog.syslog(kind.level, text)
            return
        with contextlib.suppress(OSError, ValueError):
            print(f"{self.command}: {text}", file=sys.stderr, flush=True)


def _stderr_is_journal() -> bool:
    """True if systemd connected stderr to the journal: JOURNAL_STREAM is its device:inode."""
    try:
        status = os.fstat(2)
    except OSError:
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"
