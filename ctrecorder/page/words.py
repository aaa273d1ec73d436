"""What the members of a twin mean, in plain English, and its times, in UTC and in the zone of the
letter: the page and the mail use the same words.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from functools import lru_cache
from zoneinfo import ZoneInfo

from ctrecorder import times
from ctrecorder.page.shape import Json, nanoseconds
from ctrecorder.render import holes
from ctrecorder.terminal import count

MEANINGS: Mapping[str, str] = {
    "ONE": "One inside host had it, and the log proves that no other had it.",
    "ONE KNOWN (not proved)": (
        "One inside host is known to have had it. The log does not prove that no other had it."
    ),
    "SEVERAL": "More than one inside host can be meant. The log does not tell which of them.",
    "NOBODY": "No inside host had it, and the log proves that.",
    "NOBODY KNOWN (not proved)": (
        "No inside host is known to have had it. The log does not prove that none had it."
    ),
    "NOT RECORDED": "The log does not cover this. It cannot be told who had it.",
    "NOT YET": "The log does not reach to the end of this time yet. Ask again later.",
    "CANNOT BE ASKED": "The question cannot be asked as it stands.",
    "NO LONGER KEPT": (
        "The log of this time was deleted when its retention ended. It can no longer be told."
    ),
}
_ROLES: Mapping[str, str] = {
    "source": "the port that it sent from",
    "service": "a port of its own that was reached",
    "listening": "the port on which a peer-to-peer program waits",
    "none": "no port is known",
}
_BASES: Mapping[str, str] = {
    "given": "the zone is written in the time",
    "noted": "the zone is noted elsewhere in the letter",
    "format": "the format of the letter prescribes the zone",
    "option": "the operator named the zone",
    "local": "the time was typed in the zone of the machine that was asked",
    "unknown": "no zone is known",
}
_SOURCES: Mapping[str, str] = {
    "kernel": "by the clock of the kernel",
    "receipt": "by the clock of the recorder, when the event arrived",
}
_OFFSET = re.compile(r"([+-])(\d\d):?(\d\d)(?::(\d\d))?", re.ASCII)
# "PDT (-07:00)", "CET (Europe/Berlin)", "+01:00 and +02:00" of an hour in which clocks were set.
_NAMED = re.compile(r"[^()]* \(([^()]+)\)|(\S+) and \S+")
_UTC = ("", "utc", "z", "gmt", "+00:00")


def ends(question: Json) -> str:
    """ "198.51.100.1 port 40000, tcp"."""
    if "address" not in question:
        return "no address"
    return end(question) + (f", {question['protocol']}" if "protocol" in question else "")


def end(one: Json) -> str:
    """ "198.51.100.1 port 40000"; of ICMP "198.51.100.1 id 4711"."""
    numbers = [f" {name} {one[name]}" for name in ("port", "id") if name in one]
    return str(one["address"]) + "".join(numbers)


def role(question: Json) -> str:
    """What the port is; "" if the number is an id of ICMP."""
    if "id" in question:
        return ""
    return _ROLES.get(question.get("role", ""), "")


def basis(question: Json) -> str:
    """Why the zone of a time is what it is."""
    return _BASES.get(question.get("basis", ""), question.get("basis", ""))


def host(person: Json) -> str:
    """ "10.0.0.5, zone 3, mark 0x7, router edge1"."""
    zone = f", zone {person['zone']}" if "zone" in person else ""
    mark = f", mark {person['mark']:#x}" if "mark" in person else ""
    router = f", router {' and '.join(person['routers'])}" if person.get("routers") else ""
    return f"{person['address']}{zone}{mark}{router}"


def ports(person: Json) -> str:
    """The inside ports, "51234, 51236"; "" if none is known."""
    return ", ".join(map(str, person.get("ports", [])))


def began(one: Json) -> str:
    """What goes before the time at which a connection or a person's first one began."""
    return _moment(one, "start", "not recorded")


def ended(one: Json) -> str:
    """The same of the end."""
    return _moment(one, "end", "not recorded, or still open")


def _moment(one: Json, name: str, unknown: str) -> str:
    if name not in one:
        return unknown
    return "at or before" if one.get(f"{name}_source") == "bound" else ""


def source(one: Json, name: str) -> str:
    """What the time `name` of a person or flow rests on; "" if it has none, or it is not known."""
    if name not in one:
        return ""
    given = one.get(f"{name}_source", "")
    return "seen in a dump of the table" if given == "bound" else _SOURCES.get(given, given)


def hole(one: Json) -> list[str]:
    """What a hole is: the reason, what it hides, and why that matters."""
    detail = one.get("detail", "")
    known = [holes.expired(detail) or holes.reason(one["reason"])]
    if detail and not holes.expired(detail):
        known[0] += f" ({one['detail']})"
    if "lost" in one:
        least = "at least " if one.get("at_least") else ""
        known.append(f"{least}{count(one['lost'], 'event')} lost")
    known += [f"only {part}" for part in _narrowed(one)]
    return [*known, *([one["why"]] if one.get("why") else [])]


