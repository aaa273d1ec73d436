"""Completion of values in the shell, by their metavar: parsers contain nothing about completion.

argcomplete itself completes options and their `choices`.  This module imports no numpy and opens no
segment: the shell must get an answer within 0.15 s.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterable, Iterator

from ctrecorder.filters.complete import completions
from ctrecorder.kernel import netns
from ctrecorder.labels import EVENTS
from ctrecorder.service.config import read
from ctrecorder.service.settings import RESOLUTIONS
from ctrecorder.uapi import PROTOCOLS

SUFFIX = ".ctlog"
# Nobody reads more choices than this: the rest of a folder is left out.
MAX_ENTRIES = 5000


# What completions mean, for the shells that show it.
MEANINGS: dict[str, str] = {}
_TIMES = {
    "now": "this moment",
    "today": "since midnight",
    "yesterday": "the day before",
    "-1h": "an hour ago",
    "-1d": "a day ago",
}
_NAT = {
    "snat": "the source was translated",
    "dnat": "the destination was translated",
    "any": "one of them",
}
_PORTS = ("domain", "http", "https", "imaps", "ntp", "smtp", "ssh", "submission")


def attach(parser: argparse.ArgumentParser) -> None:
    """Give each option and argument of `parser` the completer of its metavar, if it has none."""
    for action in parser._actions:
        if "completer" in vars(action):
            continue
        completer = BY_METAVAR.get(str(action.metavar), None if action.choices else nothing)
        if completer is not None:
            vars(action)["completer"] = completer


def nothing(prefix: str, **_: object) -> list[str]:
    """No choices, and no files either."""
    return []


def times(prefix: str, **_: object) -> list[str]:
    """Times."""
    return _with_meanings(_TIMES)


def nat(prefix: str, **_: object) -> list[str]:
    """Kinds of NAT, as a list with commas."""
    MEANINGS.update(_NAT)
    return _listed(prefix, _NAT)


def ports(prefix: str, **_: object) -> list[str]:
    """Names of ports, as a list with commas."""
    return _listed(prefix, _PORTS)


def expressions(prefix: str, **_: object) -> list[str]:
    """Words of ctfilter(7), inside quotes."""
    return _with_meanings(completions(prefix))


def words(prefix: str, parsed_args: argparse.Namespace | None = None, **_: object) -> list[str]:
    """Segments and folders; and words of ctfilter(7), inside quotes or without."""
    if " " in prefix:
        return expressions(prefix)
    before = [
        word
        for word in getattr(parsed_args, "words", None) or []
        if "/" not in word and not os.path.lexists(word)
    ]
    text = " ".join([*before, prefix])
    begun = len(text) - len(prefix)
    found = {each[begun:]: meaning for each, meaning in completions(text).items()}
    return [*segments(prefix), *_with_meanings(found)]


def _with_meanings(found: dict[str, str]) -> list[str]:
    MEANINGS.update(found)
    return list(found)


def protocols(prefix: str, **_: object) -> list[str]:
    """Names of protocols, as a list with commas."""
    return _listed(prefix, PROTOCOLS.values())


def events(prefix: str, **_: object) -> list[str]:
    """Names of events, as a list with commas."""
    return _listed(prefix, [name.lower() for name in EVENTS.values()])


def resolutions(prefix: str, **_: object) -> list[str]:
    """Resolutions of times."""
    return list(RESOLUTIONS)


def segments(prefix: str, **_: object) -> list[str]:
    """Segments and folders that begin with `prefix`; with nothing typed yet, those of the
    configured folder too.
    """
    found = list(_entries(prefix))
    if not prefix:
        found += _entries(read(None).folder()[0] + "/")
    return found


def files(prefix: str, **_: object) -> list[str]:
    """Files and folders that begin with `prefix`."""
    return list(_entries(prefix, suffix=""))


def namespaces(prefix: str, **_: object) -> list[str]:
    """Names of network namespaces, or files once a slash was typed."""
    if "/" in prefix:
        return files(prefix)
    return [name for name in netns.names() if name.startswith(prefix)]


def _listed(prefix: str, names: Iterable[str]) -> list[str]:
    """`names` as items of a list with commas: "tcp," gives "tcp,udp" of tcp and udp."""
    before, comma, _last = prefix.rpartition(",")
    taken = before.split(",")
    return [f"{before}{comma}{name}" for name in names if name not in taken]


def _entries(prefix: str, suffix: str = SUFFIX) -> Iterator[str]:
    folder, start = os.path.split(prefix)
    try:
        with os.scandir(folder or ".") as entries:
            for count, entry in enumerate(entries):
                if count == MAX_ENTRIES:
                    return
                hidden = entry.name.startswith(".") and not start.startswith(".")
                if entry.name.startswith(start) and not hidden:
                    path = os.path.join(folder, entry.name)
                    if entry.is_dir():
                        yield path + "/"
                    elif entry.name.endswith(suffix):
                        yield path
    except OSError:
        return  # no choices from a folder that cannot be read


BY_METAVAR: dict[str, Callable[..., list[str]]] = {
    "PATH|EXPRESSION": words,
    "EXPRESSION": expressions,
    "TEXTFILE": files,
    "TIME": times,
    "PORT": ports,
    "NAT,...": nat,
    "PROTOCOL,...": protocols,
    "EVENT,...": events,
    "PATH": segments,
    "FILE": segments,
    "LIST": files,
    "SEGMENT": segments,
    "DIR": segments,
    "LETTER": files,
    "NAMES": files,
    "PAGE": files,
    "PICTURE": files,
    "KEYFILE": files,
    "UNIT": resolutions,
    "NAME": namespaces,
}
