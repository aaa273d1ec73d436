"""The faults that are done to closed segments: squeezed, deleted, cut short, one byte changed."""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime

from tests.model.blocks import blocks
from tests.model.oracle import Effect, Fault, Moment, moment
from tests.model.rig import Rig, SegmentFile
from tests.model.truth import SECOND

# What commands may end with where a segment was damaged before.
HARMED = (0, 1, 2)


def squeeze(rig: Rig) -> None:
    """All closed segments; nothing is lost."""
    _victims(rig, 1)
    before = time.time_ns()
    rig.command("ctsqueeze", rig.folder, codes=HARMED)
    at = moment(before)
    rig.oracle.add(Fault("squeeze", Effect.NONE, at, at))


def expiry(rig: Rig) -> None:
    """The oldest segment goes, or the one after it, because a hold keeps the oldest."""
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
    """What a recorder's deleted segment held."""
    rig.oracle.add(Fault("expiry", Effect.LOST, begin, end, recorder=recorder, applied=at))


def truncation(rig: Rig) -> None:
    """A closed segment loses its last blocks, whole ones."""
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
    """One byte of a closed segment is another."""
    victim = _victim(rig)
    at = rig.random.randrange(victim.path.stat().st_size)
    before = time.time_ns()
    with victim.path.open("r+b") as file:
        file.seek(at)
        (byte,) = file.read(1)
        file.seek(at)
        file.write(bytes([byte ^ 1 << rig.random.randrange(8)]))
    _damaged(rig, "flipped byte", victim, moment(before), None)


def _damaged(
    rig: Rig, kind: str, victim: SegmentFile, at: Moment, lost: tuple[int, int] | None
) -> None:
    """All of the segment's time is in doubt; `lost` of the router's clock is gone."""
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
    """A closed segment that is whole."""
    whole = [each for each in rig.closed_segments() if not each.harmed]
    if not whole:
        rig.rotate()
        whole = [each for each in rig.closed_segments() if not each.harmed]
    return rig.random.choice(whole)


def _victims(rig: Rig, count: int) -> list[SegmentFile]:
    """At least so many closed segments."""
    while len(rig.closed_segments()) < count:
        rig.rotate()
    return rig.closed_segments()
