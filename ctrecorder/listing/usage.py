"""ctlist --disk-usage: the space that the segments take."""

from __future__ import annotations

import argparse
import os

from ctrecorder.archive import find
from ctrecorder.cli import common
from ctrecorder.errors import ArchiveError, ExitCode
from ctrecorder.terminal import count

_BLOCK = 512  # the unit of st_blocks, whatever the file system's
_UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB")


def show(args: argparse.Namespace) -> int:
    """Print it.  Returns FAILED if a file could not be read."""
    paths = [*args.paths, *args.files] or common.archive("ctlist")
    found = find.find(paths)
    for _, why in found.unreadable:
        common.report("ctlist", why)
    if not (found.segments or found.unreadable):
        raise ArchiveError(f"{', '.join(paths)}: no segments here; is ctrecord running?")
    used = sum(os.stat(path).st_blocks * _BLOCK for path in found.segments)
    common.write_out(f"{count(len(found.segments), 'segment')} take {in_units(used)}\n".encode())
    return ExitCode.FAILED if found.unreadable else ExitCode.OK


def in_units(size: int) -> str:
    """A number of bytes in the largest unit of which it has one."""
    amount, unit = float(size), 0
    while amount >= 1024 and unit < len(_UNITS) - 1:
        amount, unit = amount / 1024, unit + 1
    return f"{amount:.1f} {_UNITS[unit]}" if unit else f"{size} {_UNITS[0]}"
