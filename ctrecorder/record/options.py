"""What a recorder records and where, and what of it can change while it runs."""

from __future__ import annotations

import os
import socket
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from pathlib import Path

from ctrecorder import labels
from ctrecorder.ctlog.frame import COVERAGE, Json
from ctrecorder.ctlog.header import Header
from ctrecorder.kernel import sockets
from ctrecorder.kernel.netns import Namespace
from ctrecorder.sealing.live import LiveSeals

HEADER_SYSCTLS = ("nf_conntrack_events", "nf_conntrack_timestamp", "nf_conntrack_acct")
# Fields that a reload changes; the others need a restart.
RELOADED = (
    "rotate_minutes",
    "protocols",
    "nat_only",
    "omit",
    "inside",
    "updates",
    "resync",
    "memory_bytes",
    "sync_seconds",
    "mode",
)


@dataclass(frozen=True)
class RecorderOptions:
    """What to record and where.  The defaults are those of `settings`."""

    template: str
    rotate_minutes: int
    protocols: Collection[int]  # empty: all
    nat_only: bool
    updates: bool
    resync: bool
    buffer_bytes: int
    block_rows: int
    memory_bytes: int
    sync_seconds: int
    mode: int
    key: bytes = field(default=b"", repr=False)  # a static one; b"": none
    seals: LiveSeals | None = None
    accept_notrack: bool = False
    probe: bool = True
    omit: str | None = None  # REMOTE: the remote ends
    inside: tuple[str, ...] = ()  # as it is set; (): not
    namespace: Namespace | None = None  # that of --netns
    recording: str = ""  # its name in the metrics
    metrics: str = ""  # the directory of the metrics; "": none

    def reloaded(self, wanted: RecorderOptions) -> RecorderOptions:
        """These options with those of `wanted` that a running recorder can take over."""
        return replace(self, **{name: getattr(wanted, name) for name in RELOADED})

    def records_as(self, other: RecorderOptions) -> bool:
        """If the same events are recorded, and the same of each."""
        names = ["protocols", "nat_only", "updates", "omit"]
        names += ["inside"] if self.omit else []
        return all(getattr(self, name) == getattr(other, name) for name in names)

    def header(self, buffer_bytes: int, netns: str | None, state: Json) -> Header:
        """The header of a segment that is opened now, without its place in the chain."""
        return Header(
            host=socket.gethostname(),
            boot_id=_boot_id(),
            kernel=os.uname().release,
            protocols=tuple(labels.protocol(number) for number in sorted(self.protocols)),
            updates=self.updates,
            nat_only=self.nat_only,
            buffer_bytes=buffer_bytes,
            sysctls={name: sockets.sysctl(name) for name in HEADER_SYSCTLS},
            requires=(COVERAGE,),
            netns=netns,
            state=state,
        )


def _boot_id() -> str | None:
    """The id of this boot of the machine; None if the kernel has none."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    except OSError:
        return None
