"""The HEADER of a segment as a recorder writes it."""

from __future__ import annotations

from ctrecorder.ctlog.frame import COVERAGE
from ctrecorder.ctlog.header import Header

CLOCK = {"error_us": 1200, "offset_us": 0, "synchronised": True}
HEADER = Header(
    boot_id="6c0e4d3a-8f1b-4f7e-9d55-0a7d1c2b3e4f",
    buffer_bytes=67_108_864,
    chain="4f1d2c3b5a697887",
    host="router",
    kernel="6.12.0-1-arm64",
    nat_only=False,
    netns="4026531840",
    protocols=(),
    requires=(COVERAGE,),
    state={
        "clock": CLOCK,
        "events": 1,
        "notrack": [],
        "stateless": [],
        "timestamps": 1,
        "tracking": {"ipv4": "on", "ipv6": "on"},
    },
    sysctls={
        "nf_conntrack_acct": 1,
        "nf_conntrack_events": 1,
        "nf_conntrack_timestamp": 1,
    },
    template="%Y%m%d-%H%M%S.ctlog",
    updates=False,
)
