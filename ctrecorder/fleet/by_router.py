"""The rows of many routers in one order, each with its router as the first column.

The rows of each router are listed by themselves, as they are from its own folder.  Pieces of at
most some thousand rows of each are in memory.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from ctrecorder.archive.routers import router_of
from ctrecorder.columns import Table
from ctrecorder.order.batches import Batch
from ctrecorder.order.external_sort import Key, Keys
from ctrecorder.order.last import chosen_rows
from ctrecorder.query.open import Archive
from ctrecorder.render.renderer import Renderer, interleave
from ctrecorder.screen.fields import Field, Look, items
from ctrecorder.terminal import printable

# Lists the rows of an archive in order.
List = Callable[[Archive], Iterator[Batch]]
# A column of the tables of `merged`: the number of the router.
_ROUTER = "router"


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


def merged(routers: dict[str, Archive], listed: List, key: Key) -> Iterator[Batch]:
    """The rows of all routers in the order of `key`; `listed`: lists an archive in this order."""
    sources = [
        _Source(number, listed(archive), key) for number, archive in enumerate(routers.values())
    ]
    while True:
        for one in sources:
            one.fill()
        sources = [one for one in sources if not one.is_over]
        if not sources:
            return
        # Later rows of a router are not before the last one of these.
        until = min(one.keys[-1] for one in sources)
        taken = [one.take(until) for one in sources]
        tables, orders, before = [], [], 0
        for _, batch in taken:
            tables += batch.tables
            orders.append(np.asarray(batch.order, np.intp) + before)
            before += len(orders[-1])
        keys = np.concatenate([keys for keys, _ in taken])
        yield Batch(tables, np.concatenate(orders)[np.argsort(keys, kind="stable")])


def at_once(batches: Iterator[Batch], key: Key) -> Iterator[Batch]:
    """All rows, which fit in memory, in the order of `key`."""
    tables = [table for batch in batches for table in batch.tables]
    if tables:
        yield Batch(tables, np.argsort(np.concatenate([key(one) for one in tables]), kind="stable"))


@dataclass
class _Source:
    """The rows of a router.

    `keys`: (n,) of the rows of a batch, in order.  `rows`: their tables; `order`: (n,) of these
    rows.  `taken`: how many were taken.
    """

    router: int
    batches: Iterator[Batch]
    key: Key
    keys: Keys = field(default_factory=lambda: np.zeros(0, np.int64))
    tables: list[Table] = field(default_factory=list)
    order: NDArray[np.intp] = field(default_factory=lambda: np.zeros(0, np.intp))
    taken: int = 0

    @property
    def is_over(self) -> bool:
        """If there are no rows left."""
        return self.taken == len(self.keys)

    def fill(self) -> None:
        """Have rows, unless there are none any more."""
        while self.is_over:
            batch = next(self.batches, None)
            if batch is None:
                return
            # An order counts the rows of empty tables too, which are none.
            self.tables = [table for table in batch.tables if len(table)]
            if not self.tables:
                continue
            keys = np.concatenate([self.key(table) for table in self.tables])
            order = batch.order
            self.order = np.argsort(keys, kind="stable") if order is None else order
            keys = keys[self.order]
            # A list by end is not in the order of its times.
            self.keys = np.maximum.accumulate(keys) if keys.dtype.kind == "i" else keys
            self.taken = 0

    def take(self, until: int | bytes) -> tuple[Keys, Batch]:
        """The rows up to the key `until`, with the router."""
        first = self.taken
        self.taken = max(first, int(np.searchsorted(self.keys, until, "right")))
        batch = chosen_rows(self.tables, self.order[first : self.taken])
        number = np.uint32(self.router)
        tables = [
            Table(one.family, len(one), {**one.columns, _ROUTER: np.full(len(one), number)})
            for one in batch.tables
        ]
        return self.keys[first : self.taken], batch._replace(tables=tables)


def router_field(names: Sequence[str], form: str) -> Field:
    """The column of the router, for rows of `merged`; as `form` quotes it."""
    texts = [_text(name, form) for name in names]

    def of_rows(table: Table, look: Look) -> list[str]:
        return [texts[number] for number in items(table[_ROUTER])]

    return Field(_ROUTER, "ROUTER", of_rows, ())


def _text(name: str, form: str) -> str:
    if form == "json":
        return json.dumps(name)[1:-1]
    return _column(name, form)[:-1]


@dataclass
class ByRouter:
    """Plain lines of rows of `merged`, as a `listing.output.Lines`.  `names`: of the routers."""

    renderer: Renderer
    names: Sequence[str]
    form: str

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of tables that it reads."""
        return self.renderer.columns

    @property
    def head(self) -> bytes:
        """The first line of all."""
        return head(self.renderer.head, self.form)

    def lines(
        self, tables: Sequence[Table], order: NDArray[np.intp] | None = None
    ) -> Iterator[bytes]:
        """The lines, each with its router."""
        if order is None or not len(order):
            return
        of_tables = np.array([int(table[_ROUTER][0]) for table in tables])
        lengths = [len(table) for table in tables]
        routers = np.repeat(of_tables, lengths)
        owner, texts = routers[order], []
        present = np.unique(of_tables)
        for router in present.tolist():
            mine = [table for table in tables if int(table[_ROUTER][0]) == router]
            place = np.cumsum(routers == router) - 1  # of a row among those of its router
            text = b"".join(self.renderer.lines(mine, place[order[owner == router]]))
            texts.append(_with_router(text, self.names[router], self.form))
        yield interleave(texts, np.searchsorted(present, owner))


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
