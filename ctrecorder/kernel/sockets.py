"""Sockets of NETLINK_NETFILTER for conntrack events and for dumps of the table; sysctls.

The sockets return raw messages in slots, which `decoder` reads.  Only messages of the kernel are
accepted: the sender's address of each message is checked.  Errors of the kernel raise KernelError
with one line for the operator.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import socket
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ctrecorder import uapi
from ctrecorder.errors import KernelError
from ctrecorder.kernel.decoder import (
    DUMP_ENDS,
    STRIDE,
    Lengths,
    Slots,
    Split,
    end_of_dump,
    messages,
    split,
)

# Messages that one recvmmsg() can return: the kernel's limit (UIO_MAXIOV).
BATCH = 1024
# A dump arrives in datagrams of at most 32 KiB (netlink_dump() in net/netlink/af_netlink.c); with
# twice that, none is truncated.
DUMP_BYTES = 65536
# The kernel answers a request at once.  A request without an answer fails after this time.
ANSWER_SECONDS = 5.0

_SYSCTLS = Path("/proc/sys/net/netfilter")
_PERMISSION = "needs CAP_NET_ADMIN; run as root or start ctrecord.service"

# struct sockaddr_nl (linux/netlink.h); struct iovec, struct mmsghdr with its struct msghdr
# (recvmmsg(2)), aligned as in C.
_SOCKADDR = np.dtype([("family", "u2"), ("pad", "u2"), ("pid", "u4"), ("groups", "u4")])
_IOVEC = np.dtype([("base", np.uintp), ("len", np.uintp)])
_MSGHDR = np.dtype(
    [
        ("name", np.uintp),
        ("namelen", "u4"),
        ("iov", np.uintp),
        ("iovlen", np.uintp),
        ("control", np.uintp),
        ("controllen", np.uintp),
        ("flags", "i4"),
    ],
    align=True,
)
_MMSGHDR = np.dtype([("hdr", _MSGHDR), ("len", "u4")], align=True)

_libc = ctypes.CDLL(None, use_errno=True)
_libc.recvmmsg.argtypes = (
    ctypes.c_int,
    ctypes.c_void_p,
    ctypes.c_uint,
    ctypes.c_int,
    ctypes.c_void_p,
)
_libc.recvmmsg.restype = ctypes.c_int
# Plain integers: looking up an enum member each time is slow.
_MSG_TRUNC, _MSG_DONTWAIT = int(socket.MSG_TRUNC), int(socket.MSG_DONTWAIT)


class SlotBuffer:
    """Memory for `rows` messages, with the structures that recvmmsg() needs to fill it.

    used: the number of filled slots, from the first one on.
    slots: (rows, STRIDE) uint8.
    sizes: (rows,) uint32, bytes of each message.
    received: (rows,) int64, time of receipt in ns UTC.
    """

    def __init__(self, rows: int) -> None:
        self.rows, self.used = rows, 0
        self.slots = np.zeros((rows, STRIDE), np.uint8)
        self.received = np.zeros(rows, np.int64)
        index = np.arange(rows, dtype=np.uintp)
        senders = np.zeros(rows, _SOCKADDR)
        vectors = np.zeros(rows, _IOVEC)
        vectors["base"] = self.slots.ctypes.data + index * STRIDE
        vectors["len"] = STRIDE
        table = np.zeros(rows, _MMSGHDR)
        header = table["hdr"]
        header["name"] = senders.ctypes.data + index * _SOCKADDR.itemsize
        header["namelen"] = _SOCKADDR.itemsize  # the kernel overwrites it with the same value
        header["iov"] = vectors.ctypes.data + index * _IOVEC.itemsize
        header["iovlen"] = 1
        self._kept = (senders, vectors, table)  # not freed: the kernel uses their addresses
        self.pids, self.flags, self.sizes = senders["pid"], header["flags"], table["len"]
        self._table_address = table.ctypes.data

    def address(self, row: int) -> int:
        """The address of the struct mmsghdr of this row."""
        return self._table_address + row * _MMSGHDR.itemsize


class Messages(NamedTuple):
    """Received messages for `Decoder.decode`: arrays of n messages each.

    They are views into a SlotBuffer, valid until that is filled again.
    """

    slots: Slots
    lengths: Lengths
    received: NDArray[np.int64]


class EventSocket:
    """Receives conntrack events: NEW and DESTROY, with `updates` also UPDATE.

    buffer_bytes: the size of the receive buffer that the kernel allowed.
    capped: why it is less than requested, or "".
    foreign: number of messages refused because a process sent them, not the kernel.
    truncated: number of messages refused because they were longer than a slot.
    """

    def __init__(
        self, buffer_bytes: int, updates: bool = False, program: bytes | None = None
    ) -> None:
        """`program`: a struct sock_filter array from `bpf`; None: no filter.

        Raises KernelError if the kernel refuses the socket or a group.
        """
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
        wanted = min(wanted, 2**30 - 1)  # the kernel stores twice that as an int
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, uapi.SO_RCVBUFFORCE, wanted)
        except PermissionError:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, wanted)
        got = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) // 2
        if got < wanted:
            self.capped = (
                "net.core.rmem_max: more needs CAP_NET_ADMIN in the initial user namespace"
            )
        return got

    def _attach(self, program: bytes) -> None:
        instructions = ctypes.create_string_buffer(program, len(program))
        # struct sock_fprog (linux/filter.h): a count and a pointer, aligned as in C
        fprog = struct.pack("@HP", len(program) // 8, ctypes.addressof(instructions))
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, uapi.SO_ATTACH_FILTER, fprog)
        except OSError as error:
            raise KernelError(
                f"cannot filter conntrack events in the kernel: {error.strerror}"
            ) from error

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

    def change(self, updates: bool, program: bytes | None) -> None:
        """Receive other events from now on; those that are queued stay.  Raises KernelError."""
        if program is not None:
            self._attach(program)
        else:
            with contextlib.suppress(FileNotFoundError):  # there was none
                self._socket.setsockopt(socket.SOL_SOCKET, uapi.SO_DETACH_FILTER, 0)
        self._join(updates)
        if not updates:
            group = uapi.NFNLGRP_CONNTRACK_UPDATE
            self._socket.setsockopt(uapi.SOL_NETLINK, uapi.NETLINK_DROP_MEMBERSHIP, group)

    def fileno(self) -> int:
        """For poll()."""
        return self._socket.fileno()

    def receive(self, buffer: SlotBuffer) -> int:
        """Append up to BATCH queued messages to `buffer`.  Returns their number.  Never waits."""
        first = buffer.used
        count = self._recvmmsg(buffer.address(first), min(BATCH, buffer.rows - first))
        buffer.used = first + count
        buffer.received[first : buffer.used] = time.time_ns()
        return count

    def accept(self, buffer: SlotBuffer) -> Messages:
        """The messages in `buffer`, without refused ones.  Empties the buffer."""
        used = slice(0, buffer.used)
        buffer.used = 0
        slots, lengths, received = (
            buffer.slots[used],
            buffer.sizes[used].copy(),
            buffer.received[used],
        )
        if not buffer.pids[used].any() and not (buffer.flags[used] & _MSG_TRUNC).any():
            return Messages(slots, lengths, received)
        kernel, whole = buffer.pids[used] == 0, buffer.flags[used] & _MSG_TRUNC == 0
        self.foreign += int(np.count_nonzero(~kernel))
        self.truncated += int(np.count_nonzero(kernel & ~whole))
        return Messages(*(each[kernel & whole] for each in (slots, lengths, received)))

    def _recvmmsg(self, messages: int, room: int) -> int:
        """recvmmsg() into `room` struct mmsghdr at the address `messages`; 0: nothing is queued."""
        while True:
            count: int = _libc.recvmmsg(self.fileno(), messages, room, _MSG_DONTWAIT, None)
            if count >= 0:
                return count
            code = ctypes.get_errno()
            if code in (errno.EAGAIN, errno.ENOBUFS):  # ENOBUFS: drops() counts the loss
                return 0
            if code != errno.EINTR:
                raise KernelError(f"cannot receive conntrack events: {os.strerror(code)}")

    def drops(self) -> int:
        """Number of events that the kernel dropped since this socket was opened."""
        words = self._socket.getsockopt(
            socket.SOL_SOCKET, uapi.SO_MEMINFO, 4 * (uapi.SK_MEMINFO_DROPS + 1)
        )
        drops = struct.unpack_from("=I", words, 4 * uapi.SK_MEMINFO_DROPS)[0]
        self._drops += (drops - self._last_drops) % 2**32
        self._last_drops = drops
        return self._drops

    def memory(self) -> tuple[int, int]:
        """Bytes of the kernel's buffer: those of events that were not received, and all."""
        words = self._socket.getsockopt(
            socket.SOL_SOCKET, uapi.SO_MEMINFO, 4 * (uapi.SK_MEMINFO_RCVBUF + 1)
        )
        used, size = struct.unpack("=II", words)
        return used, size

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()


