"""Segments that a stranger made: whatever lengths, counts and columns they claim, their hashes are
right.
"""

from __future__ import annotations

from hashlib import blake2b
from pathlib import Path

import numpy as np

from ctrecorder import uapi
from ctrecorder.columns import COLUMNS, CONNECTION_ONLY, EVENT_ONLY, MASTER, Table, bits
from ctrecorder.ctlog.entry import ENTRY, body_hash
from ctrecorder.ctlog.frame import (
    FRAME,
    HASHED,
    INDEX,
    MAGIC,
    NO_HASH,
    TABLES,
    Gap,
    Kind,
    Mark,
    pack_block,
    pack_footer,
)
from ctrecorder.ctlog.index import FORM_COLUMNS, HEAD
from ctrecorder.segment.pending import (
    PendingBlock,
    gap_block,
    header_block,
    mark_block,
    table_blocks,
)

NOON = 1_800_000_000_000_000_000


def table(family: int, rows: int, kind: Kind, seed: int) -> Table:
    """Rows with a value in every column of the block kind: a few distinct values, or noise."""
    random = np.random.default_rng(seed)
    absent = CONNECTION_ONLY if kind == Kind.EVENTS else EVENT_ONLY
    columns = {}
    for column in COLUMNS:
        if column.name in absent:
            continue
        dtype = column.dtype(family)
        if dtype.kind == "S":
            columns[column.name] = np.frombuffer(random.bytes(16 * 5), "S16")[
                random.integers(0, 5, rows)
            ]
        else:
            columns[column.name] = random.integers(0, 50, rows).astype(dtype)
    columns["present"] = np.full(rows, bits(columns.keys() - {*MASTER}) & 0xFFFFFFFF, np.uint32)
    for name in {"time", "start", "end"} & columns.keys():
        columns[name] = NOON + random.integers(0, 10**9, rows)
    if kind == Kind.EVENTS:
        columns["event"] = random.integers(1, 5, rows).astype(np.uint8)
    columns["l4proto"] = random.choice(np.array([1, 6, 17, 58], np.uint8), rows)
    return Table(family, rows, columns)


def segment(
    *drafts: PendingBlock, closed: bool = True, facts: dict[str, object] | None = None
) -> bytes:
    """A segment of these blocks, with a header and, if `closed`, a footer."""
    header = {
        "format": "ctlog",
        "host": "router",
        "chain": "feed",
        "sequence": 1,
        "program": "ctrecorder 0",
        **(facts or {}),
    }
    data, previous, index, rows = b"", NO_HASH, [], 0
    for draft in (header_block(header, NOON), *drafts):
        block = pack(draft, previous)
        index.append((len(data), *draft.times, draft.rows, draft.kind, draft.family, draft.form, 0))
        data, previous, rows = data + block, block[HASHED : FRAME.size], rows + draft.rows
    if closed:
        data += pack(
            PendingBlock(
                Kind.FOOTER,
                pack_footer(np.array(index, INDEX), {"rows": rows}, len(data)),
                (NOON, NOON),
            ),
            previous,
        )
    return data


def pack(draft: PendingBlock, previous: bytes) -> bytes:
    return pack_block(
        draft.kind,
        draft.payload,
        previous,
        draft.times,
        family=draft.family,
        form=draft.form,
        rows=draft.rows,
    )


def seeds() -> list[bytes]:
    """Small sound segments of all kinds of blocks, forms and families: where a fuzzer begins."""
    found = []
    for family in (uapi.AF_INET, uapi.AF_INET6):
        for kind, rows in (
            (Kind.EVENTS, 3),
            (Kind.EVENTS, 260),
            (Kind.CONNECTIONS, 3),
            (Kind.CONNECTIONS, 40),
        ):
            facts: dict[str, object] = (
                {"squeezed": {"resolution": "ns", "ids": True, "torn": 0}}
                if kind == Kind.CONNECTIONS
                else {}
            )
            found.append(
                segment(
                    *table_blocks(table(family, rows, kind, rows), kind),
                    closed=rows > 3,
                    facts=facts,
                )
            )
    small = table_blocks(table(uapi.AF_INET, 2, Kind.EVENTS, 1))
    dump = mark_block(Mark(NOON, NOON + 9, "dump", {"complete": True, "rows": 2}))
    notes = [mark_block(Mark.at(NOON, "start")), gap_block(Gap(NOON, NOON + 5, "overrun", 7)), dump]
    return [*found, segment(*notes), segment(*small, *notes, *small, closed=False)]


def reseal(data: bytes) -> bytes:
    """`data` with every hash made right, as far as its own lengths lead."""
    out, at, previous = bytearray(data), 0, b""
    while (at := out.find(MAGIC, at)) >= 0 and at + FRAME.size <= len(out):
        _, kind, _, _, form, _, length, *_ = FRAME.unpack_from(out, at)
        payload, end = at + FRAME.size, min(at + FRAME.size + length, len(out))
        hashed = end
        if form == FORM_COLUMNS and kind in TABLES and end - payload >= HEAD.size:
            hashed = reseal_bodies(out, payload, end)
        if previous:
            out[at + 32 : at + HASHED] = previous
        previous = blake2b(out[at : at + HASHED] + out[payload:hashed], digest_size=16).digest()
        out[at + HASHED : payload] = previous
        at = end
    return bytes(out)


def reseal_bodies(out: bytearray, payload: int, end: int) -> int:
    """Put right the hashes of a payload's bodies in its directory; where its index ends."""
    count, _, length = HEAD.unpack_from(out, payload)
    body = min(payload + length, end)
    for place in range(
        payload + HEAD.size,
        min(payload + HEAD.size + count * ENTRY.size, body - ENTRY.size + 1),
        ENTRY.size,
    ):
        stored = ENTRY.unpack_from(out, place)[7]
        if stored:
            out[place + ENTRY.size - 16 : place + ENTRY.size] = body_hash(
                bytes(out[body : min(body + stored, end)])
            )
        body = min(body + stored, end)
    return int(min(payload + length, end))


CORPUS = Path(__file__).resolve().parents[1] / "data" / "fuzz"


def kept() -> list[Path]:
    """What a fuzzer once found something with: each stays a test."""
    return sorted(CORPUS.iterdir()) if CORPUS.is_dir() else []
