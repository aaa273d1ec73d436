"""A Pratt parser of ctfilter(7): the text of an expression as a tree."""

from __future__ import annotations

from dataclasses import replace

from ctrecorder.filters.lexer import Token
from ctrecorder.filters.operands import Operands
from ctrecorder.filters.tree import Context, Ends, Joined, Primitive, Time, Tree
from ctrecorder.filters.values import parse_amount, parse_duration
from ctrecorder.filters.words import ICMP_PARTS, ICMP_TYPES, NAMED, QUALIFIERS, WORDS, Word

# How tight the words bind.
_OR, _AND, _NOT = 10, 20, 30
_DEPTH = 100  # a deeper expression is no person's, and Python's own stack has an end
_PRIMITIVES = [
    word.name for word in WORDS.values() if word.role not in ("join", "not", "value")
] + ["not"]


def parse(text: str, context: Context) -> Tree:
    """The tree of an expression; an empty one matches all.

    Raises UsageError, with a caret below the place in its context.
    """
    parser = _Parser(text, context)
    if not parser.next.text:
        return Primitive("any")
    found = parser.expression(0)
    if parser.next.text:
        parser.unexpected(("and", "or", *_PRIMITIVES))
    return found


class _Parser(Operands):
    def __init__(self, text: str, context: Context) -> None:
        super().__init__(text, context)
        self._depth = 0
        self._last: Ends | None = None  # the qualifiers that a value alone repeats

    def expression(self, binding: int) -> Tree:
        """The expression up to a word that does not bind tighter than `binding`."""
        self._depth += 1
        if self._depth > _DEPTH:
            self.refuse(self.next, "too many parentheses, or words not, within each other")
        left = self._prefix()
        while (join := self._join()) and (tight := _OR if join == "or" else _AND) > binding:
            if self._word_role(self.next) == "join":
                self.take()
            parts = left.parts if isinstance(left, Joined) and left.join == join else (left,)
            left = Joined(join, (*parts, self.expression(tight)))
        self._depth -= 1
        return left

    def _join(self) -> str:
        """What joins the next primitive: "and" also if no word does; "" at the end."""
        role = self._word_role(self.next)
        if role == "join":
            return str(WORDS[self.next.word].value)
        return "and" if self.next.text == "(" or role not in ("", "value") else ""

    def _prefix(self) -> Tree:
        """A primitive, `not` before one, or an expression in parentheses."""
        token = self.next
        if self.took("not", "!"):
            return Joined("not", (self.expression(_NOT),))
        if self.took("("):
            inner = self.expression(0)
            if not self.took(")"):
                if not self.next.text:
                    self.refuse(token, "this parenthesis is not closed")
                self.unexpected((")", "and", "or"))
            return inner
        self.sign = ""
        found = self._primitive()
        return Joined("not", (found,)) if self.sign == "!=" else found

    def _primitive(self) -> Tree:
        token, word = self.next, WORDS.get(self.next.word)
        if word is None or word.role in QUALIFIERS or word.role in ("kind", "value"):
            return self._of_ends()
        if word.role in ("join", "not"):
            self.unexpected(_PRIMITIVES)
        return self._other(self.take(), "", token.at)

    def _other(self, token: Token, side: str, at: int) -> Tree:
        """A primitive that is not about ends; its word `token` was taken."""
        self._last = None
        word = WORDS[token.word]
        name = word.name
        if word.role == "time":
            return self._time(name)
        if word.role == "nat":
            return Primitive(name, hosts=self.hosts() if self.has_address() else (), at=at)
        if word.role == "flag":
            return Primitive(name, at=at)
        if word.role == "named":
            most = 255 if name == "proto" else -1
            return Primitive(name, side, self.named(name, NAMED[name], most), at=at)
        if name == "mark":
            return Primitive(name, side, self.marks(), at=at)
        of_number = parse_duration if name == "duration" else parse_amount
        return Primitive(name, side, self.numbers(of_number), at=at)

    def _of_ends(self) -> Tree:
        """Qualifiers, a kind and values, of which some are left out."""
        begun, found = self.next, Ends()
        while (word := WORDS.get(self.next.word)) and not found.kind:
            if other := self._begins_other(word):
                return other
            if word.role == "kind":
                self.take()
                side = {"sport": "src", "dport": "dst"}.get(word.name, found.direction)
                found = replace(found, kind=str(word.value), direction=side)
            elif word.role in QUALIFIERS:
                found = self._qualified(found, self.take())
            else:
                break
        if not found.kind:
            if found.end or found.direction:
                found = replace(found, kind="host")
            elif self.next.at > begun.at:  # `tcp`
                self._last = None
                return found
            elif self._last is not None and self.is_value(self._last.kind):
                found = self._last
            elif self.has_address():
                found = Ends(kind="host")
            else:
                self.unexpected(_PRIMITIVES)
        self._last = found
        if found.kind == "port":
            return replace(found, ports=self.ports())
        return replace(found, hosts=self.hosts())

    def _begins_other(self, word: Word) -> Tree | None:
        """The primitive, if a qualifier begins one that is not about ends."""
        token, following = self.next, self.after(1)
        name = following.word
        if word.value in ("orig", "reply") and name in ("bytes", "packets", "zone"):
            self.take()
            return self._other(self.take(), str(word.value), token.at)
        if word.role == "family" and name == "proto":
            self.take()
            family = Ends(family=int(word.value))
            return Joined("and", (family, self._other(self.take(), "", token.at)))
        if word.role == "protocol" and word.value in ICMP_TYPES and name in ICMP_PARTS:
            self.take()
            return self._icmp(int(word.value))
        return None

    def _qualified(self, found: Ends, token: Token) -> Ends:
        """The qualifiers `found`, and that of `token`, which was taken."""
        word = WORDS[token.word]
        if word.role == "family":
            if self.has_address():  # as nfdump's `ip`
                family = 0 if word.name == "ip" else int(word.value)
                return replace(found, family=family, kind="host")
            return replace(found, family=int(word.value))
        if word.role == "protocol":
            return replace(found, protocol=int(word.value))
        if word.role == "end":
            return replace(found, end=str(word.value))
        return replace(found, direction=self._direction(str(word.value)))

    def _direction(self, first: str) -> str:
        """The direction that begins with `first`: also `src or dst`, `src and dst`."""
        second = WORDS.get(self.after(1).word)
        if self._word_role(self.next) == "join" and second and second.role == "direction":
            join = str(WORDS[self.take().word].value)
            self.take()
            return first if second.value == first else join
        return first

    def _icmp(self, protocol: int) -> Tree:
        """`icmp type X code Y`, of which the first word was taken."""
        self._last = None
        parts: list[Tree] = [Ends(protocol=protocol)]
        while self.next.word in ICMP_PARTS:
            part = self.take().word
            names = ICMP_TYPES[protocol] if part == "type" else {}
            found = Primitive("icmp", part, self.named(f"ICMP {part}", names, 255))
            parts.append(Joined("not", (found,)) if self.sign == "!=" else found)
            self.sign = ""
        return Joined("and", tuple(parts))

    def _time(self, word: str) -> Time:
        token = self.next
        begin, end = self.span()
        if word == "between":
            if not self.took("and", "&&"):
                self.unexpected(("and",))
            last, end = self.span()
            if last < begin:
                self.refuse(token, "the second time is before the first one")
        return Time(word, begin, max(end, begin + 1))

    @staticmethod
    def _word_role(token: Token) -> str:
        word = WORDS.get(token.word)
        return word.role if word else ""
