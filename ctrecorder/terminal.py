"""Words for an operator's terminal: nothing that a stranger put into a file may steer it.

Imports nothing of ours.
"""

from __future__ import annotations


def printable(text: str) -> str:
    """`text` on one line: what is not printable (control bytes, escapes, bidirectional marks, lone
    surrogates) as \\xNN or \\uNNNN.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in text
    )


def count(number: int, what: str) -> str:
    """`number` with its noun: "1 event", "1,234 events"."""
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"
