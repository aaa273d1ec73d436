"""HTML in which no text has a meaning: whatever is not made by `tag` is escaped.

Text of a letter, a file or a network cannot end an element, hide, run or turn the line around.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable

from ctrecorder.terminal import printable


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


Content = str | Markup | Iterable["Content"]
NOTHING = Markup("")
# What can become a cell.
_PASTED = frozenset(("p", "li", "dd", "td"))
# Each begins a line of the file, so that a change shows as a line.
_OWN_LINE = frozenset(
    ("html", "head", "meta", "title", "style", "body", "main", "h1", "h2", "h3", "p", "div", "ul")
    + ("li", "dl", "dt", "dd", "table", "caption", "thead", "tbody", "tr", "details", "summary")
    + ("pre", "th", "td")
)
_EMPTY = frozenset(("meta",))


def content(*parts: Content) -> Markup:
    """The parts, one after the other; text among them is escaped, with \\xNN for what is not
    printable.
    """
    return Markup("".join(_one(part) for part in parts))


def _one(part: Content) -> str:
    if isinstance(part, Markup):
        return part
    if isinstance(part, str):
        return html.escape(printable(part))
    return "".join(_one(each) for each in part)


def tag(name: str, /, *parts: Content, **attributes: str) -> Markup:
    """An element.  A trailing _ of an attribute's name is left out: class_."""
    given = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{html.escape(printable(value))}"'
        for key, value in attributes.items()
    )
    line = "\n" if name in _OWN_LINE else ""
    inner = content(*parts)
    guard = "'" if name in _PASTED and _is_computed(inner) else ""
    end = "" if name in _EMPTY else f"{guard}{inner}</{name}>"
    return Markup(f"{line}<{name}{given}>{end}")


def _is_computed(inner: Markup) -> bool:
    """If a spreadsheet would compute it as a cell; an apostrophe before it prevents that."""
    return html.unescape(re.sub("<[^>]*>", "", inner)).lstrip().startswith(("=", "+", "-", "@"))


def quoted(text: str) -> Markup:
    """Text of others, between quotation marks: no cell of a pasted table begins with it, and where
    it ends is seen.  Its characters stand in the order of the file, whatever their script.
    """
    return tag("span", "“", tag("bdo", text, dir="ltr"), "”", class_="quoted")


def name_of(text: str) -> Markup:
    """A name of others: as `quoted`, but read in the direction of its script."""
    return tag("span", "“", tag("bdi", text), "”", class_="quoted")


def table(heads: Iterable[str], rows: Iterable[Iterable[Content]], about: str) -> Markup:
    """A table with its caption."""
    head = tag("tr", (tag("th", each, scope="col") for each in heads))
    body = (tag("tr", (tag("td", cell) for cell in row)) for row in rows)
    return tag("table", tag("caption", about), tag("thead", head), tag("tbody", body))


def facts(pairs: Iterable[tuple[str, Content]]) -> Markup:
    """Names and their values; one without a value is left out."""
    shown = ((name, content(value)) for name, value in pairs)
    return tag("dl", ((tag("dt", name), tag("dd", value)) for name, value in shown if value))
