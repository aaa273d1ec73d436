"""Faults of closed segments: squeezed, deleted, truncated, one byte flipped."""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime

from tests.model.blocks import blocks
from tests.model.oracle import Effect, Fault, Moment, moment
from tests.model.rig import Rig, SegmentFile
from tests.model.truth import SECOND

# Exit codes of commands in a folder that may hold a damaged segment.
HARMED = (0, 1, 2)
# Bytes of damage: some seconds of the traffic.
STRETCH = 16_384


def squeeze(rig: Rig) -> None:
    """Squeeze all closed segments; nothing is lost."""
    _victims(rig, 1)
    before = time.time_ns()
    rig.command("ctsqueeze", rig.folder, codes=HARMED)
    at = moment(before)
    rig.oracle.add(Fault("squeeze", Effect.NONE, at, at))


def expiry(rig: Rig) -> None:
    """Delete the oldest segment, or the next one while a hold keeps the oldest."""
    closed = _victims(rig, 2)
    held = rig.random.random() < 0.5
    if held:
        moments = rig.clock.shown(closed[0].born[1], closed[0].born[1] + SECOND // 10)[0]
        first, last = (f"{datetime.fromtimestamp(ns / 1e9, UTC):%FT%TZ}" for ns in moments)
        window = "--since", first, "--until", last
        rig.command("ctexpire", "--hold", *window, "--reason", "model", rig.folder, codes=HARMED)
    files = set(rig.folder.glob("*.ctlog"))
    size = sum(path.stat().st_size for path in files)
    before = time.time_ns()
    rig.command("ctexpire", "--max-size", max(size - 1, 1), rig.folder, codes=HARMED)
    at = moment(before)
    gone = {path for path in files if not path.exists()}
    for each in rig.segments:
        if each.path in gone:
            _lost(rig, "main", each.born, each.closed, at)
    if any(path.name.startswith("udp-") for path in gone):
        _lost(rig, "udp", (0, 0), at, at)
    if held:
        rig.command("ctexpire", "--release", 1, rig.folder, codes=HARMED)


def _lost(rig: Rig, recorder: str, begin: Moment, end: Moment, at: Moment) -> None:
    """The time of a deleted segment is not covered any more."""
    rig.oracle.add(Fault("expiry", Effect.LOST, begin, end, recorder=recorder, applied=at))


def truncation(rig: Rig) -> None:
    """Cut a closed segment at the end of a block."""
    victim = _victim(rig)
    found = blocks(victim.path)
    flows = [index for index, block in enumerate(found) if block.has_flows and index > 1]
    if not flows:
        return
    cut = rig.random.choice(flows)
    before = time.time_ns()
    os.truncate(victim.path, found[cut].begin)
    lost = [block for block in found[cut:] if block.has_flows]
    at = moment(before)
    _damaged(rig, "truncation", victim, at, (min(b.first for b in lost), max(b.last for b in lost)))


def flipped(rig: Rig) -> None:
    """Flip one bit of a closed segment, or one in each 512 bytes of a stretch of it.

    A flow whose NEW is in a damaged block is found by its DESTROY, and one whose DESTROY is there
    seems to be open.  Only damage to several blocks hides a flow whole.
    """
    victim = _victim(rig)
    size = victim.path.stat().st_size
    at, length = rig.random.randrange(size), rig.random.choice((1, STRETCH))
    before = time.time_ns()
    with victim.path.open("r+b") as file:
        for place in range(at, min(at + length, size), 512):
            file.seek(place)
            (byte,) = file.read(1)
            file.seek(place)
            file.write(bytes([byte ^ 1 << rig.random.randrange(8)]))
    _damaged(rig, "flipped byte", victim, moment(before), None)


def _damaged(
    rig: Rig, kind: str, victim: SegmentFile, at: Moment, lost: tuple[int, int] | None
) -> None:
    """The segment's time may be covered or not; `lost`, of the router's clock, is not."""
    victim.harmed = True
    rig.oracle.add(
        Fault(kind, Effect.UNSURE, victim.born, victim.closed, recorder="main", applied=at)
    )
    if lost is None:
        return
    for first, last in rig.clock.shown(victim.born[1], victim.closed[0]):
        shown = max(first, lost[0]), min(last, lost[1])
        if shown[0] < shown[1]:
            rig.oracle.add(
                Fault(kind, Effect.LOST, (0, 0), (0, 0), recorder="main", shown=shown, applied=at)
            )


def _victim(rig: Rig) -> SegmentFile:
    """A closed segment that is not damaged yet; rotates if there is none."""
    whole = [each for each in rig.closed_segments() if not each.harmed]
    if not whole:
        rig.rotate()
        whole = [each for each in rig.closed_segments() if not each.harmed]
    return rig.random.choice(whole)


def _victims(rig: Rig, count: int) -> list[SegmentFile]:
    """The closed segments, after rotations until there are at least `count`."""
    while len(rig.closed_segments()) < count:
        rig.rotate()
    return rig.closed_segments()
