"""Segments, receipts and holds against the ledger: what it names must be there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ctrecorder.seals.check_ledger import CheckedLedger, Named
from ctrecorder.seals.check_segments import Sealed
from ctrecorder.seals.evidence import SealedSegment, SealFindings


@dataclass(frozen=True)
class Beside:
    """The files beside the segments.

    `receipts`: the name of each deleted segment, and the hash of its receipt's line.
    `holds`: the hash of each hold by its number.
    """

    receipts: Sequence[tuple[str, str]]
    holds: Mapping[int, str]


def check_together(
    segments: Sequence[SealedSegment],
    believed: set[str],
    ends: Mapping[str, int],
    ledger: CheckedLedger,
    beside: Beside,
    found: SealFindings,
) -> None:
    """Compare all with the ledger.

    `believed`: paths of segments whose `replaces` counts; `ends`: the last epoch of each.
    """
    deleted = _check_receipts(ledger, beside, found)
    seals = {at.hash for one in segments for at in one.seals}
    hashes = {one.last_hash for one in segments}
    names = {one.name for one in segments}
    until: dict[str, int] = {}
    for one in segments:
        if one.path in believed:
            names.update(one.names)
            hashes.update(one.replaced)
            until.update(dict.fromkeys(one.known_names, ends[one.path]))
    for name, epoch in ledger.opened.items():
        if name not in names and name not in deleted:
            found.find(ledger.path, f"{name}, which was begun in epoch {epoch}, is not here")
    for named in ledger.seals:
        if named.hash not in seals and until.get(named.segment, -1) < named.epoch:
            _missing(named, "seal", deleted, ledger, found)
    for named in ledger.closed:
        if named.hash not in hashes:
            _missing(named, "end", deleted, ledger, found)
    for one in segments:
        if one.path in believed and ledger.knows(one.seals[-1].seal.epoch):
            line = ledger.rewritten.get(one.last_hash)
            if line is None or line.hash not in one.replaced:
                found.find(one.path, "was squeezed or repaired, and the ledger does not say so")
    _check_holds(ledger, beside, found)


def _missing(
    named: Named, what: str, deleted: set[str], ledger: CheckedLedger, found: SealFindings
) -> None:
    if named.segment in deleted:
        return
    text = f"{named.segment}, its {what} in epoch {named.epoch} is not here"
    found.find(ledger.path, f"{text}: it was cut, changed or removed (or copied while it grew)")


def _check_receipts(ledger: CheckedLedger, beside: Beside, found: SealFindings) -> set[str]:
    """The names of segments whose receipts are in the ledger."""
    there = {line for _, line in beside.receipts}
    for named in ledger.receipts:
        if named.hash not in there:
            found.find(ledger.path, f"the receipt of {named.segment} was removed or changed")
    sealed = {named.hash for named in ledger.receipts}
    recorded = _segments((*ledger.closed, *ledger.seals))
    for name, line in beside.receipts:
        if line not in sealed and name in recorded:
            found.find(ledger.path, f"the receipt of {name} is not in it: it may be false")
    return {name for name, line in beside.receipts if line in sealed}


def _segments(named: Iterable[Named]) -> set[str]:
    return {one.segment for one in named}


def _check_holds(ledger: CheckedLedger, beside: Beside, found: SealFindings) -> None:
    for number, line in ledger.holds.items():
        if line and beside.holds.get(number) != line:
            found.find(ledger.path, f"hold {number} was removed or changed")
    unknown = sorted(number for number in beside.holds if number not in ledger.holds)
    if unknown:
        found.notes.append(f"{ledger.path}: holds that it does not know: {unknown}")


def strangers(
    segments: Iterable[SealedSegment], sealed: Sealed, ledger: CheckedLedger
) -> list[SealedSegment]:
    """Segments of which the ledger says nothing: their header is all that names the key.

    Without a right seal a name counts only until it was deleted: anybody can use it again.
    """
    found = []
    for one in segments:
        known = ledger.recorded if one.path in sealed.paths else ledger.kept
        names = one.known_names if one.path in sealed.believed else (one.name,)
        if not any(name in known for name in names):
            found.append(one)
    return found


def check_strangers(
    unknown: Iterable[SealedSegment], sealed: Sealed, ledger: CheckedLedger, found: SealFindings
) -> None:
    """Find the `strangers`.  Of what was begun before the ledger it cannot say anything."""
    for one in unknown:
        if ledger.knows(one.begun):
            what = "names the key, and the ledger does not know it"
            found.find(one.path, f"{what}: it is no part of the recording")
        elif one.path not in sealed.paths:
            found.unproved.append(f"{one.path}: has no right seal, and is older than the ledger")


def check_ends(
    segments: Sequence[SealedSegment], sealed: Sealed, ledger: CheckedLedger, found: SealFindings
) -> None:
    """Each end that no seal is before, as a crash leaves it, is proved by the segment behind it.

    Nothing is due behind the one that is being recorded.
    """
    followed = {one.previous for one in segments if one.path in sealed.paths}
    recording = "" if ledger.stopped else ledger.newest
    for one in segments:
        if one.state != "closed" and one.name != recording and one.last_hash not in followed:
            found.unproved.append(
                f"{one.path}: was not closed, and no sealed segment follows on it: what is behind "
                "its last seal is not proved"
            )
