"""A copy without remote ends: in no notation, in no file that is made from it."""

from __future__ import annotations

import copy
import json
from ipaddress import ip_address
from typing import Any

import pytest

from ctrecorder.page import answer, mail_text, pack, redact, twin
from tests.support import page_twins
from tests.support.page_twins import REMOTE, REMOTE_V6
from tests.unit.page.test_sweep import notations

WHOLE = (page_twins.answer, page_twins.several, page_twins.of_letter)
# With one of a letter that could not be read.
ALL = (*WHOLE, page_twins.unread_letter)
# What is written by others, or quoted from them.
TEXTS = (
    *("why", "reason", "case", "written", "asked_by", "sender", "reference", "message_id"),
    *("detail", "source", "name", "file", "form"),
)


def made_from(whole: Any) -> str:
    """All that is made from a twin, as one text."""
    packed = pack.pack(whole, None, {"ledgers": []})
    parts = [answer.html(whole), mail_text.text(whole), json.dumps(whole)]
    return "\n".join([*parts, packed.decode("latin-1")])


@pytest.mark.parametrize("make", ALL)
def test_no_remote_end_is_in_any_file_that_is_made(make: Any) -> None:
    assert REMOTE in made_from(make())
    made = made_from(redact.redact(make()))
    for remote in (REMOTE, REMOTE_V6):
        for spelled in notations(ip_address(remote)):
            assert spelled not in made, spelled
    for number in ("443", "50500"):
        assert f'"port": {number}' not in made
        assert f"port {number}" not in made


def _within(value: Any, text: str) -> Any:
    """A copy of a twin with `text` in each of TEXTS and in the quoted bytes of our own fields."""
    if isinstance(value, list):
        return [_within(each, text) for each in value]
    if not isinstance(value, dict):
        return value
    ours = str(value.get("field", "remote")).partition("_")[0] != "remote"
    return {
        name: text
        if isinstance(each, str) and (name in TEXTS or (name == "text" and ours))
        else _within(each, text)
        for name, each in value.items()
    }


@pytest.mark.parametrize("make", WHOLE[:2])
def test_a_text_that_names_a_remote_end_in_any_notation(make: Any) -> None:
    for spelled in notations(ip_address(REMOTE)):
        made = answer.html(redact.redact(_within(make(), f"see {spelled} there")))
        assert spelled not in made, spelled
        assert "[left out]" in made


@pytest.mark.parametrize("make", WHOLE)
def test_all_else_stays(make: Any) -> None:
    whole, copied = twin.known(make()), twin.known(redact.redact(make()))
    assert copied["redacted"]
    for one, other in zip(whole["questions"], copied["questions"], strict=True):
        asked = dict(one["question"])
        if asked.pop("remote", None):
            asked["remote_left_out"] = True
        if "read_from" in asked:
            asked["read_from"] = [
                each for each in asked["read_from"] if "remote" not in each["field"]
            ]
        assert other["question"] == asked
        for name in ("verdict", "why", "complete", "holes", "accepted", "clock", "evidence"):
            assert other.get(name) == one.get(name)
        for person, kept in zip(one.get("persons", []), other.get("persons", []), strict=True):
            flows = copy.deepcopy(person.get("flows", []))
            for flow in flows:
                del flow["remote"]
            assert kept == {**person, **({"flows": flows} if "flows" in person else {})}


def test_the_end_behind_dnat_is_remote_too() -> None:
    flow = page_twins.flow(remote_behind={"address": "192.0.2.55", "port": 8443})
    whole = page_twins.answer(
        persons=[page_twins.person(flows=[flow])], why="192.0.2.55, 3221226039"
    )
    made = made_from(redact.redact(whole))
    assert "192.0.2.55" not in made
    assert "3221226039" not in made
    assert "8443" not in made


def test_what_this_version_does_not_know_is_not_copied() -> None:
    whole = {**page_twins.answer(), "later": {"server": "mail.shop.example"}}
    assert "shop" not in made_from(redact.redact(whole))


def test_a_field_of_a_letter_that_is_not_known_to_be_ours_is_not_copied() -> None:
    read = [*page_twins.read_from(), {"field": "url", "text": "http://shop.example/", "line": 9}]
    whole = page_twins.answer(question=page_twins.question(read_from=read))
    copied = redact.redact(whole)
    fields = [one["field"] for one in copied["question"]["read_from"]]
    assert fields == ["address", "port", "time"]


def test_what_was_only_seen_in_a_letter_is_not_copied() -> None:
    whole = page_twins.unread_letter()
    whole["letter"]["seen"][0]["text"] = "shop.example"
    assert "shop" not in made_from(redact.redact(whole))


def test_the_page_says_that_something_is_left_out() -> None:
    page = answer.html(redact.redact(page_twins.answer()))
    assert "This is a copy from which the remote ends are left out." in page
    assert "one was named; it is left out of this copy" in page
    assert '<th scope="col">Remote end</th>' not in page
    assert "the remote ends are left out" in mail_text.text(redact.redact(page_twins.answer()))


def test_no_hash_of_the_whole_twin_is_in_the_copy() -> None:
    """All but the remote end is in the copy: who has a hash of the whole can try each address."""
    whole = page_twins.answer()
    digest = twin.digest(twin.spelling(whole))
    assert digest in answer.html(whole)
    assert digest not in made_from(redact.redact(whole))


def test_a_hole_that_a_rule_of_ours_narrows_keeps_its_network() -> None:
    copied = redact.redact(page_twins.several())
    assert copied["accepted"][0]["networks"] == ["192.0.2.0/24"]
    hole = page_twins.hole(networks=[f"{REMOTE}/32", "192.0.2.0/24"])
    copied = redact.redact(page_twins.answer(holes=[hole]))
    assert copied["holes"][0]["networks"] == ["[left out]/32", "192.0.2.0/24"]


def test_a_copy_of_a_copy_is_the_same() -> None:
    once = redact.redact(page_twins.of_letter())
    assert redact.redact(once) == once
