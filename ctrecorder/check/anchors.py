"""Anchors: the last hashes that were logged when segments were opened, closed, squeezed and
deleted, held against a folder.

Who can rewrite the folder can make a whole recording anew, every hash right.  What ctrecord said to
the journal at the time is out of his reach, or on another machine; so each hash that was logged
must still be here, or its end must have been logged too.

An anchor comes from the journal, from its entries as `journalctl -o json` writes them, or from
lines of a text log (syslog's, or the stderr of ctrecord -F).  In the journal only entries of root
and of the segments' owner count: others could log anything.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple
from uuid import UUID

from ctrecorder.check.verify import ChainReport, Compare, SegmentReport
from ctrecorder.errors import ArchiveError, FormatError
from ctrecorder.service import messages
from ctrecorder.service.messages import Message, field_name

JOURNAL = "journal"
# A line of a log is shorter: what is longer is not one, and is not read into memory.
_LINE_BYTES = 1 << 16
_HASH = r"[0-9a-f]{32}"
KINDS: dict[str, Message] = {
    "opened": messages.SEGMENT_OPENED,
    "closed": messages.SEGMENT_CLOSED,
    "squeezed": messages.SQUEEZED,
    "deleted": messages.EXPIRED,
}
_TEXTS = {
    "opened": re.compile(
        rf"ctrecord(?:\[\d+\])?: new segment (?P<path>.+?)(?:, after .+ with last hash (?P<before>{_HASH}))?$"
    ),
    "closed": re.compile(
        rf"ctrecord(?:\[\d+\])?: closed (?P<path>.+): \d+ rows, \d+ bytes, last hash (?P<hash>{_HASH})$"
    ),
    "squeezed": re.compile(
        rf"ctsqueeze(?:\[\d+\])?: squeezed (?P<path>.+?): .*; last hash (?P<hash>{_HASH}), before (?P<before>{_HASH})$"
    ),
    "deleted": re.compile(
        rf"ctexpire(?:\[\d+\])?: deleted (?P<path>.+?): .*; last hash (?P<hash>{_HASH})$"
    ),
}
# The fields of an entry that are `hash` and `before`.
_FIELDS = {
    "opened": ("", "previous_hash"),
    "closed": ("last_hash", ""),
    "squeezed": ("last_hash", "replaced_hash"),
    "deleted": ("last_hash", ""),
}


class Anchor(NamedTuple):
    """What was logged of a segment.

    `kind`: a key of KINDS.  `hash`: its last, "" when it was opened.  `before`: when it was opened
    the last hash of the segment before, when it was squeezed its own until then; else "".
    """

    kind: str
    path: str
    hash: str
    before: str

    @property
    def name(self) -> str:
        return os.path.basename(self.path)


def load(source: str, owners: Collection[int]) -> list[Anchor]:
    """The anchors of `source`: "journal", or the path of a log.

    `owners`: the users whose entries count.  Raises ArchiveError.
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
            f"the journal cannot be read: {error.strerror}; run as root, or as a member of systemd-journal"
        ) from error


