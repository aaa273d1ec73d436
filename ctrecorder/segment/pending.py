"""Pending blocks: encoded, but not yet part of a chain.

A pending block can be written to any segment.  Pending blocks wait in memory while a disk fails:
they take 10 to 20 bytes an event, a tenth of the table.  Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from ctrecorder.columns import Table
from ctrecorder.ctlog.encoder import encode_columns, encode_small
from ctrecorder.ctlog.frame import (
    ROWS_WRITTEN,
    SMALL_ROWS,
    WATERMARK,
    Gap,
    Kind,
    Mark,
    block_times,
    dump_json,
)
from ctrecorder.ctlog.header import packed
from ctrecorder.ctlog.index import FORM_COLUMNS, FORM_PACKED, FORM_SMALL, WHOLE
from ctrecorder.ctlog.plans import LIVE, EncodingPlan

# Memory of a pending block besides its payload: the objects of its fields.
OVERHEAD_BYTES = 400


# MARKs that are about a moment, not about a period.
_MOMENTS = frozenset(("start", "heartbeat", "stop"))


class PendingBlock(NamedTuple):
    """A block without its two hashes.

    `times`: time_min and time_max, ns UTC.  `form`: with WATERMARK, if the block has one.
    `carries`: it may get one: time_max, which that moves, means nothing else.
    """

    kind: Kind
    payload: bytes
    times: tuple[int, int]
    family: int = 0
    form: int = WHOLE
    rows: int = 0
    carries: bool = False

    def with_watermark(self, watermark: int) -> PendingBlock:
        """The same block, EVENTS or MARK, as the last one with events until `watermark`, ns UTC."""
        times = (self.times[0], max(self.times[1], watermark))
        return self._replace(form=self.form | WATERMARK, times=times)

    @property
    def watermark(self) -> int | None:
        """The watermark that it carries, ns UTC; None if it carries none."""
        return self.times[1] if self.form & WATERMARK else None

    @property
    def size(self) -> int:
        """Bytes in memory."""
        return len(self.payload) + OVERHEAD_BYTES


def table_blocks(
    table: Table, kind: Kind = Kind.EVENTS, level: int = 1, plan: EncodingPlan = LIVE
) -> list[PendingBlock]:
    """`table` as one block, or as several blocks of at most 65,536 rows."""
    blocks = []
    for first in range(0, len(table), ROWS_WRITTEN):
        part = table if len(table) <= ROWS_WRITTEN else table.slice(first, first + ROWS_WRITTEN)
        form, payload = _encoded(part, kind, level, plan)
        blocks.append(
            PendingBlock(
                kind,
                payload,
                block_times(kind, part),
                part.family,
                form,
                len(part),
                carries=kind == Kind.EVENTS,
            )
        )
    return blocks


def _encoded(table: Table, kind: Kind, level: int, plan: EncodingPlan) -> tuple[int, bytes]:
    """Form and payload.  Of connections, the smaller one of both forms: there is time to try."""
    small = encode_small(table, level) if len(table) <= SMALL_ROWS else b""
    columns = encode_columns(table, level, plan) if not small or kind == Kind.CONNECTIONS else b""
    return (
        (FORM_SMALL, small)
        if small and (not columns or len(small) < len(columns))
        else (FORM_COLUMNS, columns)
    )


def header_block(
    facts: Mapping[str, Any], time_ns: int, *, is_packed: bool = False
) -> PendingBlock:
    """A HEADER block, in form PACKED if `is_packed`."""
    times, payload = (time_ns, time_ns), dump_json(dict(facts))
    if not is_packed:
        return PendingBlock(Kind.HEADER, payload, times)
    return PendingBlock(Kind.HEADER, packed(payload), times, form=FORM_PACKED)


def addresses_block(payload: bytes, times: tuple[int, int]) -> PendingBlock:
    """An ADDRESSES block.  `payload`: of a `bloom.Collector`; `times`: of all blocks before it."""
    return PendingBlock(Kind.ADDRESSES, payload, times)


def gap_block(gap: Gap) -> PendingBlock:
    """A GAP.  If the clock was set back, `end` is before `begin`: its frame has `begin` twice."""
    return PendingBlock(Kind.GAP, gap.payload(), (gap.begin, max(gap.begin, gap.end)))


def mark_block(mark: Mark) -> PendingBlock:
    """A MARK, with the times of its frame as those of a GAP."""
    span = (mark.begin, max(mark.begin, mark.end))
    return PendingBlock(Kind.MARK, mark.payload(), span, carries=mark.what in _MOMENTS)
