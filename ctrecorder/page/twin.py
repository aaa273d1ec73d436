"""The JSON twin of an answer: its one spelling in a page, its hash, and its parts.

The spelling has ASCII alone, and no character that HTML gives a meaning: what a browser shows, what
is copied from it and what is hashed are the same bytes.
"""

from __future__ import annotations

import json
from hashlib import sha256
from typing import Any, NoReturn

from ctrecorder.page import shape
from ctrecorder.page.shape import Json, TwinError

VERDICTS = (
    "ONE",
    "ONE KNOWN (not proved)",
    "SEVERAL",
    "NOBODY",
    "NOBODY KNOWN (not proved)",
    "NOT RECORDED",
    "NOT YET",
    "CANNOT BE ASKED",
    "NO LONGER KEPT",
)
_IN_HTML = str.maketrans({char: f"\\u{ord(char):04x}" for char in "<>&"})
_END = shape.members({"address": shape.text}, {"port": shape.whole, "id": shape.whole})
_READ_FROM = shape.members(
    {"field": shape.text, "text": shape.text},
    {"file": shape.text, "part": shape.text, "line": shape.whole},
)
_QUESTION = shape.members(
    {},
    {
        "address": shape.text,
        "port": shape.whole,
        "id": shape.whole,
        "role": shape.one_of("source", "service", "listening", "none"),
        "protocol": shape.text,
        "remote": _END,
        "remote_left_out": shape.flag,
        "unasked": shape.many(shape.text),
        "since": shape.time,
        "until": shape.time,
        "tolerance_seconds": shape.number,
        "clock_error_seconds": shape.number,
        "written": shape.text,
        "zone": shape.text,
        "basis": shape.text,
        "readings": shape.whole,
        "read_from": shape.many(_READ_FROM),
        "archive": shape.many(shape.text),
        "routers": shape.many(shape.text),
        "router_addresses": shape.many(shape.text),
        "asked": shape.time,
        "asked_by": shape.text,
        "case": shape.text,
        "reason": shape.text,
    },
)
_FLOW = shape.members(
    {"protocol": shape.text},
    {
        "direction": shape.one_of("in", "out"),
        "translated": shape.flag,
        "zone": shape.whole,
        "mark": shape.whole,
        "recorded_by": shape.many(shape.text),
        "inside": _END,
        "public": _END,
        "remote": _END,
        "remote_behind": _END,
        "start": shape.time,
        "start_source": shape.text,
        "end": shape.time,
        "end_source": shape.text,
    },
)
_CUSTOMER = shape.members(
    {"name": shape.text}, {"from": shape.time, "until": shape.time, "source": shape.text}
)
_PERSON = shape.members(
    {"address": shape.text},
    {
        "zone": shape.whole,
        "mark": shape.whole,
        "routers": shape.many(shape.text),
        "ports": shape.many(shape.whole),
        "translated": shape.flag,
        "connections": shape.whole,
        "start": shape.time,
        "start_source": shape.text,
        "end": shape.time,
        "end_source": shape.text,
        "only_by_tolerance": shape.flag,
        "customers": shape.many(_CUSTOMER),
        "flows": shape.many(_FLOW),
    },
)
_HOLE = shape.members(
    {"reason": shape.text},
    {
        "start": shape.time,
        "end": shape.time,
        "why": shape.text,
        "family": shape.text,
        "protocols": shape.many(shape.text),
        "ports": shape.many(shape.whole),
        "networks": shape.many(shape.text),
        "untranslated": shape.flag,
        "at_least": shape.flag,
        "accepted": shape.flag,
        "detail": shape.text,
        "lost": shape.whole,
    },
)
_CLOCK = shape.members(
    {"synchronised": shape.flag},
    {"host": shape.text, "error_seconds": shape.number, "trusted": shape.flag},
)
_SEGMENT = shape.members(
    {"file": shape.text},
    {
        "host": shape.text,
        "chain": shape.text,
        "sequence": shape.whole,
        "hash": shape.text,
        "sealed": shape.flag,
        "imported": shape.flag,
        "cttest": shape.text,
    },
)
_RECEIPT = shape.members(
    {"file": shape.text},
    {
        "since": shape.time,
        "until": shape.time,
        "rows": shape.whole,
        "hashes": shape.many(shape.text),
        "deleted": shape.time,
        "reason": shape.text,
    },
)
_LETTER = shape.members(
    {"sha256": shape.sha256},
    {
        "file": shape.text,
        "message_id": shape.text,
        "sender": shape.text,
        "reference": shape.text,
        "form": shape.text,
        "problem": shape.text,
        "seen": shape.many(_READ_FROM),
    },
)
# The inside hosts that fit all sightings of a letter.
_COMMON = shape.members(
    {"sightings": shape.whole, "persons": shape.many(_PERSON)}, {"proved": shape.flag}
)
_EVIDENCE = shape.members(
    {},
    {
        "segments": shape.many(_SEGMENT),
        "receipts": shape.many(_RECEIPT),
        "version": shape.text,
        "letter": _LETTER,
    },
)
_ANSWER = shape.members(
    {"question": _QUESTION, "verdict": shape.one_of(*VERDICTS)},
    {
        "why": shape.text,
        "notes": shape.many(shape.text),
        "complete": shape.completeness,
        "holes": shape.many(_HOLE),
        "accepted": shape.many(_HOLE),
        "complete_until": shape.time,
        "persons": shape.many(_PERSON),
        "shared_by": shape.whole,
        "names_unread": shape.many(shape.text),
        "clock": shape.many(_CLOCK),
        "evidence": _EVIDENCE,
        "redacted": shape.flag,
    },
)
_ANSWERS = shape.members(
    {"questions": shape.many(_ANSWER)},
    {"letter": _LETTER, "common": _COMMON, "redacted": shape.flag},
)


def known(twin: object) -> Json:
    """What this version knows of a twin: {"questions": [..]}, and "letter" and "common" if given.

    The twin of one question is a list of one.  Raises TwinError.
    """
    if isinstance(twin, dict) and "questions" not in twin:
        answer: Json = _ANSWER(twin, "the answer")
        return {"questions": [answer], "redacted": answer.get("redacted", False)}
    answers: Json = _ANSWERS(twin, "the answer")
    return answers


def spelling(twin: Json) -> str:
    """The twin as it stands in a page and in a pack: JSON of several lines."""
    return json.dumps(twin, indent=1, allow_nan=False).translate(_IN_HTML)


def digest(spelled: str) -> str:
    """The SHA-256 of a spelling, with a newline at its end as in a file."""
    return sha256(f"{spelled}\n".encode("ascii")).hexdigest()


def read(spelled: str) -> Json:
    """The twin of a spelling.  Raises TwinError if it is no JSON, or another spelling."""
    try:
        twin: Any = json.loads(spelled, parse_constant=_no_number)
        if isinstance(twin, dict) and spelling(twin) == spelled:
            return twin
    except (ValueError, RecursionError):
        raise TwinError("it is no JSON") from None
    raise TwinError("it is not spelled as ctwho spells it")


def _no_number(word: str) -> NoReturn:
    raise TwinError(f"{word} is no number")
