"""What the recorder looks at each second beside the events, and what it proves by it.

The guard finds what hides connections (`watch`), proves with a probe that events arrive, and counts
what the kernel refused.  What it finds becomes GAPs and MARKs, notes in the journal, and the state
that the recorder publishes.
"""

from __future__ import annotations

import itertools
import os
import socket
import struct
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from ctrecorder.columns import Table
from ctrecorder.connections.proof import gaps_of
from ctrecorder.ctlog.frame import Gap, Json, Mark
from ctrecorder.errors import ArchiveError, KernelError
from ctrecorder.kernel.probe import Probe
from ctrecorder.kernel.rules import Untracked
from ctrecorder.kernel.statistics import Statistics, read_statistics
from ctrecorder.kernel.timex import clock_state
from ctrecorder.privacy.header import (
    mark_without_networks,
    state_without_networks,
    without_networks,
)
from ctrecorder.record.sample import FlowSample
from ctrecorder.segment.live import FOLDER, LiveState, Publisher
from ctrecorder.service import messages
from ctrecorder.service.log import Log
from ctrecorder.spool.counters import Counters
from ctrecorder.spool.queue import WriteQueue, Written
from ctrecorder.times import MILLISECOND, MINUTE
from ctrecorder.watch.conditions import Conditions
from ctrecorder.watch.hidden import NO_EVENTS
from ctrecorder.watch.watcher import Hole, Look, Watcher

# The path from the kernel to the decoder is proved so often, and after each change of the rules.
PROOF_NS = MINUTE
_SO_NETNS_COOKIE = 71  # asm-generic/socket.h, since Linux 5.14


def netns_cookie() -> str | None:
    """The cookie of this network namespace: with the boot id it names the connection table."""
    try:
        # The units allow no other family that needs no address.
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC) as opened:
            content = opened.getsockopt(socket.SOL_SOCKET, _SO_NETNS_COOKIE, 8)
        return str(struct.unpack("=Q", content)[0])
    except (OSError, struct.error):
        return None


def clock_facts() -> Json:
    """The member `clock` of MARKs and states; {} if the state of the clock cannot be read."""
    state = clock_state()
    return {} if state is None else {"clock": state._asdict()}


