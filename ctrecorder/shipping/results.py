"""What became of a segment at a target."""

from __future__ import annotations

from dataclasses import dataclass

from ctrecorder.errors import CtrecorderError


@dataclass(frozen=True)
class Result:
    """What became of a segment: `how` as in Shipment; `why` if it was refused."""

    how: str
    why: str = ""


class TargetError(CtrecorderError):
    """A target that cannot be used now: nothing more is sent to it in this run.

    `known`: what became of the last batch nevertheless, by name.
    """

    def __init__(self, why: str, known: dict[str, Result] | None = None) -> None:
        super().__init__(why)
        self.known = known or {}
