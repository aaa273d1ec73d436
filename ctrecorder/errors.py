"""Every error that the commands report, and their exit codes.

The text of an error is the line that the operator reads: what failed, on what, why, and what to do.
`code` is the exit code of the command that could not go on.
"""

from __future__ import annotations

from enum import IntEnum
from functools import partial


class ExitCode(IntEnum):
    """The exit codes of all commands."""

    OK = 0
    NO = 1  # the answer is no: no match, damage found, no holds
    FAILED = 2  # the command could not do all of its work
    UNPROVED = 3  # everything was read, but a proof that was asked for could not be completed
    # ctrecord --netns: the namespace was deleted.  systemd must not try again before the name
    # exists.
    GONE = 4


class CtrecorderError(Exception):
    """Base of all errors that a user, a disk, the kernel or the content of a file can cause."""

    code = ExitCode.FAILED


class UsageError(CtrecorderError):
    """A bad option, argument or setting.

    `context`: lines to show before the error: an expression, and a caret below the mistake.
    """

    context: tuple[str, ...] = ()


class KernelError(CtrecorderError):
    """The kernel refused a socket, a group, a buffer or a dump."""


class ArchiveError(CtrecorderError):
    """A file or folder that cannot be read, created or written."""


class GoneError(ArchiveError):
    """A file that does not exist: another command may have deleted it since it was found."""


class NoSegmentsError(ArchiveError):
    """There is no segment where an answer was looked for."""


class FormatError(CtrecorderError):
    """Bytes that are not a valid segment.

    `path` and `offset`, in bytes, locate them; `reason`: what was expected and found.
    """

    def __init__(self, reason: str, *, path: str = "", offset: int = 0) -> None:
        self.reason, self.path, self.offset = reason, path, offset
        super().__init__(reason)

    def __reduce__(self) -> tuple[partial[FormatError], tuple[str]]:
        """Keeps all three on the way from another process."""
        return partial(type(self), path=self.path, offset=self.offset), (self.reason,)

    def __str__(self) -> str:
        return f"{self.path or 'segment'}: at byte {self.offset}: {self.reason}"


class NewerError(FormatError):
    """A sound segment of a later format, or with a feature that this version does not know."""


class MessageError(CtrecorderError):
    """A malformed netlink message (a length past its end, no tuple)."""


def why(error: OSError) -> str:
    """The reason that the system gives, for example "No space left on device"."""
    return error.strerror or str(error)
