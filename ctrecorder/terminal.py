"""Text for a terminal: text from a file must not control the terminal.

Imports no other module of this package.
"""

from __future__ import annotations


def printable(text: str) -> str:
    """`text` on one line, with characters that are not printable as \\xNN or \\uNNNN.

    These are control characters, escapes, bidirectional marks and lone surrogates.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in text
    )


def count(number: int, what: str) -> str:
    """`number` with its noun: "1 event", "1,234 events"."""
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"
