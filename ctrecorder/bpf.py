"""Classic BPF for the event socket, so that the kernel drops what is not wanted before it is queued."""

from __future__ import annotations

from collections.abc import Collection


def event_filter(protocols: Collection[int] = (), nat_only: bool = False) -> bytes | None:
    """A struct sock_filter array that passes the wanted conntrack events and all other messages; None if it would pass everything."""
    raise NotImplementedError
