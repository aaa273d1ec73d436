"""The setting omit: the remote ends of connections are left out before anything is written.

The events of a connection still pair, by the kernel's id: a hash of the flow, with its tuple, under
a random key that only the kernel has.  It ends with the flow, and a restart of the recorder does
not change it.
"""

from __future__ import annotations

from collections.abc import Iterable

from ctrecorder.columns import Table
from ctrecorder.ctlog.header import Header
from ctrecorder.ends import NETWORKS, Inside
from ctrecorder.privacy.header import protected_header
from ctrecorder.privacy.protection import Protection
from ctrecorder.record.options import RecorderOptions
from ctrecorder.service.inside import own_networks
from ctrecorder.service.privileges import forbid_core_dumps
from ctrecorder.times import SECOND
from ctrecorder.watch import here

# A provider can give a router another prefix at any time.  Until it is seen, of a call to an
# address of it the caller is recorded, and not the address.
_LOOK_NS = 10 * SECOND
# Networks that were inside, and stay so, when the router has others: calls that are open end later,
# and their callers are remote ends still.  Fewer: a caller is recorded where a provider changes
# addresses often.  More: who gets such an address later is no remote end.
_FORMER = 16


class Omission:
    """What is left out of rows; `active`: something is."""

    def __init__(self, options: RecorderOptions) -> None:
        self._due = 0  # monotonic ns
        self.change(options)

    @property
    def active(self) -> bool:
        """If remote ends are left out."""
        return self._protection is not None

    def change(self, options: RecorderOptions) -> None:
        """Leave out what `options` say, from now on."""
        self._written = options.inside
        self._own: list[str] = []
        self._protection: Protection | None = None
        if options.omit is not None:
            forbid_core_dumps()
            self._read(here.own())

    def look(self, monotonic: int) -> bool:
        """If other networks are inside than before, so that a new segment has to begin.

        `monotonic`: ns.  Addresses are compared: each network of the router has one of them.  If
        there is none, the kernel did not say them, and those of before count.
        """
        if self._protection is None or monotonic < self._due:
            return False
        self._due = monotonic + _LOOK_NS
        before, own = self._protection.inside.networks, here.own()
        if not own or sorted(own) == self._own:
            return False
        self._read(own, before)
        return self._protection.inside.networks != before

    def _read(self, own: list[str], before: Iterable[str] = ()) -> None:
        """The router itself counts as inside: who calls it is a remote end.

        `before`: what was inside; of what is not any more, the latest first.
        """
        self._own = sorted(own)
        networks = self._written or (*NETWORKS, *own_networks(certain=True))
        now = Inside(dict.fromkeys((*networks, *self._own))).networks
        former = [one for one in before if one not in now][:_FORMER]
        self._protection = Protection(omit=True, inside=Inside((*now, *former)))

    def apply(self, table: Table) -> Table:
        """The rows as they are written."""
        return table if self._protection is None else self._protection.apply(table)

    def header(self, header: Header) -> Header:
        """The header of a segment of such rows."""
        return header if self._protection is None else protected_header(header, self._protection)
