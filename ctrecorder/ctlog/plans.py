"""Encoding plans: how a writer stores each column.

A plan does not change what is stored, only the size and the time.  `encoder` applies a plan.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from ctrecorder.columns import MASTER


@dataclass(frozen=True)
class ColumnEncoding:
    """The steps to try for a column.

    partner: the column that it resembles; an address is stored as "equal or not", a number as the
        difference.
    dictionary: the least number of rows per distinct value for which a dictionary is made; 0: no
        dictionary.
    most_entries: no dictionary of more distinct values than this.
    delta: store differences to the row before.
    planes: store the bytes of the items in planes.
    level: of zstd; None: the level of the block; 0: the values are noise, do not compress.
    sparse: leave out the rows in which the column is not present.
    scale: look for a common power of ten.
    ranges: the least number of 64-bit values that are stored in ranges; 0: no ranges.
    grouped: store differences in groups (see `codecs.Grouped`) of values in ranges.
    """

    partner: str = ""
    dictionary: int = 0
    most_entries: int | None = None
    delta: bool = False
    planes: bool = True
    level: int | None = None
    sparse: bool = False
    scale: bool = False
    ranges: int = 0
    grouped: bool = False

    def max_entries(self, rows: int) -> int:
        """The greatest number of dictionary entries for a column of `rows` rows."""
        entries = rows // self.dictionary
        return entries if self.most_entries is None else min(entries, self.most_entries)


EncodingPlan = Mapping[str, ColumnEncoding]
PLAIN = ColumnEncoding()  # for a column that a plan does not name
_FEW_VALUES = ColumnEncoding(dictionary=16)
# Few connections have them.
_RARE: EncodingPlan = dict.fromkeys(("helper", "labels", *MASTER), _FEW_VALUES)

# In a block of a scan of many addresses, sorting them would take a third of the time of encoding,
# and a dictionary as long as the column excludes nothing in a search.
_MAX_ADDRESSES = 4096
_LIVE_ADDRESS = ColumnEncoding(dictionary=1, most_entries=_MAX_ADDRESSES)
_LIVE_COUNTER = ColumnEncoding(sparse=True)
# The recorder's plan: for each column the one step that saves most for its time.  Measured on 1.1
# million events of a university's network with all columns: 18.5 bytes and 0.16 us an event.  10 of
# the bytes cannot be compressed: ids, source ports, the low bytes of times.
LIVE: EncodingPlan = {
    "time": ColumnEncoding(delta=True),
    "orig_src": _LIVE_ADDRESS,
    "orig_dst": _LIVE_ADDRESS,
    "reply_src": ColumnEncoding(partner="orig_dst", dictionary=1, most_entries=_MAX_ADDRESSES),
    "reply_dst": ColumnEncoding(partner="orig_src", dictionary=1, most_entries=_MAX_ADDRESSES),
    "orig_sport": ColumnEncoding(planes=False),
    "orig_dport": ColumnEncoding(planes=False),
    "reply_sport": ColumnEncoding(partner="orig_dport"),
    "reply_dport": ColumnEncoding(partner="orig_sport"),
    "id": ColumnEncoding(planes=False, level=0),
    "status": _FEW_VALUES,
    "present": _FEW_VALUES,
    "zone": _FEW_VALUES,
    "mark": _FEW_VALUES,
    "start": ColumnEncoding(sparse=True),
    "stop": ColumnEncoding(sparse=True, partner="time"),
    "orig_packets": _LIVE_COUNTER,
    "orig_bytes": _LIVE_COUNTER,
    "reply_packets": _LIVE_COUNTER,
    "reply_bytes": _LIVE_COUNTER,
    "tcp_state": _LIVE_COUNTER,
    **_RARE,
}

# With fewer values, the table of the ranges (about 40 of 9 bytes) costs more than the ranges save.
MIN_RANGES_VALUES = 1024
_ADDRESS = ColumnEncoding(dictionary=1, delta=True)
_COUNTER = ColumnEncoding(sparse=True, ranges=MIN_RANGES_VALUES)
# The plan of squeezed blocks: there is time to try more.
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
    "status": _FEW_VALUES,
    "zone": _FEW_VALUES,
    "mark": _FEW_VALUES,
    "start": ColumnEncoding(delta=True, scale=True, ranges=MIN_RANGES_VALUES),
    "end": ColumnEncoding(partner="start", scale=True, ranges=MIN_RANGES_VALUES),
    "present": _FEW_VALUES,
    "orig_zone": _FEW_VALUES,
    "reply_zone": _FEW_VALUES,
    "orig_packets": _COUNTER,
    "orig_bytes": _COUNTER,
    "reply_packets": _COUNTER,
    "reply_bytes": _COUNTER,
    "tcp_state": ColumnEncoding(sparse=True),
    **_RARE,
}
# The same for segments whose readers know GROUPED: a row of `start` is read from its group alone.
GROUPS: EncodingPlan = {**SQUEEZED, "start": replace(SQUEEZED["start"], grouped=True)}
