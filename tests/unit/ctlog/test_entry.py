"""The rules of a column's entry: each is broken alone, and named in the error."""

from __future__ import annotations

import pytest

from ctrecorder import uapi
from ctrecorder.columns import BY_ID, BY_NAME
from ctrecorder.ctlog.entry import (
    CONSTANT,
    DELTA,
    DICTIONARY,
    DIFFERENCE,
    GROUPED,
    MAX_SCALE,
    PLANES,
    RANGES,
    RULES,
    SAME,
    SPARSE,
    Entry,
    check_entry,
)
from ctrecorder.errors import FormatError

ROWS = 100
IPV4, IPV6 = uapi.AF_INET, uapi.AF_INET6
DST = BY_NAME["orig_dst"].id


def entry(name: str, encoding: int, width: int = 0, **fields: int) -> Entry:
    fields = {"body_length": 0 if encoding & CONSTANT else 9, **fields}
    return Entry(BY_NAME[name].id, encoding, width, offset=64, **fields)  # type: ignore[arg-type]


# Entries that obey all rules, and for each the fields that break just one rule.
CASES = [
    ("same-needs-dictionary", IPV4, entry("reply_src", SAME, 4, partner=DST)),
    (
        "same-or-difference",
        IPV4,
        entry(
            "reply_src",
            SAME | DICTIONARY | DIFFERENCE,
            4,
            partner=DST,
            entries=1,
            dictionary_length=1,
        ),
    ),
    ("partner-use", IPV4, entry("reply_src", PLANES, 4, partner=DST)),
    ("partner-use", IPV4, entry("reply_sport", DIFFERENCE, 2)),
    ("partner-use", IPV4, entry("reply_src", SAME | DICTIONARY, 1)),
    ("partner-type", IPV4, entry("reply_sport", DIFFERENCE, 2, partner=DST)),
    ("partner-type", IPV4, entry("reply_sport", DIFFERENCE, 2, partner=200)),
    ("address-difference", IPV6, entry("reply_src", DIFFERENCE | PLANES, 16, partner=DST)),
    ("address-delta", IPV6, entry("reply_src", DELTA | PLANES, 16)),
    ("address-body", IPV6, entry("reply_src", SPARSE, 16)),
    ("dictionary-length", IPV4, entry("orig_src", DICTIONARY, 1, entries=1)),
    ("dictionary-length", IPV4, entry("orig_src", DICTIONARY, 1, dictionary_length=1)),
    (
        "dictionary-entries",
        IPV4,
        entry("orig_src", DICTIONARY, 1, entries=ROWS + 1, dictionary_length=1),
    ),
    ("dictionary-entries", IPV4, entry("orig_src", 0, 1, entries=1, dictionary_length=1)),
    ("constant-body", IPV4, entry("zone", CONSTANT, body_length=1)),
    ("constant-body", IPV4, entry("zone", CONSTANT | PLANES)),
    ("constant-body", IPV4, entry("start", CONSTANT | RANGES)),
    ("ranges-alone", IPV4, entry("start", RANGES | PLANES)),
    ("ranges-alone", IPV4, entry("zone", RANGES | DICTIONARY, entries=1, dictionary_length=1)),
    ("grouped", IPV4, entry("stop", GROUPED | RANGES)),
    ("grouped", IPV4, entry("start", GROUPED | RANGES | SPARSE)),
    ("grouped", IPV4, entry("start", GROUPED | PLANES | DELTA, 8)),
    ("scale", IPV4, entry("start", 0, 1, scale=MAX_SCALE + 1)),
    ("width", IPV4, entry("start", 0, 3)),
    ("width", IPV4, entry("zone", 0, 4)),
    ("width", IPV4, entry("zone", 0, 0)),
    ("width", IPV4, entry("start", RANGES, 8)),
    ("width", IPV6, entry("orig_src", PLANES, 8)),
    ("width", IPV6, entry("orig_src", DICTIONARY, 8, entries=1, dictionary_length=1)),
]
SOUND = [
    (IPV4, entry("zone", CONSTANT, 77)),
    (IPV4, entry("start", PLANES | DELTA | SPARSE, 8, scale=MAX_SCALE)),
    (IPV4, entry("start", RANGES | DELTA)),
    (IPV4, entry("start", RANGES | GROUPED)),
    (IPV4, entry("start", CONSTANT | GROUPED)),
    (IPV4, entry("start", PLANES | GROUPED, 8)),
    (IPV4, entry("reply_sport", DIFFERENCE, 1, partner=BY_NAME["orig_dport"].id)),
    (IPV6, entry("orig_src", PLANES, 16)),
    (IPV6, entry("orig_src", CONSTANT)),
    (IPV6, entry("orig_src", DICTIONARY | DELTA, 4, entries=ROWS, dictionary_length=1)),
    (IPV6, entry("reply_src", DICTIONARY | SAME, 1, partner=DST, entries=1, dictionary_length=1)),
    (IPV6, entry("reply_src", DICTIONARY | SAME | CONSTANT, partner=DST)),
]


def check(family: int, each: Entry) -> None:
    check_entry(each, BY_ID[each.id], family, ROWS)


@pytest.mark.parametrize(("rule", "family", "wrong"), CASES)
def test_a_broken_rule_is_named(rule: str, family: int, wrong: Entry) -> None:
    with pytest.raises(FormatError, match=f" breaks the rule {rule}: ") as caught:
        check(family, wrong)
    assert caught.value.offset == 64
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("family", "sound"), SOUND)
def test_an_entry_that_obeys_the_rules_is_accepted(family: int, sound: Entry) -> None:
    check(family, sound)


def test_every_rule_has_a_name_of_its_own_and_a_case() -> None:
    names = [rule.name for rule in RULES]
    assert len(set(names)) == len(names)
    assert {name for name, _, _ in CASES} == set(names)


def test_a_newer_encoding_is_not_taken_for_a_broken_rule() -> None:
    with pytest.raises(FormatError, match="encoding 0x0200: made by a newer version"):
        check(IPV4, entry("zone", 0x200, 1))
