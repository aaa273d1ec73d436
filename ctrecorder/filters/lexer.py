"""An expression as tokens, and errors that show where in it they are.  No numpy."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from typing import NamedTuple, NoReturn

from ctrecorder.errors import UsageError

_TOKEN = re.compile(
    r"""(?P<space>\s+|\#[^\n]*)
    |(?P<quoted>"[^"]*"|'[^']*')
    |(?P<word>\[[0-9a-fA-F]*:[0-9a-fA-F:.]*\](?:[:/][\w-]+)?   # [2001:db8::7]:443
       |&&|\|\||[<>=!]=|[<>=!]|[()\[\]{},]
       |[^\s()\[\]{},<>=!&|"'#]+)
    """,
    re.VERBOSE,
)
# Of a long expression, so much is shown on each side of an error.
_SHOWN = 36


class Token(NamedTuple):
    """A word, a sign or a quoted text; "" at the end.  `at`: where it begins in the expression."""

    text: str
    at: int
    quoted: bool = False

    @property
    def word(self) -> str:
        """The token as a word of the language; "" of a quoted text."""
        return "" if self.quoted else self.text.lower()


def tokens_of(text: str) -> list[Token]:
    """The tokens, the last one is that of the end.  Raises UsageError."""
    found, at = [], 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            what = "a quote without its end" if text[at] in "\"'" else f"no sign '{text[at]}' here"
            refuse(text, at, what)
        if match["word"]:
            found.append(Token(match["word"], at))
        elif match["quoted"]:
            found.append(Token(match["quoted"][1:-1], at, quoted=True))
        at = match.end()
    return [*found, Token("", len(text))]


def refuse(text: str, at: int, why: str) -> NoReturn:
    """Raise UsageError about character `at` of an expression, with a caret below it."""
    line = text.count("\n", 0, at) + 1
    first = text.rfind("\n", 0, at) + 1
    of_line = text[first:].partition("\n")[0]
    column = at - first
    cut = max(column - _SHOWN, 0)
    shown = of_line[cut : column + _SHOWN]
    if cut:
        shown, column = f"...{shown[3:]}", column - cut
    where = f"line {line}, character {at - first + 1}" if "\n" in text else f"character {at + 1}"
    error = UsageError(f"{where}: {why}")
    error.context = (shown, " " * column + "^")
    raise error


def nearest(word: str, fitting: Iterable[str], limit: int = 3) -> list[str]:
    """Those of the fitting words that are most like `word`."""
    return difflib.get_close_matches(word.lower(), list(fitting), limit, 0.6)


def one_of(fitting: Iterable[str]) -> str:
    """Words as a choice: "a, b or c"."""
    *others, last = list(fitting)
    return f"{', '.join(others)} or {last}" if others else last
