"""dhcpd.leases of ISC: blocks `lease ADDRESS { .. }`, the last one of an address is valid."""

from __future__ import annotations

import re
from collections.abc import Sequence

from ctrecorder.names.entry import Addresses, Entry, Line, checked_name, network
from ctrecorder.names.tenures import Tenures, client_name
from ctrecorder.names.written import in_utc
from ctrecorder.times import END, SECOND

_BEGIN = re.compile(r"lease (?P<address>\S+) \{")
_OTHER = re.compile(r"(?:ia-na|ia-ta|ia-pd|host|failover|group|subnet|class)\b.*\{")
_EPOCH = re.compile(r"epoch (\d{1,11})")


def recognises(line: str) -> bool:
    """Whether it is a line with which such a file can begin."""
    return _BEGIN.fullmatch(line) is not None or line.startswith(
        ("# The format of this file is documented in the dhcpd.leases", "authoring-byte-order ")
    )


class Dhcpd:
    """Times are UTC, or `epoch SECONDS`.  Blocks of DHCPv6 are not read, and reported."""

    def __init__(self, addresses: Addresses) -> None:
        self._tenures = Tenures(addresses)
        self._times = in_utc()
        self._facts: dict[str, str] = {}
        self._place: Line | None = None

    def feed(self, line: Line) -> Sequence[Entry]:
        """Raises ValueError: the reason why a line cannot be read."""
        text = line.text.strip()
        begin = _BEGIN.fullmatch(text)
        if begin:
            self._facts, self._place = {"address": begin["address"]}, line
        elif self._place is None and _OTHER.match(text):
            raise ValueError("this block is not read: only leases of DHCPv4 are")
        elif self._place is not None and text == "}":
            facts, place = self._facts, self._place
            self._facts, self._place = {}, None
            return self._lease(facts, place)
        elif self._place is not None:
            for word in ("starts", "ends", "binding state", "hardware", "client-hostname", "uid"):
                if text.startswith(f"{word} "):
                    self._facts[word] = text.removeprefix(word).partition(";")[0].strip()
        return ()

    def _lease(self, facts: dict[str, str], place: Line) -> Sequence[Entry]:
        if facts.get("binding state") in ("abandoned", "backup") or "starts" not in facts:
            return ()  # nobody has it
        identity = facts.get("hardware", "").partition(" ")[2] or facts.get("uid", "").strip('"')
        if not identity:
            return ()
        name = checked_name(client_name(identity, facts.get("client-hostname", "").strip('"')))
        since, until = self._time(facts["starts"]), self._time(facts.get("ends", "never"))
        return self._tenures.add(Entry(network(facts["address"]), since, until, name, place))

    def _time(self, text: str) -> int:
        """ "1 2026/11/23 18:17:30" (the day of the week first, 0 is Sunday), "epoch 1790000000"."""
        if text == "never":
            return END
        epoch = _EPOCH.match(text)
        if epoch:
            return int(epoch[1]) * SECOND
        return self._times.spans(text.partition(" ")[2])[0][0]

    def finish(self) -> Sequence[Entry]:
        """The last lease of each address."""
        return self._tenures.finish()