def _narrowed(one: Json) -> Iterator[str]:
    if one.get("family"):
        yield str(one["family"]).replace("ipv", "IPv")
    if one.get("protocols"):
        yield ", ".join(one["protocols"])
    if one.get("ports"):
        yield f"ports {', '.join(map(str, one['ports']))}"
    if one.get("networks"):
        yield ", ".join(one["networks"])
    if one.get("untranslated"):
        yield "connections without NAT"


def coverage(answer: Json) -> str:
    """Whether the log covers the time of a question, in one sentence."""
    complete = answer.get("complete")
    if complete == "version 1.0":
        return (
            "As far as ctrecorder 1.0, which recorded this time, could know, the log is complete. "
            "It could not detect all losses."
        )
    if complete:
        return "Complete: the log covers all of this time."
    number = len(answer.get("holes", []))
    if not number:
        return "Not complete." if complete is False else ""
    return f"Not complete: {count(number, 'hole')}. A connection can be missing in a hole."


def clock(one: Json) -> str:
    """How right the clock of a recorder was."""
    if not one["synchronised"]:
        if one.get("trusted"):
            return "not synchronised; the operator vouches for it (--trust-clock)"
        return "not synchronised: each time can be wrong by any amount"
    if "error_seconds" not in one:
        return "synchronised; how far it can be off is not recorded"
    return f"synchronised, at most {one['error_seconds']:.3f} s off"


def shared(answer: Json) -> str:
    """How many hosts shared the address, for a question without a port; "" if not several did."""
    if answer.get("shared_by", 0) < 2:
        return ""
    return (
        f"{count(answer['shared_by'], 'inside host')} shared this address at that time. "
        "The source port is needed to tell them apart (RFC 6302)."
    )


def common(answers: Json) -> list[str]:
    """What the sightings of a letter have in common, a sentence and the hosts; [] if not known."""
    if "common" not in answers:
        return []
    known = answers["common"]
    hosts = [host(person) for person in known["persons"]]
    fits = count(len(hosts), "inside host") if hosts else "No inside host"
    proof = "" if known.get("proved") or not hosts else " Not each of the answers is proved."
    said = f"{fits} {'fits' if len(hosts) < 2 else 'fit'} all {known['sightings']:,} sightings."
    return [f"{said}{proof}", *hosts]


def letter(answers: Json) -> Json:
    """The letter that was answered; {} if there is none."""
    named = [one["evidence"] for one in answers["questions"] if "evidence" in one]
    found: Json = next((one["letter"] for one in [answers, *named] if "letter" in one), {})
    return found


def lacking_zones(answers: Json) -> list[str]:
    """The zones of the questions that this machine does not know."""
    named = {one["question"].get("zone", "") for one in answers["questions"]}
    return sorted(name for name in named if is_lacking(name))


def zone_of(name: str) -> tzinfo | None:
    """The zone that a question names; None if it names none but UTC, or one that is unknown."""
    if name.lower() in _UTC:
        return None
    if named := _NAMED.fullmatch(name):
        name = named[1] or named[2]
    if offset := _OFFSET.fullmatch(name):
        hours, minutes, seconds = (int(each or 0) for each in offset.groups()[1:])
        length = timedelta(hours=hours, minutes=minutes, seconds=seconds)
        if not timedelta() < length < timedelta(days=1):
            return None
        return timezone(-length if offset[1] == "-" else length)
    return _of_region(name)


@lru_cache(maxsize=64)
def _of_region(name: str) -> tzinfo | None:
    try:
        return ZoneInfo(name)
    except (OSError, ValueError, KeyError):  # not installed, no such name, a folder, a path
        return None


def is_lacking(name: str) -> bool:
    """If the zone is one that this machine does not know: its times are shown in UTC alone."""
    return name.lower() not in _UTC and zone_of(name) is None


def utc(moment: str) -> str:
    """ "2026-11-24 05:00:05.25 +00:00 (UTC)"."""
    return _text(nanoseconds(moment), UTC) + " (UTC)"


def local(moment: str, zone: tzinfo | None) -> str:
    """The same in `zone`, "2026-11-24 06:00:05.25 +01:00"; "" if there is none."""
    return _text(nanoseconds(moment), zone) if zone is not None else ""


def both(moment: str, zone: tzinfo | None) -> list[str]:
    """The time in the zone of the letter, if it has one, and in UTC."""
    return [text for text in (local(moment, zone), utc(moment)) if text]


def _text(ns: int, zone: tzinfo) -> str:
    """With as many decimals as the time has."""
    second, rest = divmod(ns, times.SECOND)
    moment = datetime.fromtimestamp(second, UTC).astimezone(zone)
    decimals = f".{rest:09}".rstrip("0") if rest else ""
    offset = moment.strftime("%z")
    return f"{moment:%Y-%m-%d %H:%M:%S}{decimals} {offset[:3]}:{offset[3:5]}"
