"""Leases of DHCP, joined: a server writes a line for each renewal."""

from __future__ import annotations

from collections.abc import Sequence

from ctrecorder.names.entry import Addresses, Entry, Network


class Tenures:
    """The leases of each address in the order in which they were written.

    A renewal extends the lease of its client, and a release shortens it.  A client that gets the
    address ends the lease of the client before: a server gives an address to one at a time.
    """

    def __init__(self, addresses: Addresses) -> None:
        self._addresses = addresses
        self._open: dict[Network, Entry] = {}

    def add(self, lease: Entry) -> Sequence[Entry]:
        """Add a lease; returns the one that it ends."""
        if not self._addresses.touch(lease.network):
            return ()
        before = self._open.get(lease.network)
        if before is not None and lease.since < before.since:
            return (lease,)  # not in order: it stands for itself
        if before is None:
            self._open[lease.network] = lease
            return ()
        if before.name == lease.name and lease.since <= before.until:
            self._open[lease.network] = before._replace(until=lease.until)
            return ()
        self._open[lease.network] = lease
        return (before._replace(until=min(before.until, lease.since)),)

    def end(self, network: Network, moment: int) -> None:
        """The client of an address has released it."""
        before = self._open.get(network)
        if before is not None:
            until = max(before.since, min(before.until, moment))
            self._open[network] = before._replace(until=until)

    def finish(self) -> Sequence[Entry]:
        """The last lease of each address."""
        found = list(self._open.values())
        self._open.clear()
        return found


def client_name(identity: str, hostname: str) -> str:
    """A name of a client: what identifies it first, because it chooses its hostname itself."""
    return f"{identity} ({hostname})" if hostname and hostname != "*" else identity
