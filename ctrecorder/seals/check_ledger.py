"""A ledger against the verification key: no line changed, removed or put in, no epoch missing."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from ctrecorder.errors import FormatError
from ctrecorder.seals.evidence import MAX_WRONG, SealFindings
from ctrecorder.seals.keys import EpochKeys
from ctrecorder.seals.ledger import NO_LINE, Line


class Named(NamedTuple):
    """What a line says of a segment: its name, a hash, and the epoch of the line."""

    segment: str
    hash: str
    epoch: int


class CheckedLedger:
    """The lines that are right, by what they note.

    `begins`, `epoch`: the first epoch, and the present one.
    `opened`: the segments that were begun, with the epoch; `newest`: the last of them.
    `recorded`: the last epoch in which each can have been recorded.  `kept`: those of them that
    were not deleted.  `seals`: the SEALs that end epochs.
    `closed`, `rewritten`: last hashes.  `receipts`: hashes of lines.  `holds`: the hash of each
    hold by its number.  `time`: of the last line, ns UTC.  `stopped`: the recorder had stopped.
    """

    def __init__(
        self,
        path: str,
        lines: Iterable[tuple[int, Line | FormatError]],
        keys: EpochKeys,
        found: SealFindings,
    ) -> None:
        self.path, self._keys, self._found = path, keys, found
        self.begins: int | None = None
        self.epoch, self.time, self.stopped = 0, 0, True
        self.opened: dict[str, int] = {}
        self.newest = ""
        self.kept: set[str] = set()
        self.recorded: dict[str, int] = {}
        self.seals: list[Named] = []
        self.closed: list[Named] = []
        self.rewritten: dict[str, Named] = {}
        self.receipts: list[Named] = []
        self.holds: dict[int, str] = {}
        before: str | None = NO_LINE
        for number, line in lines:
            before = self._check(number, line, before)
            if len(found.findings) >= MAX_WRONG:
                found.find(path, f"too much is wrong: not read beyond line {number}")
                break

    def _check(self, number: int, line: Line | FormatError, before: str | None) -> str | None:
        """Check a line behind the one with the hash `before` (None: unknown); returns its hash."""
        where = f"line {number}"
        if isinstance(line, FormatError):
            self._found.find(self.path, f"{where}: {line.reason}")
            return None
        if before is not None and line.previous != before:
            self._found.find(self.path, f"{where}: a line before it was removed or changed")
        try:
            is_right = line.is_right(self._keys.at(line.epoch))
        except FormatError:
            is_right = False
        if not is_right:
            what = f"was not sealed with the key of epoch {line.epoch}"
            self._found.find(self.path, f"{where}: {what}")
            return line.hash
        self._follow(where, line)
        self._take(line)
        return line.hash

    def _follow(self, where: str, line: Line) -> None:
        """Check the epoch of a line that is right."""
        first = self.begins is None
        if first:
            self.begins = line.epoch
        elif line.epoch > self.epoch:
            what = f"epochs {self.epoch} to {line.epoch - 1} are missing before it"
            self._found.find(self.path, f"{where}: {what}")
        elif line.epoch < self.epoch:
            what = f"epoch {line.epoch} comes again: its key was used twice"
            self._found.find(self.path, f"{where}: {what}")
        elif line.what == "begin":
            self._found.find(self.path, f"{where}: the ledger begins anew")
        if line.what == "restored":
            found = line.facts.get("from")
            what = f"the key came from a backup of epoch {found}: who has that can forge all since"
            self._found.find(self.path, f"{where}: {what}")

    def _take(self, line: Line) -> None:
        """Keep what the line notes."""
        self.epoch, self.time = line.onward, line.time
        segment = line.named("segment")
        if line.what in ("open", "next", "close") and segment:
            self.recorded[segment] = line.onward
            self.kept.add(segment)
        if line.what == "open":
            self.opened.pop(line.named("was"), None)
            self.kept.discard(line.named("was"))
            self.opened[segment] = line.epoch
            self.newest = segment
        elif line.what == "start":
            self.stopped = False
        elif line.what == "stop":
            self.stopped = True
        elif line.what == "next" and line.named("seal"):
            self.seals.append(Named(segment, line.named("seal"), line.epoch))
        elif line.what == "close":
            self.closed.append(Named(segment, line.named("last_hash"), line.epoch))
        elif line.what in ("squeeze", "repair"):
            replaced = Named(segment, line.named("replaced"), line.epoch)
            self.rewritten[line.named("last_hash")] = replaced
        elif line.what == "receipt":
            self.receipts.append(Named(segment, line.named("line"), line.epoch))
            self.kept.discard(segment)
        elif line.what == "hold":
            number = line.facts.get("hold")
            if type(number) is int:
                self.holds[number] = line.named("line")

    def knows(self, epoch: int) -> bool:
        """Whether it has the lines of this epoch."""
        return self.begins is not None and epoch >= self.begins