class Guard:
    """The guard of one recorder.  `wall`: its clock, ns UTC.

    Make it in the recorder's network namespace, before privileges are dropped; CAP_NET_ADMIN must
    stay.  Raises KernelError if a netfilter socket cannot be opened.

    Attributes:
    `proved`: the last probe was received.
    `unheard`: at least so many connections were not reported, as dumps of the table showed.
    `omits`: remote ends are left out; so are the networks of rules, in all that it records.
    """

    def __init__(
        self, log: Log, wall: Callable[[], int], *, accept_notrack: bool, probe: bool
    ) -> None:
        self._log, self._wall = log, wall
        self._accept_notrack = accept_notrack
        self._conditions = Conditions()
        self._watcher: Watcher | None = None
        self._probe = Probe() if probe else None
        self._publisher = _publisher(log)
        self._netns = netns_cookie()
        self.proved = False
        self.unheard = 0
        self.omits = False
        self._sample = FlowSample()
        self._proof_due = 0  # monotonic ns
        self._proved_at = 0  # ns UTC of the last proof
        self._silent: Hole | None = None  # no event of the last probe arrived
        # Holes of events that were off, and when they came back, ns UTC: a hole lasts until a dump
        # that began later has shown what began meanwhile.
        self._awaiting: list[tuple[Hole, int]] = []
        self._unknown = False  # the tracking of a family, at the last look
        self._statistics: Statistics | None = None
        self._counted_at = 0  # ns UTC
        self._publishing_fails = False
        self._numbers = itertools.count()
        self._queue: WriteQueue | None = None
        self._plan_dump: Callable[[str], None] = lambda reason: None

    def open(self, now: int) -> None:
        """Look for the first time.  `now`: ns UTC."""
        # Numbers of holes are unique in the recording, also over restarts.
        self._numbers = itertools.count(now // MILLISECOND)
        self._watcher = Watcher(
            self._wall, now, self._accept_notrack, self._numbers, self._conditions
        )
        self._look(self._watcher, now)
        self._proved_at = self._counted_at = now
        self._statistics = _statistics()

    def attach(self, queue: WriteQueue, plan_dump: Callable[[str], None]) -> None:
        """Where GAPs and MARKs go, and what plans a dump."""
        self._queue, self._plan_dump = queue, plan_dump

    def close(self) -> None:
        """Close sockets and files; the published state is removed."""
        self._conditions.close()
        if self._probe is not None:
            self._probe.close()
        if self._publisher is not None:
            self._publisher.close()

    @property
    def netns(self) -> str | None:
        """The member `netns` of a HEADER."""
        return self._netns

    @property
    def state(self) -> Json:
        """The member `state` of a HEADER."""
        state = {**(self._watcher.state if self._watcher else {}), **clock_facts()}
        return state_without_networks(state) if self.omits else state

    def open_gaps(self, now: int) -> list[Gap]:
        """The GAPs of the holes that last: each further segment begins with them."""
        lasting = list(self._watcher.holes if self._watcher else ())
        lasting += [hole for hole, _ in self._awaiting]
        if self._silent is not None:
            lasting.append(self._silent)
        return [self._recorded(hole.gap(now)) for hole in lasting]

    def take(self, table: Table) -> Table:
        """`table` without events of probes."""
        if self._probe is not None:
            table = self._probe.take(table)
        self._sample.take(table)
        return table

    def take_existing(self, table: Table) -> None:
        """Take rows of a dump."""
        self._sample.take(table)

    def lost(self, gap: Gap) -> None:
        """Events were lost; if the kernel dropped them, maybe those of a probe: another is due."""
        if gap.reason == "overrun":
            self._proof_due = 0
        self._sample.add_gap(gap)

    def incomparable(self, begin: int, end: int) -> None:
        """The clock was set, the machine was suspended, or other events are recorded from now on:
        the sample cannot compare these times.
        """
        self._sample.add_step(begin, end)

    def prove_loss(self, watermark: int) -> None:
        """Record what the sample proves; all events until `watermark`, ns UTC, were taken."""
        for gap in gaps_of(self._sample.proofs(watermark, self.open_gaps(watermark))):
            self.unheard += gap.lost or 0
            text = (
                f"the kernel did not report connections: in a sample at least {gap.detail}; "
                "the log may lack others of that time"
            )
            self._log.send(messages.UNHEARD, text, connections=gap.lost)
            self._gap(gap)

    def look(self, now: int, monotonic: int, *, received: bool) -> bool:
        """Look at everything that is due; False if what hides connections is not known for certain.

        `now`: ns UTC.  `received`: all events that the kernel gave until now were decoded.
        """
        if self._watcher is None:
            return False
        if received:
            self._judge_probe(now)
        look = self._look(self._watcher, now)
        due = bool(look.changed) or monotonic >= self._proof_due
        if self._probe is not None and due and look.state["events"] != 0:
            self._proof_due = monotonic + PROOF_NS
            try:
                self._probe.send()
            except KernelError as error:
                self.proved = False
                self._log.send(messages.HIDDEN, f"no proof that events arrive: {error}")
                self._probe = None
        return look.settled

    def _judge_probe(self, now: int) -> None:
        """Both events of the last probe were queued when it was sent, and all was decoded since."""
        if self._probe is None or not self._proof_due:  # not sent yet, or events were lost since
            return
        if self._probe.pending and self._silent is None:
            self.proved = False
            text = "the events of a probe did not arrive: the kernel reports no connections"
            start = min(self._proved_at, now)
            self._silent = Hole(
                next(self._numbers), NO_EVENTS, start, None, Untracked(), False, detail=text
            )
            self._log.send(messages.HIDDEN, text)
            self._gap(self._silent.gap(now))
        elif not self._probe.pending:
            if self._silent is not None:
                ended, self._silent = self._silent, None
                self._await_dump(ended, now)
            self.proved, self._proved_at = True, now

    def _look(self, watcher: Watcher, now: int) -> Look:
        """Look at sysctls, rules and tracking, and record what has changed."""
        look = watcher.look(now)
        for note in look.notes:
            self._log.send(messages.HIDDEN if note.warning else messages.VISIBLE, note.text)
        for hole in look.opened:
            self._gap(hole.gap(now))
        for hole in look.closed:
            if look.needs_dump and hole.reason == NO_EVENTS:
                self._await_dump(hole, self._wall())
            else:
                # A dump proves what is open from now on.
                self._gap(hole.gap(now))
                self._plan_dump("connections were hidden")
        was_unknown, self._unknown = self._unknown, _is_unknown(look.state)
        if was_unknown and not self._unknown:
            # Behind it, an answer needs a dump as behind a hole.
            self._plan_dump("it was unknown whether connections were tracked")
        mark = look.mark()
        if mark is not None and self._queue is not None:
            self._queue.mark(mark_without_networks(mark) if self.omits else mark)
        return look

    def _await_dump(self, hole: Hole, since: int) -> None:
        """Keep a hole open until a dump that begins after `since`, ns UTC, is complete: what began
        in it never reports its end.
        """
        self._awaiting.append((replace(hole, end=None), since))
        self._plan_dump("events were off")

    def dumped(self, start: int, end: int, complete: bool) -> None:
        """A complete dump, from `start` to `end` (ns UTC), shows what is open."""
        self._sample.add_dump(start, end, complete=complete)
        ended = [each for each in self._awaiting if complete and each[1] <= start]
        for each in ended:
            self._awaiting.remove(each)
            self._gap(replace(each[0], end=end).gap(end))
        if ended:
            # The hole reaches into this dump, so that only the next one proves what is open.
            self._plan_dump("a hole has ended")

    def heartbeat(self, now: int) -> Mark:
        """A MARK heartbeat, and a MARK statistics before it if the kernel refused connections."""
        counted = _statistics()
        if counted is not None and self._statistics is not None:
            risen = counted.since(self._statistics)
            if any(risen) and self._queue is not None:
                start = min(self._counted_at, now)
                self._queue.mark(Mark(start, now, "statistics", risen._asdict()))
                self._log_refused(risen)
        self._statistics, self._counted_at = counted or self._statistics, now
        facts: dict[str, Any] = clock_facts()
        if self._probe is not None:
            facts["proved"] = self.proved
        if self._log.unsent:
            facts["unsent"] = self._log.unsent
        return Mark.at(now, "heartbeat", facts)

    def _log_refused(self, risen: Statistics) -> None:
        """The kernel's counts say no more than this."""
        full = max(risen.drop - risen.insert_failed, 0)
        if full:
            self._log.send(
                messages.REFUSED_CONNECTIONS, f"table full: {full:,} connections refused"
            )
        if risen.insert_failed:
            text = f"{risen.insert_failed:,} refused: no free source port, or a collision"
            self._log.send(messages.REFUSED_CONNECTIONS, text)

    def publish(self, chain: str, written: Written, counted: Counters, now: int) -> None:
        """Publish the state; a failure is logged once."""
        if self._publisher is None:
            return
        counters = {"events": counted.total, "lost": counted.lost, "unheard": self.unheard}
        counters["unwritten"] = self._queue.unwritten_losses if self._queue is not None else 0
        try:
            status = os.stat(written.path, follow_symlinks=False)
            counters["size"] = status.st_size
            holes = tuple(_as_json(gap) for gap in self.open_gaps(now))
            self._publisher.publish(
                LiveState(
                    chain=chain,
                    segment=os.path.abspath(written.path),
                    device=status.st_dev,
                    inode=status.st_ino,
                    size=written.size,
                    watermark=written.watermark,
                    synced=written.synced,
                    holes=holes,
                    state=self.state,
                    counters=counters,
                )
            )
            self._publishing_fails = False
        except OSError:
            pass  # the segment is not in its place: its state is not to be believed either
        except ArchiveError as error:
            if not self._publishing_fails:
                self._publishing_fails = True
                self._log.send(messages.SKIPPED, str(error), path=FOLDER, error=str(error))

    def _gap(self, gap: Gap) -> None:
        self._sample.add_gap(gap)
        if self._queue is not None:
            self._queue.gap(self._recorded(gap))

    def _recorded(self, gap: Gap) -> Gap:
        return without_networks(gap) if self.omits else gap


def _is_unknown(state: Json) -> bool:
    """If it is unknown of a family whether its packets are tracked, or known that some are
    translated without.
    """
    return "unknown" in state.get("tracking", {}).values() or bool(state.get("stateless"))


def _as_json(gap: Gap) -> Json:
    """A GAP as a member of the published state."""
    lasts = gap.facts.get("open") is True
    members = {"start": gap.begin, "end": None if lasts else gap.end, "reason": gap.reason}
    return {**gap.facts, **members, "lost": gap.lost, "detail": gap.detail}


def _statistics() -> Statistics | None:
    try:
        return read_statistics()
    except KernelError:
        return None


def _publisher(log: Log) -> Publisher | None:
    """The publisher; None, which is logged, if there is no folder to publish in."""
    try:
        return Publisher()
    except ArchiveError as error:
        text = f"the state is not published: {error}; the open segment proves no more than it holds"
        log.send(messages.SKIPPED, text, path=FOLDER, error=str(error))
        return None
