"""The state of the system clock, as adjtimex(2) reports it: synchronised, and how far off."""

from __future__ import annotations

import ctypes
from typing import NamedTuple

_STA_UNSYNC, _STA_NANO = 0x0040, 0x2000  # linux/timex.h
_TIME_ERROR = 5


class _Timex(ctypes.Structure):
    """struct timex of linux/timex.h, on machines of 64 and 32 bits; the tail is reserved."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("constant", ctypes.c_long),
        ("precision", ctypes.c_long),
        ("tolerance", ctypes.c_long),
        ("time", ctypes.c_long * 2),
        ("tick", ctypes.c_long),
        ("reserved", ctypes.c_char * 128),
    )


class ClockState(NamedTuple):
    """`synchronised`: a time daemon keeps the clock; `error_us`: the largest error that the kernel
    assumes; `offset_us`: what is still to be corrected."""

    synchronised: bool
    error_us: int
    offset_us: int


_libc = ctypes.CDLL(None, use_errno=True)


def clock_state() -> ClockState | None:
    """The clock's state now; None if the system call is refused (a seccomp filter)."""
    found = _Timex()
    state = _libc.adjtimex(ctypes.byref(found))
    if state < 0:
        return None
    offset = found.offset // 1000 if found.status & _STA_NANO else found.offset
    unsynchronised = state == _TIME_ERROR or bool(found.status & _STA_UNSYNC)
    return ClockState(not unsynchronised, int(found.maxerror), int(offset))
