"""What the header of a segment says of its seals.  Nothing here is checked."""

from __future__ import annotations

from ctrecorder.segment.recording import Recording


def sealed_by(segment: Recording) -> str:
    """The id of the key of a segment; "" if it is not sealed forward.

    A segment with a static key is not: its hashes, over which a seal is, could not be checked.
    """
    header = segment.header
    key = (header.seals or {}).get("key")
    is_sealed = isinstance(key, str) and not header.has_legacy and header.sealed is not True
    return str(key) if is_sealed else ""


def begun_in(segment: Recording) -> int:
    """The epoch in which a segment was begun, by its header; 0 if it names none."""
    epoch = (segment.header.seals or {}).get("epoch")
    return epoch if type(epoch) is int and 0 <= epoch < 1 << 32 else 0
