"""The catalogue of a folder: what `find` reads of each closed segment in it, in one file.

It only chooses which segments are read: what they hold is proved by their own hashes.  It is
believed if nobody wrote it but root, who asks, or the owner of the folder that was asked: he could
take whole routers away.  An entry counts for the very file that was looked at (name, size, inode,
times of change: the kernel dates that, and nobody can date it back); any other file is looked at
itself.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterable
from typing import NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from ctrecorder.errors import ArchiveError
from ctrecorder.folder import Folder
from ctrecorder.times import SECOND

# Hidden, so that it is neither a segment nor a foreign file.
NAME, _ASIDE = ".ctcatalogue", ".ctcatalogue.new"
_VERSION = 1
_MAX_BYTES = 64 << 20  # half a million segments: a longer file is none
_HASH_BYTES = 16
# A change within one tick of the kernel's clock (up to 10 ms) does not show in the times of a file.
_SETTLED_NS = SECOND // 10
_COLUMNS = ("size", "inode", "mtime", "ctime", "begin", "end", "recorded", "sequence", "squeezed")


class Entry(NamedTuple):
    """A closed segment: its name, the status of its file, and what `find.Span` has of it."""

    name: str
    status: os.stat_result
    begin: int
    end: int
    recorded: int
    chain: str
    sequence: int
    squeezed: bool


class Catalogue(NamedTuple):
    """What is known of a folder.

    `names`, `chains`: of the segments.  `numbers`: (segments, columns), _COLUMNS.
    `others`: the names of the files that must be looked at.
    """

    names: list[str]
    chains: list[str]
    numbers: NDArray[np.int64]
    others: list[str]

    def column(self, name: str) -> list[int]:
        """A column of the numbers."""
        return cast("list[int]", self.numbers[:, _COLUMNS.index(name)].tolist())


def read(folder: str, asked: str) -> Catalogue | None:
    """What is known of `folder`, a folder below `asked`, or that itself; None if nothing is."""
    try:
        with Folder(folder) as opened, os.fdopen(opened.open(NAME), "rb") as file:
            status = os.fstat(file.fileno())
            believed = {0, os.geteuid(), os.stat(asked).st_uid}
            if status.st_uid not in believed or status.st_mode & 0o022:
                return None
            known = _parse(file.read(_MAX_BYTES + 1))
            return None if known is None else _fitting(known, opened)
    except (ArchiveError, OSError):
        return None


def _parse(raw: bytes) -> Catalogue | None:
    """What the bytes of a catalogue say; None: it is no whole one."""
    digest, body = raw[:_HASH_BYTES], raw[_HASH_BYTES:]
    if len(raw) > _MAX_BYTES or _digest(body) != digest:
        return None
    head, _, rest = body.partition(b"\n")
    try:
        facts = json.loads(head)
        if facts["version"] != _VERSION:
            return None
        names, chains = facts["names"], facts["chains"]
        numbers = np.frombuffer(rest, "<i8").reshape(-1, len(_COLUMNS))
        if not (isinstance(names, list) and isinstance(chains, list)):
            return None
        if "/" in "".join([*names, *chains]) or not len(names) == len(chains) == len(numbers):
            return None
        return Catalogue(names, chains, numbers, [])
    except (ValueError, KeyError, TypeError, RecursionError):
        return None


def _digest(body: bytes) -> bytes:
    return hashlib.blake2b(body, digest_size=_HASH_BYTES).digest()


def _fitting(known: Catalogue, folder: Folder) -> Catalogue:
    """The entries that fit the files in a folder; all other files are `others`."""
    within, gone = folder.descriptor, (-1, -1, -1, -1)
    here = {*os.listdir(within)}
    files = np.array(
        [
            _file(os.stat(name, dir_fd=within, follow_symlinks=False)) if name in here else gone
            for name in known.names
        ],
        np.int64,
    ).reshape(-1, len(gone))
    fits = np.flatnonzero((files == known.numbers[:, : len(gone)]).all(axis=1))
    names = [known.names[at] for at in fits]
    others = sorted(name for name in here.difference(names) if not name.startswith("."))
    return Catalogue(names, [known.chains[at] for at in fits], known.numbers[fits], others)


def _file(status: os.stat_result) -> tuple[int, int, int, int]:
    """The first of _COLUMNS: what tells a file from another one, and from itself before a change.

    A file of another kind has another inode.
    """
    return status.st_size, status.st_ino, status.st_mtime_ns, status.st_ctime_ns


def write(folder: Folder, entries: Iterable[Entry]) -> None:
    """Write the catalogue of a folder, without files that were just changed.  Raises OSError."""
    now = time.time_ns()
    known = [one for one in entries if one.status.st_ctime_ns < now - _SETTLED_NS]
    facts = {
        "version": _VERSION,
        "names": [one.name for one in known],
        "chains": [one.chain for one in known],
    }
    rows = [
        [*_file(one.status), one.begin, one.end, one.recorded, one.sequence, one.squeezed]
        for one in known
    ]
    numbers = np.array(rows, "<i8").reshape(-1, len(_COLUMNS))
    body = json.dumps(facts).encode() + b"\n" + numbers.tobytes()
    folder.remove(_ASIDE)
    try:
        with os.fdopen(folder.create(_ASIDE, 0o644), "wb") as file:
            file.write(_digest(body) + body)
        folder.rename(_ASIDE, NAME)
    finally:
        folder.remove(_ASIDE)  # of half a catalogue, on a full disk
