"""Connections sent to a collector of IPFIX or NetFlow 9, when they have ended.

Nothing acknowledges here.  By UDP a segment is noted before it is sent, so each connection arrives
at most once; by TCP after it was sent, so at least once.
"""

from __future__ import annotations

import contextlib
import socket
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from ctrecorder.archive.open import open_segment
from ctrecorder.ctlog.frame import Kind
from ctrecorder.errors import CtrecorderError, why
from ctrecorder.shipping.flowrecords import IPFIX, NETFLOW9, Messages, ended
from ctrecorder.shipping.results import Result, TargetError
from ctrecorder.shipping.target import Target
from ctrecorder.shipping.waiting import Waiting

_CONNECT_SECONDS = 20
# Without a limit in the configuration.  nfcapd on a small machine takes some 10 MB/s; faster, its
# kernel's buffer overflows, and nobody is told.
_UDP_BYTES_PER_SECOND = 4 << 20
_PORTS = {IPFIX: 4739, NETFLOW9: 2055}
_SENT = "sent"


@dataclass
class Exporter:
    """Sends the connections of segments to `target`, as those of `router`."""

    target: Target
    router: str
    bytes_per_second: int = 0
    _messages: Messages = field(init=False)

    def __post_init__(self) -> None:
        version = NETFLOW9 if self.target.kind == "netflow9" else IPFIX
        # The observation domain tells routers apart behind one address.
        self._messages = Messages(version, zlib.crc32(self.router.encode()))

    @property
    def is_tcp(self) -> bool:
        """If it sends by TCP."""
        return self.target.kind.endswith("+tcp")

    def send(
        self, batch: Sequence[Waiting], note: Callable[[Waiting, Result], None]
    ) -> dict[str, Result]:
        """Send `batch`; `note` is called before each segment by UDP, after it by TCP.

        Returns what became of each segment, by name.  Raises TargetError.
        """
        done: dict[str, Result] = {}
        with contextlib.closing(self._connect()) as line:
            for one in batch:
                if not self.is_tcp:
                    note(one, Result(_SENT))
                try:
                    self._send(line, one)
                    if self.is_tcp:
                        note(one, Result(_SENT))
                    done[one.name] = Result(_SENT)
                except OSError as error:
                    raise TargetError(f"{self.target.text}: {why(error)}", done) from error
                except CtrecorderError as error:
                    done[one.name] = Result("", str(error))
        return done

    def _connect(self) -> socket.socket:
        host, _, port = self.target.host.rpartition(":")
        if not host or not port.isdigit():
            host, port = self.target.host, str(_PORTS[self._messages.version])
        kind = socket.SOCK_STREAM if self.is_tcp else socket.SOCK_DGRAM
        try:
            found = socket.getaddrinfo(host.strip("[]"), int(port), type=kind)
            family, kind, protocol, _, address = found[0]
            line = socket.socket(family, kind, protocol)
            line.settimeout(_CONNECT_SECONDS)
            line.connect(address)
        except OSError as error:
            raise TargetError(f"{self.target.text}: {why(error)}") from error
        return line

    def _send(self, line: socket.socket, one: Waiting) -> None:
        rate = self.bytes_per_second or (0 if self.is_tcp else _UDP_BYTES_PER_SECOND)
        begun, sent = time.monotonic(), 0
        for message in self._made(one):
            line.sendall(message)
            sent += len(message)
            if rate and (ahead := sent / rate - (time.monotonic() - begun)) > 0:
                time.sleep(ahead)

    def _made(self, one: Waiting) -> Iterator[bytes]:
        with open_segment(one.path) as segment:
            for block in segment.blocks_of(Kind.CONNECTIONS):
                table = ended(segment.read(block))
                if len(table):
                    yield from self._messages.of(table, time.time_ns())
