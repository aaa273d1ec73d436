"""The segments that an answer rests on: what identifies each of them later."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from ctrecorder.archive import chain
from ctrecorder.ctlog.frame import Kind
from ctrecorder.segment.recording import Recording
from ctrecorder.times import BEGIN


class SegmentRead(NamedTuple):
    """A segment that was read.

    `since`, `until`: ns UTC, the times of its records.  `hash`: its last hash, hex.  `sealed`: its
    hashes are keyed, or it has a SEAL.  `omits`: remote ends were left out.
    """

    path: str
    since: int
    until: int
    host: str
    chain: str
    sequence: int
    hash: str
    sealed: bool
    omits: bool = False


def segments_read(segments: Iterable[Recording]) -> tuple[SegmentRead, ...]:
    """The facts of open segments, in their order."""
    return tuple(
        SegmentRead(
            one.path,
            *(one.times if len(one.index) else (BEGIN, BEGIN)),
            one.header.host or "",
            one.header.chain or "",
            chain.sequence(one.header),
            one.last_hash.hex(),
            one.sealed or bool((one.index["kind"] == Kind.SEAL).any()),
            one.header.omit is not None,
        )
        for one in segments
    )
