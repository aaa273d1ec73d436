"""The kernel's end: sockets of NETLINK_NETFILTER for conntrack events and for dumps of the table, and its sysctls.

Raw bytes come out of here, in slots that `decode` reads.  Only the kernel is listened to: each message's sender address is checked.
Errors of the kernel are KernelError, with one line for the operator.
"""

from __future__ import annotations

import ctypes
import errno
import os
import select
import socket
import struct
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ctrecorder import uapi
from ctrecorder.decode import STRIDE, Split, split
from ctrecorder.errors import KernelError

# Messages a recvmmsg() may take: the kernel's own limit (UIO_MAXIOV).
BATCH = 1024
# A dump comes in datagrams of at most 32 KiB (netlink_dump() in net/netlink/af_netlink.c); twice that is never truncated.
DUMP_BYTES = 65536

_SYSCTLS = Path("/proc/sys/net/netfilter")
_PERMISSION = "needs CAP_NET_ADMIN; run as root or start ctrecord.service"

# struct sockaddr_nl (linux/netlink.h); struct iovec, struct msghdr, struct mmsghdr (recvmmsg(2)), aligned as C does
_SOCKADDR = np.dtype([("family", "u2"), ("pad", "u2"), ("pid", "u4"), ("groups", "u4")])
_IOVEC = np.dtype([("base", np.uintp), ("len", np.uintp)])
_MMSGHDR = np.dtype(
    [
        ("name", np.uintp),
        ("namelen", "u4"),
        ("iov", np.uintp),
        ("iovlen", np.uintp),
        ("control", np.uintp),
        ("controllen", np.uintp),
        ("flags", "i4"),
        ("len", "u4"),
    ],
    align=True,
)
if _MMSGHDR.itemsize == 56:  # 64 bits: struct msghdr is padded to 56 bytes, and msg_len comes behind
    _MMSGHDR = np.dtype({"names": _MMSGHDR.names, "formats": [_MMSGHDR[n] for n in _MMSGHDR.names or ()],
                         "offsets": [0, 8, 16, 24, 32, 40, 48, 56], "itemsize": 64})

_libc = ctypes.CDLL(None, use_errno=True)
_libc.recvmmsg.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_uint, ctypes.c_int, ctypes.c_void_p)
_libc.recvmmsg.restype = ctypes.c_int


class SlotBuffer:
    """Room for `rows` messages, and what recvmmsg() needs to fill it.  `used` slots are filled, from the first on.

    slots (rows, STRIDE) uint8; lengths (rows,) uint32, bytes used; received (rows,) int64, time of receipt in ns UTC.
    """

    def __init__(self, rows: int) -> None:
        self.rows, self.used = rows, 0
        self.slots = np.zeros((rows, STRIDE), np.uint8)
        self.lengths = np.zeros(rows, np.uint32)
        self.received = np.zeros(rows, np.int64)
        self.senders = np.zeros(rows, _SOCKADDR)
        self.headers = np.zeros(rows, _MMSGHDR)
        self._vectors = np.zeros(rows, _IOVEC)
        index = np.arange(rows, dtype=np.uintp)
        self._vectors["base"] = self.slots.ctypes.data + index * STRIDE
        self._vectors["len"] = STRIDE
        self.headers["name"] = self.senders.ctypes.data + index * _SOCKADDR.itemsize
        self.headers["namelen"] = _SOCKADDR.itemsize
        self.headers["iov"] = self._vectors.ctypes.data + index * _IOVEC.itemsize
        self.headers["iovlen"] = 1

    def clear(self) -> None:
        """Forget what was received."""
        self.used = 0


