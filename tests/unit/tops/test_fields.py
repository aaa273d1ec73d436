"""The words of --top."""

from __future__ import annotations

import pytest

from ctrecorder.errors import UsageError
from ctrecorder.tops.fields import parse


@pytest.mark.parametrize(
    ("text", "v4", "v6"),
    [
        ("src", 32, 128),
        ("src/24", 24, 64),
        ("SRC/24", 24, 64),
        ("dst/0", 0, 64),
        ("ip/48", 32, 48),
        ("remote/16/56", 16, 56),
    ],
)
def test_prefixes(text: str, v4: int, v6: int) -> None:
    (field,) = parse(text).fields
    assert (field.prefix_v4, field.prefix_v6) == (v4, v6)


def test_a_key_of_several_fields() -> None:
    top = parse("inside, port")
    assert [field.name for field in top.fields] == ["inside", "port"]
    assert top.text == "inside,port"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("remot", "did you mean remote?"),
        ("", "no field ''"),
        ("src,", "no field ''"),
        ("src,src", "twice"),
        ("port/8", "only an address has a prefix"),
        ("src/33/200", "at most 32"),
        ("src/129", "at most"),
        ("src/x", "a prefix is as in src/24"),
        ("src/1/2/3", "a prefix is as in"),
        ("src/²", "a prefix is as in"),
        ("src/99999999999999999999", "a prefix is as in"),
    ],
)
def test_wrong_fields(text: str, says: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse(text)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
