"""A text out of a letter, and the place of each of its fields: file, part, line, the very bytes."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Generic, TypeVar

from ctrecorder.envelopes.bounds import MAX_LINE

T = TypeVar("T")

_NEWLINE = re.compile(r"\r\n|\n|\r")
_LINE = re.compile(r"[^\r\n]*(?:\r\n|\n|\r|\Z)")
# Lines are counted in chunks of this length.
_CHUNK = 2**12
# Charsets that mail uses.  Python knows more, and some of them take quadratic time.
_CHARSETS = {"ascii", "utf-8", "utf-7", "utf-16", "utf-16-le", "utf-16-be", "utf-32"}
_CHARSETS |= {"utf-32-le", "utf-32-be", "koi8-r", "koi8-u", "gb2312", "gbk", "gb18030", "big5"}
_CHARSETS |= {"euc_jp", "iso2022_jp", "shift_jis", "euc_kr", "cp932", "cp949", "mac-roman"}
_CHARSETS |= {f"iso8859-{number}" for number in range(1, 17)}
_CHARSETS |= {f"cp{number}" for number in (437, 850, 852, 866, *range(1250, 1259))}
_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)


@dataclass(frozen=True)
class Place:
    """Where a field stands.

    `part`: "" is the file itself, or the headers of the mail; "1.2" is the second part of its first
    part, decoded.  `line`: in that part, from 1.  `raw`: the bytes of the field there.
    """

    file: str
    part: str
    line: int
    raw: bytes


@dataclass(frozen=True)
class Field(Generic[T]):
    """A value that was read, and where."""

    value: T
    place: Place


class Text:
    """A decoded text.  `file`, `part`: as in Place."""

    def __init__(self, file: str, part: str, data: bytes, charset: str = "") -> None:
        self.file, self.part = file, part
        self._whole, self._charset = decode(data, charset)
        self.text = self._whole

    def show(self, text: str) -> None:
        """Read `text` instead, which has the same length: HTML without its marks."""
        self.text = text

    @cached_property
    def _lines_before(self) -> list[int]:
        """The number of lines that end before each chunk."""
        found = [0]
        for start in range(0, len(self._whole), _CHUNK):
            found.append(found[-1] + _newlines(self._whole, start, start + _CHUNK))
        return found

    @property
    def count(self) -> int:
        """The number of lines."""
        return self._lines_before[-1] + 1

    def line(self, position: int) -> int:
        """The number of the line at this position, from 1."""
        chunk = position // _CHUNK
        return self._lines_before[chunk] + _newlines(self._whole, chunk * _CHUNK, position) + 1

    def field(self, value: T, start: int, end: int) -> Field[T]:
        """The value that was read at text[start:end]."""
        raw = self._whole[start:end].encode(self._charset, _errors(self._charset))
        return Field(value, Place(self.file, self.part, self.line(start), raw))

    def blank_between(self, start: int, end: int) -> bool:
        """Whether an empty line stands between the end of a line and the beginning of another."""
        return len(_NEWLINE.findall(self._whole, start, end)) > 1

    def lines(self, start: int = 0, end: int | None = None) -> Iterator[tuple[int, str]]:
        """(position, text without its end) of each line that is not longer than MAX_LINE.

        `start`, `end`: only of text[start:end].
        """
        for match in _LINE.finditer(self.text, start, len(self.text) if end is None else end):
            line = match[0].rstrip("\r\n")
            if line and len(line) <= MAX_LINE:
                yield match.start(), line


def _newlines(text: str, start: int, end: int) -> int:
    """The ends of lines in text[start:end]; one of two characters counts where it begins."""
    both = text.count("\r\n", start, end)
    cut = text[start - 1 : start + 1] == "\r\n" if start else False
    return text.count("\n", start, end) + text.count("\r", start, end) - both - cut


def decode(data: bytes, charset: str) -> tuple[str, str]:
    """The text of `data`, and the codec that encodes it to the same bytes.

    A wrong or unknown `charset` gives what is ASCII in it all the same.
    """
    for mark, name in _MARKS:
        if data.startswith(mark):
            return data[len(mark) :].decode(name, _errors(name)), name
    name = _known(charset)
    if name in ("utf-16", "utf-32"):
        name += "-le" if data[1:2] == b"\0" else "-be"
    if name and name != "ascii":
        try:
            return data.decode(name), name
        except (UnicodeError, ValueError):
            pass
    return data.decode("utf-8", "surrogateescape"), "utf-8"


def as_utf8(data: bytes) -> bytes:
    """A file in UTF-16 or UTF-32 as UTF-8; all others as they are, without the mark of UTF-8."""
    for mark, name in _MARKS:
        if data.startswith(mark):
            text = data[len(mark) :].decode(name, _errors(name))
            return text.encode("utf-8", _errors("utf-8"))
    return data


def _errors(name: str) -> str:
    return "surrogateescape" if name == "utf-8" else "replace"


def _known(charset: str) -> str:
    """The name of a charset that mail uses, as Python spells it; "" for others."""
    try:
        name = codecs.lookup(charset.strip(" \"'")).name
    except (LookupError, ValueError, UnicodeError):
        return ""
    return name if name in _CHARSETS else ""
