"""The JSON twin: one spelling, and a shape that is checked before anything of it is shown."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctrecorder.page import twin
from ctrecorder.page.shape import TwinError, nanoseconds
from tests.support import page_twins

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=9,
)
WHOLE = (page_twins.answer, page_twins.several, page_twins.of_letter, page_twins.unread_letter)


@given(st.dictionaries(st.text(), JSON, max_size=4))
def test_a_spelling_is_read_as_what_was_spelled(whole: dict[str, Any]) -> None:
    try:
        spelled = twin.spelling(whole)
    except ValueError:  # infinite
        return
    assert spelled.isascii()
    assert not set(spelled) & set("<>&")
    assert twin.read(spelled) == whole
    assert twin.digest(spelled) == hashlib.sha256(f"{spelled}\n".encode()).hexdigest()


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "1", '{"a": 1}', '{\n "a": NaN\n}', '{\n "a": 1e999\n}', "{" * 100_000]
    + ['{\n "a": 1,\n "a": 1\n}', '{\n "a": "\\u003C"\n}', f'{{\n "a": {"9" * 5000}\n}}'],
)
def test_any_other_text_is_no_twin(text: str) -> None:
    with pytest.raises(TwinError):
        twin.read(text)


@pytest.mark.parametrize("make", WHOLE)
def test_the_known_part_has_all_that_ctwho_documents(make: Any) -> None:
    whole = make()
    known = twin.known(whole)
    given = whole if "questions" in whole else {"questions": [whole]}
    assert {name: known[name] for name in given} == json.loads(
        json.dumps(given), object_hook=_without_null
    )


def _without_null(each: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in each.items() if value is not None}


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of each member of a JSON value, objects and lists too."""
    if path:
        yield path
    keys = (
        value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    )
    for key in keys:
        yield from places(value[key], (*path, key))


def changed(whole: Any, path: tuple[Any, ...], value: Any) -> Any:
    made = copy.deepcopy(whole)
    within = made
    for key in path[:-1]:
        within = within[key]
    within[path[-1]] = value
    return made


@pytest.mark.parametrize("strange", [[], {}, 7, -1, 1.5, "text", True, [[]], {"a": {}}])
def test_a_member_of_another_kind_is_no_twin_and_no_traceback(strange: Any) -> None:
    """What is accepted in a place is of the kind that was there."""
    letter = page_twins.of_letter()
    whole = {**letter, "questions": [page_twins.several()]}
    for path in places(whole):
        before: Any = whole
        for key in path:
            before = before[key]
        made = changed(whole, path, strange)
        try:
            twin.known(made)
        except TwinError:
            pass
        else:
            is_list = type(before) is list and strange == []
            numbers = isinstance(before, int | float | None) and isinstance(strange, int | float)
            assert is_list or numbers or type(before) is type(strange) or strange == "text", path


def test_a_member_that_is_missing_or_new() -> None:
    for name in ("question", "verdict"):
        whole = page_twins.answer()
        del whole[name]
        with pytest.raises(TwinError, match=f"has no {name}"):
            twin.known(whole)
    assert "later" not in twin.known({**page_twins.answer(), "later": 1})["questions"][0]
    with pytest.raises(TwinError, match="one of: ONE"):
        twin.known(page_twins.answer("PROBABLY"))


@pytest.mark.parametrize(
    "text",
    ["2026-13-01T00:00:00Z", "1969-12-31T23:59:59Z", "2262-12-01T00:00:00Z", "2026-01-01T00:00Z"]
    + ["2026-01-01T00:00:00.1234567890Z", "2026-01-01T00:00:00+00:00", "now"],
)
def test_what_is_no_time_of_a_twin(text: str) -> None:
    with pytest.raises(TwinError, match="since"):
        twin.known(page_twins.answer(question=page_twins.question(since=text)))


def test_nanoseconds() -> None:
    assert nanoseconds("1970-01-01T00:00:01.000000002Z") == 1_000_000_002
    assert nanoseconds("2026-11-24T05:00:05.25Z") == 1_795_496_405_250_000_000
    assert nanoseconds("1970-01-01T00:00:00Z") == 0
