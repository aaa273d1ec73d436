"""Completion inside an expression: the words that can come next.  No numpy."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ctrecorder.errors import UsageError
from ctrecorder.filters.lexer import tokens_of
from ctrecorder.filters.words import ICMP_PARTS, ICMP_TYPES, NAMED, QUALIFIERS, WORDS, Word

_PRIMITIVE_ROLES = QUALIFIERS | {"kind", "nat", "number", "named", "flag", "time", "not"}
_TIMES = {
    "today": "since midnight",
    "yesterday": "the day before",
    "-1h": "an hour ago",
}
_SIGNS = frozenset({"&&", "||", "!"})


def completions(text: str) -> dict[str, str]:
    """`text` with each word that can complete its last one, and what the word means."""
    try:
        tokens = [token.text.lower() for token in tokens_of(text)[:-1]]
    except UsageError:
        return {}
    partial = tokens.pop() if tokens and not text[-1:].isspace() and tokens[-1] not in "(!" else ""
    before = text[: len(text) - len(partial)]
    return {
        f"{before}{word}": meaning
        for word, meaning in _next(tokens).items()
        if word.startswith(partial) and word not in _SIGNS
    }


def _next(tokens: list[str]) -> Mapping[str, str]:
    """The words that can follow."""
    last = tokens[-1] if tokens else ""
    word = WORDS.get(last)
    if last in ("", "(") or (word and word.role in ("join", "not")):
        return _of_roles(_PRIMITIVE_ROLES)
    if last in ICMP_PARTS and any(each.startswith("icmp") for each in tokens):
        types = ICMP_TYPES[58 if tokens[-2:-1] in (["icmp6"], ["icmpv6"]) else 1]
        return dict.fromkeys(types, "an ICMP type") if last == "type" else {}
    if word is None:  # a value
        return _of_roles({"join"})
    if word.role == "named":
        return dict.fromkeys(NAMED[word.name], f"value of {word.name}")
    if word.role == "time":
        return _TIMES
    return _after(word)


def _after(word: Word) -> dict[str, str]:
    """What can follow a word that is not about names or times."""
    lists = {"in": WORDS["in"].meaning}
    if word.role == "protocol":
        parts = dict(ICMP_PARTS) if word.value in ICMP_TYPES else {}
        return {**parts, **_of_roles({"end", "direction", "kind", "join"})}
    if word.role in QUALIFIERS:
        return {**lists, **_of_roles((QUALIFIERS - {word.role}) | {"kind"})}
    if word.role in ("flag", "nat"):
        return _of_roles({"join"})
    return lists if word.role in ("kind", "number") else {}


def _of_roles(roles: Iterable[str]) -> dict[str, str]:
    wanted = frozenset(roles)
    return {word.name: word.meaning for word in WORDS.values() if word.role in wanted}
