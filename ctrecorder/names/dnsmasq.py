"""dnsmasq.leases: the leases of one moment.

When they began is not written.  So a lease is known from the moment at which the file was written:
whoever has an address today need not have had it at the time of a question.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from ctrecorder.names.entry import Addresses, Entry, Line, checked_name, network, second
from ctrecorder.names.tenures import client_name
from ctrecorder.times import END

_LEASE = re.compile(r"(?P<expiry>\d+) (?P<id>\S+) (?P<address>\S+) (?P<host>\S+) (?P<client>\S+)")
_MAC = re.compile(r"(?:[0-9a-f]{2}-)?(?:[0-9a-f]{2}:){5,}[0-9a-f]{2}", re.IGNORECASE)


def recognises(line: str) -> bool:
    """Whether it is a line of this form."""
    return line.startswith("duid ") or _LEASE.fullmatch(line) is not None


class Dnsmasq:
    """Expiry, MAC address, address, hostname, client id; of IPv6: IAID, and the DUID at the end.

    `written`: when each file was written, ns, by its number.
    """

    def __init__(self, addresses: Addresses, written: Mapping[int, int]) -> None:
        self._addresses, self._written = addresses, written

    def feed(self, line: Line) -> Sequence[Entry]:
        """Raises ValueError: the reason why a line cannot be read."""
        if not line.text or line.text.startswith("duid "):
            return ()
        match = _LEASE.fullmatch(line.text)
        if match is None:
            raise ValueError("it is no lease: expiry, MAC address, address, hostname, client id")
        identity = match["id"] if _MAC.fullmatch(match["id"]) else match["client"]
        name = checked_name(client_name(identity, match["host"]))
        until = END if match["expiry"] == "0" else second(match["expiry"])
        held = network(match["address"])
        if not self._addresses.touch(held):
            return ()
        return (Entry(held, self._written[line.file], until, name, line),)

    def finish(self) -> Sequence[Entry]:
        """Nothing is open."""
        return ()
