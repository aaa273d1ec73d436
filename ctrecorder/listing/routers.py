"""The lines of many routers in one order of time, each with its router as the first column.

The rows of each router are listed by themselves, as they are from its own folder.  Pieces of at
most some thousand lines of each are in memory.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ctrecorder.archive.routers import router_of
from ctrecorder.ctlog.frame import Kind, row_times
from ctrecorder.order.batches import Batch
from ctrecorder.query.open import Archive
from ctrecorder.render.renderer import Renderer, interleave
from ctrecorder.terminal import printable

# Lists the rows of an archive, in order of time.
List = Callable[[Archive], Iterator[Batch]]


class Piece(NamedTuple):
    """Lines, and how many there are."""

    text: bytes
    rows: int


def by_router(archive: Archive) -> dict[str, Archive]:
    """The archive of each router, by its name; empty if all segments are in folders of one."""
    found: dict[str, Archive] = {}
    for segment in archive.segments:
        router = router_of(segment.path)
        if router not in found:
            found[router] = replace(archive, segments=[])
        found[router].segments.append(segment)
    return {name: found[name] for name in sorted(found)} if any(found) else {}


def head(text: bytes, form: str) -> bytes:
    """The first line of all, with the name of the column."""
    return b"router," + text if form == "csv" and text else text


def lines(
    routers: dict[str, Archive], listed: List, renderer: Renderer, form: str, kind: Kind
) -> Iterator[Piece]:
    """The lines of all routers.  `listed`: lists an archive.  `kind`: what its rows are."""
    sources = [
        _Source(name, form, listed(archive), renderer, kind) for name, archive in routers.items()
    ]
    while True:
        for one in sources:
            one.fill()
        sources = [one for one in sources if not one.is_over]
        if not sources:
            return
        # Later pieces of a router are not before the last line of this one.
        until = min(int(one.times[-1]) for one in sources)
        taken = [one.take(until) for one in sources]
        times = np.concatenate([moments for moments, _ in taken])
        owner = np.repeat(np.arange(len(taken)), [len(moments) for moments, _ in taken])
        yield Piece(
            interleave([text for _, text in taken], owner[np.argsort(times, kind="stable")]),
            len(times),
        )


@dataclass
class _Source:
    """The lines of a router.

    `times`: (n,) ns, of the lines of a batch.  `text`: these lines; `ends`: (n,) where each ends.
    `taken`: how many were taken.
    """

    router: str
    form: str
    batches: Iterator[Batch]
    renderer: Renderer
    kind: Kind
    times: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    text: bytes = b""
    ends: NDArray[np.intp] = field(default_factory=lambda: np.zeros(0, np.intp))
    taken: int = 0

    @property
    def is_over(self) -> bool:
        """If there are no lines left."""
        return self.taken == len(self.times)

    def fill(self) -> None:
        """Have lines, unless there are none any more."""
        while self.is_over:
            batch = next(self.batches, None)
            if batch is None:
                return
            tables = [table for table in batch.tables if len(table)]
            if not tables:
                continue
            found = np.concatenate([row_times(self.kind, table) for table in tables])
            if len(tables) > 1:
                order = batch.order
                found = found[np.argsort(found, kind="stable") if order is None else order]
            # A list by end is not in the order of these times.
            self.times, self.taken = np.maximum.accumulate(found), 0
            self.text = b"".join(self.renderer.lines(tables, batch.order))
            self.ends = np.flatnonzero(np.frombuffer(self.text, np.uint8) == ord("\n")) + 1

    def take(self, until: int) -> tuple[NDArray[np.int64], bytearray]:
        """The lines up to the time `until`, each with the router."""
        first, self.taken = self.taken, int(np.searchsorted(self.times, until, "right"))
        if self.taken <= first:
            self.taken = first
            return self.times[:0], bytearray()
        begin, end = int(self.ends[first - 1]) if first else 0, int(self.ends[self.taken - 1])
        text = _with_router(self.text[begin:end], self.router, self.form)
        return self.times[first : self.taken], text


def _with_router(text: bytes, router: str, form: str) -> bytearray:
    """Lines, each with the router as its first column or member."""
    if form == "json":
        prefix = f'{{"router":{json.dumps(router)},'.encode()
        return bytearray(prefix + text[1:-1].replace(b"\n{", b"\n" + prefix) + b"\n")
    prefix = _column(router, form).encode()
    return bytearray(prefix + text[:-1].replace(b"\n", b"\n" + prefix) + b"\n")


def _column(router: str, form: str) -> str:
    name = printable(router) or "-"
    if form != "csv":
        return f"{name} "
    return '"' + name.replace('"', '""') + '",' if {'"', ","} & {*name} else f"{name},"
