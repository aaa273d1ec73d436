"""The shape of an answer's JSON twin, as ctwho(1) documents it: every page is made from one.

A twin may come from a stranger's file, so nothing of it is used before its shape is checked.  Null
and absent are the same.  Members that this version does not know are allowed, and not shown.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from ctrecorder import times
from ctrecorder.errors import CtrecorderError

Json = dict[str, Any]
Shape = Callable[[object, str], Any]

# One at a time: a letter has at most some thousands of sightings.
MAX_ITEMS = 1_000_000
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,9})?Z", re.ASCII)
_SHA256 = re.compile(r"[0-9a-f]{64}")


class TwinError(CtrecorderError):
    """A value that is no twin of an answer."""


def text(value: object, where: str) -> str:
    """Any text."""
    if not isinstance(value, str):
        raise TwinError(f"{where}: must be a text")
    return value


def whole(value: object, where: str) -> int:
    """A whole number that is not negative."""
    if type(value) is not int or value < 0:
        raise TwinError(f"{where}: must be a whole number")
    return value


def number(value: object, where: str) -> float:
    """A number that is not negative."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e15:
        raise TwinError(f"{where}: must be a number")
    return value


def flag(value: object, where: str) -> bool:
    """True or false."""
    if type(value) is not bool:
        raise TwinError(f"{where}: must be true or false")
    return value


def time(value: object, where: str) -> str:
    """A time as `nanoseconds` reads it."""
    if not isinstance(value, str) or not _TIME.fullmatch(value):
        raise TwinError(f"{where}: must be a time such as 2026-11-24T05:00:05.000000000Z")
    try:
        ns = nanoseconds(value)
    except ValueError:
        ns = -1
    if not times.BEGIN <= ns <= times.END:
        raise TwinError(f"{where}: is no time of the years 1970 to 2262")
    return value


def nanoseconds(moment: str) -> int:
    """The ns of a time of a twin."""
    second = datetime.fromisoformat(f"{moment[:19]}+00:00")
    decimals = moment[20:-1]
    return int(second.timestamp()) * times.SECOND + int(f"{decimals:0<9}")


def sha256(value: object, where: str) -> str:
    """A hash in hexadecimal digits."""
    if not isinstance(value, str) or not _SHA256.fullmatch(value):
        raise TwinError(f"{where}: must be a SHA-256")
    return value


def completeness(value: object, where: str) -> object:
    """The member `complete`."""
    if type(value) is not bool and value != "version 1.0":
        raise TwinError(f'{where}: must be true, false or "version 1.0"')
    return value


def one_of(*words: str) -> Shape:
    """One of some words."""

    def check(value: object, where: str) -> str:
        if not isinstance(value, str) or value not in words:
            raise TwinError(f"{where}: must be one of: {', '.join(words)}")
        return value

    return check


def many(shape: Shape) -> Shape:
    """A list."""

    def check(value: object, where: str) -> list[Any]:
        if not isinstance(value, list) or len(value) > MAX_ITEMS:
            raise TwinError(f"{where}: must be a list")
        return [shape(one, f"{where}[{place}]") for place, one in enumerate(value)]

    return check


def members(needed: Mapping[str, Shape], optional: Mapping[str, Shape]) -> Shape:
    """An object; returns it with the members of the shape alone, without those that are null."""
    shapes = {**needed, **optional}

    def check(value: object, where: str) -> Json:
        if not isinstance(value, dict):
            raise TwinError(f"{where}: must be an object")
        given = {name: one for name, one in value.items() if one is not None}
        for name in needed:
            if name not in given:
                raise TwinError(f"{where}: has no {name}")
        return {
            name: shapes[name](one, f"{where}.{name}")
            for name, one in given.items()
            if name in shapes
        }

    return check
