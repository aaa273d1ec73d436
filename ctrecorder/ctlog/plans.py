"""How the columns of a squeezed block are encoded."""

from __future__ import annotations

from ctrecorder.ctlog.encoder import Plan, Scheme

# Fewer numbers do not pay for the table of their ranges (some 40 of 9 bytes).
_RANGES = 1024
_ADDRESS, _FEW, _COUNTER = Scheme(dictionary=1, delta=True), Scheme(dictionary=16), Scheme(sparse=True, ranges=_RANGES)
SQUEEZED: Plan = {
    "time": Scheme(partner="start", scale=True),
    "orig_src": _ADDRESS,
    "orig_dst": _ADDRESS,
    "reply_src": Scheme(partner="orig_dst", dictionary=1),
    "reply_dst": Scheme(partner="orig_src", dictionary=1),
    "orig_dport": Scheme(dictionary=4),
    "reply_sport": Scheme(partner="orig_dport"),
    "reply_dport": Scheme(partner="orig_sport"),
    "id": Scheme(planes=False, level=0),
    "status": _FEW,
    "zone": _FEW,
    "mark": _FEW,
    "start": Scheme(delta=True, scale=True, ranges=_RANGES),
    "end": Scheme(partner="start", scale=True, ranges=_RANGES),
    "known": _FEW,
    "orig_zone": _FEW,
    "reply_zone": _FEW,
    "orig_packets": _COUNTER,
    "orig_bytes": _COUNTER,
    "reply_packets": _COUNTER,
    "reply_bytes": _COUNTER,
    "tcp_state": Scheme(sparse=True),
}
