"""Completion inside an expression: the words that fit, and nothing that the parser refuses."""

from __future__ import annotations

import pytest

from ctrecorder.errors import UsageError
from ctrecorder.filters.complete import completions
from ctrecorder.filters.parser import parse
from tests.support import filter_data


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("tcp po", {"tcp port", "tcp portrange"}),
        ("tcp port 443 a", {"tcp port 443 and"}),
        ("not dn", {"not dnat"}),
        ("tcp and state est", {"tcp and state established"}),
        ("icmp6 type ec", {"icmp6 type echo", "icmp6 type echo-reply"}),
        ("icmp t", {"icmp type"}),
        ("(sr", {"(src"}),
        ("event d", {"event destroy"}),
        ("before y", {"before yesterday"}),
        ("bytes ", {"bytes in"}),
        ("port 4", set()),
        ("port 'x", set()),
    ],
)
def test_words_that_fit(text: str, words: set[str]) -> None:
    assert set(completions(text)) == words
    assert all(completions(text).values())


@pytest.mark.parametrize(
    "text", ["", "tcp ", "not ", "src ", "tcp port 80 ", "tcp and ", "inside ", "ip ", "(", "nat "]
)
def test_the_parser_takes_each_word(text: str) -> None:
    """The error, if any, is never about the word itself, but about what is missing after it."""
    context = filter_data.context(connections=True)
    wrong = []
    for whole in completions(text):
        try:
            parse(whole, context)
        except UsageError as error:
            at = len(error.context[1]) - 1
            wrong += [whole] if at < len(whole) - 1 and "(" not in whole else []
    assert wrong == []
