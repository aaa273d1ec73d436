"""Log lines about an address, as fail2ban, blocklist.de and abuse desks quote them."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator

from ctrecorder.envelopes import endpoints
from ctrecorder.envelopes.clock import Clock
from ctrecorder.envelopes.endpoints import Endpoint
from ctrecorder.envelopes.text import Field, Text
from ctrecorder.letters.forms import Reading, Source
from ctrecorder.letters.sighting import Role, Sighting

# Who is accused: the words in front of the address.  "Lines containing failures of 192.0.2.1",
# "the IP 192.0.2.1 has just been banned", "abuse from the IP address 192.0.2.1".
_ACCUSED = re.compile(
    r"\b(?:failures of|banned|(?:abuse|attacks?|activity|intrusion|scans?|spam)"
    r"(?: (?:report|attempts?))? (?:from|about|by)(?: (?:the|your|host|server))?(?: ip)?"
    r"(?: address)?|the ip(?: address)?|with the ip)[ :*]{1,4}\[?$",
    re.IGNORECASE,
)
# How log lines name who connected: sshd, postfix, Apache, nginx, dovecot, the kernel, PAM.
_CONNECTED = re.compile(
    r"(?:\bfrom[ =](?:[\w.-]{1,80})?[\[(]?|\bclient: |\bclient[=: ](?:[\w.-]{1,80})?\[?|\brip="
    r"|\bSRC=|\brhost=|\{\w{3,9}\} "
    r"|\bsrc(?:_?ip)?=|^)$"
)
_FROM = re.compile(r"\bfrom[ =](?:[\w.-]{1,80})?[\[(]?$")
# Apache's "vhost_combined" has the name of the site before the address.
_SITE = re.compile(r"[\s>]{0,20}[\w.-]{1,100}:\d{1,5} $", re.ASCII)
# A log line begins with its time, also behind the name of its file, or its time is in brackets.
_FRONT = re.compile(
    r"[\s>|*-]{0,20}(?:[\w./-]{1,100}:)?(?:\w{1,20}=)?[\[(\"']?|.{0,1000}\[", re.ASCII
)
_NAMED = re.compile(
    r"\b(SRC|DST|SPT|DPT|PROTO|src|dst|spt|dpt|sport|dport|proto|srcip|dstip|srcport"
    r"|dstport|rport|lip|lport)=[\"']?([\w.:]{1,45})"
)
# A packet of the kernel's log: the first ID= of a line is that of IP.
_ECHO = re.compile(r"\bPROTO=ICMP(?:v6)? TYPE=(?:0|8|128|129) CODE=0 ID=(\d{1,5})\b", re.ASCII)
_SNORT = re.compile(r"\{(\w{3,6})\}")
_ARROW = re.compile(r"[ \t]{0,4}-+>[ \t]{0,4}\[?")
_ON = re.compile(r" on \[?")
_NAMES = {
    "spt": "port", "sport": "port", "srcport": "port", "rport": "port",
    "dst": "remote", "dstip": "remote", "lip": "remote",
    "dpt": "remote_port", "dport": "remote_port", "dstport": "remote_port", "lport": "remote_port",
    "proto": "protocol", "src": "address", "srcip": "address",
}  # fmt: skip


def read_accused(source: Source) -> Reading | None:
    """Log lines about who is accused."""
    found = Reading("log lines")
    accused = accusations(source)
    if accused:
        found.add(*about(accused, source.texts(), source.clock))
    return found if found.sightings else None


def read_connected(source: Source) -> Reading | None:
    """Log lines that say who connected, without an accusation."""
    found = Reading("log lines")
    if not accusations(source):
        found.add(*_connected(source.texts(), source.clock))
    return found if found.sightings else None


def accusations(source: Source) -> set[str]:
    """The addresses that the subject, or else the text, accuses."""
    subject = source.mail.words("subject")
    found = {each.address for each in endpoints.find(subject)}
    if found:
        return found
    for text in source.texts():
        for _, line in text.lines():
            for each in endpoints.find(line):
                if _ACCUSED.search(line[max(0, each.start - 60) : each.start]):
                    found.add(each.address)
    return found


def about(addresses: Collection[str], texts: Iterable[Text], clock: Clock) -> Iterator[Sighting]:
    """A sighting for each line with one of the addresses and a time."""
    for text in texts:
        for offset, line in text.lines():
            # Its own lines have the times of its bans.
            if "fail2ban." in line:
                continue
            for each in endpoints.find(line):
                if each.address in addresses:
                    sighting = _line(text, offset, line, each, clock)
                    if sighting:
                        yield sighting
                    break


def _connected(texts: Iterable[Text], clock: Clock) -> Iterator[Sighting]:
    """A sighting for each line that says who connected, in the way of a log."""
    for text in texts:
        for offset, line in text.lines():
            if line.lower().lstrip("> \t").startswith("received:"):
                continue
            found = [each for each in endpoints.find(line) if _is_named(line, each)]
            # Before a "from" can stand what a stranger typed: "invalid user from ADDRESS from ...".
            others = len({each.address for each in found}) > 1
            if not found or (others and _FROM.search(_before(line, found[0]))):
                continue
            sighting = _line(text, offset, line, found[0], clock)
            if sighting:
                yield sighting


def _is_named(line: str, each: Endpoint) -> bool:
    """Whether a line of a log names this address as that of who connected."""
    before = _before(line, each)
    logged = line.startswith((" - ", " -> "), each.stop)
    if not (_CONNECTED.search(before) or (logged and _SITE.match(before))):
        return False
    # At the beginning of the line only a web server's log has an address.
    return each.start > 0 or logged


def _before(line: str, each: Endpoint) -> str:
    """What stands before an address."""
    before = line[max(0, each.start - 100) : each.start]
    return " " + before if each.start > 100 else before


def _line(text: Text, offset: int, line: str, each: Endpoint, clock: Clock) -> Sighting | None:
    """What a line says about the address; None: no time."""
    times = clock.find(line)
    if not times:
        return None
    start, end = times[0]
    if not _FRONT.fullmatch(line, 0, start) and line[: each.start].strip("> \t["):
        return None
    first = clock.read(text, offset + start, offset + end)
    if first is None:
        return None
    values = _named(text, offset, line)
    address = each.address_field(text, offset)
    if "address" in values and values["address"][0] != each.address:
        # The line is about a packet to the address.
        return Sighting(address, None, Role.NONE, first)
    port = each.port_field(text, offset) or _number(text, values.get("port"))
    remote = _remote(text, offset, line, each, values)
    remote_port = remote[1] or _number(text, values.get("remote_port"))
    protocol = _protocol(text, offset, line, values)
    role = Role.SOURCE if port else Role.NONE
    echo = _ECHO.search(line)
    if echo and protocol and not port:
        start, end = echo.span(1)
        port = _number(text, (echo[1], offset + start, offset + end))
        role = Role.ID if port else Role.NONE
    return Sighting(address, port, role, first, None, remote[0], remote_port, protocol)


def _named(text: Text, offset: int, line: str) -> dict[str, tuple[str, int, int]]:
    """The values of SRC=, SPT= and their like: name -> (word, start, end); the first counts."""
    found: dict[str, tuple[str, int, int]] = {}
    for match in _NAMED.finditer(line):
        name = _NAMES[match[1].lower()]
        word = match[2]
        if name in ("address", "remote"):
            word = endpoints.address(word)
        start, end = match.span(2)
        found.setdefault(name, (word, offset + start, offset + end))
    return found


def _number(text: Text, value: tuple[str, int, int] | None) -> Field[int] | None:
    number = endpoints.port(value[0]) if value else 0
    return text.field(number, value[1], value[2]) if value and number else None


def _remote(
    text: Text, offset: int, line: str, each: Endpoint, values: dict[str, tuple[str, int, int]]
) -> tuple[Field[str] | None, Field[int] | None]:
    """The other end: "from A port P on B port Q", "A:P -> B:Q", DST="."""
    link = _ON.match(line, each.stop) or _ARROW.match(line, each.stop)
    if link:
        for other in endpoints.find(line):
            if other.start == link.end():
                return other.address_field(text, offset), other.port_field(text, offset)
    word, start, end = values.get("remote", ("", 0, 0))
    return (text.field(word, start, end) if word else None), None


def _protocol(
    text: Text, offset: int, line: str, values: dict[str, tuple[str, int, int]]
) -> Field[str] | None:
    word, start, end = values.get("protocol", ("", 0, 0))
    match = _SNORT.search(line) if not word else None
    if match:
        word, start, end = match[1], offset + match.start(1), offset + match.end(1)
    found = endpoints.protocol(word)
    return text.field(found, start, end) if found else None
