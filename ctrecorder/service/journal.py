"""The journal's native protocol and systemd's notifications, on sockets that never wait.

A journald that hangs must not stop a recorder.  python3-systemd waits for the socket, and holds the
interpreter while it does; so the datagram is made here: "NAME=value" lines, and for values with
line breaks the name, the length and the bytes (systemd.journal-fields(7), Native Protocol).
"""

from __future__ import annotations

import array
import fcntl
import os
import socket
import struct
import termios
from collections.abc import Mapping

SOCKET = "/run/systemd/journal/socket"
# Seals of a memfd that journald asks for: linux/fcntl.h, F_SEAL_SEAL | SHRINK | GROW | WRITE.
_ALL_SEALS = 0x0F


class JournalSocket:
    """Sends entries to journald; never waits."""

    def __init__(self, path: str = SOCKET) -> None:
        self._path = path
        self._socket = socket.socket(
            socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
        )

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    @property
    def unread(self) -> int:
        """Bytes in memory of entries that journald has not received yet."""
        size = array.array("i", [0])
        fcntl.ioctl(self._socket, termios.TIOCOUTQ, size)  # SIOCOUTQ
        return size[0]

    def send(self, fields: Mapping[str, str]) -> bool:
        """Send one entry; False if journald does not run, or does not accept it now."""
        content = b"".join(_field(name, value) for name, value in fields.items())
        try:
            self._socket.sendto(content, self._path)
        except BlockingIOError:
            return False
        except OSError:  # too large for a datagram, or nobody listens
            return self._send_file(content)
        return True

    def _send_file(self, content: bytes) -> bool:
        """Send an entry that is too large for a datagram, as the descriptor of a sealed memfd."""
        try:
            descriptor = os.memfd_create("journal-entry", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        except OSError:
            return False
        try:
            os.write(descriptor, content)
            fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, _ALL_SEALS)
            rights = array.array("i", [descriptor]).tobytes()
            control = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)]
            self._socket.sendmsg([b""], control, 0, self._path)
        except OSError:
            return False
        finally:
            os.close(descriptor)
        return True


def _field(name: str, value: str) -> bytes:
    """One field of an entry.  What is not UTF-8 (a file name) is replaced."""
    content = value.encode("utf-8", "replace")
    if b"\n" not in content:
        return name.encode("ascii") + b"=" + content + b"\n"
    return name.encode("ascii") + b"\n" + struct.pack("<Q", len(content)) + content + b"\n"


def notify(*lines: str) -> bool:
    """Tell systemd ("READY=1", "STATUS=...", "WATCHDOG=1", ...); False without NOTIFY_SOCKET, or if
    systemd does not take it now.
    """
    path = os.environ.get("NOTIFY_SOCKET", "")
    if not path.startswith(("/", "@")):
        return False
    address = "\0" + path[1:] if path.startswith("@") else path
    kind = socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
    with socket.socket(socket.AF_UNIX, kind) as sender:
        try:
            sender.sendto("\n".join(lines).encode(), address)
        except OSError:
            return False
    return True
