"""Keys of epochs, against ctlog(5) and against what a person types."""

from __future__ import annotations

from hashlib import blake2b

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctrecorder.errors import FormatError, UsageError
from ctrecorder.seals import keys
from ctrecorder.seals.keys import EpochKeys, advance, key_id, key_text, next_key, parse_key_text

KEYS = st.binary(min_size=32, max_size=32)


@given(KEYS)
def test_the_next_key_is_that_of_the_page(key: bytes) -> None:
    wanted = blake2b(key, digest_size=32, person=b"ctlog next epoch").digest()
    assert next_key(key) == advance(key, 1) == wanted
    assert advance(key, 0) == key
    assert advance(advance(key, 2), 3) == advance(key, 5)


@given(KEYS, st.lists(st.integers(0, 6000), max_size=8))
def test_keys_of_epochs_in_any_order(key: bytes, epochs: list[int]) -> None:
    found = EpochKeys(key)
    assert found.id == key_id(key)
    for epoch in epochs:
        assert found.at(epoch) == advance(key, epoch)


@pytest.mark.parametrize("epoch", [-1, keys.MAX_EPOCH + 1, 2**32 - 1])
def test_an_epoch_that_nobody_reaches_costs_nothing(epoch: int) -> None:
    with pytest.raises(FormatError):
        EpochKeys(bytes(32)).at(epoch)


@given(KEYS)
def test_a_key_is_typed_as_it_is_shown(key: bytes) -> None:
    text = key_text(key)
    first, second = text.split("\n")
    assert [len(group) for group in first.split("-") + second.split("-")] == [4] * 14
    assert parse_key_text(text) == key
    assert parse_key_text(text.lower().replace("-", " ")) == key
    assert parse_key_text(text.replace("O", "0").replace("I", "1").replace("B", "8")) == key


@given(KEYS, st.integers(0, 55), st.sampled_from("ABCXYZ234567"))
def test_a_wrong_letter_is_found(key: bytes, at: int, letter: str) -> None:
    text = key_text(key).replace("-", "").replace("\n", "")
    wrong = text[:at] + letter + text[at + 1 :]
    if wrong != text:
        with pytest.raises(UsageError):
            parse_key_text(wrong)


@pytest.mark.parametrize("text", ["", "ABCD", "ABCD-" * 14, "é" * 56, "=" * 56])
def test_what_is_no_key(text: str) -> None:
    with pytest.raises(UsageError):
        parse_key_text(text)
