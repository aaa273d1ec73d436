"""Makes the segments in tests/data/golden, which every later version must read.  Run once for each
version of the format:

    /usr/bin/python3 -m tests.data.make_golden

It makes those that are not there, and refuses to overwrite.  Beside each segment stands what is in
it, taken from what was written, not from what was read.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ctrecorder.columns import Array, Event, Table, bits
from ctrecorder.ctlog import bloom
from ctrecorder.ctlog.codecs import Grouped
from ctrecorder.ctlog.encoder import encode_columns
from ctrecorder.ctlog.frame import NO_HASH, VERSION, Gap, Kind, Mark, block_times
from ctrecorder.ctlog.header import Header
from ctrecorder.ctlog.index import FORM_COLUMNS
from ctrecorder.ctlog.plans import GROUPS, LIVE, SQUEEZED, EncodingPlan
from ctrecorder.maintain.squeeze import SqueezeOptions, squeeze
from ctrecorder.segment.pending import PendingBlock
from ctrecorder.segment.writer import SegmentWriter
from tests.support import tables
from tests.support.tables import CONNECTION_COLUMNS, EVENT_COLUMNS, FAMILIES, NOON, SECOND

GOLDEN = Path(__file__).parent / "golden"
KEY = b"a key for tests alone"
HEADER = {
    "host": "router.example",
    "boot_id": "00000000-0000-4000-8000-000000000000",
    "kernel": "6.12.0",
    "protocols": [],
    "nat_only": False,
    "updates": True,
    "buffer_bytes": 67108864,
    "sysctls": {"net.netfilter.nf_conntrack_events": 1},
    "template": "v1-%s.ctlog",
    "chain": "0123456789abcdef",
}


def plain(values: Array) -> list[int | str]:
    """A column as JSON: numbers; 16 bytes in hex."""
    if values.dtype.kind != "S":
        return [int(value) for value in values]
    data = np.ascontiguousarray(values).tobytes()
    return [data[at : at + 16].hex() for at in range(0, len(data), 16)]


class Golden:
    """A segment and what it holds."""

    def __init__(
        self,
        name: str,
        header: dict[str, Any],
        previous_hash: bytes = NO_HASH,
        key: bytes = b"",
        *,
        is_small: bool = False,
    ) -> None:
        self.path = GOLDEN / f"{name}.ctlog"
        self.writer = SegmentWriter.create(
            str(self.path),
            Header.from_json({**HEADER, **header}),
            previous_hash,
            time_ns=NOON,
            key=key,
            is_small=is_small,
        )
        self.blocks: list[dict[str, Any]] = []

    def table(self, kind: Kind, table: Table, plan: EncodingPlan | None = None) -> None:
        """Rows as the recorder would write them, or in form COLUMNS by `plan`."""
        if plan is None:
            self.writer.append(table)
        else:
            payload = encode_columns(table, 3, plan)
            self.writer.write(
                PendingBlock(
                    kind, payload, block_times(kind, table), table.family, FORM_COLUMNS, len(table)
                )
            )
        self.note(kind, table)

    def note(self, kind: Kind, table: Table) -> None:
        """That a table was written."""
        columns = {
            name: plain(array)
            for name, array in table.columns.items()
            if np.ascontiguousarray(array).tobytes().strip(b"\0")
        }
        self.blocks.append(
            {"kind": kind, "family": table.family, "rows": len(table), "columns": columns}
        )

    def gap(self, begin: int, end: int, reason: str, lost: int | None, detail: str) -> None:
        self.writer.gap(Gap(begin, end, reason, lost, detail))
        self.blocks.append(
            {
                "kind": Kind.GAP,
                "begin": begin,
                "end": end,
                "json": {"reason": reason, "lost": lost, "detail": detail},
            }
        )

    def mark(self, what: str, facts: dict[str, Any], begin: int, end: int) -> None:
        self.writer.mark(Mark(begin, end, what, facts))
        self.blocks.append(
            {"kind": Kind.MARK, "begin": begin, "end": end, "json": {"what": what, **facts}}
        )

    def finish(self, closed: bool = True) -> bytes:
        """Close it, or leave it as a crash would, with half a block at its end; returns its last
        hash.
        """
        if closed:
            last_hash = self.writer.close(
                {"events": sum(block.get("rows", 0) for block in self.blocks)}
            )
        else:
            last_hash, size = self.writer.last_hash, self.writer.size
            self.writer.append(tables.events(FAMILIES[0], 9))
            self.writer.sync()
            os.truncate(self.path, (size + self.writer.size) // 2)
        self.describe(last_hash, closed)
        return last_hash

    def describe(self, last_hash: bytes, closed: bool) -> None:
        """Write what is in it beside it."""
        facts = {"last_hash": last_hash.hex(), "closed": closed, "blocks": self.blocks}
        self.path.with_suffix(".json").write_text(json.dumps(facts, separators=(",", ":")) + "\n")


def fill(golden: Golden) -> None:
    """Blocks of every kind, in every form, with every column and every encoding."""
    golden.mark("start", {"version": "1.0.0"}, NOON, NOON)
    for family in FAMILIES:
        golden.table(Kind.EVENTS, tables.events(family, 5, seed=1))
    golden.gap(NOON, NOON + SECOND, "overrun", 123, "the receive buffer was full")
    for family in FAMILIES:
        golden.table(Kind.EVENTS, tables.events(family, 40, seed=2, kinds=5), LIVE)
        golden.table(Kind.EVENTS, tables.extremes(family, 3, EVENT_COLUMNS), {})
        constant = tables.events(family, 1, seed=3)
        golden.table(Kind.EVENTS, constant.take(np.zeros(6, np.intp)), LIVE)
    for family in FAMILIES:
        for step in (1000, SECOND):
            golden.table(
                Kind.CONNECTIONS,
                tables.connections(family, 40, seed=4, kinds=5, step=step),
                SQUEEZED,
            )
        in_ranges = {
            name: replace(scheme, ranges=min(scheme.ranges, 1)) for name, scheme in SQUEEZED.items()
        }
        golden.table(Kind.CONNECTIONS, tables.connections(family, 40, seed=6, kinds=5), in_ranges)
        golden.table(Kind.CONNECTIONS, tables.connections(family, 40, seed=5, kinds=40), {})
        golden.table(
            Kind.CONNECTIONS, tables.extremes(family, 3, CONNECTION_COLUMNS).slice(1, 3), {}
        )
    golden.mark("dump", {"rows": 45, "complete": True, "detail": ""}, NOON, NOON + SECOND)
    golden.gap(NOON + SECOND, NOON + 2 * SECOND, "not-recording", None, 'é\n"')


def squeezed(name: str, previous_hash: bytes) -> None:
    """A segment that ctsqueeze wrote, with ADDRESSES, small as it is; what was written is noted on
    the way.
    """
    golden = Golden(name, {"sequence": 2, "previous": "v1-before.ctlog"}, previous_hash)
    for family in FAMILIES:
        new = tables.events(family, 400, seed=7, kinds=60)
        golden.writer.append(
            Table(family, 400, {**new.columns, "event": np.full(400, Event.NEW, np.uint8)})
        )
        end = {
            **new.columns,
            "event": np.full(400, Event.DESTROY, np.uint8),
            "time": new["time"] + SECOND + np.arange(400) * 1_000_003,
        }
        golden.writer.append(Table(family, 400, end).slice(9, 400))
    golden.gap(NOON, NOON + SECOND, "overrun", 123, "the receive buffer was full")
    golden.mark("dump", {"rows": 0, "complete": False}, NOON, NOON + SECOND)
    golden.writer.close()
    notes, golden.blocks = golden.blocks, []
    append, bloom.LEAST_ROWS = SegmentWriter.append, 1

    def noted(
        writer: SegmentWriter, table: Table, *, kind: Kind, level: int, plan: EncodingPlan
    ) -> None:
        append(writer, table, kind=kind, level=level, plan=plan)
        golden.note(kind, table)

    SegmentWriter.append = noted  # type: ignore[assignment]
    result = squeeze(str(golden.path), SqueezeOptions())
    assert result is not None
    golden.blocks += [*notes, {"kind": Kind.ADDRESSES}]
    golden.describe(bytes.fromhex(result.last_hash), True)


def with_masters(table: Table) -> Table:
    """The table with helper, labels and master in some rows."""
    rows = len(table)
    has = np.arange(rows) % 3 == 0
    master = {
        f"master_{name}": np.where(
            has, table[f"orig_{name}"], np.zeros((), table[f"orig_{name}"].dtype)
        )
        for name in ("src", "dst", "sport", "dport")
    }
    added = {
        "helper": np.where(has, b"ftp", b"").astype("S16"),
        "labels": np.where(np.arange(rows) % 5 == 1, bytes(range(1, 17)), b"").astype("S16"),
        "master_l4proto": np.where(has, 6, 0).astype(np.uint8),
    }
    present = table["present"] | np.where(has, np.uint32(bits(("helper",))), np.uint32(0))
    return Table(table.family, rows, {**table.columns, **added, **master, "present": present})


def masters() -> None:
    """The columns that version 1.2 added, in every form."""
    golden = Golden("v2-masters", {"sequence": 1, "requires": [], "template": "v2-%s.ctlog"})
    for family in FAMILIES:
        golden.table(Kind.EVENTS, with_masters(tables.events(family, 5, seed=1)))
        golden.table(Kind.EVENTS, with_masters(tables.events(family, 60, seed=2, kinds=5)), LIVE)
        golden.table(Kind.EVENTS, tables.extremes(family, 3, EVENT_COLUMNS), {})
        connections = tables.connections(family, 60, seed=4, kinds=5)
        golden.table(Kind.CONNECTIONS, with_masters(connections), SQUEEZED)
    golden.finish()


def version_2() -> None:
    """A segment of version 2, with starts in groups."""
    golden = Golden("v2-grouped", {"sequence": 1, "requires": ["coverage", "grouped"]})
    small = replace(GROUPS["start"], ranges=1)
    for family in FAMILIES:
        golden.table(Kind.EVENTS, tables.events(family, 5, seed=8))
        for kinds, step in ((1, 1), (3, 1000), (5, SECOND), (40, 1000)):
            made = tables.connections(family, 60, seed=9, kinds=kinds, step=step)
            order = np.lexsort([made[each] for each in ("start", *reversed(Grouped.BY))])
            golden.table(Kind.CONNECTIONS, made.take(order), {**GROUPS, "start": small})
    golden.finish()


def packed() -> None:
    """A small segment as ctsqueeze writes it: its HEADER packed, its FOOTER without records."""
    how = {"ids": False, "resolution": "us", "torn": 0}
    replaced = {
        "name": "v2-0.ctlog", "last_hash": "0123456789abcdef" * 2, "rows": 6, "bytes": 1500,
        "state": "closed", "program": "ctrecorder 1.1.0",
    }  # fmt: skip
    header = {"sequence": 1, "requires": ["coverage"], "squeezed": how, "replaces": [replaced]}
    golden = Golden("v2-packed", header, is_small=True)
    for family in FAMILIES:
        golden.table(Kind.CONNECTIONS, tables.connections(family, 3, seed=11), SQUEEZED)
    golden.gap(NOON, NOON + SECOND, "overrun", 3, "")
    golden.mark("heartbeat", {}, NOON + SECOND, NOON + SECOND)
    golden.finish()


def main() -> None:
    """Make the files that are not there: those that are, are kept for ever."""
    GOLDEN.mkdir(exist_ok=True)
    names: dict[str, Callable[[], None]] = {
        "v1-closed": version_1,
        "v2-grouped": version_2,
        "v2-masters": masters,
        "v2-packed": packed,
    }
    missing = [make for name, make in names.items() if not (GOLDEN / f"{name}.ctlog").exists()]
    if not missing:
        sys.exit(f"{GOLDEN} has all files: they are kept for ever")
    for make in missing:
        make()


def version_1() -> None:
    """The files of version 1."""
    closed = Golden(f"v{VERSION}-closed", {"sequence": 1})
    fill(closed)
    last_hash = closed.finish()
    crashed = Golden(
        f"v{VERSION}-crashed", {"sequence": 2, "previous": closed.path.name}, last_hash
    )
    fill(crashed)
    crashed.finish(closed=False)
    sealed = Golden(f"v{VERSION}-sealed", {"chain": "fedcba9876543210", "sequence": 1}, key=KEY)
    fill(sealed)
    sealed.finish()
    squeezed(f"v{VERSION}-squeezed", last_hash)


if __name__ == "__main__":
    main()
