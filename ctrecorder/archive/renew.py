"""Writes the catalogues of folders with many segments, for readers."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator

from ctrecorder.archive import find
from ctrecorder.archive.routers import folders_below, router_of
from ctrecorder.errors import ArchiveError
from ctrecorder.folder import Folder
from ctrecorder.kept import catalogue
from ctrecorder.kept.catalogue import Entry
from ctrecorder.times import END

# With fewer segments, to look at each takes less than 10 ms.
_MANY = 200


def renew(path: str) -> None:
    """Write the catalogues of the folder `path` and of the routers' folders in it.

    Readers need none: where one cannot be written, there is none.
    """
    with contextlib.suppress(OSError):
        for folder in (path, *folders_below(path)):
            with contextlib.suppress(OSError, ArchiveError), Folder(folder) as opened:
                _renew(opened)


def _renew(folder: Folder) -> None:
    """Write the catalogue of an open folder, if it is the caller's and has many.  Raises OSError.

    What another one wrote there is neither changed nor passed on as the caller's.
    """
    is_mine = os.fstat(folder.descriptor).st_uid == os.geteuid()
    if not is_mine or len(os.listdir(folder.descriptor)) < _MANY:
        return
    # Of before they are read: what is replaced meanwhile does not fit, and is read again.
    known = {
        entry.name: entry.stat(follow_symlinks=False) for entry in os.scandir(folder.descriptor)
    }
    spans = find.find([folder.path], spans=True, routers=False).spans
    router = router_of(os.path.join(folder.path, "any"))
    catalogue.write(folder, _entries(known, spans, f"{router}/" if router else ""))


def _entries(
    known: dict[str, os.stat_result], spans: Iterable[find.Span], prefix: str
) -> Iterator[Entry]:
    """The closed segments among `spans`, with the status of each that is `known`.

    `prefix`: what the folder puts before their chains.
    """
    for span in spans:
        name = os.path.basename(span.path)
        if span.end == END or name not in known:  # it is not closed, or damaged; or it is new
            continue
        yield Entry(
            name,
            known[name],
            span.begin,
            span.end,
            span.recorded,
            span.chain.removeprefix(prefix),
            span.sequence,
            span.squeezed,
        )
