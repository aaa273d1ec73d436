"""What was logged about segments: read from the journal, from a file of its entries in the form of
`journalctl -o json`, or from the lines of a text log (of syslog, or the stderr of ctrecord -F).

In the journal an entry counts that root sent, or a unit of ctrecorder: journald writes the uid and
the unit of the sender, who cannot choose them.  Anybody can log anything, also with the uid of the
recorder.  Lines of text name no sender: they prove what the keeper of their file proves.
"""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple
from uuid import UUID

from ctrecorder.errors import ArchiveError
from ctrecorder.service import messages
from ctrecorder.service.messages import Message, field_name

JOURNAL = "journal"
# A longer line is not one of a log: it is read in parts.
_LINE_BYTES = 1 << 16
# Anchors that are kept in memory, 300 bytes each: those of an archive of 15 years of hours.
MAX_ANCHORS = 600_000
# Senders that do not count are told apart up to this number.
_MAX_SENDERS = 1000
_HASH = r"[0-9a-f]{32}"
KINDS: dict[str, Message] = {
    "opened": messages.SEGMENT_OPENED,
    "closed": messages.SEGMENT_CLOSED,
    "squeezed": messages.SQUEEZED,
    "repaired": messages.REPAIRED,
    "deleted": messages.EXPIRED,
}
# Units that only root can make.  Their processes are told by their cgroup.
_UNITS = re.compile(r"(ctrecord.*|ctsqueeze|ctsqueeze-sealed|ctexpire)\.service")
_BY = r"(?:\[\d+\])?: "  # after the name of the command
_LAST, _BEFORE = rf"last hash (?P<hash>{_HASH})", rf"(?P<before>{_HASH})"
# An entry that was sent late has its time.
_END = r"(?: \(at [0-9T:.Z-]+(?P<stored>, kept in ctrecorder\.unsent)?\))?$"
TEXTS = {
    "opened": re.compile(
        rf"ctrecord{_BY}new segment (?P<path>.+?)(?:, after .+ with last hash {_BEFORE})?{_END}"
    ),
    "closed": re.compile(rf"ctrecord{_BY}closed (?P<path>.+): \d+ rows, \d+ bytes, {_LAST}{_END}"),
    "squeezed": re.compile(
        rf"ctsqueeze{_BY}squeezed (?P<path>.+?): .*; {_LAST}, before {_BEFORE}{_END}"
    ),
    "repaired": re.compile(
        rf"cttest{_BY}repaired (?P<path>.+?): .*; {_LAST}, before {_BEFORE}{_END}"
    ),
    "deleted": re.compile(rf"ctexpire{_BY}deleted (?P<path>.+?): .*; {_LAST}{_END}"),
}
# The fields of a journal entry with `hash` and `before`.
_FIELDS = {
    "opened": ("", "previous_hash"),
    "closed": ("last_hash", ""),
    "squeezed": ("last_hash", "replaced_hash"),
    "repaired": ("last_hash", "replaced_hash"),
    "deleted": ("last_hash", ""),
}


class Anchor(NamedTuple):
    """One log entry about a segment.

    `kind`: a key of KINDS.
    `hash`: its last hash; "" when it was opened.
    `before`: when it was opened, the last hash of the segment before; when it was squeezed or
    repaired, its own last hash until then; else "".
    `stored`: the entry was kept in the folder before it was sent, where its owner could write it.
    """

    kind: str
    path: str
    hash: str
    before: str
    stored: bool = False

    @property
    def name(self) -> str:
        return os.path.basename(self.path)


@dataclass
class Logged:
    """All that a log has of segments.

    `texts`: how many of the anchors are lines of text.
    `ignored`: entries that do not count, by their sender.
    `is_full`: it has more than MAX_ANCHORS, which anybody can log in lines of text.
    """

    anchors: list[Anchor] = field(default_factory=list)
    texts: int = 0
    ignored: Counter[str] = field(default_factory=Counter)
    is_full: bool = False

    def add(self, anchor: Anchor) -> None:
        """Keep an anchor, if there are not too many."""
        self.is_full = self.is_full or len(self.anchors) >= MAX_ANCHORS
        if not self.is_full:
            self.anchors.append(anchor)

    def ignore(self, sender: str) -> None:
        """Count an entry of somebody who proves nothing."""
        known = sender in self.ignored or len(self.ignored) < _MAX_SENDERS
        self.ignored[sender if known else "others"] += 1


def load(source: str) -> Logged:
    """What `source` has: "journal", or the path of a log.  Raises ArchiveError."""
    logged = Logged()
    if source == JOURNAL:
        for entry in _journal():
            _add_entry(logged, entry)
            if logged.is_full:
                break
    else:
        for line in _lines(source):
            _add_line(logged, line)
            if logged.is_full:
                break
    return logged


def _lines(path: str) -> Iterator[str]:
    try:
        with Path(path).open("rb") as file:
            while line := file.readline(_LINE_BYTES):
                yield line.decode("utf-8", "replace").rstrip("\n")
    except OSError as error:
        raise ArchiveError(f"{path}: {error.strerror}") from error


def _journal() -> Iterator[dict[str, object]]:
    from systemd import journal

    try:
        reader = journal.Reader()
        for message in KINDS.values():
            reader.add_match(MESSAGE_ID=message.id)
        for entry in reader:
            yield {
                name: value.hex if isinstance(value, UUID) else str(value)
                for name, value in entry.items()
            }
    except OSError as error:
        raise ArchiveError(
            f"the journal cannot be read: {error.strerror}; "
            "run as root, or as a member of systemd-journal"
        ) from error


def _add_line(logged: Logged, line: str) -> None:
    """Add what a line of a file has."""
    if line.startswith("{"):
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError):
            return
        if isinstance(entry, dict):
            _add_entry(logged, entry)
        return
    for kind, pattern in TEXTS.items():
        found = pattern.search(line)
        if found:
            parts = found.groupdict(default="")
            hashes = parts.get("hash", ""), parts.get("before", "")
            logged.add(Anchor(kind, parts["path"], *hashes, bool(parts["stored"])))
            logged.texts += 1
            return


def _add_entry(logged: Logged, entry: dict[str, object]) -> None:
    """Add the anchor of a journal entry, whose fields are text, or nothing if it is another."""
    identity = str(entry.get("MESSAGE_ID", "")).replace("-", "")
    kind = next((kind for kind, message in KINDS.items() if message.id == identity), None)
    if kind is None:
        return
    last, before = (str(entry.get(field_name(name), "")) if name else "" for name in _FIELDS[kind])
    path = str(entry.get(field_name("path"), ""))
    if not path or any(each and not re.fullmatch(_HASH, each) for each in (last, before)):
        return
    user, unit = str(entry.get("_UID", "")), str(entry.get("_SYSTEMD_UNIT", ""))
    if user == "0" or (user and _UNITS.fullmatch(unit)):
        stored = field_name("stored") in entry
        logged.add(Anchor(kind, path, last, before, stored))
    else:
        logged.ignore(f"uid {user or 'unknown'} in {unit or 'no unit'}")


def senders(ignored: Iterable[tuple[str, int]]) -> str:
    """Senders with the number of their entries, as text."""
    return ", ".join(f"{sender}: {number:,}" for sender, number in ignored)
