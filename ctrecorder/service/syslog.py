"""Entries for syslog, on a socket that never waits.

syslog(3) waits if the daemon does not read.  So the line is made here, in the form that syslog(3)
sends (RFC 3164): "<priority>Mon dd hh:mm:ss command[pid]: text".
"""

from __future__ import annotations

import errno
import os
import socket
import time

SOCKET = "/dev/log"
_FACILITY = 3 << 3  # LOG_DAEMON
# Daemons accept lines of 8 KiB at least (rsyslog's default); a longer line is cut by the daemon.
_MAX_BYTES = 8192


class SyslogSocket:
    """Sends entries to the syslog daemon, or returns at once that it could not."""

    def __init__(self, path: str = SOCKET) -> None:
        self._path = path
        self._socket: socket.socket | None = None
        self._kind = socket.SOCK_DGRAM

    def close(self) -> None:
        """Close the socket."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def send(self, command: str, level: int, text: str, time_ns: int) -> bool:
        """Send one entry of `command`, of the moment `time_ns` (ns UTC); False if no daemon is
        there, or if it does not take the entry now.

        `level`: as in syslog(3).
        """
        moment = time.strftime("%b %e %H:%M:%S", time.localtime(time_ns // 10**9))
        line = f"<{_FACILITY | level}>{moment} {command}[{os.getpid()}]: {text}"
        content = line.encode("utf-8", "replace")[:_MAX_BYTES]
        # One more try: a daemon that was restarted has a new socket, perhaps of the other kind.
        return self._send(content) or (self._socket is None and self._send(content))

    def _send(self, content: bytes) -> bool:
        """False: not sent; then the socket is None if the daemon is to be looked for again."""
        try:
            if self._socket is None:
                self._socket = self._connected()
            # On a stream NUL ends an entry.
            self._socket.send(content + b"\0" * (self._kind == socket.SOCK_STREAM))
        except BlockingIOError:
            return False
        except OSError:
            self.close()
            return False
        return True

    def _connected(self) -> socket.socket:
        """A socket to the daemon.  Raises OSError."""
        for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
            opened = socket.socket(socket.AF_UNIX, kind | socket.SOCK_NONBLOCK)
            try:
                opened.connect(self._path)
            except OSError as error:
                opened.close()
                if error.errno != errno.EPROTOTYPE:
                    raise
            else:
                self._kind = kind
                return opened
        raise OSError(errno.EPROTOTYPE, os.strerror(errno.EPROTOTYPE))
