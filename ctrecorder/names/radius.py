"""RADIUS accounting: the detail files of FreeRADIUS."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from ctrecorder.names.entry import (
    Addresses,
    Entry,
    Line,
    Network,
    TooManyError,
    checked_name,
    network,
    seconds,
)
from ctrecorder.names.written import Times
from ctrecorder.times import BEGIN, SECOND

_HEAD = re.compile(r"[A-Z][a-z]{2} [A-Z][a-z]{2} [ \d]\d [\d:]{8} (?:\w+ )?\d{4}", re.ASCII)
_NETWORKS = frozenset(
    ("Framed-IP-Address", "Framed-IPv6-Address", "Framed-IPv6-Prefix", "Delegated-IPv6-Prefix")
)
_FACTS = frozenset(
    (
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
)
_SESSION = ("Start", "Interim-Update", "Alive", "Stop")
_RESTART = ("Accounting-On", "Accounting-Off")
# A session takes some 600 bytes.  One that has no address that is asked is kept as well: a later
# record can name one.
MAX_OPEN = 500_000
# A record that comes late, after the Stop of its session, comes within so many others.
_MAX_ENDED = 100_000

_Key = tuple[str, str]


def recognises(line: str) -> bool:
    """Whether a record of this form begins so: with a date as date(1) writes it."""
    return _HEAD.fullmatch(line) is not None


@dataclass(slots=True)
class _Session:
    name: str
    since: int
    place: Line
    networks: frozenset[Network] = frozenset()

    def entries(self, until: int) -> list[Entry]:
        return [
            Entry(each, self.since, until, self.name, self.place) for each in sorted(self.networks)
        ]


class Radius:
    """A session holds its addresses from its Start to its Stop.

    Without a Start it begins Acct-Session-Time before a record, or with the first record.  Without
    a Stop it ends where its NAS restarts or gives its id to another session, or else with the last
    record of all files: later nothing is known of it.  That another session has its address ends
    nothing: two networks can have one address.
    """

    def __init__(self, addresses: Addresses, times: Times) -> None:
        self._addresses, self._times = addresses, times
        self._place: Line | None = None
        self._facts: dict[str, str] = {}
        self._networks: list[str] = []
        self._open: dict[_Key, _Session] = {}
        self._ended: dict[_Key, int] = {}
        self._latest = 0

    def feed(self, line: Line) -> Sequence[Entry]:
        """Raises ValueError: the reason why the record that ends here cannot be read."""
        name, equals, value = line.text.partition(" = ")
        if equals and name[:1] in ("\t", " "):
            name = name.strip()
            if name in _NETWORKS:
                self._networks.append(value)
            elif name in _FACTS:
                self._facts[name] = _unquoted(value)
            return ()
        place, facts, networks = self._place, self._facts, self._networks
        head = recognises(line.text)
        self._place, self._facts, self._networks = line if head else None, {}, []
        if place is not None and facts:
            return self._record(place, facts, networks)
        if head or not line.text or line.text.isspace():
            return ()
        raise ValueError("it is neither an attribute nor the date of a record")

    def finish(self) -> Sequence[Entry]:
        """The sessions that have not ended."""
        end = self._latest + 1
        found = [entry for session in self._open.values() for entry in session.entries(end)]
        self._open.clear()
        return found

    def _record(self, place: Line, facts: dict[str, str], networks: list[str]) -> Sequence[Entry]:
        kind = facts.get("Acct-Status-Type", "")
        nas = facts.get("NAS-IP-Address") or facts.get("NAS-IPv6-Address")
        nas = nas or facts.get("NAS-Identifier", "")
        if kind not in (*_SESSION, *_RESTART):
            return ()
        moment = self._moment(facts)
        self._latest = max(self._latest, moment)
        if kind in _RESTART:
            return self._restart(nas, moment)
        if "Acct-Session-Id" not in facts:
            raise ValueError("it has no Acct-Session-Id")
        key = (nas, facts["Acct-Session-Id"])
        held = frozenset(one for one in map(network, networks) if self._addresses.touch(one))
        if not held and kind != "Start" and key not in self._open:
            return ()
        name = checked_name(facts.get("User-Name", ""))
        since = moment if kind == "Start" else _since(moment, facts)
        return self._session(key, kind, moment, _Session(name, since, place, held))

    def _session(self, key: _Key, kind: str, moment: int, told: _Session) -> Sequence[Entry]:
        """A record of a session.  `told`: the session as this record tells it."""
        if kind != "Stop" and moment <= self._ended.get(key, BEGIN):
            return ()  # it came late
        found: list[Entry] = []
        session = self._open.get(key)
        if session is not None and session.name != told.name:
            found += self._end(key, moment)  # its Stop was lost
            session = None
        if session is None:
            self._open[key] = told
            if len(self._open) > MAX_OPEN:
                raise TooManyError(f"--names: more than {MAX_OPEN:,} sessions are open at a time")
        else:
            session.since = min(session.since, told.since)
            session.networks |= told.networks
        return found + self._end(key, moment) if kind == "Stop" else found

    def _end(self, key: _Key, moment: int) -> list[Entry]:
        if len(self._ended) >= _MAX_ENDED:
            del self._ended[next(iter(self._ended))]
        self._ended[key] = moment
        return self._open.pop(key).entries(moment)

    def _restart(self, nas: str, moment: int) -> list[Entry]:
        ended = [key for key in self._open if key[0] == nas]
        return [entry for key in ended for entry in self._open.pop(key).entries(moment)]

    def _moment(self, facts: dict[str, str]) -> int:
        """When a record was made: by its NAS, or by the server less its delay.

        Raises ValueError.
        """
        written = facts.get("Event-Timestamp", "")
        if written.isdigit():
            return seconds(written) * SECOND
        readings = self._times.readings(written) if written else ()
        found = [begin for spans in readings for begin, _ in spans]
        if len(found) == 1:
            return found[0]
        if "Timestamp" in facts:
            received = seconds(facts["Timestamp"]) * SECOND
            received -= seconds(facts.get("Acct-Delay-Time", "0")) * SECOND
            # Of several meanings of an abbreviation, the one of which the server's clock is near.
            return min(found, key=lambda each: abs(each - received), default=received)
        if found:
            raise ValueError(f"its Event-Timestamp '{written}' can be read in several ways")
        raise ValueError("it has no Event-Timestamp with a zone, and no Timestamp")


def _since(moment: int, facts: dict[str, str]) -> int:
    """When the session of a record began, as far as the record tells."""
    return max(BEGIN + 1, moment - seconds(facts.get("Acct-Session-Time", "0")) * SECOND)


def _unquoted(value: str) -> str:
    if len(value) < 2 or value[0] != '"' or value[-1] != '"':
        return value.strip()
    inner = value[1:-1]
    return re.sub(r"\\(.)", r"\1", inner) if "\\" in inner else inner
