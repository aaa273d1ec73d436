"""The path `-`: a segment on standard input."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator

from ctrecorder import spill
from ctrecorder.errors import UsageError
from ctrecorder.listing.options import STDIN


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
