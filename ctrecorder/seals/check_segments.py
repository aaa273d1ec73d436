"""The seals of segments against the verification key: each by itself, and all in their order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

from ctrecorder.errors import FormatError
from ctrecorder.seals.block import is_right
from ctrecorder.seals.evidence import MAX_WRONG, SealAt, SealedSegment, SealFindings
from ctrecorder.seals.keys import EpochKeys
from ctrecorder.times import dated


class Sealed(NamedTuple):
    """Paths of segments that have a right seal.

    `believed`: of those their `replaces` can be believed: they are squeezed or repaired, and have a
    whole footer and a right seal before it.
    """

    paths: set[str]
    believed: set[str]


def check_seals(segments: Sequence[SealedSegment], keys: EpochKeys, found: SealFindings) -> Sealed:
    """Check the seals of each segment."""
    sealed = Sealed(set(), set())
    for one in segments:
        right = []
        for number, at in enumerate(one.seals):
            if _check_seal(one, at, keys, found):
                right.append(at)
            elif number - len(right) >= MAX_WRONG:
                found.find(one.path, "too many wrong seals: the rest is not checked", at.offset)
                break
        _check_order(one, found)
        ends = one.ends_sealed and one.seals[-1] in right
        if one.state == "closed" and not one.ends_sealed:
            what = "is squeezed" if one.rewritten else "was closed"
            found.find(one.path, f"{what} without a seal before its footer")
        if right:
            sealed.paths.add(one.path)
        if one.rewritten and ends:
            sealed.believed.add(one.path)
    return sealed


def _check_seal(one: SealedSegment, at: SealAt, keys: EpochKeys, found: SealFindings) -> bool:
    epoch = at.seal.epoch
    try:
        right = is_right(at.seal, at.head, keys.at(epoch))
    except FormatError:
        right = False
    if not right:
        what = f"the seal of epoch {epoch} is wrong: it was made without the key, or is of others"
        found.find(one.path, what, at.offset)
    elif not one.rewritten and at.seal.since != epoch:
        found.find(one.path, f"a seal since epoch {at.seal.since} in what was recorded", at.offset)
    return right


def _check_order(one: SealedSegment, found: SealFindings) -> None:
    """The epochs of a segment go on."""
    epochs = [one.begun, *(at.seal.epoch for at in one.seals)]
    for (before, after), at in zip(pairwise(epochs), one.seals, strict=True):
        if after < before:
            what = f"a seal of epoch {after} behind epoch {before}: its key was used twice"
            found.find(one.path, what, at.offset)
        elif after > before + 1 and not one.rewritten:
            what = f"no seal in epochs {before + 1} to {after - 1}"
            found.unproved.append(
                f"{one.path}: sealed late: {what}: what was recorded then is proved only from "
                f"{dated(at.time, utc=True)} on"
            )


def last_epochs(
    segments: Sequence[SealedSegment], recorded: Mapping[str, int], found: SealFindings
) -> dict[str, int]:
    """The last epoch in which each segment was recorded, by path; what contradicts it is found.

    `recorded`: the same by name, as the ledger has it.
    """
    ends: dict[str, int] = {}
    ordered = sorted(segments, key=lambda one: (one.chain, one.sequence))
    for one, after in pairwise([*ordered, None]):
        if one is None:
            continue
        claimed = one.begun
        if one.seals:
            claimed = one.seals[-1].seal.since if one.rewritten else one.seals[-1].seal.epoch
        bounds = [recorded[name] for name in one.known_names if name in recorded]
        follows = after is not None and after.chain == one.chain and after.key == one.key
        if after is not None and follows:
            bounds.append(after.begun)
        end = min([claimed, *bounds])
        if claimed > end and one.rewritten:
            what = f"says to be recorded until epoch {claimed}, but that was until epoch {end}"
            found.find(one.path, what)
        elif claimed > end and after is not None and follows:
            what = f"begins in epoch {after.begun}, but {one.name} was sealed in epoch {claimed}"
            found.find(after.path, f"{what}: the key came from a backup")
        if one.rewritten and claimed < one.begun:
            what = f"was begun in epoch {one.begun}, and says to be recorded until {claimed}"
            found.find(one.path, what)
        ends[one.path] = end
    return ends


def check_late(
    segments: Sequence[SealedSegment], ends: Mapping[str, int], found: SealFindings
) -> None:
    """A squeezed segment is only as old as its squeeze: that must be within an epoch of its end.

    One that was repaired is only as old as its repair: what was damaged names no block before it.
    """
    for one in segments:
        if one.repaired and one.seals:
            found.unproved.append(
                f"{one.path}: was repaired in epoch {one.seals[-1].seal.epoch} or before: proved "
                f"only from {dated(one.seals[-1].time, utc=True)} on"
            )
        elif one.rewritten and one.seals and one.seals[-1].seal.epoch > ends[one.path] + 1:
            last = one.seals[-1]
            found.unproved.append(
                f"{one.path}: sealed late: recorded until epoch {ends[one.path]}, squeezed in "
                f"epoch {last.seal.epoch}: proved only from {dated(last.time, utc=True)} on"
            )


def window(segments: Sequence[SealedSegment], ends: Mapping[str, int], present: int) -> list[str]:
    """Lines about segments that are not squeezed yet.  `present`: the last epoch that is known."""
    raw = [one for one in segments if not one.rewritten]
    due = [one for one in raw if present > ends[one.path] + 1]
    lines = []
    if raw:
        lines.append(
            f"not squeezed yet: {_names(raw)}: until then, who breaks in can put another squeezed "
            "segment in its place"
        )
    if due:
        lines.append(f"too old to be squeezed in time (sealed late from now on): {_names(due)}")
    return lines


def _names(segments: Sequence[SealedSegment]) -> str:
    shown = ", ".join(one.name for one in segments[:3])
    return shown if len(segments) <= 3 else f"{shown} and {len(segments) - 3:,} more"
