"""Whether segments follow each other as they were recorded.

Each segment names the one before it by its last hash.  That one must be there, or ctexpire's
receipt of it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping

from ctrecorder.archive import chain
from ctrecorder.check.report import ChainReport, SegmentReport
from ctrecorder.findings import Finding, FindingKind
from ctrecorder.kept.retention import Receipt
from ctrecorder.terminal import count

# Offset in a frame of the hash of the block before: the place of a finding about the chain.
PREVIOUS_AT = 32
_UNNAMED = "the segment before it"


def check_chains(
    segments: Iterable[SegmentReport], receipts: Iterable[Receipt] = ()
) -> ChainReport:
    """Check the order of `segments`.

    Where there is no receipt at all (a folder that was copied), segments before the earliest one of
    a chain may have expired: that is a note, not a finding.
    """
    expired = {one_hash: receipt for receipt in receipts for one_hash in receipt.hashes}
    chains: dict[str, list[SegmentReport]] = {}
    for one in segments:
        if one.link.chain and one.is_chained:
            chains.setdefault(one.link.chain, []).append(one)
    found = ChainReport()
    for members in chains.values():
        members.sort(key=lambda one: (one.link.sequence, one.times))
        found.add(_Chain(members, expired).report)
    found.findings += _strangers(chains.values())
    return found


def check_sealed(segments: Iterable[SegmentReport]) -> list[Finding]:
    """Segments that the key does not protect: neither they nor a later one of their chain is
    sealed.
    """
    segments = list(segments)
    sealed: dict[str, int] = {}
    for one in segments:
        if one.sealed:
            name, number = one.link.chain, one.link.sequence
            sealed[name] = max(sealed.get(name, number), number)
    what = "is not sealed, and no later segment of its chain is"
    return [
        Finding(one.path, FindingKind.CHAIN, what)
        for one in segments
        if not one.sealed and one.is_chained and one.link.sequence >= sealed.get(one.link.chain, 0)
    ]


def _strangers(chains: Iterable[list[SegmentReport]]) -> list[Finding]:
    """Segments of another recording than most segments with the same template in the same folder: a
    recorder continues the chain that it finds there.
    """
    groups: dict[tuple[str, str], list[list[SegmentReport]]] = {}
    for members in chains:
        template = members[0].template
        if template:
            groups.setdefault((os.path.dirname(members[0].path), template), []).append(members)
    findings = []
    for (_, template), found in groups.items():
        found.sort(key=len)
        most = f"{count(len(found[-1]), 'segment')} here with the same template {template}"
        findings += [
            _broken(one, f"belongs to another recording than {most}")
            for members in found[:-1]
            for one in members
        ]
    return findings


class _Chain:
    """The segments of one recording, in their order, and the `report` about them."""

    def __init__(self, members: list[SegmentReport], expired: Mapping[str, Receipt]) -> None:
        self.report = ChainReport()
        self._members, self._expired = members, expired
        self._onward = {known: receipt.previous_hash for known, receipt in expired.items()}
        self._by_hash: dict[str, SegmentReport] = {}
        for one in members:
            hashes = one.link.hashes
            twins = {self._by_hash[known].path for known in hashes if known in self._by_hash}
            for twin in sorted(twins):
                self._find(one, f"has the same contents as {twin}")
            self._by_hash.update(dict.fromkeys(hashes, one))
        followers: dict[str, SegmentReport] = {}
        for number, one in enumerate(members):
            before = self._before(one, number)
            if before is None:
                continue
            if before.path in followers:
                other = followers[before.path].name
                self._find(one, f"follows on {before.name}, and so does {other}")
            followers[before.path] = one

    def _before(self, one: SegmentReport, number: int) -> SegmentReport | None:
        """The segment that `one`, the member `number`, follows on, past those that have expired.

        None if there is none, which is then in the report.
        """
        *passed, wanted = chain.trace(one.link.previous_hash, self._onward, self._by_hash)
        if wanted in self._by_hash:
            return self._by_hash[wanted]
        deleted = self._expired[passed[-1]] if passed else None
        name = (deleted.previous if deleted else one.link.previous) or _UNNAMED
        if chain.is_start(wanted):
            if number:
                first = self._members[0].name
                self._find(one, f"starts a new recording, although {first} is earlier")
        elif deleted is None and any(member.name == name for member in self._members):
            what = f"{name} was cut short, changed or replaced"
            self._find(one, f"{name} does not end as it did: {what}")
        elif number or (self._expired and deleted is None):
            self._find(one, f"{name}, before it, is missing")
        elif deleted is None:
            self._note(one, f"{name}, before it, is not here (expired?)")
        if deleted is not None and number == 0:
            self._note(one, "what is before it has expired, as ctexpire's receipts say")
        return None

    def _find(self, one: SegmentReport, what: str) -> None:
        self.report.findings.append(_broken(one, what))

    def _note(self, one: SegmentReport, what: str) -> None:
        self.report.notes.append(f"{one.path}: the recording begins earlier; {what}")


def _broken(one: SegmentReport, what: str) -> Finding:
    return Finding(one.path, FindingKind.CHAIN, what, PREVIOUS_AT)
