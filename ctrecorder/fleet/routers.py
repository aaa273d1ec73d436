"""The list of routers of a question to many: a line each, its name and where its archive is.

The list is the measure of completeness: a router that is in it and does not answer is a hole.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from ctrecorder.declared import values
from ctrecorder.errors import UsageError, why

# A list is a few kB: a longer file is none.
_MAX_BYTES, _MAX_ROUTERS = 1 << 20, 10_000


class Router(NamedTuple):
    """A router: `host`: for ssh; "" if it is asked from this machine.

    `folder`: of its archive; "": the one that is configured there; or its place in ClickHouse.
    """

    name: str
    where: str
    host: str
    folder: str


def read(path: str) -> list[Router]:
    """The routers in the file `path`.  Raises UsageError for a line that is none, and no router."""
    try:
        with Path(path).open("rb") as file:
            raw = file.read(_MAX_BYTES + 1)
    except OSError as error:
        raise UsageError(f"--fleet: {path}: {why(error)}") from error
    if len(raw) > _MAX_BYTES:
        raise UsageError(f"--fleet: {path}: is no list of routers: longer than {_MAX_BYTES} bytes")
    found: dict[str, Router] = {}
    for number, line in enumerate(raw.decode("utf-8", "replace").splitlines(), 1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        router = _parse(words, f"--fleet: {path}: line {number}")
        if router.name in found:
            raise UsageError(f"--fleet: {path}: line {number}: there are two named {router.name}")
        found[router.name] = router
    if not found:
        raise UsageError(f"--fleet: {path}: there is no router in it")
    if len(found) > _MAX_ROUTERS:
        raise UsageError(f"--fleet: {path}: more than {_MAX_ROUTERS} routers")
    return list(found.values())


def _parse(words: list[str], place: str) -> Router:
    form = (
        "write NAME /FOLDER, or NAME ssh://HOST, or NAME ssh://HOST:FOLDER, or NAME "
        "clickhouse://HOST:PORT/DB"
    )
    if len(words) != 2:
        raise UsageError(f"{place}: {form}")
    name, where = words
    try:
        values.router(name)
    except ValueError:
        what = f"{place}: '{name}' is no name: letters, digits and . _ - are allowed"
        raise UsageError(what) from None
    if where.startswith("/"):
        return Router(name, where, "", where)
    if values.CLICKHOUSE.fullmatch(where):
        return Router(name, where, "", f"{where}/{name}")
    match = values.ASKED.fullmatch(where)
    if match is None:
        raise UsageError(f"{place}: '{where}': {form}; a host must not begin with '-'")
    return Router(name, where, match[2], match[3] or "")
