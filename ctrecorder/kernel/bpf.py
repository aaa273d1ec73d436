"""Classic BPF for the event socket: the kernel drops unwanted events before it queues them.

A program finds attributes with two extensions (linux/filter.h, net/core/filter.c).  SKF_AD_NLATTR
takes an offset in A and an attribute type in X, and returns in A the offset of the first such
attribute, or 0.  SKF_AD_NLATTR_NEST searches inside the attribute at A.  A program fails open: a
message that lacks the attribute passes, and so does every message that is no conntrack event.
"""

from __future__ import annotations

import struct
from collections.abc import Collection

from ctrecorder import uapi

# linux/bpf_common.h, linux/filter.h
_LD_WORD_ABS, _LD_HALF_ABS, _LD_WORD_IND, _LD_HALF_IND = 0x20, 0x28, 0x40, 0x48
_LD_BYTE_IND, _LD_IMM = 0x50, 0x00
_LDX_IMM, _TAX, _JEQ, _JSET, _RET = 0x01, 0x07, 0x15, 0x45, 0x06
_SKF_AD_OFF = 2**32 - 0x1000
_SKF_AD_NLATTR, _SKF_AD_NLATTR_NEST = _SKF_AD_OFF + 12, _SKF_AD_OFF + 16

_TYPE_OFFSET = 4  # of nlmsg_type in a message
# The conntrack zone of the entries that `probe` makes, and of nothing else.
PROBE_ZONE = 0xFFFF
_PASS, _DROP = (_RET, 0, 0, 2**32 - 1), (_RET, 0, 0, 0)

_Code = list[tuple[int, int, int, int]]  # code, jump if true, jump if false, k


def event_filter(protocols: Collection[int] = (), nat_only: bool = False) -> bytes | None:
    """A struct sock_filter array that passes events of these L4 `protocols` (empty: all).

    `nat_only`: it passes only events of connections with NAT.  None: all events would pass.
    """
    if not protocols and not nat_only:
        return None
    code = _pass_others() + _pass_probes()
    if nat_only:
        code += _nat()
    if protocols:
        code += _protocols(protocols)
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in [*code, _PASS])


def _pass_others() -> _Code:
    """Pass a message that is no conntrack event.

    BPF loads a half-word in network byte order; nlmsg_type is in host byte order.
    """
    new, delete = (
        int.from_bytes(struct.pack("=H", kind), "big") for kind in (uapi.CT_NEW, uapi.CT_DELETE)
    )
    return [(_LD_HALF_ABS, 0, 0, _TYPE_OFFSET), (_JEQ, 2, 0, new), (_JEQ, 1, 0, delete), _PASS]


def _pass_probes() -> _Code:
    """Pass events in the zone of `probe`: the proof that events arrive must pass every filter."""
    return [
        (_LD_IMM, 0, 0, uapi.NLMSG_HDRLEN + uapi.NFGENMSG_LEN),
        (_LDX_IMM, 0, 0, uapi.CTA_ZONE),
        (_LD_WORD_ABS, 0, 0, _SKF_AD_NLATTR),
        (_JEQ, 4, 0, 0),
        (_TAX, 0, 0, 0),
        (_LD_HALF_IND, 0, 0, uapi.NLA_HDRLEN),
        (_JEQ, 0, 1, PROBE_ZONE),
        _PASS,
    ]


def _find(*kinds: int) -> _Code:
    """X = offset of the attribute kinds[-1], nested in kinds[-2] and so on.  Pass if missing."""
    code: _Code = [(_LD_IMM, 0, 0, uapi.NLMSG_HDRLEN + uapi.NFGENMSG_LEN)]
    for depth, kind in enumerate(kinds):
        code += [
            (_LDX_IMM, 0, 0, kind),
            (_LD_WORD_ABS, 0, 0, _SKF_AD_NLATTR_NEST if depth else _SKF_AD_NLATTR),
        ]
        code += [(_JEQ, 0, 1, 0), _PASS]
    return [*code, (_TAX, 0, 0, 0)]


def _nat() -> _Code:
    """Drop events of connections without NAT."""
    return [
        *_find(uapi.CTA_STATUS),
        (_LD_WORD_IND, 0, 0, uapi.NLA_HDRLEN),
        (_JSET, 1, 0, uapi.IPS_NAT_MASK),
        _DROP,
    ]


def _protocols(protocols: Collection[int]) -> _Code:
    """Pass events of `protocols`, drop the others."""
    code = [
        *_find(uapi.CTA_TUPLE_ORIG, uapi.CTA_TUPLE_PROTO, uapi.CTA_PROTO_NUM),
        (_LD_BYTE_IND, 0, 0, uapi.NLA_HDRLEN),
    ]
    for protocol in sorted(set(protocols)):
        code += [(_JEQ, 0, 1, protocol), _PASS]
    return [*code, _DROP]
