"""The settings: every fact about one is declared here, with its default, unit, limits and their
reason.

etc/ctrecorder.conf is `example()`, ctrecorder.conf(5) is tested against `SECTIONS`, and errors
quote it.  No numpy and no files here: the commands' parsers read it.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from ctrecorder import uapi

DEFAULT_FOLDER = "/var/log/ctrecorder"
RESOLUTIONS = ("us", "ms", "s")

Value = str | int | float | bool | tuple[int, ...] | None
_UNITS = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800, "y": 31557600}


@dataclass(frozen=True)
class Setting:
    """One setting.

    `default` is as the file would say it; `parse` makes the value and raises ValueError for what is
    not `allowed`.
    """

    name: str
    default: str
    unit: str
    allowed: str
    meaning: str
    reason: str
    parse: Callable[[str], Value]


@dataclass(frozen=True)
class Section:
    """One section: the command that reads it, and its settings in the order of the file."""

    command: str
    settings: tuple[Setting, ...]


def _number(least: int, most: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not re.fullmatch(r"-?[0-9]{1,12}", text) or not least <= int(text) <= most:
            raise ValueError
        return int(text)

    return parse


def _choice(*names: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text not in names:
            raise ValueError
        return text

    return parse


def _switch(text: str) -> bool:
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


def _protocols(text: str) -> tuple[int, ...]:
    """Protocol numbers in rising order; () for all."""
    if text == "all":
        return ()
    numbers = {name: number for number, name in uapi.PROTOCOLS.items()}
    try:
        return tuple(sorted({numbers[name.strip()] for name in text.split(",")}))
    except KeyError:
        raise ValueError from None


def _path(text: str) -> str:
    if not text.startswith("/") or "\0" in text:
        raise ValueError
    return text


def _template(text: str) -> str:
    if text.endswith("/"):
        raise ValueError
    return _path(text)


def _key(text: str) -> str:
    if text.startswith("credential:"):
        if not re.fullmatch(r"credential:[A-Za-z0-9_.-]{1,64}", text):
            raise ValueError
        return text
    return _path(text)


def _name(text: str) -> str | None:
    if text and not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,31}", text):
        raise ValueError
    return text or None


def _mode(text: str) -> int:
    if (
        not re.fullmatch(r"0?[0-7]{3}", text)
        or int(text, 8) & 0o600 != 0o600
        or int(text, 8) & 0o111
    ):
        raise ValueError
    return int(text, 8)


def size(text: str) -> int:
    """Bytes: "500M", "1.5G"; K, M, G and T are powers of 1024.  Raises ValueError."""
    match = re.fullmatch(r"([0-9]{1,12}(?:\.[0-9]{1,6})?)([KMGT]?)(?:i?B)?", text)
    if match is None:
        raise ValueError
    return int(float(match[1]) * _UNITS.get(match[2], 1))


def duration(text: str) -> int:
    """Seconds: "90d", "12h"; units s, m, h, d, w, y.  Raises ValueError."""
    match = re.fullmatch(r"([0-9]{1,9})([smhdwy])", text)
    if match is None or int(match[1]) == 0:
        raise ValueError
    return int(match[1]) * _SECONDS[match[2]]


def size_or_share(text: str) -> int | float:
    """An int is bytes, a float below 1 a share of the whole: "10%" is 0.1.  Raises ValueError."""
    match = re.fullmatch(r"([0-9]{1,2}(?:\.[0-9]{1,3})?)%", text)
    return size(text) if match is None else float(match[1]) / 100


def _or_none(parse: Callable[[str], Value]) -> Callable[[str], Value]:
    return lambda text: parse(text) if text else None


_RECORD = (
    Setting(
        "template",
        f"{DEFAULT_FOLDER}/%Y%m%d-%H%M%S.ctlog",
        "",
        "a full path whose file name has strftime(3) fields",
        "Where segments go: each is named after the time (UTC) at which it begins.",
        "The name tells ctlist which segments a question can skip. A name that exists already is never overwritten.",
        _template,
    ),
    Setting(
        "rotate",
        "60",
        "minutes",
        "a whole number, 1 to 1440",
        "A new segment at every multiple of so many minutes of the day (UTC).",
        "A segment is what is squeezed, deleted and checked as a whole: an hour loses little when one is damaged and keeps files few.",
        _number(1, 1440),
    ),
    Setting(
        "protocols",
        "all",
        "",
        "all, or a list of " + ", ".join(uapi.PROTOCOLS.values()),
        "Which L4 protocols are recorded. The kernel drops the others before they cost anything.",
        "What is not recorded cannot be answered.",
        _protocols,
    ),
    Setting(
        "nat_only",
        "no",
        "",
        "yes or no",
        "Record only connections that were translated (SNAT or DNAT).",
        "Smaller where much is not translated; but then only questions about translated connections have answers.",
        _switch,
    ),
    Setting(
        "updates",
        "no",
        "",
        "yes or no",
        "Record state changes (UPDATE) too, not only starts and ends.",
        "Several times as many events, and who held an address does not need them.",
        _switch,
    ),
    Setting(
        "resync",
        "yes",
        "",
        "yes or no",
        "Record the table of open connections at the start, at each new segment and after a loss.",
        "Finds again what a loss hid, and lets each segment answer by itself. Without it the recorder gives up CAP_NET_ADMIN too.",
        _switch,
    ),
    Setting(
        "buffer",
        "65536",
        "KiB",
        "a whole number, 64 to 1048576",
        "The kernel's buffer for events that were not read yet.",
        "An event waiting there costs 1280 bytes, and the kernel doubles what is asked: 65536 holds about 105,000 events, half "
        "a second of 200,000 a second.",
        _number(64, 1 << 20),
    ),
    Setting(
        "rows",
        "16384",
        "events",
        "a whole number, 1 to 65536",
        "A block of the log holds at most so many events.",
        "A larger block packs a little better, but takes memory: 65536 needs 10 MiB more. Each second a block is written in any case.",
        _number(1, 65536),
    ),
    Setting(
        "memory",
        "64",
        "MiB",
        "a whole number, 1 to 4096",
        "How much is kept in memory while the disk is full or fails.",
        "What does not fit is counted, and a GAP in the log says so. More bridges a longer fault.",
        _number(1, 4096),
    ),
    Setting(
        "nice",
        "0",
        "",
        "a whole number, -20 to 19",
        "The recorder's nice value.",
        "Below 0 needs root: under systemd use Nice= in a drop-in instead.",
        _number(-20, 19),
    ),
    Setting(
        "user",
        "",
        "",
        "the name of a user",
        "Whom the recorder becomes when root starts it by hand. Empty: ctrecorder, if there is such a user.",
        "Under systemd the unit says it (User=), and this must be empty or the same.",
        _name,
    ),
    Setting(
        "group",
        "",
        "",
        "the name of a group",
        "The recorder's group when root starts it by hand. Empty: the user's own.",
        "Members of the group may list.",
        _name,
    ),
    Setting(
        "mode",
        "0640",
        "octal",
        "read and write for the user, any of them for group and others: 0600 to 0666",
        "The permissions of a segment.",
        "Who talked to whom is nobody else's business: others get nothing.",
        _mode,
    ),
)
_FOLDER = Setting(
    "folder",
    DEFAULT_FOLDER,
    "",
    "a full path",
    "The folder of segments.",
    "The same as that of `template` in [record].",
    _path,
)
_SQUEEZE = (
    _FOLDER,
    Setting(
        "resolution",
        "us",
        "",
        "us, ms or s",
        "How exact times stay in a squeezed segment.",
        "Times are the largest part of it: ms saves a third. Abuse reports are exact to a second at best.",
        _choice(*RESOLUTIONS),
    ),
    Setting(
        "keep",
        "no",
        "",
        "yes or no",
        "Keep the segment as it was recorded, in the folder `replaced` below.",
        "The squeezed one is read back and compared first, so the other is of no more use.",
        _switch,
    ),
)
_EXPIRE = (
    _FOLDER,
    Setting(
        "max_age",
        "90d",
        "",
        "a number with s, m, h, d, w or y; empty: for ever",
        "Segments that end longer ago are deleted.",
        "Keep what the law or your own need wants, and no longer: personal data that is gone cannot leak.",
        _or_none(duration),
    ),
    Setting(
        "max_size",
        "",
        "bytes",
        "a number, or one with K, M, G or T; empty: no limit",
        "The oldest segments are deleted while all of them take more.",
        "For a disk that is shared with others.",
        _or_none(size),
    ),
    Setting(
        "min_free",
        "",
        "bytes",
        "a number, or one with K, M, G, T or %; empty: no limit",
        "The oldest segments are deleted while the disk has less free.",
        "A full disk loses the newest events. But this deletes before max_age, so it is for who may do that: 5% is usual.",
        _or_none(size_or_share),
    ),
)
_SEAL = (
    Setting(
        "key",
        "",
        "",
        "a full path, or credential: and the name of a systemd credential; empty: not sealed",
        "The file with the key that seals new segments: nobody may read it but root, or the recorder.",
        "Sealed hashes cannot be made anew by who has not got the key. Lost, it takes with it every proof, but no record.",
        _or_none(_key),
    ),
)
_QUERY = (
    Setting(
        "audit",
        "on",
        "",
        "off, on or require-reason",
        "Each question of ctlist goes to the journal: who asked what, why, and how many rows came.",
        "For those who are honest: who may read the segments can read them with other programs too. Some laws want a reason each time.",
        _choice("off", "on", "require-reason"),
    ),
)
SECTIONS: Mapping[str, Section] = {
    "record": Section("ctrecord", _RECORD),
    "squeeze": Section("ctsqueeze", _SQUEEZE),
    "expire": Section("ctexpire", _EXPIRE),
    "seal": Section("ctrecord, ctsqueeze and cttest", _SEAL),
    "query": Section("ctlist", _QUERY),
}


def setting(section: str, name: str) -> Setting:
    """The declaration of a setting; KeyError if there is none."""
    return {one.name: one for one in SECTIONS[section].settings}[name]


def example() -> str:
    """etc/ctrecorder.conf: every setting, commented out at its default, with its meaning, limits,
    unit and reason.
    """
    lines = [
        "# The configuration of ctrecorder: see ctrecorder.conf(5).",
        "# What is commented out is the default. Check changes with: ctrecord --check-config",
        "# A change is in force after: systemctl restart ctrecord",
    ]
    for name, section in SECTIONS.items():
        lines += ["", f"[{name}]", f"# read by {section.command}"]
        for one in section.settings:
            words = f"{one.meaning} {one.reason} Allowed: {one.allowed}."
            lines += [
                "",
                *textwrap.wrap(
                    words, 100, initial_indent="# ", subsequent_indent="# ", break_on_hyphens=False
                ),
            ]
            if one.unit:
                lines.append(f"# In {one.unit}:")
            lines.append(f"#{one.name} = {one.default}".rstrip())
    return "\n".join(lines) + "\n"


def in_unit(one: Setting) -> str:
    """What follows `allowed` where a number has a unit: ", in KiB"."""
    return f", in {one.unit}" if one.unit else ""


if __name__ == "__main__":
    print(example(), end="")
