"""Parse addresses, networks and ports of the command line; which addresses are inside ones."""

from __future__ import annotations

from ctrecorder import uapi
from ctrecorder.ctlog.predicate import Network
from ctrecorder.errors import UsageError

# RFC 1918, RFC 6598, RFC 4193; loopback and link-local.  Not ipaddress.is_private, which also has
# the addresses for documentation.
_INSIDE = (
    *("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10"),
    *("127.0.0.0/8", "169.254.0.0/16", "fc00::/7", "fe80::/10", "::1/128"),
)


def is_inside(address: str) -> bool:
    """Whether `address` has no meaning outside of its network."""
    import ipaddress

    found = ipaddress.ip_address(address)
    return any(found in network for network in map(ipaddress.ip_network, _INSIDE))


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
