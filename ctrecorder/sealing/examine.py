"""What cttest does with a verification key: the seals of segments, and the ledger beside them."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ctrecorder import times
from ctrecorder.ctlog.frame import FRAME, HASHED, Kind
from ctrecorder.errors import ArchiveError, FormatError
from ctrecorder.folder import Folder
from ctrecorder.kept import retention
from ctrecorder.sealing.header import begun_in, sealed_by
from ctrecorder.sealing.ledgerfile import read_ledger
from ctrecorder.seals import check_segments
from ctrecorder.seals.block import parse_seal
from ctrecorder.seals.check_ledger import CheckedLedger
from ctrecorder.seals.check_segments import Sealed
from ctrecorder.seals.check_together import (
    Beside,
    check_ends,
    check_strangers,
    check_together,
    strangers,
)
from ctrecorder.seals.evidence import SealAt, SealedSegment, SealFindings
from ctrecorder.seals.keys import EPOCH_SECONDS, EpochKeys
from ctrecorder.seals.ledger import file_name
from ctrecorder.segment.reader import Segment

# Seals are due each epoch; the recorder makes one at its next flush.
_OVERDUE_NS = (2 * EPOCH_SECONDS + 60) * times.SECOND


def sealed_segment(segment: Segment, name: str) -> SealedSegment | None:
    """An open segment as its seals see it; None if it is not sealed forward.

    Raises FormatError if it was changed since it was opened.
    """
    key = sealed_by(segment)
    if not key:
        return None
    header = segment.header
    seals = []
    end = 0
    for block in segment.blocks_of(Kind.SEAL):
        with contextlib.suppress(FormatError):  # that is damage, and found as such
            frame = segment.frame(block)
            seal = parse_seal(segment.file.payload(block.offset, frame))
            head = bytes(segment.file.read(block.offset, HASHED))
            seals.append(SealAt(block.offset, seal, head, frame.hash.hex(), frame.time_min))
            end = block.offset + FRAME.size + frame.length
    return SealedSegment(
        path=segment.path,
        name=name,
        key=key,
        begun=begun_in(segment),
        seals=tuple(seals),
        state=segment.state,
        ends_sealed=segment.state == "closed" and end == segment.footer_at,
        rewritten=header.is_squeezed or header.is_repaired,
        repaired=header.is_repaired,
        last_hash=segment.last_hash.hex(),
        previous=segment.previous_hash.hex(),
        replaced=tuple(one.last_hash for one in header.replaces),
        names=tuple(one.name for one in header.replaces),
        chain=header.chain or "",
        sequence=header.sequence or 0,
    )


@dataclass
class _Place:
    """A folder that is checked as a whole."""

    path: str
    ledger: CheckedLedger | None = None
    blank: str = ""  # the path of a ledger without one line
    beside: Beside = field(default_factory=lambda: Beside((), {}))


def _receipts(folder: Folder, ledger: CheckedLedger | None) -> list[tuple[str, str]]:
    """The name of each segment whose receipt the ledger has, and the hash of the line; and one
    receipt of each segment that it only has otherwise.
    """
    if ledger is None:
        return []
    sealed = {named.hash for named in ledger.receipts}
    found: dict[str, tuple[str, str]] = {}
    for one, line in retention.receipt_lines(folder):
        if line in sealed:
            found[line] = (one.name, line)
        elif one.name in ledger.recorded:
            found[f"not sealed: {one.name}"] = (one.name, line)
    return list(found.values())


class SealCheck:
    """A check with a verification key.  `now`: ns UTC.

    Made before the segments are read: a ledger is read first, because it grows after what it notes.
    """

    def __init__(self, key: bytes, folders: Sequence[str], now: int) -> None:
        self.keys, self.now = EpochKeys(key), now
        self.found = SealFindings()
        self._places = [self._open(folder) for folder in folders]

    def _open(self, path: str) -> _Place:
        place = _Place(path)
        try:
            with Folder(path) as folder:
                name = f"{path.rstrip('/')}/{file_name(self.keys.id)}"
                if folder.exists(file_name(self.keys.id)):
                    ledger = self._ledger(name, self.found)
                    if ledger.begins is None:
                        place.blank = name
                    else:
                        place.ledger = ledger
                receipts = _receipts(folder, place.ledger)
                holds = {one.id: retention.hold_hash(one) for one in retention.holds(folder)}
                place.beside = Beside(receipts, holds)
        except (ArchiveError, OSError) as error:
            self.found.unproved.append(str(error))
        return place

    def _ledger(self, path: str, found: SealFindings) -> CheckedLedger:
        """The ledger; a file that is none is found.  Raises ArchiveError."""
        try:
            return CheckedLedger(path, read_ledger(path), self.keys, found)
        except FormatError as error:
            found.find(path, error.reason)
            return CheckedLedger(path, (), self.keys, found)

    def run(self, segments: Mapping[str, SealedSegment | None]) -> set[str]:
        """Check the segments, by path (None: it is not sealed forward).

        Returns the paths of those whose `replaces` can be believed.
        """
        members = [one for one in segments.values() if one and one.key == self.keys.id]
        if not members and not any(place.ledger for place in self._places):
            self.found.unproved.append(f"no segment here is sealed with the key {self.keys.id}")
        sealed = check_segments.check_seals(members, self.keys, self.found)
        for place in self._places:
            inside = [one for one in members if one.path.startswith(f"{place.path.rstrip('/')}/")]
            self._check_place(place, inside, sealed)
        if not self._places:
            self.found.unproved.append(
                "only single segments: missing ones cannot be seen (give their folder)"
            )
        return sealed.believed

    def _check_place(self, place: _Place, segments: list[SealedSegment], sealed: Sealed) -> None:
        ledger, found = place.ledger, self.found
        recorded = ledger.recorded if ledger else {}
        ends = check_segments.last_epochs(segments, recorded, found)
        check_segments.check_late(segments, ends, found)
        if ledger is None:
            if place.blank and segments:
                what = "has no line that is right, although there are sealed segments"
                found.find(place.blank, f"{what}: it was emptied or replaced")
            elif place.blank:
                found.unproved.append(f"{place.blank}: has no line that is right")
            elif segments:
                found.unproved.append(
                    f"{place.path}: its ledger {file_name(self.keys.id)} is not here: missing "
                    "segments and epochs cannot be seen"
                )
            present = max(ends.values(), default=0)
        else:
            check_together(segments, sealed.believed, ends, ledger, place.beside, found)
            self._check_members(segments, sealed, ledger)
            self._check_end(ledger)
            present = ledger.epoch
        found.notes += check_segments.window(segments, ends, present)

    def _check_members(
        self, segments: list[SealedSegment], sealed: Sealed, ledger: CheckedLedger
    ) -> None:
        """Check that the ledger knows each segment: also one that was begun since it was read."""
        unknown = strangers(segments, sealed, ledger)
        if unknown:
            ledger = self._ledger(ledger.path, SealFindings())
            unknown = strangers(unknown, sealed, ledger)
        check_strangers(unknown, sealed, ledger, self.found)
        check_ends(segments, sealed, ledger, self.found)

    def _check_end(self, ledger: CheckedLedger) -> None:
        """Say until when all is sealed, and whether a seal is overdue."""
        found = self.found
        if ledger.begins:
            found.unproved.append(
                f"{ledger.path}: begins with epoch {ledger.begins}: what was before is not in it"
            )
        until = times.dated(ledger.time, utc=True)
        epochs = f"epochs {ledger.begins} to {ledger.epoch}"
        found.notes.append(f"{ledger.path}: {epochs}, sealed until {until}")
        overdue = not ledger.stopped and self.now > ledger.time + _OVERDUE_NS
        if overdue:
            found.unproved.append(
                f"{ledger.path}: ends at {until}, although the recorder was not stopped: what "
                "it recorded since is missing or not sealed, if this is no older copy"
            )
