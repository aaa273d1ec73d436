"""Proof that events arrive: a reserved entry is made and deleted, and both its events must come.

The events pass through everything that a connection's events pass through: the sysctl
nf_conntrack_events, the kernel's event code, the socket and its filter, the decoder.  They prove
nothing of hooks and rules: no packet is sent.

The entry is UDP from 127.0.0.1 to 127.0.0.1 in zone 65535, with ports taken from the netlink
address of the recorder's socket, so that each recorder has one of its own.  No packet can have it
unless a rule puts loopback traffic into that zone.  CAP_NET_ADMIN is enough.
"""

from __future__ import annotations

import socket
import struct

import numpy as np
from numpy.typing import NDArray

from ctrecorder import uapi
from ctrecorder.columns import Event, Table
from ctrecorder.errors import KernelError
from ctrecorder.kernel.bpf import PROBE_ZONE
from ctrecorder.kernel.request import RequestSocket, attribute

_LOOPBACK = socket.inet_aton("127.0.0.1")
# Seconds after which the kernel deletes an entry that this process could not delete any more.
_TIMEOUT_SECONDS = 10
_KEY = ("orig_src", "orig_dst", "reply_src", "reply_dst")


class Probe:
    """The reserved entry of one recorder.  Raises KernelError if no socket can be opened."""

    def __init__(self) -> None:
        self._requests = RequestSocket()
        # Netlink addresses are unique in a network namespace.
        self._ports = self._requests.port_id >> 16, self._requests.port_id & 0xFFFF
        self._awaited: set[int] = set()

    def close(self) -> None:
        """Close the socket."""
        self._requests.close()

    @property
    def pending(self) -> bool:
        """If an event of the last `send` has not been seen yet."""
        return bool(self._awaited)

    def send(self) -> None:
        """Make the entry and delete it.  Both events are queued when this returns.

        Raises KernelError if the kernel refuses.
        """
        tuples = self._tuple(uapi.CTA_TUPLE_ORIG, *self._ports)
        zone = attribute(uapi.CTA_ZONE, struct.pack(">H", PROBE_ZONE))
        reply = self._tuple(uapi.CTA_TUPLE_REPLY, *reversed(self._ports))
        timeout = attribute(uapi.CTA_TIMEOUT, struct.pack(">I", _TIMEOUT_SECONDS))
        try:
            self._delete(tuples + zone)  # of a process that died between the two
        except KernelError:
            pass
        self._awaited.clear()
        flags = uapi.NLM_F_ACK | uapi.NLM_F_CREATE | uapi.NLM_F_EXCL
        self._requests.ask(uapi.CT_NEW, uapi.AF_INET, tuples + reply + timeout + zone, flags)
        self._delete(tuples + zone)
        self._awaited.update((Event.NEW, Event.DESTROY))

    def _delete(self, attributes: bytes) -> None:
        self._requests.ask(uapi.CT_DELETE, uapi.AF_INET, attributes, uapi.NLM_F_ACK)

    @staticmethod
    def _tuple(kind: int, source_port: int, target_port: int) -> bytes:
        """A CTA_TUPLE_ORIG or CTA_TUPLE_REPLY of UDP on the loopback address."""
        addresses = attribute(uapi.CTA_IP_V4_SRC, _LOOPBACK)
        addresses += attribute(uapi.CTA_IP_V4_DST, _LOOPBACK)
        protocol = attribute(uapi.CTA_PROTO_NUM, bytes([uapi.IPPROTO_UDP]))
        protocol += attribute(uapi.CTA_PROTO_SRC_PORT, struct.pack(">H", source_port))
        protocol += attribute(uapi.CTA_PROTO_DST_PORT, struct.pack(">H", target_port))
        content = attribute(uapi.CTA_TUPLE_IP, addresses, nested=True)
        content += attribute(uapi.CTA_TUPLE_PROTO, protocol, nested=True)
        return attribute(kind, content, nested=True)

    def take(self, table: Table) -> Table:
        """`table` without the events of any recorder's probe; its own are noted as seen."""
        if "zone" not in table or table.family != uapi.AF_INET:
            return table
        reserved = _is_reserved(table)
        if not reserved.any():
            return table
        mine = reserved & (table["orig_sport"] == self._ports[0])
        mine &= table["orig_dport"] == self._ports[1]
        self._awaited.difference_update(table["event"][mine].tolist())
        return table.take(np.flatnonzero(~reserved))


def without_probes(table: Table) -> Table:
    """`table` without the rows of any recorder's probe: what a dump may have caught."""
    if "zone" not in table or table.family != uapi.AF_INET:
        return table
    reserved = _is_reserved(table)
    return table.take(np.flatnonzero(~reserved)) if reserved.any() else table


def _is_reserved(table: Table) -> NDArray[np.bool_]:
    """(rows,): the rows of a reserved entry."""
    found: NDArray[np.bool_] = table["zone"] == PROBE_ZONE
    if found.any():
        loopback = int.from_bytes(_LOOPBACK, "big")
        for name in _KEY:
            found = found & (table[name] == loopback)
        found &= table["l4proto"] == uapi.IPPROTO_UDP
    return found
