"""RADIUS accounting: the detail files of FreeRADIUS."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache

from ctrecorder.moments.reader import read
from ctrecorder.names.entry import Entry, Line, Network, TooManyError, checked_name, network
from ctrecorder.times import BEGIN, END, SECOND

_ATTRIBUTE = re.compile(r"\s+(?P<name>[\w-]+)(?::\d+)? (?::|\+)?= (?P<value>.*)")
_ADDRESSES = (
    "Framed-IP-Address",
    "Framed-IPv6-Address",
    "Framed-IPv6-Prefix",
    "Delegated-IPv6-Prefix",
)
_SINGLE = (
    "Acct-Status-Type",
    "Acct-Session-Id",
    "Acct-Session-Time",
    "Acct-Delay-Time",
    "Event-Timestamp",
    "Timestamp",
    "User-Name",
    "NAS-IP-Address",
    "NAS-IPv6-Address",
    "NAS-Identifier",
)
_ALIVE = ("Start", "Interim-Update", "Alive")
# A session takes about 1 KB: more are not open at a time on one machine.
MAX_OPEN = 500_000


def recognises(line: str) -> bool:
    """Whether a record of this form begins so: with a date as date(1) writes it."""
    return (
        re.fullmatch(r"[A-Z][a-z]{2} [A-Z][a-z]{2} [ \d]\d [\d:]{8} (?:\w+ )?\d{4}", line)
        is not None
    )


@dataclass
class _Session:
    name: str
    since: int
    place: Line
    networks: set[Network] = field(default_factory=set)


class Radius:
    """A session holds its addresses from its first record to its Stop.

    Without a Stop its end is not told, unless its NAS restarted or gave its id to another session.
    That another session has its address ends nothing: two networks can have one address.  Without
    a Start it begins Acct-Session-Time before the record.
    """

    def __init__(self) -> None:
        self._place: Line | None = None
        self._facts: dict[str, str] = {}
        self._networks: list[str] = []
        self._open: dict[tuple[str, str], _Session] = {}

    def feed(self, line: Line) -> Iterator[Entry]:
        """Raises ValueError, UsageError: the reason why the record before the line is no use."""
        match = _ATTRIBUTE.fullmatch(line.text)
        if match is None:
            yield from self._close(line if line.text.strip() else None)
            if line.text.strip() and not recognises(line.text):
                self._place = None
                raise ValueError("it is neither an attribute nor the date of a record")
        elif self._place is not None:
            if match["name"] in _ADDRESSES:
                self._networks.append(match["value"])
            elif match["name"] in _SINGLE:
                self._facts[match["name"]] = _unquoted(match["value"])

    def finish(self) -> Iterator[Entry]:
        """The last record, and the sessions that have not ended."""
        yield from self._close(None)
        for session in self._open.values():
            yield from _entries(session, END)
        self._open.clear()

    def _close(self, following: Line | None) -> Iterator[Entry]:
        """The record ends; `following`: the first line of the next one."""
        place, facts, networks = self._place, self._facts, self._networks
        self._place, self._facts, self._networks = following, {}, []
        if place is not None and facts:
            yield from self._record(place, facts, networks)

    def _record(self, place: Line, facts: dict[str, str], networks: list[str]) -> Iterator[Entry]:
        kind = facts.get("Acct-Status-Type", "")
        nas = facts.get("NAS-IP-Address") or facts.get("NAS-IPv6-Address")
        nas = nas or facts.get("NAS-Identifier", "")
        moment = _moment(facts)
        if kind in ("Accounting-On", "Accounting-Off"):
            for key in [key for key in self._open if key[0] == nas]:
                yield from _entries(self._open.pop(key), moment)
            return
        if kind not in (*_ALIVE, "Stop"):
            return
        if "Acct-Session-Id" not in facts:
            raise ValueError("it has no Acct-Session-Id")
        key = (nas, facts["Acct-Session-Id"])
        name = checked_name(facts.get("User-Name", ""))
        session = self._open.get(key)
        if session is not None and (session.name != name or _restarted(session, kind, moment)):
            yield from _entries(self._open.pop(key), moment)  # its Stop was lost
            session = None
        since = _since(kind, moment, facts)
        if session is None:
            session = self._open[key] = _Session(name, since, place)
            if len(self._open) > MAX_OPEN:
                raise TooManyError(f"--names: more than {MAX_OPEN:,} sessions are open at a time")
        elif since != BEGIN:
            session.since = min(session.since or since, since)
        session.networks.update(network(each) for each in networks)
        if kind == "Stop":
            yield from _entries(self._open.pop(key), moment)


def _restarted(session: _Session, kind: str, moment: int) -> bool:
    """Whether a Start is of another session with the same id: a Start that is sent again is not."""
    return kind == "Start" and moment - session.since > 60 * SECOND


def _entries(session: _Session, until: int) -> Iterator[Entry]:
    for each in sorted(session.networks):
        yield Entry(each, session.since, until, session.name, session.place)


def _since(kind: str, moment: int, facts: dict[str, str]) -> int:
    """When the session of a record began; BEGIN: not told."""
    if kind == "Start":
        return moment
    seconds = facts.get("Acct-Session-Time", "")
    return max(BEGIN, moment - _seconds(seconds) * SECOND) if seconds else BEGIN


def _moment(facts: dict[str, str]) -> int:
    """When a record was made: by its NAS, or by the server less its delay.

    Raises ValueError, UsageError.
    """
    written = facts.get("Event-Timestamp", "")
    found = _read(written) if written else ()
    if len(found) == 1:
        return found[0]
    if "Timestamp" in facts:
        received = _seconds(facts["Timestamp"]) * SECOND
        received -= _seconds(facts.get("Acct-Delay-Time", "0")) * SECOND
        # Of several meanings of an abbreviation, the one of which the server's clock is near.
        return min(found, key=lambda each: abs(each - received), default=received)
    if found:
        raise ValueError(f"its Event-Timestamp '{written}' can be read in several ways")
    raise ValueError("it has no Event-Timestamp with a zone, and no Timestamp")


@lru_cache(maxsize=1024)
def _read(text: str) -> tuple[int, ...]:
    if text.isascii() and text.isdigit() and len(text) <= 10:
        return (int(text) * SECOND,)
    readings = read(text, 0).readings
    return tuple(begin for reading in readings for begin, _ in reading.spans)


def _seconds(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 10):
        raise ValueError(f"'{text}' is no number of seconds")
    return int(text)


def _unquoted(value: str) -> str:
    if len(value) < 2 or value[0] != '"' or value[-1] != '"':
        return value.strip()
    return re.sub(r"\\(.)", r"\1", value[1:-1])
