"""Expiry in a folder of many routers: each recording by itself, with the holds of all above it."""

from __future__ import annotations

import os
from dataclasses import replace

from ctrecorder.archive.routers import folders_below
from ctrecorder.errors import ArchiveError, CtrecorderError, ExitCode, UsageError, why
from ctrecorder.folder import Folder
from ctrecorder.kept import retention
from ctrecorder.kept.retention import Hold
from ctrecorder.maintain.expire import Expiry, Summary
from ctrecorder.service import messages


def expire_all(expiry: Expiry) -> int:
    """Run `expiry` over its folder, or over each recording of each router in it.

    A hold of the folder, or of a router's folder, counts for all that is below, and in the summary
    for each.  Returns the exit
    code.  Raises ArchiveError, and UsageError for a limit of size: by which router's segments it
    would be kept cannot be told.
    """
    try:
        below = list(folders_below(expiry.folder))
    except OSError as error:
        raise ArchiveError(f"{expiry.folder}: {why(error)}") from error
    if not below:
        return expiry.run()
    limits = expiry.limits
    if limits.max_size is not None or limits.min_free is not None:
        raise UsageError(
            f"{expiry.folder}: is of many routers: only --max-age deletes there; set max_size and "
            "min_free of [expire] to empty"
        )
    code: int = ExitCode.OK
    total = expiry.summary = Summary()
    for path in below:
        try:
            here = replace(expiry, folder=path, above=_holds_above(path, expiry.folder))
            code = max(code, here.run())
            total.found += here.summary.found
            total.deleted += here.summary.deleted
            total.holds += here.summary.holds
        except CtrecorderError as error:
            expiry.log.send(messages.SKIPPED, str(error), path=path, error=str(error))
            code = ExitCode.FAILED
    return code


def _holds_above(path: str, top: str) -> tuple[Hold, ...]:
    """The holds of the folders from `top` down to that above `path`.

    Raises ArchiveError if one cannot be read: then nothing is deleted.
    """
    found: list[Hold] = []
    while len(path) > len(top):
        path = os.path.dirname(path)
        with Folder(path) as folder:
            found += retention.holds(folder)
    return tuple(found)
