"""A folder of many routers: ROUTER/CHAIN/ with the segments of each, as ctship leaves them.

What a segment says of its router is not believed there: whoever controls one router could put
segments of another one's recording into its own folder.  The folder decides, so such a recording is
another one, of the router that sent it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import replace

from ctrecorder.segment.recording import Recording

CHAIN = re.compile(r"[0-9a-f]{16}")
# The folder of ctsqueeze --keep: what is in it was replaced.
_REPLACED = "replaced"


def router_of(path: str) -> str:
    """The router whose folder the segment `path` is in; "" if it is in a folder of one router."""
    chain, name = os.path.split(os.path.dirname(os.path.abspath(path)))
    return os.path.basename(chain) if CHAIN.fullmatch(name) else ""


def folders_below(path: str) -> Iterator[str]:
    """The folders CHAIN and ROUTER/CHAIN below the folder `path`, by name.  Raises OSError.

    A symbolic link is none: it could lead to the folder of another router.
    """
    for name in _folders(path):
        if CHAIN.fullmatch(name):
            yield os.path.join(path, name)
        elif name != _REPLACED:
            chains = [one for one in _folders(os.path.join(path, name)) if CHAIN.fullmatch(one)]
            yield from (os.path.join(path, name, one) for one in chains)


def _folders(path: str) -> list[str]:
    with os.scandir(path) as entries:
        return sorted(
            entry.name
            for entry in entries
            if not entry.name.startswith(".") and entry.is_dir(follow_symlinks=False)
        )


def chain_of(router: str, chain: str) -> str:
    """The name of a recording among those of other routers."""
    return f"{router}/{chain}" if router and chain else chain


def place(segment: Recording) -> None:
    """Have the header of an open segment say of which router it is, by its folder."""
    router = router_of(segment.path)
    if not router:
        return
    header = segment.header
    segment.header = replace(
        header,
        host=router,
        chain=chain_of(router, header.chain or "") or None,
        recording=chain_of(router, header.recording or "") or None,
        boot_id=chain_of(router, header.boot_id or "") or None,
    )
