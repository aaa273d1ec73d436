"""What an answer without anybody hints at: an address that is mistyped, or that nobody outside saw.

Pure.
"""

from __future__ import annotations

import ipaddress
from dataclasses import replace

from ctrecorder.query import who

# Addresses of the inside: RFC 1918, 6598, 4193, and those of one link or host.
_INSIDE = tuple(
    map(
        ipaddress.ip_network,
        (
            *("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10"),
            *("127.0.0.0/8", "169.254.0.0/16", "fc00::/7", "fe80::/10", "::1/128"),
        ),
    )
)


def of_address(asked: who.WhoQuery, address: str) -> who.WhoQuery:
    """The question if `address` occurs as a public address at all in the span of `asked`."""
    return replace(asked, public=who.parse_end(address), to=None, protocols=frozenset())


def of_nowhere(address: str) -> tuple[str, ...]:
    """What is noted of an address that occurs nowhere as a public one."""
    nowhere = f"{address} occurs nowhere as a public address in what was searched"
    if any(ipaddress.ip_address(address) in one for one in _INSIDE):
        return (f"{nowhere}: it is one of the inside; ask for the one that the outside saw",)
    return (f"{nowhere}: is it mistyped?",)
