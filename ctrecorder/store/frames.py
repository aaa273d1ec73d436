"""The skeletons of segments, as a database has them."""

from __future__ import annotations

import uuid
from collections.abc import Sequence

from ctrecorder.errors import ArchiveError
from ctrecorder.shipping.rowbinary import upload_bytes
from ctrecorder.store.manifest import Entry, Place, uploads

# Segments of one query, and bytes of its answer: 256 KiB each, of which most have 10.
_AT_ONCE, _MAX_BYTES = 1_000, 256 << 20


def fetch(place: Place, entries: Sequence[Entry]) -> dict[str, bytes]:
    """The skeleton of each segment, by its path.  Raises ArchiveError."""
    found: dict[str, bytes] = {}
    for first in range(0, len(entries), _AT_ONCE):
        some = entries[first : first + _AT_ONCE]
        query = (
            "SELECT upload, frames FROM segments WHERE toDateTime(recorded) "
            f"{uploads(some)} FORMAT RowBinary"
        )
        ids = {upload_bytes(uuid.UUID(each.upload).bytes): each.span.path for each in some}
        for upload, frames in parsed(place.text, place.ask(query, _MAX_BYTES)):
            if upload in ids:
                found[ids[upload]] = frames
    for each in entries:
        if each.span.path not in found:
            raise ArchiveError(f"{each.span.path}: was deleted while it was read: ask again")
    return found


def parsed(where: str, data: bytes) -> list[tuple[bytes, bytes]]:
    """The rows of an answer: an upload and a text each.  Raises ArchiveError."""
    found, at = [], 0
    while at < len(data):
        upload, at = data[at : at + 16], at + 16
        length, shift = 0, 0
        while at < len(data) and shift < 35:
            byte, at = data[at], at + 1
            length |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
        if at + length > len(data) or len(upload) < 16:
            raise ArchiveError(f"{where}: what it answers is no list of segments")
        found.append((upload, data[at : at + length]))
        at += length
    return found
