"""Blocks of connections that nothing can join: they need no pairing."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from ctrecorder.archive.silent_loss import SilentLoss
from ctrecorder.columns import Table
from ctrecorder.connections.flowkey import KEY
from ctrecorder.connections.parts import DESTROY, NEW, SPAN
from ctrecorder.ctlog.decoder import LazyTable
from ctrecorder.ctlog.index import FORM_COLUMNS
from ctrecorder.ctlog.predicate import Query
from ctrecorder.errors import FormatError
from ctrecorder.findings import damage
from ctrecorder.segment.reader import Bounds, Segment
from ctrecorder.segment.recording import Block, Recording

_BOTH_ENDS = np.uint8(NEW | DESTROY)
_NEEDED = (*KEY, *SPAN, "time", "present")


class WholeBlocks:
    """Takes the blocks all of whose connections have a NEW and a DESTROY and are no parts.

    `Pairer` would return these rows as they are, and in itself none of them proves a loss.
    """

    def __init__(self, add: Callable[[Table | LazyTable], None]) -> None:
        """`add`: is called with the wanted rows."""
        self._add = add
        self._taken: list[tuple[Segment, Block]] = []

    def take(self, segment: Recording, block: Block, query: Query) -> bool:
        """Whether it is such a block.  A damaged one is not taken: who reads it reports it.

        `query`: of connections.  Who asks gives the blocks that were taken to `note`.
        """
        if not isinstance(segment, Segment) or block.form != FORM_COLUMNS:
            return False
        try:
            rows = segment.rows(block)
            if ((rows["seen"] & _BOTH_ENDS) != _BOTH_ENDS).any() or rows["time"].any():
                return False
        except FormatError:
            return False
        try:
            self._give(block, rows, query)
        except FormatError as error:
            segment.findings.append(damage(segment.file.placed(error, block.offset)))
        return True

    def note(self, segment: Recording, taken: list[Block]) -> None:
        """Note blocks of a segment that were taken, by this process or another one."""
        if isinstance(segment, Segment):
            self._taken += [(segment, block) for block in taken]

    def _give(self, block: Block, rows: LazyTable, query: Query) -> None:
        if not query.may_contain_time(block.time_min, block.time_max):
            return
        if not query.may_contain(Bounds(block.kind, rows.index)):
            return
        found = np.flatnonzero(query.evaluate(rows))
        if len(found):
            self._add(rows.take(found))

    def tell(self, losses: Mapping[str, SilentLoss]) -> None:
        """Give the rows to the proofs of silent loss, if there is a flow that they may disprove."""
        for segment, block in self._taken:
            loss = losses[segment.pairing_key]
            if loss.may_prove:
                try:
                    loss.add_events(segment.read(block, _NEEDED), segment)
                except FormatError as error:
                    segment.findings.append(damage(error))
