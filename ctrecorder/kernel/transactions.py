"""The transactions of nftables, as the kernel reports them to listeners.

The generation of the ruleset shows only that something changed, and how many times.  The reports
show what changed: a set element that fail2ban adds cannot turn connection tracking off.  If a
transaction was not received in full, it counts as one that can do this.
"""

from __future__ import annotations

import enum
import errno
import socket
import struct

from ctrecorder import uapi
from ctrecorder.errors import KernelError, MessageError
from ctrecorder.kernel import tracking
from ctrecorder.kernel.decoder import messages
from ctrecorder.kernel.rules import is_stateless_nat

# linux/netfilter/nfnetlink.h, linux/netfilter/nf_tables.h
_NFNLGRP_NFTABLES = 7
_NFNL_SUBSYS_NFTABLES = 10
_NEWTABLE, _DELTABLE, _NEWCHAIN, _DELCHAIN, _NEWRULE, _DELRULE = 0, 2, 3, 5, 6, 8
_NEWSET, _DELSET, _NEWSETELEM, _DELSETELEM, _NEWGEN, _NEWOBJ = 9, 11, 12, 14, 15, 18
_NEWFLOWTABLE, _DELFLOWTABLE = 22, 24
_NFTA_RULE_EXPRESSIONS, _NFTA_SET_NAME = 4, 2
# nft names the sets that it makes for { .. } so.
_ANONYMOUS = (b"__set", b"__map")
_RECEIVE_BYTES = 65536
_GENERATIONS = 1 << 32


class Effect(enum.IntEnum):
    """What transactions can have done to connection tracking and to NOTRACK rules."""

    NONE = 0
    READ = 1  # the rules have to be read again; no connection was hidden in between
    HIDES = 2  # connections may have been hidden, also if the rules look as before


_BY_KIND = {
    _NEWTABLE: Effect.READ,
    _DELTABLE: Effect.READ,
    _NEWCHAIN: Effect.NONE,
    _DELCHAIN: Effect.NONE,
    _NEWSETELEM: Effect.NONE,
    _DELSETELEM: Effect.NONE,
    _NEWOBJ: Effect.READ,
    _NEWFLOWTABLE: Effect.NONE,
    _DELFLOWTABLE: Effect.NONE,
}


class _Doubt(enum.Enum):
    """Whether reports were lost, so that a transaction may be received in part."""

    NONE = 0
    NEXT = 1  # the next transaction may be
    QUEUED = 2  # all that are queued may be, and the next


class Transactions:
    """Listens to the transactions of this network namespace.

    Raises KernelError if it may not: it takes CAP_NET_ADMIN.
    """

    def __init__(self) -> None:
        kind = socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
        try:
            self._socket = socket.socket(socket.AF_NETLINK, kind, uapi.NETLINK_NETFILTER)
            self._socket.bind((0, 0))
            self._socket.setsockopt(
                uapi.SOL_NETLINK, uapi.NETLINK_ADD_MEMBERSHIP, _NFNLGRP_NFTABLES
            )
        except OSError as error:
            raise KernelError(f"cannot listen to nftables: {error.strerror}") from error
        self._effects: dict[int, Effect] = {}
        self._pending = Effect.NONE
        self._doubt = _Doubt.NONE

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def effect(self, before: int, after: int) -> Effect:
        """The greatest effect of all transactions from generation `before` to `after`."""
        self._receive()
        count = (after - before) % _GENERATIONS
        if count > len(self._effects):
            return Effect.HIDES
        generations = [(before + step) % _GENERATIONS for step in range(1, count + 1)]
        found = [self._effects.get(each, Effect.HIDES) for each in generations]
        # A later question begins at `before` or later.
        self._effects = {
            number: each
            for number, each in self._effects.items()
            if 0 < (number - before) % _GENERATIONS < _GENERATIONS // 2
        }
        return max(found, default=Effect.NONE)

    def _receive(self) -> None:
        """Take all reports that are queued."""
        while True:
            try:
                data, _, _, sender = self._socket.recvmsg(_RECEIVE_BYTES)
            except OSError as error:
                if error.errno == errno.ENOBUFS:
                    self._doubt = _Doubt.QUEUED
                    continue
                break
            if sender[0] == 0:
                self._take(data)
        if self._doubt is _Doubt.QUEUED:
            self._doubt = _Doubt.NEXT

    def _take(self, data: bytes) -> None:
        """Note the effect of each transaction that ends in `data`."""
        for at, length, kind, _ in messages(data):
            attributes = data[at + uapi.NLMSG_HDRLEN + uapi.NFGENMSG_LEN : at + length]
            if kind != _NFNL_SUBSYS_NFTABLES << 8 | _NEWGEN:
                self._pending = max(self._pending, _effect(kind, attributes))
                continue
            number = next(tracking.values(attributes, uapi.NFTA_GEN_ID), b"")
            if len(number) == 4:
                found = self._pending if self._doubt is _Doubt.NONE else Effect.HIDES
                self._effects[struct.unpack(">I", number)[0]] = found
            self._pending = Effect.NONE
            if self._doubt is _Doubt.NEXT:
                self._doubt = _Doubt.NONE


def _effect(kind: int, attributes: bytes) -> Effect:
    """What one report of a transaction means."""
    if kind >> 8 != _NFNL_SUBSYS_NFTABLES:
        return Effect.HIDES
    kind &= 0xFF
    uses = bool(tracking.USER_NAMES.search(attributes))
    writes = is_stateless_nat(attributes)
    stops = bool(tracking.STATEMENTS.search(attributes))
    if kind == _NEWRULE:
        return Effect.HIDES if stops else Effect.READ if uses or writes else Effect.NONE
    try:
        if kind == _DELRULE:
            shown = next(tracking.values(attributes, _NFTA_RULE_EXPRESSIONS), None) is not None
            read = Effect.READ if stops or writes else Effect.NONE
            return Effect.HIDES if uses or not shown else read
        if kind in (_NEWSET, _DELSET):
            if next(tracking.values(attributes, _NFTA_SET_NAME), b"").startswith(_ANONYMOUS):
                return Effect.NONE
            # A report of the end of a set does not show what it held.
            return Effect.HIDES if kind == _DELSET else Effect.READ if uses else Effect.NONE
    except MessageError:
        return Effect.HIDES
    return _BY_KIND.get(kind, Effect.HIDES)
