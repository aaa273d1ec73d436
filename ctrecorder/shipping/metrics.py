"""What waits for each target after a run of ctship, as metrics."""

from __future__ import annotations

from collections.abc import Iterator

from ctrecorder.folder import Folder
from ctrecorder.kept import acknowledged
from ctrecorder.metrics.job import Values
from ctrecorder.shipping.ship import Options, is_there, waiting_for
from ctrecorder.shipping.target import parse
from ctrecorder.shipping.waiting import examine
from ctrecorder.times import SECOND

_Value = tuple[str, tuple[str, ...], float]


def ship_values(folder: str, options: Options) -> Values:
    """The samples of the archive `folder`.  Raises ArchiveError."""
    with Folder(folder) as opened:
        known = acknowledged.read(opened)
    examined = examine(folder, raw=options.raw)
    values: list[_Value] = []
    for target in map(parse, options.targets):
        to = (target.text,)
        waiting = waiting_for(target, examined.ready, known)
        refused = [one for one in waiting if (target.text, one.hashes[0]) in known.last]
        oldest = min((one.begun for one in waiting), default=0)
        values += [
            ("ship_waiting_segments", to, len(waiting)),
            ("ship_waiting_oldest_timestamp_seconds", to, oldest / SECOND),
            ("ship_refused_segments", to, len(refused)),
        ]
        names = [one.name for one in examined.ready if is_there(target, one, known)]
        values += _last_numbers(target.text, names)
    return values


def _last_numbers(to: str, names: list[str]) -> Iterator[_Value]:
    """The greatest number of each chain among the names CHAIN/SEQUENCE-HASH.ctlog."""
    last: dict[str, int] = {}
    for name in names:
        chain, _, rest = name.partition("/")
        last[chain] = max(last.get(chain, 0), int(rest.partition("-")[0]))
    for chain, number in last.items():
        yield "shipped_sequence", (to, chain), number
