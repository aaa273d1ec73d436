"""The typed header: what a stranger's file may hold, and that nothing of it is lost."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import zstandard

from ctrecorder.ctlog.frame import FRAME, MAX_JSON, dump_json, load_json
from ctrecorder.ctlog.header import Header, Replaced, packed, plain
from ctrecorder.ctlog.index import FORM_PACKED
from ctrecorder.errors import FormatError
from ctrecorder.segment.reader import Segment

GOLDEN = sorted((Path(__file__).resolve().parents[2] / "data" / "golden").glob("*.ctlog"))
ENTRY = {
    "name": "a",
    "last_hash": "00",
    "rows": 1,
    "bytes": 2,
    "state": "closed",
    "program": "p",
}
# Every member with its type.
FACTS: dict[str, Any] = {
    "format": "ctlog",
    "program": "ctrecorder 1",
    "requires": [],
    "sealed": False,
    "host": "router",
    "boot_id": "b",
    "kernel": "6.1",
    "protocols": ["tcp", "udp"],
    "nat_only": True,
    "updates": False,
    "buffer_bytes": 5,
    "sysctls": {"nf_conntrack_acct": 1, "none": None},
    "template": "%s",
    "chain": "c",
    "sequence": 7,
    "previous": "before",
    "squeezed": {"torn": 0},
    "legacy": {"flags": 0},
    "recording": "router tcp",
    "losses": "not counted",
    "utc_offset": -3600,
    "repaired": True,
    "replaces": [ENTRY, {**ENTRY, "of_2030": [1]}],
}
WRONG: tuple[Any, ...] = (None, 1.5, True, 1, "text", [1], ["a"], {"a": 1}, [])


def test_every_member_is_typed_and_comes_back() -> None:
    header = Header.from_json(FACTS)
    assert header.extra == {}
    assert (header.sequence, header.protocols, header.requires) == (7, ("tcp", "udp"), ())
    assert header.replaces[1] == Replaced("a", "00", 1, 2, "closed", "p", {"of_2030": [1]})
    assert header.to_json() == FACTS
    assert Header.parse(dump_json(header.to_json())) == header


@pytest.mark.parametrize("name", sorted(FACTS.keys() - {"replaces"}))
@pytest.mark.parametrize("value", WRONG)
def test_a_member_of_a_wrong_type_is_kept_and_never_typed(name: str, value: Any) -> None:
    """An attribute has its type or is None; the bytes of the header stay the same."""
    header = Header.from_json({name: value})
    attribute = getattr(header, name)
    stored = list(attribute) if isinstance(attribute, tuple) else attribute
    assert (stored, header.extra) in (
        (None, {name: value}),
        (value, {}),
    )
    assert stored is None or type(stored) is type(FACTS[name])
    assert header.to_json() == {name: value}


def test_unknown_members_are_kept() -> None:
    facts = {**FACTS, "of_2030": {"a": [1]}, "extra": 5}
    assert dump_json(Header.from_json(facts).to_json()) == dump_json(facts)


def test_a_typed_member_wins_over_one_of_a_wrong_type() -> None:
    header = replace(Header.from_json({"sealed": "yes"}), sealed=True)
    assert header.to_json() == {"sealed": True}


@pytest.mark.parametrize(
    "facts",
    [{}, {"format": "other"}, {"format": "ctlog", "previous": 3}, {"format": "ctlog", "host": []}],
)
def test_a_header_that_is_none_is_refused(facts: dict[str, Any]) -> None:
    with pytest.raises(FormatError):
        Header.parse(dump_json(facts))


@pytest.mark.parametrize("requires", [None, 3, "x", {}, ["a", 5]])
def test_requires_of_a_wrong_type_is_a_feature_that_is_not_known(requires: Any) -> None:
    header = Header.from_json({"requires": requires})
    assert "what cannot be read" in header.unknown_features
    assert header.needs_features
    assert not Header().needs_features
    assert Header(requires=()).needs_features


@pytest.mark.parametrize("value", [5, None, {}])
def test_a_squeezed_segment_is_one_whatever_the_type(value: Any) -> None:
    assert Header.from_json({"squeezed": value}).is_squeezed
    assert not Header().is_squeezed


def test_a_stranger_s_list_of_replaced_segments_does_no_harm() -> None:
    wrong: list[object] = [1, None, [], {}, {**ENTRY, "rows": "1"}, {**ENTRY, "rows": True}]
    strange: tuple[object, ...] = (None, 3, "x", {}, wrong)
    for listed in strange:
        assert Header.from_json({"replaces": listed}).replaces == ()
    assert len(Header.from_json({"replaces": [ENTRY, 5]}).replaces) == 1


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_the_header_of_a_golden_file_is_written_as_it_is(path: Path) -> None:
    with Segment(str(path)) as segment:
        frame = segment.file.frame(0)
        payload = plain(segment.file.read(0, FRAME.size + frame.length)[FRAME.size :], frame.form)
        assert segment.header.extra.keys() <= {"previous"}
    assert dump_json(segment.header.to_json()) == payload
    assert segment.header.to_json() == load_json(payload)


def test_a_packed_header_is_the_same_and_smaller() -> None:
    payload = dump_json({**FACTS, "replaces": [ENTRY]})
    assert len(packed(payload)) < len(payload) // 2
    assert plain(packed(payload), FORM_PACKED) == payload
    assert Header.parse(packed(payload), FORM_PACKED) == Header.parse(payload)


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"{}",
        packed(b'{"format":"ctlog"}')[:-3],
        packed(b" " * (MAX_JSON + 1)),
        zstandard.ZstdCompressor(write_content_size=False).compress(b'{"format":"ctlog"}'),
        zstandard.ZstdCompressor().compress(b"\xff" * 100),
    ],
    ids=["nothing", "plain", "cut", "too long", "of no declared length", "no JSON"],
)
def test_a_stranger_s_packed_header_is_refused(payload: bytes) -> None:
    with pytest.raises(FormatError):
        Header.parse(payload, FORM_PACKED)


def test_a_packed_header_is_none_without_its_form() -> None:
    with pytest.raises(FormatError):
        Header.parse(packed(b'{"format":"ctlog"}'))
