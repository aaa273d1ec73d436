"""Texts without the addresses that are to be left out, in whatever spelling they stand there."""

from __future__ import annotations

import html
import re
import unicodedata
from base64 import b64decode
from collections.abc import Callable, Iterator, Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any
from urllib.parse import unquote

LEFT_OUT = "[left out]"
Address = IPv4Address | IPv6Address
# What looks like an address: with a port behind a fourth dot or an eighth colon, too.
_DOTTED = re.compile(r"[0-9]+(?:\.[0-9]+){3,}", re.ASCII)
_COLONS = re.compile(r"[0-9A-Fa-f.]*(?::[0-9A-Fa-f.]*){2,}", re.ASCII)
_MOST_COLONS = 7
# Numbers that may be octets, and what stands between the digits of one number.
_NUMBER = "(?:0x[0-9a-f]{1,4}|[0-9]{1,4})"
_NUMBERS = re.compile(rf"{_NUMBER}(?:[^0-9a-z]{{1,3}}{_NUMBER}){{3,}}", re.IGNORECASE | re.ASCII)
_BETWEEN = re.compile(r"0x|[^0-9A-Za-z]", re.IGNORECASE)
_HEXADECIMAL = re.compile(r"[0-9a-f]{8,}")
_BASE64 = re.compile(r"[A-Za-z0-9+/_-]{6,}", re.ASCII)
# Times and hashes of a twin, whose digits mean nothing else.
_NO_TEXT = re.compile(r"[0-9-]{10}T[0-9:]{8}(?:\.[0-9]{1,9})?Z|[0-9a-f]{64}", re.ASCII)
# In what other spellings can a text have an address?
_VIEWS: tuple[Callable[[str], str], ...] = (
    unquote,
    lambda text: unquote(unquote(text)),
    html.unescape,
    lambda text: unicodedata.normalize("NFKC", text),
)


def parse(text: str) -> Address | None:
    """The address of a text; that of IPv4 for an IPv4-mapped one; None if it is none."""
    try:
        address = ip_address(text)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


class Sweep:
    """Replaces the addresses of texts."""

    def __init__(self, ours: set[Address], remotes: set[Address]) -> None:
        """`ours`: these alone stay.  `remotes`: these are looked for in every spelling."""
        self._ours = ours
        self._hidden = hidden = remotes - ours
        self._packed = {address.packed for address in hidden}
        self._packed |= {raw[::-1] for raw in self._packed}
        self._numbers = {int(address) for address in hidden if address.version == 4}
        self._digits = {raw.hex() for raw in self._packed}
        self._digits |= {address.packed.hex()[::-1] for address in hidden}

    def within(self, value: Any) -> Any:
        """A copy of a JSON value."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, list):
            return [self.within(each) for each in value]
        if isinstance(value, dict):
            return {name: self.within(each) for name, each in value.items()}
        return value

    def text(self, given: str) -> str:
        """A copy of a text; LEFT_OUT alone if an address is hidden in it."""
        if _NO_TEXT.fullmatch(given):
            return given
        swept = self._replaced(given)
        views = {view(swept) for view in _VIEWS} - {swept}
        hides = any(self._replaced(view) != view for view in views)
        hides = hides or any(map(self._spells, (swept, *views)))
        return LEFT_OUT if hides or self._encodes(swept) else swept

    def _replaced(self, text: str) -> str:
        """The text without the addresses that are not ours, in the usual spelling."""
        return _DOTTED.sub(self._dotted, _COLONS.sub(self._colons, text))

    def _dotted(self, match: re.Match[str]) -> str:
        """An IPv4 address, or one with a port behind a dot."""
        parts = match[0].split(".")
        if any(len(part) > 3 or int(part) > 255 for part in parts[:4]):
            return match[0]
        is_ours = IPv4Address(bytes(map(int, parts[:4]))) in self._ours and len(parts) <= 5
        return match[0] if is_ours else LEFT_OUT

    def _colons(self, match: re.Match[str]) -> str:
        """An IPv6 address, or one with a port behind a colon."""
        known = _readings(match[0])
        if known & self._ours:
            return match[0]
        return LEFT_OUT if known or match[0].count(":") > _MOST_COLONS else match[0]

    def _spells(self, text: str) -> bool:
        """If it has a remote address: as such, as numbers, as one, or in hexadecimal digits."""
        if any(_readings(word) & self._hidden for word in _COLONS.findall(text)):
            return True
        octets = (re.findall("(?i)0x[0-9a-f]+|[0-9]+", run) for run in _NUMBERS.findall(text))
        if any(raw in self._packed for each in octets for raw in _packed_windows(each)):
            return True
        numbers = re.findall("[0-9]{1,10}", text, re.ASCII)
        if any(int(number) in self._numbers for number in numbers):
            return True
        runs = _HEXADECIMAL.findall(_BETWEEN.sub("", text).lower())
        return any(part in self._digits for run in runs for part in _windows(run, (8, 32)))

    def _encodes(self, text: str) -> bool:
        """If it has a remote address in base64."""
        for word in _BASE64.findall(text):
            usual = word.replace("-", "+").replace("_", "/")
            for first in range(4):
                part = usual[first:]
                raw = b64decode(part[: len(part) // 4 * 4] + _padded(part[len(part) // 4 * 4 :]))
                if any(one in self._packed for one in _windows(raw, (4, 16))):
                    return True
                if self._spells(raw.decode("latin-1")):
                    return True
        return False


def _padded(rest: str) -> str:
    """The last characters of base64; a single one has no byte."""
    return rest.ljust(4, "=") if len(rest) > 1 else ""


def _readings(word: str) -> set[Address]:
    """The addresses that a word with colons can be: with a port behind, a letter before."""
    text = word.rstrip(".")
    first = text.partition(":")[0]
    words = {text.strip(":"), *(text[start:] for start in range(len(first) + 1))}
    words |= {each.rpartition(":")[0] for each in words}
    return {address for each in words if (address := parse(each)) is not None}


def _packed_windows(numbers: Sequence[str]) -> Iterator[bytes]:
    """Each four numbers in a row as octets: decimal or octal, and hexadecimal."""
    for base in (10, 8):
        for four in _windows(numbers, (4,)):
            try:
                yield bytes(int(one, 16 if one[1:2] in ("x", "X") else base) for one in four)
            except ValueError:  # not an octet
                continue


def _windows(whole: Any, lengths: Sequence[int]) -> Iterator[Any]:
    """Each part of these lengths of a sequence."""
    for length in lengths:
        for first in range(len(whole) - length + 1):
            yield whole[first : first + length]
