"""Leases of DHCP, joined: a server writes a line for each renewal."""

from __future__ import annotations

from collections.abc import Iterator

from ctrecorder.names.entry import Entry, Network


class Tenures:
    """The leases of each address in the order in which they were written.

    A renewal extends the lease of its client, and a release shortens it.  A client that gets the
    address ends the lease of the client before: a server gives an address to one at a time.
    """

    def __init__(self) -> None:
        self._open: dict[Network, Entry] = {}

    def add(self, lease: Entry) -> Iterator[Entry]:
        """Add a lease; returns the one that it ends."""
        before = self._open.get(lease.network)
        if before is None:
            self._open[lease.network] = lease
        elif lease.since < before.since:  # not in order: it stands for itself
            yield lease
        elif before.name == lease.name and lease.since <= before.until:
            self._open[lease.network] = before._replace(until=lease.until)
        else:
            yield before._replace(until=min(before.until, lease.since))
            self._open[lease.network] = lease

    def end(self, network: Network, moment: int) -> None:
        """The client of an address has released it."""
        before = self._open.get(network)
        if before is not None:
            until = max(before.since, min(before.until, moment))
            self._open[network] = before._replace(until=until)

    def finish(self) -> Iterator[Entry]:
        """The last lease of each address."""
        yield from self._open.values()
        self._open.clear()


def client_name(identity: str, hostname: str) -> str:
    """A name of a client: what identifies it first, because it chooses its hostname itself."""
    return f"{identity} ({hostname})" if hostname and hostname != "*" else identity
