"""A log that a test reads back."""

from __future__ import annotations

from ctrecorder.service.log import Log


class Told(Log):
    """`lines`: the text of each message, oldest first."""

    def __init__(self, command: str = "test") -> None:
        super().__init__(command)
        self.lines: list[str] = []

    def send(self, kind: object, text: str, **fields: object) -> None:
        self.lines.append(text)
