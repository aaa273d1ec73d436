"""The faults that a check or a search found, as data.

A `Finding` is reported and counted.  Errors (`errors`) are raised: they end the operation.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from ctrecorder.errors import FormatError


class FindingKind(Enum):
    """What a finding is about."""

    DAMAGE = "damage"  # the bytes of one file
    CHAIN = "chain"  # how segments follow each other
    SEAL = "seal"  # what was sealed with keys that are hashed forward
    ANCHOR = "anchor"  # what was logged when a segment was opened, closed, squeezed or deleted


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong.

    `subject`: path of the file or folder.
    `what`: what was expected and found.
    `offset`: byte of the file; None: the finding is not about one place.
    """

    subject: str
    kind: FindingKind
    what: str
    offset: int | None = None

    def __str__(self) -> str:
        place = "" if self.offset is None else f"at byte {self.offset}: "
        return f"{self.subject or 'segment'}: {place}{self.what}"


def damage(error: FormatError) -> Finding:
    """The finding of an error that decoding raised; its path and offset are those of a file."""
    return Finding(error.path, FindingKind.DAMAGE, error.reason, error.offset)
