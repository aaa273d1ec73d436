"""The recorder's reports: at its start, on SIGUSR1, and in systemd's status line."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable
from dataclasses import fields, replace

from ctrecorder import __version__, uapi
from ctrecorder.columns import Event
from ctrecorder.kernel import sockets
from ctrecorder.record.options import RecorderOptions
from ctrecorder.service import daemon, messages
from ctrecorder.service.log import Log
from ctrecorder.service.login import user_name
from ctrecorder.spool.counters import Counters
from ctrecorder.times import SECOND

# Settings whose fields of RecorderOptions have another name.
_SETTINGS = {
    "rotate_minutes": "rotate",
    "buffer_bytes": "buffer",
    "memory_bytes": "memory",
    "sync_seconds": "sync",
    "block_rows": "rows",
}

# The wanted values of net.netfilter.*, and what is missing without them.
WANTED_SYSCTLS = {
    "nf_conntrack_events": (
        1,
        "the end of connections that began while no recorder ran is not reported",
    ),
    "nf_conntrack_timestamp": (
        1,
        "times are those of receipt, and the start of older connections is unknown",
    ),
}


def protocol_names(protocols: Collection[int]) -> str:
    """ "tcp,udp", or "all" for none."""
    return (
        ",".join(uapi.PROTOCOLS.get(number, str(number)) for number in sorted(protocols)) or "all"
    )


def log_started(log: Log, path: str, protocols: Collection[int], buffer_bytes: int) -> None:
    """Log the line that scripts wait for: from now on events are received and written."""
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
        user=user_name(os.geteuid()),
    )


def log_obstacles(log: Log, options: RecorderOptions, events: sockets.EventSocket) -> None:
    """Log what makes the record incomplete: a capped buffer, sysctls."""
    asked_bytes = options.buffer_bytes
    # What precedes a command that sets something in this network namespace.
    inside = options.namespace.inside if options.namespace else ""
    if events.capped:
        text = (
            f"receive buffer {events.buffer_bytes >> 10} KiB instead of {asked_bytes >> 10} KiB: "
            f"{events.capped}"
        )
        log.send(messages.BUFFER, text, asked_bytes=asked_bytes, buffer_bytes=events.buffer_bytes)
    for name, (wanted, why) in WANTED_SYSCTLS.items():
        value = sockets.sysctl(name)
        if value != wanted:
            found = "missing" if value is None else value
            fix = f"{inside}sysctl -w net.netfilter.{name}={wanted}"
            text = f"net.netfilter.{name} is {found}: {why}; {fix}"
            log.send(
                messages.SYSCTL, text, name=f"net.netfilter.{name}", value=found, wanted=wanted
            )


def log_counters(log: Log, counters: Counters, path: str, bytes_written: int) -> None:
    """Log all counters in one line."""
    new, update, destroy, existing = (counters.of(event) for event in Event)
    text = (
        f"counters: {counters.total} events ({new} new, {update} update, {destroy} destroy), "
        f"{existing} existing, {counters.lost} lost, {counters.unreadable} unreadable, "
        f"{counters.foreign} refused, {bytes_written} bytes written"
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


def log_reloaded(
    log: Log, old: RecorderOptions, new: RecorderOptions, wanted: RecorderOptions
) -> None:
    """Log that the settings were read again: what changed, and what needs a restart."""
    changed = [one.name for one in fields(old) if getattr(old, one.name) != getattr(new, one.name)]
    # The key is no setting: `wanted`, which is of the settings alone, has none.
    wanted = replace(wanted, seals=new.seals)
    later = [one.name for one in fields(old) if getattr(new, one.name) != getattr(wanted, one.name)]
    text = f"settings were read again; changed: {_settings_of(changed)}"
    text += f"; after the next restart: {_settings_of(later)}" if later else ""
    log.send(messages.RELOADED, text, changed=_settings_of(changed), later=_settings_of(later))


def _settings_of(names: Iterable[str]) -> str:
    """The names in the configuration of fields of RecorderOptions; "nothing" for none."""
    return ", ".join(_SETTINGS.get(name, name) for name in names) or "nothing"


class StatusLine:
    """systemd's status line, with the rate of events since the last report."""

    def __init__(self, counters: Counters) -> None:
        self._counters = counters
        self._reported_at, self._reported_events = 0, 0  # monotonic ns, events by then

    def report(self, path: str, now: int) -> None:
        """Send STATUS= and, for a watchdog, WATCHDOG=1.  `now`: monotonic ns."""
        total = self._counters.total
        rate = (total - self._reported_events) * SECOND / max(now - self._reported_at, 1)
        self._reported_at, self._reported_events = now, total
        name = os.path.basename(path) or "no segment"
        status = f"{rate:.0f} events/s, {total} in all, {self._counters.lost} lost; {name}"
        daemon.notify(f"STATUS={status}", "WATCHDOG=1")
