"""The evidence of open segments for coverage: watermarks, GAPs, dumps, damage, what is missing.

The state of the recorders that run is read first (`live_states`), then the folder, then the
segments: what these hold can only grow meanwhile.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ctrecorder.archive import chain
from ctrecorder.archive.near import Chains
from ctrecorder.archive.silent_loss import SilentLoss
from ctrecorder.ctlog.frame import Gap, Kind
from ctrecorder.ctlog.header import Header
from ctrecorder.errors import ArchiveError
from ctrecorder.folder import Folder
from ctrecorder.query.coverage import (
    DAMAGED,
    MISSING,
    NOT_RECORDING,
    Basis,
    Hole,
    LiveWatermark,
    Recording,
    SegmentSpan,
)
from ctrecorder.query.unknown import unknown_tracking, unrecordable
from ctrecorder.segment import live
from ctrecorder.segment.live import LiveState
from ctrecorder.segment.recording import Recording as Segment
from ctrecorder.segment.recording import family_of
from ctrecorder.times import BEGIN, END

# Damage in these blocks hides rows, or a hole.
_NEEDED = (Kind.EVENTS, Kind.CONNECTIONS, Kind.GAP)


@dataclass
class Evidence:
    """The evidence of segments: their `recordings`, and holes outside of all recordings."""

    recordings: list[Recording] = field(default_factory=list)
    unread: list[Hole] = field(default_factory=list)


def live_states(folder: str | None = None) -> dict[str, LiveState]:
    """The valid states of all recorders that run, by chain."""
    folder = folder or live.FOLDER
    try:
        names = os.listdir(folder)
    except OSError:
        return {}
    found = (
        live.read_live_state(name.removesuffix(".json"), folder)
        for name in names
        if name.endswith(".json")
    )
    return {state.chain: state for state in found if state is not None}


def gather(
    segments: Iterable[Segment],
    chains: Chains,
    states: Mapping[str, LiveState],
    *,
    dumps: bool = False,
    losses: Mapping[str, SilentLoss] | None = None,
    receipts: Receipts | None = None,
) -> Evidence:
    """The evidence of `segments`, of which each is there once.

    `chains`: of the whole archive.  `dumps`: also that of dumps, for which all MARKs are read.
    `losses`: what the rows that were read prove, by the pairing key of their recording.
    `receipts`: of the folders; None: they are read when they are needed.
    Call it when rows were read, so that damage has been met.
    """
    evidence = Evidence()
    grouped: dict[str, list[Segment]] = {}
    for segment in segments:
        if not len(segment.index) or _lost_header(segment):
            evidence.unread.append(_unknown(segment))
        else:
            grouped.setdefault(segment.pairing_key, []).append(segment)
    receipts = receipts or Receipts()
    for key, members in grouped.items():
        members.sort(key=lambda one: (chains.place(one.path)[0], started(one)))
        state = states.get(members[0].header.chain or "")
        found = _recording(members, chains, state, receipts, dumps)
        if losses and key in losses:
            found.holes += map(hole_of, losses[key].gaps())
        evidence.recordings.append(found)
    return evidence


def started(segment: Segment) -> int:
    """The time of the HEADER, ns UTC."""
    return int(segment.index["time_min"][0])


def _lost_header(segment: Segment) -> bool:
    """If the HEADER is damaged, so that the recording is not known."""
    return segment.header.format is None


def _unknown(segment: Segment) -> Hole:
    first, last = segment.times if len(segment.index) else (BEGIN, END)
    return Hole(first, last, DAMAGED, detail=f"{os.path.basename(segment.path)}: no header")


def _recording(
    members: list[Segment],
    chains: Chains,
    state: LiveState | None,
    receipts: Receipts,
    dumps: bool,
) -> Recording:
    numbered = _Numbered()
    spans = []
    for number, segment in enumerate(members):
        before = members[number - 1] if number else None
        after = members[number + 1] if number + 1 < len(members) else None
        restarted = chain.run_begun(segment) is not None
        if restarted:
            numbered.restart(started(segment))
        elif len(segment.index):
            numbers = {_number_of(gap.facts) for gap in segment.gaps}
            numbered.go_on(int(segment.index["time_min"][0]), numbers)
        found, steps = list(_damage(segment, after)), []
        for gap in segment.gaps:
            if step := segment.step_of(gap):
                steps.append((hole_of(gap), step))
            else:
                found += numbered.take(hole_of(gap), _number_of(gap.facts))
        link = chain.link(segment)
        follows, expired, skipped = True, False, False
        if before is not None and link.chain:
            earlier = chain.link(before)
            follows = link.follows(earlier)
            expired = not follows and receipts.explain(segment, earlier.hashes)
            near = chains.place(segment.path)[0] - chains.place(before.path)[0]
            skipped = not follows and not expired and near > 1
        elif before is None and link.chain and chains.place(segment.path)[0] == 0:
            found += _before_all(segment, receipts)
        spans.append(
            SegmentSpan(
                chain=segment.header.chain or "",
                sequence=chain.sequence(segment.header),
                start=started(segment),
                until=_until(segment),
                follows=follows,
                expired=expired,
                skipped=skipped,
                restarted=restarted,
                basis=_basis(segment),
                protocols=segment.protocols,
                nat_only=segment.header.nat_only is True,
                omits=None if segment.header.omit is None else segment.header.inside or (),
                holes=tuple(found),
                steps=tuple(steps),
                dumps=_dumps(segment) if dumps else (),
                on=(*_on(segment.header), *_unrecordable(segment)),
                host=segment.header.host or "",
                boot_id=segment.header.boot_id or "",
                netns=segment.header.netns or "",
            )
        )
    watermark = _live(members, chains, state, numbered)
    unproved = *unknown_tracking(members), *unrecordable(members)
    spans[-1] = replace(spans[-1], holes=(*spans[-1].holes, *numbered.holes(), *unproved))
    return Recording(spans, watermark)


class _Numbered:
    """The holes of a chain that have a number: the last GAP with it counts."""

    def __init__(self) -> None:
        self._holes: dict[tuple[int, int], Hole] = {}
        self._run = 0

    def take(self, hole: Hole, number: int | None) -> list[Hole]:
        """[hole] if it has no number; else it is in `holes` at the end."""
        if number is None:
            return [hole]
        self._holes[self._run, number] = hole
        return []

    def restart(self, moment: int) -> None:
        """The recorder was started at `moment`: what was open is not known any more."""
        for key, hole in self._holes.items():
            if hole.end == END:
                self._holes[key] = replace(hole, end=max(hole.start, moment))
        self._run += 1

    def go_on(self, moment: int, numbers: set[int | None]) -> None:
        """A segment began at `moment`, and has GAPs with `numbers`: what lasts is in it again.

        The GAP that ended another one can be lost, where the segment before was cut.
        """
        for (run, number), hole in self._holes.items():
            if run == self._run and hole.end == END and number not in numbers:
                self._holes[run, number] = replace(hole, end=max(hole.start, moment))

    def holes(self) -> list[Hole]:
        """The holes with a number."""
        return list(self._holes.values())


def _live(
    members: list[Segment], chains: Chains, state: LiveState | None, numbered: _Numbered
) -> LiveWatermark | None:
    """What the running recorder of the chain proves, if its open segment is here.

    The state was read before the folder, so the recorder may have begun another segment since.
    """
    open_one = next((one for one in members[-2:] if state and _is_file(one, state)), None)
    number, last = chains.place(members[-1].path)
    if state is None or open_one is None or number != last:
        return None
    # Blocks that could not be synced are cut off and written again: until then, the events of what
    # was written since the last sync are missing.
    whole = open_one.size >= state.size
    found = []
    for facts in state.holes:
        hole = _of_live(facts)
        if hole is not None:
            found += numbered.take(hole, _number_of(facts))
    return LiveWatermark(state.watermark if whole else state.synced, tuple(found))


def _is_file(segment: Segment, state: LiveState) -> bool:
    status = os.fstat(segment.file.descriptor)
    return (status.st_dev, status.st_ino) == (state.device, state.inode)


def _dumps(segment: Segment) -> tuple[tuple[int, int], ...]:
    """Begin and end of each complete dump."""
    return tuple((mark.begin, mark.end) for mark in segment.marks if mark.is_complete_dump)


def _basis(segment: Segment) -> Basis:
    if segment.header.has_legacy:
        return Basis.NOTHING
    return Basis.WATERMARKS if segment.has_coverage else Basis.VERSION_1_0


def _until(segment: Segment) -> int | None:
    return segment.watermark if _basis(segment) is Basis.WATERMARKS else segment.times[1]


def _on(header: Header) -> tuple[str, ...]:
    """The members `omit` and `state` of a HEADER as phrases."""
    state = header.state or {}
    families = tracking if isinstance(tracking := state.get("tracking"), dict) else {}
    return (
        *(["without remote ends"] if header.omit is not None else []),
        *(f"{name} {state[name]}" for name in ("events", "timestamps") if name in state),
        *(f"{name} tracking {families[name]}" for name in ("ipv4", "ipv6") if name in families),
    )


def _unrecordable(segment: Segment) -> Iterator[str]:
    """What translated without connection tracking, at some time of the segment, as phrases."""
    noted = [segment.header.state or {}, *(mark.facts for mark in segment.marks)]
    members = [facts.get("stateless") for facts in noted]
    found = [one for each in members if isinstance(each, list) for one in each]
    for what in dict.fromkeys(one for one in found if isinstance(one, str)):
        yield f"not recordable: NAT by {what}"


def _damage(segment: Segment, after: Segment | None) -> Iterator[Hole]:
    """The holes of the damage met so far: of the damaged block, or of the whole segment.

    A file of the C ctrecorder notes its damage as GAPs.
    """
    if segment.header.has_legacy:
        return
    index = segment.index
    end = started(after) if after is not None else END
    first = min(started(segment), segment.times[0])
    for finding in segment.findings:
        if finding is segment.torn:
            continue
        at = index[index["offset"] == finding.offset] if finding.offset is not None else index[:0]
        name = os.path.basename(segment.path)
        if not len(at):
            yield Hole(first, max(first, end), DAMAGED, detail=name)
        elif int(at["kind"][0]) in _NEEDED:
            begin, last = int(at["time_min"][0]), int(at["time_max"][0])
            # A GAP can be open.
            last = max(last, end) if int(at["kind"][0]) == Kind.GAP else last
            yield Hole(begin, last, DAMAGED, detail=f"a block of {name}")


def _before_all(segment: Segment, receipts: Receipts) -> list[Hole]:
    """The hole before the first segment of a chain that is here, if it is not the first one."""
    if chain.is_start(segment.previous_hash.hex()):
        return []
    start = started(segment)
    if receipts.knows(segment):
        return [Hole(BEGIN, start, NOT_RECORDING, detail="expired: ctexpire deleted the segments")]
    return [Hole(BEGIN, start, MISSING, detail="the recording began earlier")]


class Receipts:
    """The receipts of ctexpire in the folders of segments, read when they are needed."""

    def __init__(self) -> None:
        self._onward: dict[str, dict[str, str]] = {}

    def explain(self, segment: Segment, hashes: Sequence[str]) -> bool:
        """If the segments between those with `hashes` and `segment` were deleted by ctexpire."""
        onward = self._read(segment)
        *passed, wanted = chain.trace(segment.previous_hash.hex(), onward, hashes)
        return bool(passed) and wanted in hashes

    def knows(self, segment: Segment) -> bool:
        """If the segment before `segment` was deleted by ctexpire."""
        return segment.previous_hash.hex() in self._read(segment)

    def _read(self, segment: Segment) -> dict[str, str]:
        from ctrecorder.kept import retention  # few questions need it

        folder = os.path.dirname(segment.path) or "."
        if folder not in self._onward:
            found: dict[str, str] = {}
            with contextlib.suppress(ArchiveError, OSError), Folder(folder) as opened:
                for receipt, _ in retention.receipt_lines(opened):
                    found |= dict.fromkeys(receipt.hashes, receipt.previous_hash)
            self._onward[folder] = found
        return self._onward[folder]


def hole_of(gap: Gap) -> Hole:
    """The hole of a GAP.  An open one lasts until END; see `_Numbered`.

    A member that this version does not know, or that has the wrong type, narrows nothing.
    """
    end = max(gap.begin, gap.end)
    return _of_facts(gap.begin, end, gap.reason, gap.lost, gap.detail, gap.facts)


def _of_facts(
    start: int, end: int, reason: str, lost: int | None, detail: str, facts: Mapping[str, Any]
) -> Hole:
    """The hole of a GAP, and of the further members `facts`, as ctlog(5) has them."""
    return Hole(
        start,
        END if facts.get("open") is True else end,
        reason,
        lost,
        detail,
        at_least=facts.get("at_least") is True,
        family=family_of(facts),
        protocols=frozenset(_listed(facts.get("protocols"), lambda one: _is_number(one, 256))),
        ports=frozenset(_listed(facts.get("ports"), lambda one: _is_number(one, 1 << 16))),
        networks=tuple(_listed(facts.get("networks"), lambda one: isinstance(one, str))),
        untranslated=facts.get("untranslated") is True,
        accepted=facts.get("accepted") is True,
    )


def _of_live(facts: Mapping[str, Any]) -> Hole | None:
    """The hole that a running recorder publishes; None if it is none."""
    start, end = facts.get("start"), facts.get("end")
    reason, lost, detail = facts.get("reason"), facts.get("lost"), facts.get("detail")
    if type(start) is not int or not isinstance(reason, str):
        return None
    start = min(max(start, BEGIN), END)
    return _of_facts(
        start,
        min(max(start, end), END) if type(end) is int else END,
        reason,
        lost if type(lost) is int else None,
        detail if isinstance(detail, str) else "",
        facts,
    )


def _number_of(facts: Mapping[str, Any]) -> int | None:
    """The number of a hole: a later GAP with it takes the place of an earlier one."""
    number = facts.get("number")
    return number if type(number) is int else None


def _listed(value: object, is_valid: Callable[[object], bool]) -> list[Any]:
    """The items of a list if all are valid; else none, which is wider."""
    return value if isinstance(value, list) and all(map(is_valid, value)) else []


def _is_number(value: object, limit: int) -> bool:
    return type(value) is int and 0 <= value < limit
