"""Where the segments of an archive are: in folders here; `store` has them in a database."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial

from ctrecorder.archive import find
from ctrecorder.archive.follow import Followed, Hashes, follow, keys_in
from ctrecorder.archive.near import Chains
from ctrecorder.archive.shared import Pool
from ctrecorder.ctlog.predicate import Query
from ctrecorder.query.evidence import Receipts


class Source:
    """The segments in the folders and files `paths`."""

    def __init__(self, paths: Sequence[str]) -> None:
        self.paths = list(paths)

    def find(self) -> find.FolderListing:
        """What is there, with spans."""
        return find.find(self.paths, spans=True)

    def pool(self, jobs: int) -> Pool:
        """What opens segments, in one of `jobs` processes."""
        return Pool(jobs)

    def receipts(self) -> Receipts:
        """The receipts of what was deleted."""
        return Receipts()

    def copies(self, paths: Iterable[str]) -> list[tuple[str, str]]:
        """What is not read for one of `paths`, as in `Archive`, and not found by opening it."""
        return []

    def prepare(self, asked: Iterable[tuple[Sequence[str], Query]]) -> None:
        """Get ready for queries, each to the segments with some paths."""

    def follow(
        self, path: str, hashes: Hashes, chains: Chains, pool: Pool, query: Query
    ) -> Followed | None:
        """As `archive.follow`: the flows with these keys, which match `query`."""
        return follow(path, hashes, chains, partial(keys_in, pool=pool))
