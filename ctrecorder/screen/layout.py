"""How wide columns are on a screen, and texts that are shortened to fit.  Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class Signs(NamedTuple):
    """The characters of a screen.

    `out`, `back`: arrows from the inside end to the remote one and back, in 3 or 4 columns and in
    one.  `line`: of rules and long arrows.  `cut`: instead of what is left out.
    """

    out: tuple[str, str]
    back: tuple[str, str]
    line: str
    cut: str


UNICODE = Signs((" → ", "→"), (" ← ", "←"), "─", "…")
ASCII = Signs((" -> ", ">"), (" <- ", "<"), "-", "~")


def shorten(text: str, width: int, cut: str) -> str:
    """`text` in at most `width` columns.

    Of an address with a port, the middle of the address is left out, never the port: the first
    part says which network, the last one which host.
    """
    if len(text) <= width:
        return text
    address, colon, port = text.rpartition(":")
    is_port = bool(colon) and port.rstrip(")").isdigit()
    if is_port and (address.endswith("]") or ":" not in address):
        tail = f"{'' if not address.endswith(']') else ']'}:{port}"
        body = address.removesuffix("]")
    else:
        tail, body = "", text
    room = width - len(tail) - len(cut)
    if room < 2:
        return (text[: width - 1] + cut) if width > 1 else cut[:width]
    last = room // 2
    return body[: room - last] + cut + body[len(body) - last :] + tail


def widths(natural: Sequence[int], room: int) -> list[int]:
    """The widths of columns that together take at most `room`.

    Each has its natural width if that is no more than its share; the others share what is left.
    """
    found = [0] * len(natural)
    left, open_columns = room, list(range(len(natural)))
    while open_columns:
        share = max(left, 0) // len(open_columns)
        fits = [column for column in open_columns if natural[column] <= share]
        if not fits:
            extra = max(left, 0) - share * len(open_columns)
            for number, column in enumerate(open_columns):
                found[column] = share + (number < extra)
            return found
        for column in fits:
            found[column] = natural[column]
            left -= natural[column]
        open_columns = [column for column in open_columns if column not in fits]
    return found
