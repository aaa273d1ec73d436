"""Anchors: the last hashes that were logged when segments were opened, closed, squeezed and
deleted, compared with a folder.

An attacker who can write to the folder can forge a whole recording with correct hashes.  The log of
ctrecord is out of reach, or on another machine.  So each logged hash must still be in the folder,
or the deletion of its segment must have been logged too.

Anchors are read from the journal, from its entries in the form of `journalctl -o json`, or from
lines of a text log (of syslog, or the stderr of ctrecord -F).  In the journal only entries of root
and of the owner of the segments count: other users could log anything.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple
from uuid import UUID

from ctrecorder.archive import chain
from ctrecorder.check.report import ChainReport, SegmentReport
from ctrecorder.check.verify import Compare
from ctrecorder.errors import ArchiveError
from ctrecorder.findings import Finding, FindingKind
from ctrecorder.service import messages
from ctrecorder.service.messages import Message, field_name

JOURNAL = "journal"
# A longer line is not one of a log: it is read in parts.
_LINE_BYTES = 1 << 16
_HASH = r"[0-9a-f]{32}"
KINDS: dict[str, Message] = {
    "opened": messages.SEGMENT_OPENED,
    "closed": messages.SEGMENT_CLOSED,
    "squeezed": messages.SQUEEZED,
    "deleted": messages.EXPIRED,
}
_BY = r"(?:\[\d+\])?: "  # after the name of the command
_LAST, _BEFORE = rf"last hash (?P<hash>{_HASH})", rf"(?P<before>{_HASH})"
_END = r"(?: \(at [0-9T:.Z-]+\))?$"  # an entry that was sent late has its time
_TEXTS = {
    "opened": re.compile(
        rf"ctrecord{_BY}new segment (?P<path>.+?)(?:, after .+ with last hash {_BEFORE})?{_END}"
    ),
    "closed": re.compile(rf"ctrecord{_BY}closed (?P<path>.+): \d+ rows, \d+ bytes, {_LAST}{_END}"),
    "squeezed": re.compile(
        rf"ctsqueeze{_BY}squeezed (?P<path>.+?): .*; {_LAST}, before {_BEFORE}{_END}"
    ),
    "deleted": re.compile(rf"ctexpire{_BY}deleted (?P<path>.+?): .*; {_LAST}{_END}"),
}
# The fields of a journal entry with `hash` and `before`.
_FIELDS = {
    "opened": ("", "previous_hash"),
    "closed": ("last_hash", ""),
    "squeezed": ("last_hash", "replaced_hash"),
    "deleted": ("last_hash", ""),
}


class Anchor(NamedTuple):
    """One log entry about a segment.

    `kind`: a key of KINDS.
    `hash`: its last hash; "" when it was opened.
    `before`: when it was opened, the last hash of the segment before; when it was squeezed, its own
    last hash until then; else "".
    """

    kind: str
    path: str
    hash: str
    before: str

    @property
    def name(self) -> str:
        return os.path.basename(self.path)


def load(source: str, owners: Collection[int]) -> list[Anchor]:
    """The anchors in `source`: "journal", or the path of a log.

    `owners`: users whose entries count.  Raises ArchiveError.
    """
    return list(_from_journal(owners) if source == JOURNAL else _from_file(source, owners))


def _from_file(path: str, owners: Collection[int]) -> Iterator[Anchor]:
    try:
        with Path(path).open("rb") as file:
            while line := file.readline(_LINE_BYTES):
                anchor = _of_line(line.decode("utf-8", "replace").rstrip("\n"), owners)
                if anchor is not None:
                    yield anchor
    except OSError as error:
        raise ArchiveError(f"{path}: {error.strerror}") from error


def _of_line(line: str, owners: Collection[int]) -> Anchor | None:
    if line.startswith("{"):
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError):
            return None
        return _of_entry(entry, owners) if isinstance(entry, dict) else None
    for kind, pattern in _TEXTS.items():
        found = pattern.search(line)
        if found:
            parts = found.groupdict()
            return Anchor(kind, parts["path"], parts.get("hash") or "", parts.get("before") or "")
    return None


def _from_journal(owners: Collection[int]) -> Iterator[Anchor]:
    from systemd import journal

    try:
        reader = journal.Reader()
        for message in KINDS.values():
            reader.add_match(MESSAGE_ID=message.id)
        for entry in reader:
            anchor = _of_entry(
                {
                    name: value.hex if isinstance(value, UUID) else str(value)
                    for name, value in entry.items()
                },
                owners,
            )
            if anchor is not None:
                yield anchor
    except OSError as error:
        raise ArchiveError(
            f"the journal cannot be read: {error.strerror}; "
            "run as root, or as a member of systemd-journal"
        ) from error


def _of_entry(entry: dict[str, object], owners: Collection[int]) -> Anchor | None:
    """The anchor of a journal entry, whose fields are text; None if it is another entry, or of a
    user who does not count.
    """
    identity = str(entry.get("MESSAGE_ID", "")).replace("-", "")
    kind = next((kind for kind, message in KINDS.items() if message.id == identity), None)
    user = str(entry.get("_UID", "0"))
    if kind is None or not user.isdigit() or int(user) not in owners:
        return None
    last, before = (str(entry.get(field_name(name), "")) if name else "" for name in _FIELDS[kind])
    path = str(entry.get(field_name("path"), ""))
    if not path or any(each and not re.fullmatch(_HASH, each) for each in (last, before)):
        return None
    return Anchor(kind, path, last, before)


def against(source: str, paths: Iterable[str]) -> Compare:
    """A comparison of segments of `paths` with the anchors in `source`, for `verify.check`.

    The comparison raises ArchiveError if `source` cannot be read.
    """

    def compare_with(reports: list[SegmentReport]) -> ChainReport:
        owners = {0} | {os.stat(one.path).st_uid for one in reports if os.path.exists(one.path)}
        anchors = load(source, owners)
        report = compare(reports, anchors, [path for path in paths if os.path.isdir(path)])
        if not anchors and source == JOURNAL and os.geteuid():
            report.unproved.append(
                "the journal shows the recorder's entries only to root "
                "and to members of systemd-journal or adm"
            )
        return report

    return compare_with


def compare(
    segments: Iterable[SegmentReport], anchors: Iterable[Anchor], folders: Collection[str]
) -> ChainReport:
    """The differences between `segments` and what was logged.

    `unproved`, if none of the logged hashes belongs to these segments.

    `folders`: folders that are checked as a whole, so that every logged segment must be there.
    Anchors of other folders count only if there is none for these: then the segments may be a copy,
    and their names decide.
    """
    chained = [one for one in segments if one.is_chained]
    return _Comparison(chained, list(anchors), folders).run()


class _Comparison:
    def __init__(
        self, segments: list[SegmentReport], anchors: list[Anchor], folders: Collection[str]
    ) -> None:
        self._report = ChainReport()
        named = (*folders, *(os.path.dirname(one.path) for one in segments))
        checked = {os.path.realpath(folder) for folder in named}
        here = [
            anchor
            for anchor in anchors
            if os.path.realpath(os.path.dirname(anchor.path)) in checked
        ]
        self._segments, self._anchors, self._whole = segments, here or anchors, bool(folders)
        if anchors and not here:
            self._report.notes.append(
                "the log has no entry for this folder; "
                "using entries of other folders (is this a copy?)"
            )
        self._by_hash = {known: one for one in segments for known in one.link.hashes}
        self._became = {
            anchor.before: anchor.hash for anchor in self._anchors if anchor.kind == "squeezed"
        }
        self._reported: set[str] = set()
        self._deleted = {anchor.hash for anchor in self._anchors if anchor.kind == "deleted"}
        self._ends = {*self._by_hash, *self._deleted}

    def run(self) -> ChainReport:
        """Compare all."""
        matched = [one for anchor in self._anchors if (one := self._check(anchor)) is not None]
        # Only the opening of a first segment was logged, and that names no hash.
        closed = any(one.state == "closed" for one in self._segments)
        if not self._anchors or (closed and not matched):
            self._report.unproved.append("none of the logged hashes belongs to these segments")
        self._check_unlogged(matched)
        return self._report

    def _check(self, anchor: Anchor) -> SegmentReport | None:
        """The segment that `anchor` is about, if it is here; reports one that should be here."""
        logged = anchor.before if anchor.kind == "opened" else anchor.hash
        if anchor.kind == "deleted" or not logged:
            return None
        *_, wanted = chain.trace(logged, self._became, self._ends)
        present = self._by_hash.get(wanted)
        if present is None and wanted not in self._deleted:
            self._missing(anchor)
        return present

    def _missing(self, anchor: Anchor) -> None:
        """Report it once: a hash is logged when its segment is closed, and again when the next one
        is opened.
        """
        before_it = anchor.kind == "opened"
        last = anchor.before if before_it else anchor.hash
        if last in self._reported:
            return
        self._reported.add(last)
        namesake = next(
            (one for one in self._segments if one.name == anchor.name and not before_it), None
        )
        if namesake is not None:
            end = next(iter(namesake.link.hashes), "nothing")
            what = f"it ends with {end}, and was {anchor.kind} with {last}"
            self._find(namesake.path, f"is not what was logged: {what}")
        elif self._whole:
            which = f"the segment before {anchor.name}" if before_it else anchor.name
            what = f"was logged with last hash {last}, is not here, and its deletion was not logged"
            self._find(os.path.dirname(anchor.path) or ".", f"{which} {what}")

    def _check_unlogged(self, matched: list[SegmentReport]) -> None:
        """Every segment closed after the first logged one must be in the log as well."""
        logged = {anchor.hash for anchor in self._anchors if anchor.kind in ("closed", "squeezed")}
        first: dict[str, int] = {}
        for one in matched:
            name, number = one.link.chain, one.link.sequence
            first[name] = min(first.get(name, number), number)
        for one in self._segments:
            link = one.link
            late = link.chain not in first or link.sequence > first[link.chain]
            ended = one.state == "closed" or one.is_successor
            if ended and late and matched and link.hashes and link.hashes[0] not in logged:
                what = f"was never logged with its last hash {link.hashes[0]}"
                if link.hashes[0] != link.hashes[-1]:
                    what += " (it replaces another: was it repaired?)"
                self._find(one.path, what)

    def _find(self, subject: str, what: str) -> None:
        self._report.findings.append(Finding(subject, FindingKind.ANCHOR, what))
