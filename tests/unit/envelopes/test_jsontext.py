"""JSON with places, compared with the standard library."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctrecorder.envelopes.jsontext import BadJson, Value, parse

SCALARS = st.one_of(st.text(), st.integers(), st.booleans(), st.none())
NAMES = st.text(max_size=5).filter(lambda name: name == name.lower())
DOCUMENTS = st.recursive(
    SCALARS, lambda inner: st.lists(inner) | st.dictionaries(NAMES, inner), max_leaves=20
)


def plain(value: Value, text: str) -> object:
    """The value as the standard library has it, read from its place."""
    if value.members is not None:
        return {name: plain(member, text) for name, member in value.members.items()}
    if value.items is not None:
        return [plain(item, text) for item in value.items]
    found: object = json.loads(text[value.start : value.end])
    assert value.word == ("" if found is None else found if value.quoted else json.dumps(found))
    return found


@given(st.lists(DOCUMENTS, min_size=1, max_size=1), st.sampled_from([None, 1]), st.booleans())
def test_it_reads_what_the_standard_library_reads(
    document: list[object], indent: int | None, ascii_: bool
) -> None:
    text = json.dumps(document, indent=indent, ensure_ascii=ascii_)
    (value,) = parse(text)
    assert plain(value, text) == document


def test_several_and_what_follows() -> None:
    text = '{"a": 1}\n{"a": 2}\n-- \nthe foot'
    assert [value.members["a"].word for value in parse(text) if value.members] == ["1", "2"]


@pytest.mark.parametrize(
    "text",
    ['{"a": 1', "{'a': 1}", '{"a": 01}', '{"a": NaN}', '["a" "b"]', "[1,]", '{"a"}', '["\\x"]', ""],
)
def test_broken(text: str) -> None:
    with pytest.raises(BadJson, match="broken"):
        parse(text)


def test_a_name_twice_is_refused() -> None:
    """Readers differ in which of them counts."""
    with pytest.raises(BadJson, match="twice"):
        parse('{"Port": 1, "port": 2}')


@pytest.mark.slow
def test_depth_and_count_are_bounded() -> None:
    with pytest.raises(BadJson, match="too many"):
        parse("[" * 100_000)
    with pytest.raises(BadJson, match="too many"):
        parse("[" + "1," * 400_001)
