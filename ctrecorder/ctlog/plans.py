"""How the columns of a squeezed block are encoded."""

from __future__ import annotations

from ctrecorder.ctlog.encoder import ColumnEncoding, EncodingPlan

# Fewer numbers do not pay for the table of their ranges (some 40 of 9 bytes).
_RANGES = 1024
_ADDRESS, _FEW, _COUNTER = (
    ColumnEncoding(dictionary=1, delta=True),
    ColumnEncoding(dictionary=16),
    ColumnEncoding(sparse=True, ranges=_RANGES),
)
SQUEEZED: EncodingPlan = {
    "time": ColumnEncoding(partner="start", scale=True),
    "orig_src": _ADDRESS,
    "orig_dst": _ADDRESS,
    "reply_src": ColumnEncoding(partner="orig_dst", dictionary=1),
    "reply_dst": ColumnEncoding(partner="orig_src", dictionary=1),
    "orig_dport": ColumnEncoding(dictionary=4),
    "reply_sport": ColumnEncoding(partner="orig_dport"),
    "reply_dport": ColumnEncoding(partner="orig_sport"),
    "id": ColumnEncoding(planes=False, level=0),
    "status": _FEW,
    "zone": _FEW,
    "mark": _FEW,
    "start": ColumnEncoding(delta=True, scale=True, ranges=_RANGES),
    "end": ColumnEncoding(partner="start", scale=True, ranges=_RANGES),
    "present": _FEW,
    "orig_zone": _FEW,
    "reply_zone": _FEW,
    "orig_packets": _COUNTER,
    "orig_bytes": _COUNTER,
    "reply_packets": _COUNTER,
    "reply_bytes": _COUNTER,
    "tcp_state": ColumnEncoding(sparse=True),
}
