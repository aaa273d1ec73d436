"""An entry in the journal for each query of ctlist and ctwho: who asked what, and why.

The journal (or syslog) adds the time and the user that sent the entry.  This records honest users
only: a user who can read the segments can read them with another program too.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ctrecorder.errors import UsageError
from ctrecorder.service import messages
from ctrecorder.service.login import login_user

if TYPE_CHECKING:
    from ctrecorder.service.log import Log

OFF, ON, REQUIRED = "off", "on", "require-reason"
# The command line and the reason are cut at this length.
_MAX_TEXT_CHARS = 4096


@dataclass
class Audit:
    """One query of `command`.

    `case`: its case.  `letter`: the SHA-256 of the letter that asks.
    `rows`: the number of rows written so far.  `written`: whether all were written (the reader of a
    pipe may stop earlier).  `verdict`: of the answer, as it was shown; "": nothing was judged.
    `proved`: the verdict says that the answer is complete.
    """

    setting: str
    arguments: Sequence[str]
    reason: str | None
    command: str = "ctlist"
    case: str | None = None
    letter: str = ""
    rows: int = 0
    written: bool = False
    verdict: str = ""
    proved: bool = False

    def __post_init__(self) -> None:
        """Raises UsageError for a query without a reason where one is required."""
        if self.setting == REQUIRED and not (self.reason or "").strip():
            raise UsageError(
                "a reason is required: give it with --reason TEXT (ctrecorder.conf(5), audit)"
            )

    def record(self) -> None:
        """Make the entry.  Called at the end of the command, when the number of rows is known."""
        if self.setting == OFF:
            return
        from ctrecorder.service.log import Log  # the answer does not wait for it

        with Log(self.command) as log:
            self._send(log)

    def _send(self, log: Log) -> None:
        # A machine without any log is worth a warning at each query only if a reason is required.
        log.detach(warn=self.setting == REQUIRED)
        uid, login = login_user()
        query = shlex.join(self.arguments)[:_MAX_TEXT_CHARS] or "everything"
        reason = (self.reason or "")[:_MAX_TEXT_CHARS] or "none"
        case = (self.case or "")[:_MAX_TEXT_CHARS] or "none"
        letter = self.letter or "none"
        rows = f"{self.rows} rows" + ("" if self.written else ", not all were written")
        verdict = self.verdict or "not judged"
        text = f"{login} (uid {uid}) asked: {query}; reason: {reason}; {rows}; {verdict}"
        text += f"; case: {case}" if self.case else ""
        log.send(
            messages.QUERY,
            text,
            uid=uid,
            login=login,
            query=query,
            reason=reason,
            rows=self.rows,
            complete=self.written and self.proved,
            verdict=verdict,
            case=case,
            letter=letter,
        )
