"""HTML as text, character for character: what is not text becomes blanks."""

from __future__ import annotations

import re
from html import unescape

_MARK = re.compile(r"<(/?[A-Za-z][A-Za-z0-9]{0,20})?[^<>]*>")
_ENTITY = re.compile(r"&(?:#\d{1,7}|#x[0-9A-Fa-f]{1,6}|[A-Za-z][A-Za-z0-9]{1,30});")
# Marks that begin a new line.  A row, an item or a division that follows another one directly
# begins one line, not two: an empty line would part what belongs together.
_BREAKS = {"br", "p", "/p", "div", "/div", "tr", "/tr", "li", "/li", "table", "/table", "hr", "pre"}
_CLOSED = {"/div", "/tr", "/li"}
_CELLS = {"/td", "/th"}
_NEXT = re.compile(r"\s{0,200}<(/?[A-Za-z][A-Za-z0-9]{0,20})")
# The ends of lines beside such a mark are blanks to a browser.
_AROUND = re.compile(
    r"\s{0,200}<(?:br|/?p|/?div|/?tr|/?t[dh]|/?li|/?table|hr)(?=[\s/>])[^<>]*>\s{0,200}",
    re.IGNORECASE,
)
_LINE_END = re.compile(r"[\r\n]")
# What the reader of a mail never sees.
_HIDDEN = (("<!--", "-->"), ("<style", "</style"), ("<script", "</script"))


def without_marks(text: str) -> str:
    """A text of the same length, in which each character of the text keeps its position."""
    for begin, end in _HIDDEN:
        text = _hide(text, begin, end)
    if "<pre" not in text.lower():
        text = _AROUND.sub(lambda match: _LINE_END.sub(" ", match[0]), text)
    return _ENTITY.sub(_character, _MARK.sub(_blank, text))


def _hide(text: str, begin: str, end: str) -> str:
    lower = text.lower()
    if len(lower) != len(text):
        return text
    parts = []
    position = 0
    while (start := lower.find(begin, position)) >= 0:
        stop = lower.find(end, start + len(begin))
        stop = lower.find(">", stop) + 1 if stop >= 0 else 0
        stop = stop or len(text)
        parts += [text[position:start], " " * (stop - start)]
        position = stop
    return "".join([*parts, text[position:]])


def _blank(match: re.Match[str]) -> str:
    mark = (match[1] or "").lower()
    first = "\n" if mark in _BREAKS else "\t" if mark in _CELLS else " "
    if mark in _CLOSED:
        after = _NEXT.match(match.string, match.end())
        first = " " if after and after[1].lower() in _BREAKS else first
    return first + " " * (len(match[0]) - 1)


def _character(match: re.Match[str]) -> str:
    character = unescape(match[0]).replace("\xa0", " ")
    return character.ljust(len(match[0])) if len(character) == 1 else match[0]
