"""Parse addresses, networks and ports of the command line."""

from __future__ import annotations

from ctrecorder import uapi
from ctrecorder.ctlog.predicate import Network
from ctrecorder.errors import UsageError


def parse_network(text: str) -> Network:
    """The network of "10.0.0.0/8", "10.0.0.0/255.0.0.0", "10.1.2.3", "2001:db8::/32" or
    "[2001:db8::1]".

    Bits after the mask are ignored.  Raises UsageError.
    """
    import ipaddress

    address, slash, mask = text.partition("/")
    if address.startswith("[") and address.endswith("]"):
        address = address[1:-1]
    try:
        if "%" in address:
            raise ValueError("zones are not recorded")
        network = ipaddress.ip_network(f"{address}{slash}{mask}", strict=False)
        if "." in mask and network.version == 4 and network.netmask != ipaddress.IPv4Address(mask):
            raise ValueError("a mask with gaps")
    except ValueError:
        example = "192.0.2.7, 192.0.2.0/24, 10.0.0.0/255.0.0.0 or 2001:db8::/32"
        raise UsageError(f"no address or network '{text}': write for example {example}") from None
    family = uapi.AF_INET if network.version == 4 else uapi.AF_INET6
    return Network(family, network[0].packed, network[-1].packed)


def parse_ports(text: str) -> tuple[int, int]:
    """The first and the last port of "25" or "8000-8080".  Raises UsageError."""
    low, dash, high = text.partition("-")
    numbers = [
        int(word) if word.isascii() and word.isdigit() and len(word) <= 5 else -1
        for word in ((low, high) if dash else (low, low))
    ]
    if not 0 <= numbers[0] <= numbers[1] < 1 << 16:
        raise UsageError(
            f"no port '{text}': write a number from 0 to 65535, or a range like 8000-8080"
        )
    return numbers[0], numbers[1]
