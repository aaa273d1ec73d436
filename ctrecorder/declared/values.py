"""The values of settings: each function parses the text of one kind of value.

A parser takes the text after the `=` and returns the value.  It raises ValueError for any other
text.  Pure; no numpy, because the parsers of the commands import this module.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable

from ctrecorder import times, uapi

Value = str | int | float | bool | tuple[int, ...] | tuple[str, ...] | None
# Where segments are sent.  All of it becomes an argument of ssh and rsync: no character is special
# to a shell, and nothing can begin an option.
_NAME = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,252}"
# DNS has no longer label, and no empty one.
_LABEL = r"[A-Za-z0-9_][A-Za-z0-9_-]{0,62}"
_HOST = rf"(?:{_NAME}@)?(?:{_LABEL}(?:\.{_LABEL}){{0,126}}\.?|\[[0-9A-Fa-f:.]{{2,45}}\])"
_PORT = (
    "(?::(?:[1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5]))?"
)
_BELOW = r"[A-Za-z0-9_./+@%=][A-Za-z0-9_./+@%=-]{0,1023}"
SSH = re.compile(rf"(ssh|rsync\+ssh)://({_HOST}):({_BELOW})")
RSYNC = re.compile(rf"(rsync)://({_HOST}{_PORT})/({_BELOW})")
CLICKHOUSE = re.compile(rf"(clickhouse)://({_HOST}{_PORT})/([A-Za-z_][A-Za-z0-9_]{{0,63}})")
COLLECTOR = re.compile(rf"(ipfix|ipfix\+tcp|netflow9)://({_HOST}{_PORT})()")
PARQUET = re.compile(r"(file):()(/[A-Za-z0-9_./+@%=-]{0,1023}\.parquet)")
_TARGETS = (SSH, RSYNC, CLICKHOUSE, COLLECTOR, PARQUET)
# Where a router's archive is that is asked by ssh: in DIR, or as it is configured there.
ASKED = re.compile(rf"(ssh)://({_HOST})(?::({_BELOW}))?")
_ROUTER = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")
_UNITS = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


def number(least: int, most: int) -> Callable[[str], int]:
    """A parser of whole numbers from `least` to `most`."""

    def parse(text: str) -> int:
        if not re.fullmatch(r"-?[0-9]{1,12}", text) or not least <= int(text) <= most:
            raise ValueError
        return int(text)

    return parse


def choice(*names: str) -> Callable[[str], str]:
    """A parser that accepts only `names`."""

    def parse(text: str) -> str:
        if text not in names:
            raise ValueError
        return text

    return parse


def switch(text: str) -> bool:
    """True for yes, on, true or 1; False for no, off, false or 0."""
    try:
        return {
            "yes": True,
            "on": True,
            "true": True,
            "1": True,
            "no": False,
            "off": False,
            "false": False,
            "0": False,
        }[text.lower()]
    except KeyError:
        raise ValueError from None


def protocols(text: str) -> tuple[int, ...]:
    """Protocol numbers in ascending order; () for "all"."""
    if text == "all":
        return ()
    numbers = {label: protocol for protocol, label in uapi.PROTOCOLS.items()}
    try:
        return tuple(sorted({numbers[label.strip()] for label in text.split(",")}))
    except KeyError:
        raise ValueError from None


def networks(text: str) -> tuple[str, ...]:
    """Networks with their masks; () for an empty list."""
    import ipaddress

    found = [each for each in text.replace(",", " ").split() if each]
    return tuple(str(ipaddress.ip_network(each, strict=False)) for each in found)


def path(text: str) -> str:
    """A full path."""
    if not text.startswith("/") or "\0" in text:
        raise ValueError
    return text


def template(text: str) -> str:
    """A full path whose last part is a file name, also when its strftime fields are replaced."""
    folder, _, pattern = path(text).rpartition("/")
    name = time.strftime(pattern, time.gmtime(0))
    if "%" in folder or "/" in name or name in ("", ".", "..") or not name.isprintable():
        raise ValueError
    return text


def key(text: str) -> str:
    """A full path, or "credential:NAME"."""
    if text.startswith("credential:"):
        if not re.fullmatch(r"credential:[A-Za-z0-9_.-]{1,64}", text):
            raise ValueError
        return text
    return path(text)


def name(text: str) -> str | None:
    """The name of a user or group; None if the text is empty."""
    if text and not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,31}", text):
        raise ValueError
    return text or None


def mode(text: str) -> int:
    """Permissions in octal: read and write for the user, no execution."""
    if (
        not re.fullmatch(r"0?[0-7]{3}", text)
        or int(text, 8) & 0o600 != 0o600
        or int(text, 8) & 0o111
    ):
        raise ValueError
    return int(text, 8)


def size(text: str) -> int:
    """Bytes: "500M", "1.5G"; K, M, G and T are powers of 1024."""
    match = re.fullmatch(r"([0-9]{1,12}(?:\.[0-9]{1,6})?)([KMGT]?)(?:i?B)?", text)
    if match is None:
        raise ValueError
    return int(float(match[1]) * _UNITS.get(match[2], 1))


def duration(text: str) -> int:
    """Seconds: "90d", "12h"; the units are those of `times.UNITS`.  Raises ValueError."""
    match = re.fullmatch(r"([0-9]{1,9}) ?([a-z]+)", text)
    unit = None if match is None else times.unit_ns(match[2])
    if match is None or unit is None or int(match[1]) == 0:
        raise ValueError
    seconds: int = int(match[1]) * unit // times.SECOND
    return seconds


def size_or_share(text: str) -> int | float:
    """An int is bytes, a float below 1 a share of the whole: "10%" is 0.1."""
    match = re.fullmatch(r"([0-9]{1,2}(?:\.[0-9]{1,3})?)%", text)
    return size(text) if match is None else float(match[1]) / 100


def or_none(parse: Callable[[str], Value]) -> Callable[[str], Value]:
    """A parser that returns None for an empty text, and `parse(text)` for any other."""
    return lambda text: parse(text) if text else None


def match_target(text: str) -> re.Match[str] | None:
    """The match of a target: its kind, its host, and its folder or database; None: it is none."""
    return next(filter(None, (form.fullmatch(text) for form in _TARGETS)), None)


def targets(text: str) -> tuple[str, ...]:
    """The targets of ctship in a list with commas or spaces."""
    words = tuple(dict.fromkeys(text.replace(",", " ").split()))
    if not all(match_target(word) for word in words):
        raise ValueError
    return words


def router(text: str) -> str:
    """The name of a router's folder among those of others."""
    if not _ROUTER.fullmatch(text) or text == "replaced":
        raise ValueError
    return text
