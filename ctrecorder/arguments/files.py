"""The files of a listing: standard input as the path `-`, and the space that segments take."""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator

from ctrecorder import spill
from ctrecorder.archive import find
from ctrecorder.arguments.options import STDIN
from ctrecorder.cli import common
from ctrecorder.errors import ArchiveError, ExitCode, UsageError
from ctrecorder.terminal import count

_BLOCK = 512  # the unit of st_blocks, whatever the file system's
_UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB")


@contextlib.contextmanager
def as_file(paths: list[str]) -> Iterator[list[str]]:
    """The paths with that of a file in the place of `-`: what standard input has, copied."""
    if STDIN not in paths:
        yield paths
        return
    if sys.stdin is None or os.isatty(0):
        raise UsageError("-: standard input is no segment: write for example ctlist - < FILE")
    with tempfile.NamedTemporaryFile(prefix="ctrecorder-", dir=spill.folder()) as file:
        try:
            shutil.copyfileobj(sys.stdin.buffer, file)
            file.flush()
        except OSError as error:
            raise spill.full(error) from None
        yield [file.name if path == STDIN else path for path in paths]


def show_usage(args: argparse.Namespace) -> int:
    """Print it.  Returns FAILED if a file could not be read."""
    paths = [*args.paths, *args.files] or common.archive("ctlist")
    found = find.find(paths)
    for _, why in found.unreadable:
        common.report("ctlist", why)
    if not (found.segments or found.unreadable):
        raise ArchiveError(f"{', '.join(paths)}: no segments here; is ctrecord running?")
    used = sum(os.stat(path).st_blocks * _BLOCK for path in found.segments)
    number = len(found.segments)
    takes = "takes" if number == 1 else "take"
    common.write_out(f"{count(number, 'segment')} {takes} {in_units(used)}\n".encode())
    return ExitCode.FAILED if found.unreadable else ExitCode.OK


def in_units(size: int) -> str:
    """A number of bytes in the largest unit of which it has one."""
    amount, unit = float(size), 0
    while amount >= 1024 and unit < len(_UNITS) - 1:
        amount, unit = amount / 1024, unit + 1
    return f"{amount:.1f} {_UNITS[unit]}" if unit else f"{size} {_UNITS[0]}"
