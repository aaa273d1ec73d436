"""Holders of addresses, and what every directory of them answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Holder:
    """Who held an address, as a source tells it.

    `since`, `until`: ns, [since, until); None: the source does not tell.  `source`: the place that
    tells it, for example "leases4.csv, line 7".
    """

    name: str
    since: int | None
    until: int | None
    source: str


class Directory(Protocol):
    """Answers who held an address."""

    @property
    def problems(self) -> tuple[str, ...]:
        """What could not be read so far, one line each: a holder may be missing."""

    def holders(
        self, address: str, since: int, until: int, zone: int | None, mark: int | None
    ) -> tuple[Holder, ...]:
        """All who held the address at any moment of [since, until) ns, in order of their begin.

        `zone`, `mark`: those of the connection; None: not known, every one matches.  What the
        source tells without a zone or mark matches every one.  Raises CtrecorderError: it cannot
        be told.
        """
