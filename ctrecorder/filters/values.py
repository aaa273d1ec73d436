"""Values of the language and of options: addresses, networks, ports, amounts, durations."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from ctrecorder import uapi
from ctrecorder.ctlog.predicate import Network
from ctrecorder.errors import UsageError

Service = Callable[[str], int | None]

_IPV4 = re.compile(r"(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.(\d{1,3})", re.ASCII)
_FIRST_NUMBERS = re.compile(r"\d{1,3}(?:\.\d{1,3}){0,2}", re.ASCII)
_AMOUNT = re.compile(r"(0[xX][0-9a-fA-F]+|\d+(?:\.\d+)?)([kKmMgGtT]?i?[bB]?)", re.ASCII)
_FACTORS: Mapping[str, int] = {
    "": 1,
    "k": 10**3,
    "m": 10**6,
    "g": 10**9,
    "t": 10**12,
    "ki": 2**10,
    "mi": 2**20,
    "gi": 2**30,
    "ti": 2**40,
}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)([a-z]*)", re.ASCII)
_UNITS: Mapping[str, int] = {
    "": 10**9,
    "us": 10**3,
    "ms": 10**6,
    "s": 10**9,
    "m": 60 * 10**9,
    "min": 60 * 10**9,
    "h": 3600 * 10**9,
    "d": 86400 * 10**9,
    "w": 7 * 86400 * 10**9,
}


def parse_network(text: str) -> Network:
    """The network of "10.0.0.0/8", "10.0.0.0/255.0.0.0", "10.1.2.3", "2001:db8::/32" or
    "[2001:db8::1]".

    Bits after the mask are ignored.  Raises UsageError.
    """
    import ipaddress

    if plain := _IPV4.fullmatch(text):
        numbers = [int(each) for each in plain.groups()]
        if max(numbers) < 256 and all(str(int(each)) == each for each in plain.groups()):
            packed = bytes(numbers)
            return Network(uapi.AF_INET, packed, packed)
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


def parse_networks(text: str) -> tuple[Network, ...]:
    """As `parse_network`; also a range "192.0.2.1-192.0.2.9", and the first numbers of a network:
    "10" or "192.168".  Raises UsageError.
    """
    import ipaddress

    low, dash, high = text.partition("-")
    if not dash:
        if _FIRST_NUMBERS.fullmatch(text):
            numbers = text.split(".")
            text = ".".join([*numbers, *["0"] * (4 - len(numbers))]) + f"/{8 * len(numbers)}"
        return (parse_network(text),)
    first, last = parse_network(low), parse_network(high)
    if first.family != last.family or first.low > last.high:
        raise UsageError(
            f"no range '{text}': write the lower address first, as in 10.0.0.1-10.0.0.9"
        )
    ends = ipaddress.ip_address(first.low), ipaddress.ip_address(last.high)
    return tuple(
        Network(first.family, network[0].packed, network[-1].packed)
        for network in ipaddress.summarize_address_range(*ends)
    )


def parse_ports(text: str, service: Service | None = None) -> tuple[int, int]:
    """The first and the last port of "25" or "8000-8080".  `service`: the number of a name, such as
    "http".  Raises UsageError.
    """
    if service is not None and text[:1].isalpha():
        number = service(text.lower())
        if number is not None:
            return number, number
        if text.lower() in uapi.PROTOCOLS.values():
            raise UsageError(
                f"no port '{text}': {text.lower()} is a protocol: write --proto {text.lower()}, or "
                f"the expression {text.lower()}"
            )
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


def parse_amount(text: str) -> int:
    """The number of "1500", "10M" (of 1000), "10Mi" (of 1024), "1.5GB" or "0x10".

    Raises UsageError.
    """
    found = _AMOUNT.fullmatch(text)
    factor = _FACTORS.get(found[2].lower().removesuffix("b")) if found else None
    if found is None or factor is None:
        raise UsageError(f"no number '{text}': write for example 1500, 10M, 10Mi or 0x10")
    if found[1][:2].lower() == "0x":
        return int(found[1], 16) * factor
    return _decimal(found[1], factor)


def is_unit(word: str) -> bool:
    """Whether it is a unit of a duration or of an amount, in lower case."""
    return word in _UNITS or (word != "" and word.removesuffix("b") in _FACTORS)


def parse_duration(text: str) -> int:
    """The ns of "90", "90s", "1h30m" or "0.5s".  Raises UsageError."""
    parts = _DURATION.findall(text.lower())
    whole = "".join(map("".join, parts)) == text.lower()
    if not parts or not whole or any(unit not in _UNITS for _, unit in parts):
        raise UsageError(f"no duration '{text}': write for example 90s, 1h30m, 500ms or 2d")
    return sum(_decimal(number, _UNITS[unit]) for number, unit in parts)


def _decimal(text: str, factor: int) -> int:
    """A number with or without a point times `factor`, to the nearest whole number."""
    whole, _, fraction = text.partition(".")
    scale = int(10 ** len(fraction))
    return (int(whole + fraction) * factor * 2 + scale) // (2 * scale)