class DumpSocket:
    """Dumps the conntrack table in steps.

    Call `request`, then `read` each time `fileno` is readable, until a Split is `done`.
    """

    def __init__(self) -> None:
        self.foreign = 0  # datagrams refused because a process sent them
        self._socket = _open()
        self._answer = bytearray()

    def request(self, family: int = uapi.AF_UNSPEC) -> None:
        """Request a dump (AF_UNSPEC: of both families).  Not while another dump is in progress.

        Raises KernelError if the kernel refuses.
        """
        try:
            self._socket.sendto(_dump_request(uapi.CT_GET, family), (0, 0))
        except OSError as error:
            raise KernelError(f"cannot dump the conntrack table: {error.strerror}") from error

    def fileno(self) -> int:
        """For poll()."""
        return self._socket.fileno()

    def read(self, datagrams: int = 1) -> Split | None:
        """The entries of up to `datagrams` datagrams (some 150 each); None: none has arrived.

        Several datagrams together are decoded faster.  Each takes the kernel about 0.1 ms, and
        DUMP_BYTES of memory.  Raises KernelError if the kernel refused the dump.
        """
        if len(self._answer) < datagrams * DUMP_BYTES:
            self._answer = bytearray(datagrams * DUMP_BYTES)
        used = cut = 0
        for _ in range(datagrams):
            size, flags = self._receive(memoryview(self._answer)[used : used + DUMP_BYTES])
            if size == 0:
                break
            cut += bool(flags & _MSG_TRUNC)
            used += (size + 3) & ~3
        if used == 0:
            return None
        found = split(memoryview(self._answer)[:used])
        if found.error:
            reason = _PERMISSION if found.error == errno.EPERM else os.strerror(found.error)
            raise KernelError(f"cannot dump the conntrack table: {reason}")
        return found._replace(unsound=found.unsound + cut)

    def _receive(self, room: memoryview) -> tuple[int, int]:
        """Size and flags of the next datagram of the kernel; (0, 0): none has arrived."""
        try:
            size, _, flags, sender = self._socket.recvmsg_into([room])
        except (BlockingIOError, InterruptedError):
            return 0, 0
        except OSError as error:
            raise KernelError(f"cannot dump the conntrack table: {error.strerror}") from error
        if sender[0] != 0:
            self.foreign += 1
            return 0, 0
        return size, flags

    def close(self) -> None:
        """Close the socket.  A dump in progress ends."""
        self._socket.close()


