"""What decides which connections the kernel reports: three sysctls, and the firewall's rules.

The sysctls and the generation of the ruleset are cheap and are asked at each look.  The rules are
read only when the generation has moved: each transaction of nftables moves it by one.

A table with an owner is the exception: it ends with the process that owns it, and the generation
does not move.  Such tables are asked for one by one.
"""

from __future__ import annotations

import contextlib
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from ctrecorder import uapi
from ctrecorder.errors import KernelError, MessageError
from ctrecorder.kernel import rules, sockets, tracking
from ctrecorder.kernel.request import RequestSocket, attribute
from ctrecorder.kernel.rules import Untracked
from ctrecorder.kernel.tracking import Tracking
from ctrecorder.kernel.transactions import Effect, Transactions

EVENTS, TIMESTAMPS, ACCOUNTING = (
    "nf_conntrack_events",
    "nf_conntrack_timestamp",
    "nf_conntrack_acct",
)
_SYSCTLS = Path("/proc/sys/net/netfilter")
# linux/netfilter/nf_tables.h
_NFT_MSG_GETTABLE = 10 << 8 | 1
_NFTA_TABLE_NAME, _NFTA_TABLE_FLAGS, _NFTA_TABLE_HANDLE = 1, 2, 4
_NFT_TABLE_F_OWNER = 2
# A list of the tables of the legacy iptables: at most five names.
_LINE_BYTES = 256


@dataclass(frozen=True)
class RulesReading:
    """What the rules do.

    `tracking`: of AF_INET and AF_INET6.  `notrack`: what rules keep from being tracked; None if
    they cannot be read.  `stateless`: what translates without connection tracking.
    """

    tracking: dict[int, Tracking]
    notrack: tuple[Untracked, ...] | None
    stateless: tuple[str, ...] = ()


UNREADABLE = RulesReading(dict.fromkeys(uapi.FAMILIES, Tracking.UNKNOWN), None)


