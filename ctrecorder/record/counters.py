"""What the recorder counts, and what it says of itself: at its start, on SIGUSR1, in systemd's
status line.
"""

from __future__ import annotations

import os
import pwd
from collections.abc import Collection
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ctrecorder import __version__, uapi
from ctrecorder.columns import Event, Table
from ctrecorder.kernel import sockets, tracking
from ctrecorder.service import daemon, messages
from ctrecorder.service.log import Log

# What a recorder wants of net.netfilter.*, and what is missed without it.
WANTED_SYSCTLS = {
    "nf_conntrack_events": (
        1,
        "connections that begin while no recorder listens never report their end",
    ),
    "nf_conntrack_timestamp": (
        1,
        "times are those of receipt, and the start of an older connection is unknown",
    ),
}


@dataclass
class Counters:
    """Since the start.  `events`: (5,) int64, by the value of the column `event`."""

    events: NDArray[np.int64] = field(default_factory=lambda: np.zeros(len(Event) + 1, np.int64))
    lost: int = 0
    unreadable: int = 0
    foreign: int = 0

    def add(self, table: Table) -> None:
        """Count the rows of `table`."""
        self.events += np.bincount(table["event"], minlength=len(self.events))

    def of(self, event: Event) -> int:
        """How many rows of one kind."""
        return int(self.events[event])

    @property
    def total(self) -> int:
        """All events; the rows of a dump are none."""
        return int(self.events.sum()) - self.of(Event.EXISTING)


def protocol_names(protocols: Collection[int]) -> str:
    """ "tcp,udp", or "all" for none."""
    return (
        ",".join(uapi.PROTOCOLS.get(number, str(number)) for number in sorted(protocols)) or "all"
    )


def log_started(log: Log, path: str, protocols: Collection[int], buffer_bytes: int) -> None:
    """The line that scripts wait for: from here on events are received and written."""
    names = protocol_names(protocols)
    what = f"{names} protocols" if names == "all" else names
    text = f"recording to {path} ({what}, receive buffer {buffer_bytes >> 10} KiB)"
    log.send(
        messages.STARTED,
        text,
        path=path,
        version=__version__,
        buffer_bytes=buffer_bytes,
        protocols=names,
        user=_user_name(),
    )


def log_obstacles(
    log: Log, asked_bytes: int, events: sockets.EventSocket, inside: str = ""
) -> None:
    """Log what makes the record incomplete: a capped buffer, sysctls, sleeping connection tracking.

    inside: what goes before a command that sets something in this network namespace.
    """
    if events.capped:
        text = f"receive buffer {events.buffer_bytes >> 10} KiB, not the {asked_bytes >> 10} KiB asked: {events.capped}"
        log.send(messages.BUFFER, text, asked_bytes=asked_bytes, buffer_bytes=events.buffer_bytes)
    for name, (wanted, why) in WANTED_SYSCTLS.items():
        value = sockets.sysctl(name)
        if value != wanted:
            found = "not there" if value is None else value
            mend = f"{inside}sysctl -w net.netfilter.{name}={wanted}"
            text = f"net.netfilter.{name} is {found}: {why}; {mend}"
            log.send(
                messages.SYSCTL, text, name=f"net.netfilter.{name}", value=found, wanted=wanted
            )
    if tracking.asleep():
        text = "connection tracking is asleep in this network namespace: no firewall or NAT rule uses it, so there are no events"
        log.send(messages.ASLEEP, text)


def log_counters(log: Log, counters: Counters, path: str, bytes_written: int) -> None:
    """All counters, in one line."""
    new, update, destroy, existing = (counters.of(event) for event in Event)
    text = (
        f"counters: {counters.total} events ({new} new, {update} update, {destroy} destroy), {existing} existing, "
        f"{counters.lost} lost, {counters.unreadable} unreadable, {counters.foreign} refused, {bytes_written} bytes written"
    )
    log.send(
        messages.COUNTERS,
        text,
        events=counters.total,
        new=new,
        update=update,
        destroy=destroy,
        existing=existing,
        lost=counters.lost,
        refused=counters.foreign,
        bytes=bytes_written,
        path=path,
    )


def notify_status(counters: Counters, events_a_second: float, path: str) -> None:
    """systemd's STATUS= and, if a watchdog waits, a sign of life."""
    status = f"{events_a_second:.0f} events/s, {counters.total} in all, {counters.lost} lost; {os.path.basename(path) or 'no segment'}"
    daemon.notify(f"STATUS={status}", "WATCHDOG=1")


def _user_name() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())