def _of_entry(entry: dict[str, object], owners: Collection[int]) -> Anchor | None:
    """An entry of the journal, its fields as text; None if it is none of ours, or of a user who
    does not count.
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
    """For `verify.check` of `paths`: a comparison with the anchors of `source`.

    Raises ArchiveError when it is called.
    """

    def compare_with(reports: list[SegmentReport]) -> ChainReport:
        owners = {0} | {os.stat(one.path).st_uid for one in reports if os.path.exists(one.path)}
        anchors = load(source, owners)
        report = compare(reports, anchors, [path for path in paths if os.path.isdir(path)])
        if not anchors and source == JOURNAL and os.geteuid():
            report.unproved.append(
                "the journal shows the recorder's entries to root and the members of systemd-journal or adm only"
            )
        return report

    return compare_with


def compare(
    segments: Iterable[SegmentReport], anchors: Iterable[Anchor], folders: Collection[str]
) -> ChainReport:
    """What differs from what was logged; unproved, if nothing that was logged is of these segments.

    `folders`: those that were asked for as a whole, so that what was logged must be there.  Anchors
    of other folders do not count, but if there is none for these: then the segments may be a copy,
    and their names decide.
    """
    return _Comparison(
        [one for one in segments if "legacy" not in one.header], list(anchors), folders
    ).run()


class _Comparison:
    def __init__(
        self, segments: list[SegmentReport], anchors: list[Anchor], folders: Collection[str]
    ) -> None:
        self._compared = ChainReport()
        places = {
            os.path.realpath(folder)
            for folder in (*folders, *(os.path.dirname(one.path) for one in segments))
        }
        here = [
            anchor for anchor in anchors if os.path.realpath(os.path.dirname(anchor.path)) in places
        ]
        self._segments, self._anchors, self._whole = segments, here or anchors, bool(folders)
        if anchors and not here:
            self._compared.notes.append(
                "no anchor is of this folder: those of others are taken, as for a copy"
            )
        self._by_hash = {known: one for one in segments for known in one.hashes}
        self._became = {
            anchor.before: anchor.hash for anchor in self._anchors if anchor.kind == "squeezed"
        }
        self._told: set[str] = set()
        self._deleted = {anchor.hash for anchor in self._anchors if anchor.kind == "deleted"}

    def run(self) -> ChainReport:
        matched = [one for anchor in self._anchors if (one := self._check(anchor)) is not None]
        # Of a first segment only its opening was logged, and that names no hash.
        closed = any(one.state == "closed" for one in self._segments)
        if not self._anchors or (closed and not matched):
            self._compared.unproved.append("nothing that was logged is of these segments")
        self._check_unlogged(matched)
        return self._compared

    def _check(self, anchor: Anchor) -> SegmentReport | None:
        """Whether what was logged is still so: the segment that it is of, if it is here."""
        wanted = anchor.before if anchor.kind == "opened" else anchor.hash
        if anchor.kind == "deleted" or not wanted:
            return None
        present, seen = self._by_hash.get(wanted), set()
        while (
            present is None
            and wanted not in self._deleted
            and wanted in self._became
            and wanted not in seen
        ):
            seen.add(wanted)
            wanted = self._became[wanted]
            present = self._by_hash.get(wanted)
        if present is None and wanted not in self._deleted:
            self._missing(anchor)
        return present

    def _missing(self, anchor: Anchor) -> None:
        """Tell of it once: a hash is logged when its segment is closed, and again when the next one
        is opened.
        """
        before_it = anchor.kind == "opened"
        last = anchor.before if before_it else anchor.hash
        if last in self._told:
            return
        self._told.add(last)
        namesake = next(
            (one for one in self._segments if one.name == anchor.name and not before_it), None
        )
        if namesake is not None:
            what = f"is not what was logged: it ends with {(namesake.hashes or ['nothing'])[0]}, and was {anchor.kind} with {last}"
            self._compared.findings.append(FormatError(what, path=namesake.path, offset=0))
        elif self._whole:
            which = f"the segment before {anchor.name}" if before_it else anchor.name
            what = f"was logged with last hash {last}, is not here, and nobody logged that it was deleted"
            self._compared.findings.append(
                FormatError(f"{which} {what}", path=os.path.dirname(anchor.path) or ".", offset=0)
            )

    def _check_unlogged(self, matched: list[SegmentReport]) -> None:
        """Whoever was closed after one that was logged was logged too."""
        logged = {anchor.hash for anchor in self._anchors if anchor.kind in ("closed", "squeezed")}
        first: dict[str, int] = {}
        for one in matched:
            first[one.chain] = min(first.get(one.chain, one.sequence), one.sequence)
        for one in self._segments:
            late = one.chain not in first or one.sequence > first[one.chain]
            ended = one.state == "closed" or one.header.get("replaces")
            if ended and late and matched and one.hashes and one.hashes[0] not in logged:
                kept = (
                    ""
                    if one.hashes[0] == one.hashes[-1]
                    else " (it replaces another: was it repaired?)"
                )
                what = f"was never logged with its last hash {one.hashes[0]}{kept}"
                self._compared.findings.append(FormatError(what, path=one.path, offset=0))