def ask(kind: int, family: int, attributes: bytes = b"") -> Iterator[bytes]:
    """The answers to a dump request of nfnetlink: the attributes of each message.

    `kind`: subsystem << 8 | message.  Raises KernelError if the kernel refuses or does not answer.
    """
    source = _open()
    try:
        source.settimeout(ANSWER_SECONDS)
        source.sendto(_dump_request(kind, family, attributes), (0, 0))
        while True:
            answer, _, _, sender = source.recvmsg(DUMP_BYTES)
            for offset, length, type_, _ in messages(answer if sender[0] == 0 else b""):
                if type_ in DUMP_ENDS:
                    error = end_of_dump(answer, offset, length)
                    if error:
                        raise KernelError(f"the kernel refused a dump: {os.strerror(error)}")
                    return
                yield answer[offset + uapi.NLMSG_HDRLEN + uapi.NFGENMSG_LEN : offset + length]
    except OSError as error:
        raise KernelError(f"cannot query the kernel: {error}") from error
    finally:
        source.close()


def _dump_request(kind: int, family: int, attributes: bytes = b"") -> bytes:
    """A request with nlmsghdr, nfgenmsg and `attributes`."""
    length = uapi.NLMSG_HDRLEN + uapi.NFGENMSG_LEN + len(attributes)
    return (
        struct.pack(
            "=IHHIIBBH", length, kind, uapi.NLM_F_REQUEST | uapi.NLM_F_DUMP, 0, 0, family, 0, 0
        )
        + attributes
    )


def _open() -> socket.socket:
    """A netfilter socket with an address.

    A broadcast skips the address of its sender; the kernel's is 0, as that of an unbound socket.
    """
    try:
        opened = socket.socket(
            socket.AF_NETLINK,
            socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC,
            uapi.NETLINK_NETFILTER,
        )
        opened.bind((0, 0))
        return opened
    except OSError as error:
        raise KernelError(
            f"cannot open a netfilter socket: {error.strerror}; is the module nfnetlink loaded?"
        ) from error


def sysctl(name: str) -> int | None:
    """The value of net.netfilter.`name` in this network namespace.

    None if the kernel has no such sysctl, or no connection tracking.
    """
    try:
        return int((_SYSCTLS / name).read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None


def table_count() -> int | None:
    """Entries in the conntrack table of this namespace; None: there is no connection tracking."""
    return sysctl("nf_conntrack_count")
