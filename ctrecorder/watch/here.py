"""The addresses of this machine: of the router, where it records, or is asked.

By rtnetlink alone: pyroute2 takes 0.2 s to import, which is long for a question.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator

_RTM_NEWADDR, _RTM_GETADDR = 20, 22
_NLM_F_REQUEST, _NLM_F_DUMP = 0x1, 0x300
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_RT_SCOPE_UNIVERSE = 0
_IFA_ADDRESS, _IFA_LOCAL = 1, 2
_HEADER = struct.Struct("=IHHII")  # nlmsghdr: length, type, flags, sequence, port
_ADDRESS = struct.Struct("=BBBBI")  # ifaddrmsg: family, prefix, flags, scope, link
_ATTRIBUTE = struct.Struct("=HH")  # rtattr: length, type
_LENGTHS = {socket.AF_INET: 4, socket.AF_INET6: 16}
_TIMEOUT_SECONDS = 1.0


def own() -> list[str]:
    """The addresses that are not of one link or host only, as text; [] if the kernel says none."""
    length = _HEADER.size + _ADDRESS.size
    flags = _NLM_F_REQUEST | _NLM_F_DUMP
    found: list[str] = []
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as source:
            source.settimeout(_TIMEOUT_SECONDS)
            source.send(
                _HEADER.pack(length, _RTM_GETADDR, flags, 1, 0) + _ADDRESS.pack(0, 0, 0, 0, 0)
            )
            while True:
                for kind, body in _parts(source.recv(1 << 16), _HEADER):
                    if kind in (_NLMSG_DONE, _NLMSG_ERROR):
                        return found
                    if kind == _RTM_NEWADDR:
                        found += _address(body)
    except OSError:
        return []


def _address(body: bytes) -> Iterator[str]:
    family, _, _, scope, _ = _ADDRESS.unpack_from(body)
    known = dict(_parts(body[_ADDRESS.size :], _ATTRIBUTE))
    # IFA_LOCAL: the own end of a point-to-point link; IFA_ADDRESS is then the peer's.
    packed = known.get(_IFA_LOCAL) or known.get(_IFA_ADDRESS) or b""
    if scope == _RT_SCOPE_UNIVERSE and len(packed) == _LENGTHS.get(family):
        yield socket.inet_ntop(family, packed)


def _parts(data: bytes, header: struct.Struct) -> Iterator[tuple[int, bytes]]:
    """The type and the body of each message, or of each attribute: both begin with a length."""
    while len(data) >= header.size:
        length, kind = header.unpack_from(data)[:2]
        if length < header.size:
            return
        yield kind, data[header.size : length]
        data = data[(length + 3) & ~3 :]
