"""The tokens of an expression, and the values that follow a word: lists, ranges, files, times."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import NoReturn, TypeVar

from ctrecorder.errors import UsageError
from ctrecorder.filters.lexer import Token, nearest, one_of, refuse, tokens_of
from ctrecorder.filters.tree import Context, Host, Range
from ctrecorder.filters.values import is_unit, parse_amount, parse_networks, parse_ports
from ctrecorder.filters.words import NOT_RECORDED, WORDS

One = TypeVar("One", Host, Range)
Parse = Callable[[str], tuple[One, ...]]

_MOST = (1 << 64) - 1
_CLOSING = {"(": ")", "[": "]", "{": "}"}
_EQUAL = ("=", "==", "!=")
_ORDERED: Mapping[str, Callable[[Range], Range]] = {
    ">": lambda one: Range(one.high + 1, _MOST),
    ">=": lambda one: Range(one.low, _MOST),
    "<": lambda one: Range(0, one.low - 1),
    "<=": lambda one: Range(0, one.high),
}
_MOST_TIME_WORDS = 5


class Operands:
    """The tokens of `text`, of which the first are taken."""

    def __init__(self, text: str, context: Context) -> None:
        self.text, self.context = text, context
        self._tokens, self._number = tokens_of(text), 0
        self.sign = ""  # of comparison, before the values of the last primitive

    @property
    def next(self) -> Token:
        """The token that is not taken yet."""
        return self.after(0)

    def after(self, count: int) -> Token:
        """The token `count` after the next one."""
        return self._tokens[min(self._number + count, len(self._tokens) - 1)]

    def take(self) -> Token:
        """The next token; the one after it is next then."""
        found = self.next
        self._number += 1
        return found

    def took(self, *words: str) -> bool:
        """Take the next token, if it is one of `words`."""
        found = self.next.word in words
        if found:
            self.take()
        return found

    def refuse(self, token: Token, why: str) -> NoReturn:
        """Raise UsageError about a token."""
        refuse(self.text, token.at, why)

    def unexpected(self, fitting: Iterable[str]) -> NoReturn:
        """Refuse the next token, and name the words most like it among those that fit."""
        token, words = self.next, list(fitting)
        if not token.text:
            self.refuse(token, f"the expression ends too early: write {one_of(words[:5])}")
        if token.word in NOT_RECORDED:
            self.refuse(token, f"'{token.text}' is not recorded, so it cannot be asked for")
        before = self._tokens[max(self._number - 1, 0)].text
        if before[-1:].isdigit() and is_unit(token.word):
            self.refuse(token, f"a unit stands next to its number: write {before}{token.text}")
        like = nearest(token.text, words)
        hint = f"did you mean {one_of(like)}?" if like else f"write for example {one_of(words[:5])}"
        self.refuse(token, f"no word '{token.text}' here: {hint}")

    def is_value(self, kind: str) -> bool:
        """Whether the next token can be a value of `kind`, "host" or "port", and is no word."""
        word = self.next.word
        if word == "in" or word[:1].isdigit():
            return True
        if kind == "port":
            return word not in WORDS and self.context.service(word) is not None
        return self.has_address()

    def has_address(self) -> bool:
        """Whether an address, or a list of values, is next."""
        opened = self.next.text in _CLOSING
        text = self.after(1).text if opened else self.next.text
        return self.next.word in ("in", *_EQUAL) or _is_address(text)

    def hosts(self) -> tuple[Host, ...]:
        """Values of `host`."""
        return self._values(self._host, compared=_EQUAL)

    def ports(self) -> tuple[Range, ...]:
        """Values of `port`."""
        return self.ranges(lambda text: Range(*parse_ports(text, self.context.service)))

    def numbers(self, parse: Callable[[str], int]) -> tuple[Range, ...]:
        """Numbers and ranges of numbers."""

        def parse_range(text: str) -> Range:
            low, dash, high = text.partition("-")
            found = Range(parse(low), parse(high)) if dash and low else Range(*[parse(text)] * 2)
            if found.low > found.high:
                raise UsageError(f"no range '{text}': write the lower number first")
            return found

        return self.ranges(parse_range)

    def named(self, name: str, names: Mapping[str, int], most: int = -1) -> tuple[Range, ...]:
        """Values that have `names`; also numbers, up to `most`."""

        def parse(text: str) -> int:
            if text.lower() in names:
                return names[text.lower()]
            if text.isascii() and text.isdigit() and int(text[:5]) <= most:
                return int(text)
            fitting = [*(nearest(text, names) or names), *(["a number"] if most > 0 else [])]
            raise UsageError(f"no {name} '{text}': write {one_of(fitting)}")

        if most > 0:
            return self.numbers(parse) if "-" not in "".join(names) else self.ranges(_single(parse))
        return self._values(lambda text: (_single(parse)(text),), compared=_EQUAL)

    def ranges(self, parse: Callable[[str], Range]) -> tuple[Range, ...]:
        """Values that are ranges, which can be compared."""
        found = self._values(lambda text: (parse(text),), compared=(*_EQUAL, *_ORDERED))
        turn = _ORDERED.get(self.sign)
        return tuple(map(turn, found)) if turn else found

    def marks(self) -> tuple[Range, ...]:
        """Values of `mark`."""

        def parse(text: str) -> Range:
            value, slash, mask = text.partition("/")
            low, dash, high = value.partition("-")
            first = parse_amount(low)
            return Range(
                first,
                parse_amount(high) if dash else first,
                *([parse_amount(mask)] if slash else []),
            )

        return self.ranges(parse)

    def span(self) -> tuple[int, int]:
        """The span of a time, ns: the next tokens, as many as make one."""
        first = self.next
        words: list[str] = []
        while len(words) < _MOST_TIME_WORDS and (token := self.after(len(words))).text:
            if token.text in ("(", ")") or (words and token.word in WORDS):
                break
            words.append(token.text)
            if first.quoted:
                break
        why = "a time is missing here: write for example 2026-11-23 or 18:17"
        for count in range(len(words), 0, -1):
            try:
                found = self.context.span(" ".join(words[:count]))
            except UsageError as error:
                why = str(error)
                continue
            self._number += count
            return found
        return self.refuse(first, why)

    def _values(self, parse: Parse[One], compared: tuple[str, ...]) -> tuple[One, ...]:
        """The values after a word.  `compared`: the signs of comparison that can be there."""
        sign, self.sign = self.next, ""
        if sign.text in (*_EQUAL, *_ORDERED) and not sign.quoted:
            if sign.text not in compared:
                self.refuse(sign, f"'{sign.text}' compares numbers: write a value, = or !=")
            self.take()
            self.sign = sign.text
            return self._item(parse)
        if self.took("in") and self.next.text not in _CLOSING:
            return self._in_file(parse)
        if self.next.text in _CLOSING:
            return self._several(parse, _CLOSING[self.take().text])
        found = self._item(parse)
        while self.took(","):
            found += self._item(parse)
        return found

    def _several(self, parse: Parse[One], closing: str) -> tuple[One, ...]:
        """The values up to a closing sign, with spaces, commas or `or` between them."""
        found = self._item(parse)
        while not self.took(closing):
            self.took(",", "or", "||")
            found += self._item(parse)
        return found

    def _item(self, parse: Parse[One]) -> tuple[One, ...]:
        """One value."""
        token = self.next
        if not token.quoted and (not token.text or token.text in "()[]{},<>=!"):
            self.refuse(token, "a value is missing here")
        text = self.take().text
        if self.took("mask"):
            text += f"/{self.take().text}"
        try:
            return parse(text)
        except UsageError as error:
            self.refuse(token, str(error))

    def _in_file(self, parse: Parse[One]) -> tuple[One, ...]:
        """The values of `in FILE`, or the one value of `in X`."""
        token = self.next
        if not token.text:
            self.refuse(token, "a list or a file is missing after 'in'")
        if not token.quoted and (token.text.isdigit() or _is_address(token.text)):
            return self._item(parse)
        found: list[One] = []
        for number, line in enumerate(self.context.read_file(self.take().text).splitlines(), 1):
            for text in line.partition("#")[0].replace(",", " ").split():
                try:
                    found += parse(text)
                except UsageError as error:
                    raise UsageError(f"{token.text}: line {number}: {error}") from None
        if not found:
            self.refuse(token, f"nothing is in the file {token.text}")
        return tuple(found)

    def _host(self, text: str) -> tuple[Host, ...]:
        """The networks of a value of `host`; "192.0.2.7:443" has a port too."""
        address, colon, port = text.rpartition(":")
        if colon and (address.endswith("]") or (":" not in address and "." in address)):
            return (Host(parse_networks(address), parse_ports(port, self.context.service)),)
        if text[:1].isalpha() and ":" not in text:
            raise UsageError(
                f"no address '{text}': write an address (names are not looked up: they may have "
                "changed)"
            )
        return (Host(parse_networks(text)),)


def _single(parse: Callable[[str], int]) -> Callable[[str], Range]:
    return lambda text: Range(*[parse(text)] * 2)


def _is_address(text: str) -> bool:
    """Whether a token can only be an address or a network."""
    begin = text.lstrip("[")[:1]
    return (begin.isdigit() and "." in text) or (
        ":" in text and begin != "" and begin in "0123456789abcdefABCDEF:"
    )
