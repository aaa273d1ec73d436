"""Single requests to nfnetlink that are not dumps: attributes packed, one answer read.

A request and its answer take one system call each: the kernel handles a request within sendto(2).
"""

from __future__ import annotations

import errno
import os
import socket
import struct

from ctrecorder import uapi
from ctrecorder.errors import KernelError

# The largest answer to a single request: nfnetlink's messages here have under 300 bytes.
_ANSWER_BYTES = 8192


def attribute(kind: int, payload: bytes, *, nested: bool = False) -> bytes:
    """A struct nlattr with its payload, padded to 4 bytes."""
    length = uapi.NLA_HDRLEN + len(payload)
    flags = uapi.NLA_F_NESTED if nested else 0
    return struct.pack("=HH", length, kind | flags) + payload + b"\0" * (-length % 4)


class RequestSocket:
    """A netfilter socket for single requests of this network namespace.

    Raises KernelError if it cannot be opened.
    """

    def __init__(self) -> None:
        kind = socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
        try:
            self._socket = socket.socket(socket.AF_NETLINK, kind, uapi.NETLINK_NETFILTER)
            self._socket.bind((0, 0))
        except OSError as error:
            raise KernelError(f"cannot open a netfilter socket: {error.strerror}") from error
        self.port_id: int = self._socket.getsockname()[0]
        self._sequence = 0

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def ask(self, kind: int, family: int, attributes: bytes = b"", flags: int = 0) -> bytes:
        """The attributes of the answer; b"" if the kernel only acknowledges (NLM_F_ACK).

        kind: subsystem << 8 | message.  Raises KernelError with the kernel's reason if it refuses,
        or does not answer.
        """
        self._sequence += 1
        length = uapi.NLMSG_HDRLEN + uapi.NFGENMSG_LEN + len(attributes)
        head = struct.pack("=IHHII", length, kind, uapi.NLM_F_REQUEST | flags, self._sequence, 0)
        try:
            self._socket.sendto(head + struct.pack("=BBH", family, 0, 0) + attributes, (0, 0))
            while True:
                answer, _, _, sender = self._socket.recvmsg(_ANSWER_BYTES)
                if sender[0] == 0 and len(answer) >= uapi.NLMSG_HDRLEN + uapi.NFGENMSG_LEN:
                    _, type_, _, sequence = struct.unpack_from("=IHHI", answer)
                    if sequence == self._sequence:
                        return _content(answer, type_)
        except OSError as error:
            why = "no answer" if error.errno == errno.EAGAIN else error.strerror
            raise KernelError(f"cannot ask the kernel: {why}") from error


def _content(answer: bytes, kind: int) -> bytes:
    """The attributes of an answer; b"" of an acknowledgement.  Raises KernelError for a refusal."""
    if kind != uapi.NLMSG_ERROR:
        return answer[uapi.NLMSG_HDRLEN + uapi.NFGENMSG_LEN :]
    code: int = struct.unpack_from("=i", answer, uapi.NLMSG_HDRLEN)[0]
    if code:
        raise KernelError(f"the kernel refused: {os.strerror(-code)}")
    return b""
