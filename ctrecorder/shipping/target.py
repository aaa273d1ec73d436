"""Where segments are sent: a target as it is written, and its parts.  No numpy here."""

from __future__ import annotations

from typing import NamedTuple

from ctrecorder.declared import values
from ctrecorder.errors import UsageError

FORMS = (
    "ssh://HOST:DIR, rsync://HOST/MODULE/DIR, rsync+ssh://HOST:DIR, clickhouse://HOST:PORT/DB, "
    "ipfix://HOST:PORT, ipfix+tcp://HOST:PORT, netflow9://HOST:PORT or file:PATH.parquet"
)


class Target(NamedTuple):
    """Where segments are sent.

    `text`: as it is written.  `kind`: what is before "://".  `host`: with the user
    if there is one, and the port of a server.  `folder`: of a daemon MODULE/DIR, of ClickHouse the
    database, of Parquet the path.
    """

    text: str
    kind: str
    host: str
    folder: str

    @property
    def is_checked(self) -> bool:
        """If cttest examines each segment there before it counts as shipped."""
        return self.kind == "ssh"

    @property
    def is_collector(self) -> bool:
        """If it takes records of flows, and acknowledges none."""
        return self.kind in ("ipfix", "ipfix+tcp", "netflow9")

    @property
    def takes_rows(self) -> bool:
        """If it takes connections, so that only squeezed segments can be sent."""
        return self.is_collector or self.kind in ("clickhouse", "file")

    def destination(self, below: str) -> str:
        """The folder `below` in the target's, as rsync wants it."""
        if self.kind == "rsync":
            return f"rsync://{self.host}/{self.folder.rstrip('/')}/{below}/"
        return f"{self.host}:{self.folder.rstrip('/')}/{below}/"


def parse(text: str) -> Target:
    """The target that is written as `text`.  Raises UsageError."""
    match = values.match_target(text)
    if match is None:
        why = f"'{text}' is no target: name {FORMS}"
        if "://-" in text or "@-" in text:
            why += "; a host must not begin with '-', which would be an option of ssh"
        raise UsageError(f"{why}; letters, digits and . _ - / + @ % = are allowed, ports to 65535")
    return Target(text, match[1], match[2], match[3])


def router_of(text: str) -> str:
    """`text`, if it can be the name of a router's folder.  Raises UsageError."""
    try:
        return values.router(text)
    except ValueError:
        raise UsageError(
            f"'{text}' cannot be the name of a router's folder: give another one with --router or "
            "in [ship] router: letters, digits and . _ - are allowed"
        ) from None
