"""The segments of a database as those of a folder: the same readers, pairing and verdict."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence

from ctrecorder.archive import routers
from ctrecorder.archive.find import FolderListing
from ctrecorder.archive.follow import Followed, Hashes, Keys, follow
from ctrecorder.archive.near import Chains
from ctrecorder.archive.open import known
from ctrecorder.archive.shared import Pool
from ctrecorder.columns import Table
from ctrecorder.ctlog.frame import Kind
from ctrecorder.ctlog.predicate import Query
from ctrecorder.errors import ArchiveError, FormatError
from ctrecorder.holders.source import Source
from ctrecorder.kept.retention import Receipt
from ctrecorder.query.evidence import Receipts
from ctrecorder.segment import skeleton
from ctrecorder.segment.reader import Segment
from ctrecorder.segment.recording import Block, Recording
from ctrecorder.store import manifest, rows
from ctrecorder.store.frames import fetch as fetch_frames
from ctrecorder.store.manifest import Entry, Place

# Bytes of skeletons that are kept for the next questions: those of some thousand segments.
_MAX_FRAMES = 32 << 20
# Segments in which an open flow is looked for at first; then as many again.
_FOLLOWED = 24
# Rows that are kept for them.
_MAX_ROWS = 1 << 18


class StoredSegment(Segment):
    """A segment whose connections are in a table: `store` has them."""

    def __init__(self, path: str, store: Store, descriptor: int) -> None:
        self._store = store
        super().__init__(path, descriptor=descriptor)
        self._numbers = {
            block.offset: number for number, block in enumerate(self.blocks_of(Kind.CONNECTIONS))
        }

    def may_contain(self, query: Query) -> bool:
        """Whether a wanted row can be in the segment: its rows say it."""
        return True

    def ask(self, block: Block, names: Iterable[str] | None, query: Query) -> Table | None:
        """The wanted rows of a block, with the columns `names` and those that the query needs.

        Raises ArchiveError and FormatError.
        """
        if not query.may_contain_time(block.time_min, block.time_max):
            return None
        table = self._store.rows_of(self.path, query).get(self._numbers.get(block.offset, -1))
        if table is None:
            return None
        if table.family != block.family:
            raise FormatError("its rows are not those of the block", offset=block.offset)
        wanted = query.evaluate(table)
        if not wanted.any():
            return None
        found = table.take(wanted)
        return found if names is None else found.select([*names, *query.columns_needed()])


class Store(Source):
    """The archive at `place`."""

    def __init__(self, place: Place) -> None:
        super().__init__([place.text])
        self._place = place
        self._entries: dict[str, Entry] = {}
        self._frames: dict[str, bytes] = {}
        self._rows: dict[str, tuple[frozenset[str], rows.Blocks]] = {}
        self._expired = self._has_replaced = False
        self._replaced: dict[str, list[str]] | None = None

    def find(self) -> FolderListing:
        """The segments that count.  Raises ArchiveError."""
        found = manifest.read(self._place)
        self._entries = found.entries
        self._expired, self._has_replaced = found.expired, found.replaced
        listing = FolderListing()
        for path, entry in sorted(found.entries.items()):  # as those of a folder
            if entry.why_not:
                listing.unreadable.append((path, f"{path}: {entry.why_not}"))
                continue
            listing.spans.append(entry.span)
        listing.segments = [
            span.path for span in sorted(listing.spans, key=lambda one: (one.recorded, one.path))
        ]
        return listing

    def pool(self, jobs: int) -> Pool:
        """What opens segments."""
        return _StoredPool(self, jobs)

    def receipts(self) -> Receipts:
        """The receipts of what was deleted in time."""
        return _StoredReceipts(self._place if self._expired else None)

    def copies(self, paths: Iterable[str]) -> list[tuple[str, str]]:
        """The whole uploads that do not count, each with the path that is read instead."""
        if self._replaced is None:
            self._replaced = {}
            for old, new in manifest.replaced(self._place) if self._has_replaced else ():
                self._replaced.setdefault(new, []).append(old)
        return [(old, path) for path in paths for old in self._replaced.get(path, [])]

    def prepare(self, asked: Iterable[tuple[Sequence[str], Query]]) -> None:
        """Fetch what queries need, in one go.  Raises ArchiveError."""
        conditions: dict[str, set[str]] = {}
        for paths, query in asked:
            condition = rows.condition(query.of_flows())
            for path in paths:
                conditions.setdefault(path, set()).add(condition)
        self._fetch_frames(conditions)
        lacking = {
            path: wanted
            for path, wanted in conditions.items()
            if path in self._entries and not wanted <= self._rows.get(path, _NOTHING)[0]
        }
        if lacking:
            together = frozenset().union(*lacking.values())
            entries = [self._entries[path] for path in lacking]
            for path, blocks in rows.fetch(self._place, entries, together).items():
                self._rows[path] = together, blocks
        kept = sum(len(table) for _, blocks in self._rows.values() for table in blocks.values())
        if kept > _MAX_ROWS:
            self._rows = {path: self._rows[path] for path in conditions if path in self._rows}

    def _fetch_frames(self, paths: Iterable[str]) -> None:
        lacking = [path for path in paths if path in self._entries and path not in self._frames]
        if lacking:
            entries = [self._entries[path] for path in lacking]
            self._frames |= fetch_frames(self._place, entries)
        while (
            len(self._frames) > len(lacking) and sum(map(len, self._frames.values())) > _MAX_FRAMES
        ):
            del self._frames[next(iter(self._frames))]

    def rows_of(self, path: str, query: Query) -> rows.Blocks:
        """The rows of a segment that `query` can want, by block.  Raises ArchiveError."""
        condition = rows.condition(query)
        if condition not in self._rows.get(path, _NOTHING)[0]:
            found = rows.fetch(self._place, [self._entries[path]], [condition])
            return found[path]
        return self._rows[path][1]

    def open(self, path: str) -> Recording:
        """A segment.  Raises ArchiveError and FormatError."""
        entry = self._entries[path]
        if path not in self._frames:
            self._fetch_frames([path])
        segment = StoredSegment(path, self, _file_of(self._frames[path], path))
        try:
            blocks = segment.blocks_of(Kind.CONNECTIONS)
            stored = sum(block.rows for block in blocks)
            if segment.last_hash.hex() != entry.last_hash or stored != entry.rows:
                raise ArchiveError(f"{path}: its frames are not those of the segment")
        except BaseException:
            segment.close()
            raise
        known(segment)
        routers.place(segment)
        return segment

    def follow(
        self, path: str, hashes: Hashes, chains: Chains, pool: Pool, query: Query
    ) -> Followed | None:
        """The flows with these keys, which match `query`, through the segments after `path`.

        Raises ArchiveError.
        """
        later = [place[0].path for place in chains.after(path) if len(place) == 1]
        parts = f"({rows.condition(query.of_flows())}) AND {rows.ARE_PARTS}"
        found: dict[str, rows.Blocks] = {}

        def keys_of(path: str) -> Keys | None:
            if path not in found and path in self._entries:
                at = later.index(path)
                some = later[at : at + max(len(found), _FOLLOWED)]
                entries = [self._entries[each] for each in some if each in self._entries]
                found.update(rows.fetch(self._place, entries, [parts]))
            return Keys.of(found[path].values()) if path in found else None

        return follow(path, hashes, chains, keys_of)

    def receipts_of(self, since: int, until: int) -> tuple[Receipt, ...]:
        """The receipts of segments of a time, ns.  Raises ArchiveError."""
        return tuple(
            one
            for _, _, one in manifest.expired(self._place)
            if one.since < until and since <= one.until
        )


_NOTHING: tuple[frozenset[str], rows.Blocks] = (frozenset(), {})


def _file_of(frames: bytes, path: str) -> int:
    """The descriptor of a file in memory with the pieces of a skeleton."""
    pieces = skeleton.parse(frames)
    try:
        descriptor = os.memfd_create(os.path.basename(path), os.MFD_CLOEXEC)
        for offset, data in pieces:
            os.pwrite(descriptor, data, offset)
    except OSError as error:
        raise ArchiveError(f"{path}: {error.strerror}") from error
    return descriptor


class _StoredPool(Pool):
    def __init__(self, store: Store, jobs: int) -> None:
        super().__init__(jobs)
        self._store = store

    def _open(self, path: str) -> Recording:
        return self._store.open(path)


class _StoredReceipts(Receipts):
    def __init__(self, place: Place | None) -> None:
        super().__init__()
        self._place = place
        self._by_chain: dict[str, dict[str, str]] | None = None

    def _read(self, segment: Recording) -> dict[str, str]:
        if self._by_chain is None:
            self._by_chain = {}
            for _, chain, receipt in manifest.expired(self._place) if self._place else ():
                onward = self._by_chain.setdefault(chain, {})
                onward |= dict.fromkeys(receipt.hashes, receipt.previous_hash)
        return self._by_chain.get(segment.header.chain or "", {})