@dataclass
class _File:
    """A small file of /proc that is read often: it stays open.

    A network namespace is that of the thread that opens it, and the right to read is checked then.
    """

    path: Path
    _fd: int | None = None

    def __post_init__(self) -> None:
        with contextlib.suppress(OSError):  # `read` tries again
            self._fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)

    def read(self) -> bytes | None:
        """Its content; None if it does not exist.  Raises OSError."""
        try:
            if self._fd is None:
                self._fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
            return os.pread(self._fd, _LINE_BYTES, 0)
        except FileNotFoundError:
            self.close()  # its module was unloaded
            return None
        except OSError:
            self.close()
            raise

    def close(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None


@dataclass
class Conditions:
    """The kernel's answers, for the network namespace of the thread that makes it.

    Make it before privileges are dropped: root alone may open the lists of legacy tables.
    Raises KernelError if no netfilter socket can be opened.
    """

    _requests: RequestSocket = field(default_factory=RequestSocket)
    _sysctls: dict[str, _File] = field(
        default_factory=lambda: {
            name: _File(_SYSCTLS / name) for name in (EVENTS, TIMESTAMPS, ACCOUNTING)
        }
    )
    _legacy: dict[int, _File] = field(
        default_factory=lambda: {
            family: _File(path) for family, path in tracking.LEGACY_NAMES.items()
        }
    )
    # The families for which rules turn tracking on, by the families asked for: of one ruleset.
    _in_use: dict[frozenset[int], frozenset[int] | None] = field(default_factory=dict)

    # The families for which rules once turned tracking on: their entries may be left over.
    _used: frozenset[int] = frozenset()
    # The handle of each table that ends with its owner, by family and name.
    _owned: dict[tuple[int, bytes], bytes] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._transactions: Transactions | None = None
        with contextlib.suppress(KernelError):
            self._transactions = Transactions()
        self.lists_hooks: bool = tracking.hooks(uapi.AF_INET) is not None

    def close(self) -> None:
        """Close the socket and the files."""
        self._requests.close()
        if self._transactions is not None:
            self._transactions.close()
        for file in (*self._sysctls.values(), *self._legacy.values()):
            file.close()

    def sysctls(self) -> dict[str, int | None]:
        """The three sysctls; None for one that cannot be read."""
        return {name: _number(file) for name, file in self._sysctls.items()}

    def generation(self) -> int | None:
        """The generation of the ruleset; None if the kernel has no nftables or refuses."""
        try:
            answer = self._requests.ask(uapi.NFT_GETGEN, uapi.AF_UNSPEC)
            found = _first(answer, uapi.NFTA_GEN_ID)
        except (KernelError, MessageError):
            return None
        return int(struct.unpack(">I", found)[0]) if len(found) == 4 else None

    def effect(self, before: int, after: int) -> Effect:
        """What the transactions from generation `before` to `after` can have done."""
        if self._transactions is None:
            return Effect.HIDES
        return self._transactions.effect(before, after)

    def legacy_tables(self, family: int) -> frozenset[str] | None:
        """The tables of the legacy iptables; None if this process may not read them."""
        try:
            found = self._legacy[family].read()
        except OSError:
            return None
        return frozenset((found or b"").decode("ascii", "replace").split())

    def tracking(self) -> dict[int, Tracking]:
        """Whether packets of each family are tracked, by the ruleset that `rules` read last.

        UNKNOWN also if the legacy iptables may have a table raw: its rules can stop tracking, and
        they cannot be read.
        """
        found = tracking.tracking_of(
            tracking.BOTH, self.legacy_tables, self._families_in_use, self._used
        )
        for family in uapi.FAMILIES:
            if found[family] is Tracking.ON and self._may_be_stopped(family):
                found[family] = Tracking.UNKNOWN
        return found

    def _families_in_use(self, wanted: frozenset[int]) -> frozenset[int] | None:
        if wanted not in self._in_use:
            self._in_use[wanted] = tracking.families_in_use(wanted)
            self._used |= self._in_use[wanted] or frozenset()
        return self._in_use[wanted]

    def _may_be_stopped(self, family: int) -> bool:
        tables = self.legacy_tables(family)
        if tables is None:
            hooks = tracking.hooks(family)
            return hooks is None or hooks.legacy_raw
        return "raw" in tables

    def rules(self) -> RulesReading:
        """What the rules do, read in full.

        Where NOTRACK rules cannot be read, a family whose hooks are on is UNKNOWN.
        """
        self._in_use.clear()
        try:
            self._owned = dict(_owned_tables())
            found = self.tracking()
            read = rules.read()
            writing = ("rules of nftables that write addresses",) if read.stateless else ()
            return RulesReading(found, read.untracked, (*writing, *rules.jool()))
        except (KernelError, MessageError):
            found = self.tracking()
            unsure = {
                family: each if each is Tracking.OFF else Tracking.UNKNOWN
                for family, each in found.items()
            }
            return RulesReading(unsure, None)

    def has_owned_tables(self) -> bool:
        """If each table with an owner, of those that `rules` found, is there and the same."""
        for (family, name), handle in self._owned.items():
            wanted = attribute(_NFTA_TABLE_NAME, name)
            try:
                answer = self._requests.ask(_NFT_MSG_GETTABLE, family, wanted)
                if _first(answer, _NFTA_TABLE_HANDLE) != handle:
                    return False
            except (KernelError, MessageError):
                return False
        return True


def _owned_tables() -> Iterator[tuple[tuple[int, bytes], bytes]]:
    """Family, name and handle of each table that ends with its owner."""
    for family in tracking.RULE_FAMILIES:
        for table in sockets.ask(_NFT_MSG_GETTABLE, family):
            if int.from_bytes(_first(table, _NFTA_TABLE_FLAGS), "big") & _NFT_TABLE_F_OWNER:
                key = family, _first(table, _NFTA_TABLE_NAME)
                yield key, _first(table, _NFTA_TABLE_HANDLE)


def _first(attributes: bytes, kind: int) -> bytes:
    return next(tracking.values(attributes, kind), b"")


def _number(file: _File) -> int | None:
    try:
        return int(file.read() or b"")
    except (OSError, ValueError):
        return None
