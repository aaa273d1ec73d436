"""Kea's memfile: leases4.csv and leases6.csv, a line for each change of a lease."""

from __future__ import annotations

import re
from collections.abc import Sequence

from ctrecorder.names.entry import Addresses, Entry, Line, checked_name, network, second, seconds
from ctrecorder.names.tenures import Tenures, client_name
from ctrecorder.times import END, SECOND

_DECLINED, _RECLAIMED = "1", "2"
_PREFIX = "2"
_FOR_EVER = 2**32 - 1


def recognises(line: str) -> bool:
    """Whether it is the header of such a file."""
    return line.startswith(("address,hwaddr,", "address,duid,"))


class Kea:
    """A file begins with its header; later files have theirs."""

    def __init__(self, addresses: Addresses) -> None:
        self._columns: list[str] = []
        self._tenures = Tenures(addresses)

    def feed(self, line: Line) -> Sequence[Entry]:
        """Raises ValueError: the reason why a line cannot be read."""
        if recognises(line.text):
            self._columns = line.text.split(",")
            return ()
        if not line.text:
            return ()
        values = line.text.split(",")  # commas of values are written as &#x2c
        if len(values) < min(len(self._columns), 10):
            raise ValueError(f"it has {len(values)} columns, its header {len(self._columns)}")
        row = dict(zip(self._columns, values, strict=False))
        if row.get("state") in (_DECLINED, _RECLAIMED):
            return ()  # nobody's, or already over
        is_prefix = row.get("lease_type") == _PREFIX
        held = network(f"{row['address']}/{row.get('prefix_len')}" if is_prefix else row["address"])
        until, length = second(row.get("expire", "")), seconds(row.get("valid_lifetime", ""))
        if not length:
            self._tenures.end(held, until)
            return ()
        since = max(until - length * SECOND, 0)
        identity = row.get("duid") or row.get("hwaddr") or row.get("client_id") or ""
        name = checked_name(client_name(identity, _unescaped(row.get("hostname", ""))))
        until = END if length == _FOR_EVER else until
        return self._tenures.add(Entry(held, since, until, name, line))

    def finish(self) -> Sequence[Entry]:
        """The last lease of each address."""
        return self._tenures.finish()


def _unescaped(text: str) -> str:
    return re.sub(
        r"&#x([0-9a-f]{2})", lambda match: chr(int(match[1], 16)), text, flags=re.IGNORECASE
    )
