"""What a check of seals reads and finds, as data."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from ctrecorder.findings import Finding, FindingKind
from ctrecorder.seals.block import Seal

# Wrong lines of a ledger or seals of a segment after which the rest is not checked.
MAX_WRONG = 100


class SealAt(NamedTuple):
    """A SEAL of a segment.

    `offset`: of its block; `head`: the first 48 bytes of its frame; `hash`: of the block, hex;
    `time`: when it was made, ns UTC.
    """

    offset: int
    seal: Seal
    head: bytes
    hash: str
    time: int


@dataclass(frozen=True)
class SealedSegment:
    """A segment as its seals see it.

    `key`: the id of the key that its header names.  `begun`: the epoch of its header.  `seals`: in
    the order of the file.  `state`: as of a segment.  `ends_sealed`: its footer is whole, and a
    SEAL is right before it.  `rewritten`: it was squeezed or repaired.  `repaired`: it was; so each
    block in it may be of anybody.  `last_hash`: hex; `previous`: that of the segment before it.
    `replaced`, `names`: last hash and name of what it says to replace.  `chain`, `sequence`: of its
    header.
    """

    path: str
    name: str
    key: str
    begun: int
    seals: tuple[SealAt, ...]
    state: str
    ends_sealed: bool
    rewritten: bool
    repaired: bool
    last_hash: str
    previous: str
    replaced: tuple[str, ...]
    names: tuple[str, ...]
    chain: str
    sequence: int

    @property
    def known_names(self) -> tuple[str, ...]:
        """The names under which a ledger can know it."""
        return (self.name, *self.names)


@dataclass
class SealFindings:
    """What was found; `unproved`: what no seal proves, one line each; `notes`: other lines."""

    findings: list[Finding] = field(default_factory=list)
    unproved: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def find(self, subject: str, what: str, offset: int | None = None) -> None:
        self.findings.append(Finding(subject, FindingKind.SEAL, what, offset))
