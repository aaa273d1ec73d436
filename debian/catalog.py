"""Prints the journal's message catalog, which is built from the page `service.messages`."""

from __future__ import annotations

import textwrap

from ctrecorder.service.messages import Message, field_name, kinds

_COLUMNS = 79


def catalog() -> str:
    """The message catalog, for journalctl --update-catalog."""
    entries = []
    for kind in kinds().values():
        head = (
            f"-- {kind.id}\n"
            f"Subject: {_with_journal_names(kind.subject, kind)}\n"
            "Defined-By: ctrecorder\n"
            "Documentation: man:ctrecorder(7)\n"
        )
        lines = [_wrapped(line) for line in _with_journal_names(kind.help, kind).split("\n")]
        entries.append(head + "\n" + "\n".join(lines) + "\n")
    return "\n".join(entries)


def _with_journal_names(text: str, kind: Message) -> str:
    """`text` with each {field} as @CTRECORDER_FIELD@; other braces (an nft rule) stay."""
    for name in kind.fields:
        text = text.replace("{" + name + "}", f"@{field_name(name)}@")
    return text


def _wrapped(line: str) -> str:
    if line.startswith("  "):
        return line
    return textwrap.fill(line, _COLUMNS, break_long_words=False, break_on_hyphens=False)


if __name__ == "__main__":
    print(catalog(), end="")
