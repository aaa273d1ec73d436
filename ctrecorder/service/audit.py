"""Who asked the log what, and why: an entry in the journal for each question of ctlist.

The journal (or syslog) dates it and says by itself which user sent it.  For those who are honest:
who may read the segments can read them with other programs, or by a ctlist of his own.
"""

from __future__ import annotations

import os
import pwd
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ctrecorder.errors import UsageError
from ctrecorder.service import messages

OFF, ON, REQUIRED = "off", "on", "require-reason"
# What a login session is not: /proc/self/loginuid of a daemon (include/linux/uidgid.h,
# INVALID_UID).
_NO_LOGIN = 2**32 - 1
# What of a command line is worth an entry: a reason is a sentence, not a book.
_TEXT_BYTES = 4096


@dataclass
class Audit:
    """One question.

    `rows`: how many came, so far; `complete`: whether all of them did (the reader may have had
    enough before).
    """

    setting: str
    arguments: Sequence[str]
    reason: str | None
    rows: int = 0
    complete: bool = False

    def __post_init__(self) -> None:
        """Raises UsageError for a question without a reason where one is required."""
        if self.setting == REQUIRED and not (self.reason or "").strip():
            raise UsageError(
                "why do you ask? ctrecorder.conf(5) has audit = require-reason: say it with --reason TEXT"
            )

    def record(self) -> None:
        """Make the entry: at the end, when the number of rows is known, however it came."""
        if self.setting == OFF:
            return
        from ctrecorder.service.log import Log  # 30 ms: the answer does not wait for it

        log = Log("ctlist")
        # By default a machine without any log is no reason to speak at each question; where a
        # reason is required, it is.
        log.detach(warn=self.setting == REQUIRED)
        uid, login = asker()
        query = shlex.join(self.arguments)[:_TEXT_BYTES] or "everything"
        reason = (self.reason or "")[:_TEXT_BYTES] or "none"
        rows = f"{self.rows} rows" + ("" if self.complete else ", not to the end")
        text = f"{login} (uid {uid}) asked: {query}; reason: {reason}; {rows}"
        log.send(
            messages.QUERY,
            text,
            uid=uid,
            login=login,
            query=query,
            reason=reason,
            rows=self.rows,
            complete=self.complete,
        )


def asker() -> tuple[int, str]:
    """Who has logged in, also behind su and sudo, by number and name; where nobody did, whose
    process this is.
    """
    try:
        uid = int(Path("/proc/self/loginuid").read_text("ascii"))
    except (OSError, ValueError):
        uid = _NO_LOGIN
    if uid == _NO_LOGIN:
        uid = os.getuid()
    try:
        return uid, pwd.getpwuid(uid).pw_name
    except KeyError:
        return uid, str(uid)