class EventSocket:
    """Receives conntrack events: NEW and DESTROY, and UPDATE if asked.

    `buffer_bytes`: the receive buffer really got, comparable with what was asked; `capped`: why it is less, or "".
    `foreign`, `truncated`: messages refused because a process sent them, or because they were greater than a slot.
    """

    def __init__(self, buffer_bytes: int, updates: bool = False, program: bytes | None = None) -> None:
        """`program`: a struct sock_filter array (`bpf`).  KernelError if the kernel refuses the socket or a group."""
        self.foreign = self.truncated = 0
        self.capped = ""
        self._drops = self._last_drops = 0
        self._socket = _open()
        try:
            self._socket.setsockopt(uapi.SOL_NETLINK, uapi.NETLINK_NO_ENOBUFS, 1)
            self.buffer_bytes = self._set_buffer(buffer_bytes)
            if program is not None:
                self._attach(program)
            self._join(updates)
        except BaseException:
            self._socket.close()
            raise

    def _set_buffer(self, wanted: int) -> int:
        wanted = min(wanted, 2**30 - 1)  # the kernel doubles it into an int
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, uapi.SO_RCVBUFFORCE, wanted)
        except PermissionError:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, wanted)
        got = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) // 2
        if got < wanted:
            self.capped = "net.core.rmem_max: more needs CAP_NET_ADMIN in the initial user namespace"
        return got

    def _attach(self, program: bytes) -> None:
        instructions = ctypes.create_string_buffer(program, len(program))
        # struct sock_fprog (linux/filter.h): a count, and a pointer aligned as C does
        fprog = struct.pack("@HP", len(program) // 8, ctypes.addressof(instructions))
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, uapi.SO_ATTACH_FILTER, fprog)
        except OSError as error:
            raise KernelError(f"cannot filter conntrack events in the kernel: {error.strerror}") from error

    def _join(self, updates: bool) -> None:
        groups = [uapi.NFNLGRP_CONNTRACK_NEW, uapi.NFNLGRP_CONNTRACK_DESTROY]
        if updates:
            groups.append(uapi.NFNLGRP_CONNTRACK_UPDATE)
        for group in groups:
            try:
                self._socket.setsockopt(uapi.SOL_NETLINK, uapi.NETLINK_ADD_MEMBERSHIP, group)
            except PermissionError as error:
                raise KernelError(f"cannot join conntrack events: {_PERMISSION}") from error
            except OSError as error:
                raise KernelError(f"cannot join conntrack events: {error.strerror}") from error

    def fileno(self) -> int:
        """For poll()."""
        return self._socket.fileno()

    def receive(self, buffer: SlotBuffer) -> int:
        """Take up to BATCH messages of those queued into `buffer` behind those used; how many were taken from the kernel, 0 if none.

        Messages that are refused are not kept.  Never waits.
        """
        first = buffer.used
        room = min(BATCH, buffer.rows - first)
        headers = buffer.headers[first : first + room]
        count = -1
        while count < 0:
            count = _libc.recvmmsg(self.fileno(), headers.ctypes.data, room, socket.MSG_DONTWAIT, None)
            if count < 0:
                code = ctypes.get_errno()
                if code in (errno.EAGAIN, errno.ENOBUFS):  # ENOBUFS: what was lost is in drops()
                    return 0
                if code != errno.EINTR:
                    raise KernelError(f"cannot receive conntrack events: {os.strerror(code)}")
        headers = headers[:count]
        last = first + count
        kernel = buffer.senders["pid"][first:last] == 0
        whole = headers["flags"] & socket.MSG_TRUNC == 0
        headers["namelen"] = _SOCKADDR.itemsize
        buffer.lengths[first:last] = headers["len"]
        keep = kernel & whole
        if not keep.all():
            self.foreign += count - int(np.count_nonzero(kernel))
            self.truncated += int(np.count_nonzero(kernel & ~whole))
            kept = first + np.flatnonzero(keep)
            last = first + len(kept)
            buffer.slots[first:last] = buffer.slots[kept]
            buffer.lengths[first:last] = buffer.lengths[kept]
        buffer.received[first:last] = time.time_ns()
        buffer.used = last
        return int(count)

    def drops(self) -> int:
        """Events that the kernel dropped for this socket since it was opened."""
        words = self._socket.getsockopt(socket.SOL_SOCKET, uapi.SO_MEMINFO, 4 * (uapi.SK_MEMINFO_DROPS + 1))
        drops = struct.unpack_from("=I", words, 4 * uapi.SK_MEMINFO_DROPS)[0]
        self._drops += (drops - self._last_drops) % 2**32
        self._last_drops = drops
        return self._drops

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()


class DumpSocket:
    """Dumps the conntrack table, step by step: `request`, then `read` whenever `fileno` is readable, until a Split is `done`."""

    def __init__(self) -> None:
        self.foreign = 0  # datagrams refused because a process sent them
        self._socket = _open()
        self._sequence = 0
        self._datagram = bytearray(DUMP_BYTES)

    def request(self, family: int = uapi.AF_UNSPEC) -> None:
        """Ask for the table (AF_UNSPEC: of both families).  Not while a dump is under way."""
        self._sequence += 1
        flags = uapi.NLM_F_REQUEST | uapi.NLM_F_DUMP
        length = uapi.NLMSG_HDRLEN + uapi.NFGENMSG_LEN
        message = struct.pack("=IHHIIBBH", length, uapi.CT_GET, flags, self._sequence, 0, family, 0, 0)
        try:
            self._socket.sendto(message, (0, 0))
        except OSError as error:
            raise KernelError(f"cannot dump the conntrack table: {error.strerror}") from error

    def fileno(self) -> int:
        """For poll()."""
        return self._socket.fileno()

    def read(self) -> Split | None:
        """The next datagram (about 150 entries); None if there is none yet.  KernelError if the kernel refused the dump."""
        try:
            count, _, flags, sender = self._socket.recvmsg_into([self._datagram])
        except (BlockingIOError, InterruptedError):
            return None
        except OSError as error:
            raise KernelError(f"cannot dump the conntrack table: {error.strerror}") from error
        if sender[0] != 0:
            self.foreign += 1
            return None
        found = split(memoryview(self._datagram)[:count])
        if found.error:
            reason = _PERMISSION if found.error == errno.EPERM else os.strerror(found.error)
            raise KernelError(f"cannot dump the conntrack table: {reason}")
        if flags & socket.MSG_TRUNC:
            found = found._replace(oversized=found.oversized + 1)
        return found

    def close(self) -> None:
        """Close the socket; a dump under way is given up."""
        self._socket.close()


def dump(family: int = uapi.AF_UNSPEC, timeout_seconds: float = 10.0) -> Iterator[Split]:
    """One dump of the table, waiting for each datagram up to `timeout_seconds`; KernelError if it does not come."""
    source = DumpSocket()
    try:
        source.request(family)
        while True:
            if not select.select([source], [], [], timeout_seconds)[0]:
                raise KernelError(f"cannot dump the conntrack table: no answer for {timeout_seconds:g} s")
            found = source.read()
            if found is None:
                continue
            yield found
            if found.done:
                return
    finally:
        source.close()


def _open() -> socket.socket:
    """A netfilter socket with an address of its own: a broadcast skips one without (its sender, the kernel, has none either)."""
    try:
        opened = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, uapi.NETLINK_NETFILTER)
        opened.bind((0, 0))
        return opened
    except OSError as error:
        raise KernelError(f"cannot open a netfilter socket: {error.strerror}; is the module nfnetlink there?") from error


def sysctl(name: str) -> int | None:
    """net.netfilter.`name` of this network namespace; None if the kernel has no such setting (or no connection tracking)."""
    try:
        return int((_SYSCTLS / name).read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None


def table_count() -> int | None:
    """Entries in this namespace's conntrack table; None if there is no connection tracking."""
    return sysctl("nf_conntrack_count")
