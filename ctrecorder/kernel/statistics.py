"""The kernel's own counts of connections that it refused or evicted, summed over the processors."""

from __future__ import annotations

from typing import NamedTuple

from ctrecorder import uapi
from ctrecorder.kernel import message, sockets

_WRAP = 1 << 32  # the kernel's counters are 32-bit numbers


class Statistics(NamedTuple):
    """Connections since the boot of the network namespace.

    `drop`: refused because the table was full, or for the reason of `insert_failed`;
    `early_drop`: evicted to make room; `insert_failed`: refused because the tuple was taken.
    """

    drop: int
    early_drop: int
    insert_failed: int

    def since(self, before: Statistics) -> Statistics:
        """By how much each rose since `before`."""
        return Statistics(*((new - old) % _WRAP for new, old in zip(self, before, strict=True)))


_KINDS = (uapi.CTA_STATS_DROP, uapi.CTA_STATS_EARLY_DROP, uapi.CTA_STATS_INSERT_FAILED)


def read_statistics() -> Statistics:
    """The counters of this network namespace.  Raises KernelError; needs CAP_NET_ADMIN."""
    sums = dict.fromkeys(_KINDS, 0)
    for attributes in sockets.ask(uapi.CT_GET_STATS_CPU, uapi.AF_UNSPEC):
        for kind, first, last in message.attributes(attributes, 0, len(attributes)):
            if kind in sums:
                sums[kind] += int.from_bytes(attributes[first:last], "big")
    return Statistics(*(sums[kind] % _WRAP for kind in _KINDS))
