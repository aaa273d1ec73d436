"""What is declared of a setting.  No numpy and no files here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from ctrecorder.declared.values import Value


class WhenWrong(Enum):
    """What happens if a setting is wrong."""

    DEFAULT = "the default is used"
    # For what must not be recorded, or not unsealed, or not by another user.
    LAST_GOOD = "the last value that was right is used; without one the command does not start"
    STRICTEST = "the strictest value is used"
    REFUSE = "the command does nothing"


@dataclass(frozen=True)
class Setting:
    """One setting.

    `default`: as it would stand in the file.
    `parse`: converts the text to the value; raises ValueError if it is not `allowed`.
    `strictest`: the text that WhenWrong.STRICTEST uses.
    """

    name: str
    default: str
    unit: str
    allowed: str
    meaning: str
    reason: str
    parse: Callable[[str], Value]
    when_wrong: WhenWrong = WhenWrong.DEFAULT
    strictest: str = ""


@dataclass(frozen=True)
class Section:
    """One section: the command that reads it, and its settings in the order of the file."""

    command: str
    settings: tuple[Setting, ...]
