"""JSON twins of answers, made up, for the tests of ctrecorder.page."""

from __future__ import annotations

from typing import Any

Json = dict[str, Any]

LETTER_SHA256 = "5e" * 32
REMOTE = "203.0.113.9"
REMOTE_V6 = "2001:db8:5:6::9"


def question(**changes: Any) -> Json:
    """A question about 198.51.100.1 port 40000; a change to None takes a member away."""
    made: Json = {
        "address": "198.51.100.1",
        "port": 40000,
        "role": "source",
        "protocol": "tcp",
        "remote": {"address": REMOTE, "port": 443},
        "since": "2026-11-24T05:00:04.000000000Z",
        "until": "2026-11-24T05:00:07.000000000Z",
        "tolerance_seconds": 1.0,
        "written": "2026-11-24 06:00:05 +01:00",
        "zone": "+01:00",
        "basis": "given",
        "readings": 1,
        "archive": ["/var/log/ctrecorder"],
        "routers": ["gate1"],
        "asked": "2026-11-28T07:30:00.000000000Z",
        "asked_by": "root",
        "case": "A-2026-117",
        "reason": "letter of the agency",
    } | changes
    return {name: value for name, value in made.items() if value is not None}


def read_from() -> list[Json]:
    """Where the fields of the question stand in a letter."""
    fields = (
        ("address", "198.51.100.1", 4),
        ("port", "40000", 5),
        ("time", "2026-11-24 06:00:05 +01:00", 6),
        ("remote_address", REMOTE, 7),
        ("remote_port", "443", 7),
    )
    return [
        {"field": name, "file": "notice.eml", "part": "1.2", "line": line, "text": text}
        for name, text, line in fields
    ]


def flow(**changes: Any) -> Json:
    """A connection of the person, as `ctlist --who --format json` writes it."""
    made: Json = {
        "protocol": "tcp",
        "direction": "out",
        "translated": True,
        "inside": {"address": "10.0.0.5", "port": 51234},
        "public": {"address": "198.51.100.1", "port": 40000},
        "remote": {"address": REMOTE, "port": 443},
        "start": "2026-11-24T04:59:58.120000000Z",
        "start_source": "kernel",
        "end": "2026-11-24T05:03:11.004512000Z",
        "end_source": "kernel",
    }
    return made | changes


def person(**changes: Any) -> Json:
    """10.0.0.5, with one connection; a change to None takes a member away."""
    made: Json = {
        "address": "10.0.0.5",
        "zone": 3,
        "ports": [51234],
        "translated": True,
        "connections": 1,
        "start": "2026-11-24T04:59:58.120000000Z",
        "start_source": "kernel",
        "end": "2026-11-24T05:03:11.004512000Z",
        "end_source": "kernel",
        "only_by_tolerance": False,
        "flows": [flow()],
    } | changes
    return {name: value for name, value in made.items() if value is not None}


def segment(number: int, **changes: Any) -> Json:
    """A segment that was read."""
    made: Json = {
        "file": f"/var/log/ctrecorder/gate1-2026112405-{number}.ctlog",
        "host": "gate1",
        "chain": "c0ffee00c0ffee00c0ffee00c0ffee00",
        "sequence": number,
        "hash": f"{number:032x}",
        "sealed": True,
        "imported": False,
    }
    return made | changes


def hole(**changes: Any) -> Json:
    """A hole of three seconds."""
    made: Json = {
        "start": "2026-11-24T05:00:05.000000000Z",
        "end": "2026-11-24T05:00:08.000000000Z",
        "reason": "overrun",
        "lost": 3511,
        "at_least": True,
        "why": "connections of that time may be missing",
    }
    return made | changes


def answer(verdict: str = "ONE", **changes: Any) -> Json:
    """The answer to a typed question; a change to None takes a member away."""
    made: Json = {
        "question": question(),
        "verdict": verdict,
        "complete": True,
        "holes": [],
        "persons": [person()],
        "clock": [{"host": "gate1", "synchronised": True, "error_seconds": 0.0123}],
        "evidence": {"segments": [segment(17), segment(18)], "version": "ctrecorder 1.1.0"},
    } | changes
    return {name: value for name, value in made.items() if value is not None}


def several() -> Json:
    """Two hosts, one of them by the tolerance alone, with customers, over a hole."""
    second = person(
        address="10.0.0.77",
        zone=None,
        mark=9,
        ports=[40000, 40001],
        connections=2,
        start=None,
        start_source="unknown",
        end_source="receipt",
        only_by_tolerance=True,
        customers=[],
        flows=[
            flow(
                direction="in",
                inside={"address": "10.0.0.77", "port": 40000},
                remote={"address": REMOTE_V6, "port": 50500},
                start=None,
                start_source="unknown",
                end_source="receipt",
            )
        ],
    )
    first = person(
        start_source="bound",
        customers=[
            {
                "name": "Ada Example, line 12",
                "from": "2026-11-20T00:00:00.000000000Z",
                "until": "2026-11-25T00:00:00.000000000Z",
                "source": "dhcp.leases",
            }
        ],
    )
    return answer(
        "SEVERAL",
        complete=False,
        holes=[hole()],
        accepted=[hole(reason="notrack", lost=None, networks=["192.0.2.0/24"], protocols=["udp"])],
        persons=[first, second],
    )


def of_letter() -> Json:
    """A letter with one question of each verdict."""
    evidence: Json = {
        "segments": [segment(17), segment(19, sealed=False, imported=True)],
        "version": "ctrecorder 1.1.0",
        "letter": {
            "file": "notice.eml",
            "sha256": LETTER_SHA256,
            "message_id": "<1@agency.example>",
        },
    }
    asked = question(read_from=read_from(), zone="Europe/Berlin", basis="noted")
    lost: Json = {"complete": False, "holes": [hole()]}
    none: Json = {"persons": [], "evidence": {**evidence, "segments": []}}
    portless = question(port=None, role="none", read_from=read_from()[:1], remote=None)
    timeless = question(since=None, until=None, zone="", basis="unknown", written="24.11. 6 h")
    answers = [
        answer(question=asked, evidence=evidence),
        answer("ONE KNOWN (not proved)", question=asked, evidence=evidence, **lost),
        {**several(), "evidence": evidence},
        answer("NOBODY", question=asked, persons=[], evidence=evidence),
        answer("NOBODY KNOWN (not proved)", question=asked, persons=[], evidence=evidence, **lost),
        answer("NOT RECORDED", question=asked, **none, complete=False, holes=[hole(start=None)]),
        answer("NOT YET", **none, complete=False, complete_until="2026-11-24T04:59:00.000000000Z"),
        answer(
            "CANNOT BE ASKED",
            question=timeless,
            **none,
            why="the time has no zone: ask with --zone",
            complete=None,
            clock=None,
        ),
        answer("NO LONGER KEPT", question=portless, **none, complete=False, shared_by=43),
    ]
    letter: Json = {**evidence["letter"], "sender": "abuse@agency.example", "reference": "N-4711"}
    common: Json = {
        "sightings": 3,
        "persons": [{"address": "10.0.0.5", "zone": 3}],
        "proved": False,
    }
    return {"letter": letter, "questions": answers, "common": common}


def every_word() -> Json:
    """A letter whose page has each word that a page can have of its own."""
    whole = of_letter()
    reasons = [
        *("overrun", "disk-full", "write-error", "stopped", "crashed", "unreadable", "damaged"),
        *("clock", "not-recording", "late", "no-events", "not-tracked", "notrack", "unheard"),
        *("memory", "missing-segment", "not-recorded", "not-yet", "tracking-unknown", "unproved"),
    ]
    holes = [
        hole(reason=reason, family="ipv6", ports=[53], untranslated=True, detail="why")
        for reason in reasons
    ]
    clock: Json = {"host": "gate2", "synchronised": False, "error_seconds": None}
    for role, basis in (("service", "format"), ("listening", "option"), ("none", "local")):
        asked = question(role=role, basis=basis, readings=2, clock_error_seconds=0.5)
        clocks = [clock, {**clock, "trusted": True}, {"synchronised": True}]
        whole["questions"].append(
            answer("ONE", question=asked, holes=holes, complete="version 1.0", clock=clocks)
        )
        holes = []
    receipt: Json = {
        "file": "old.ctlog",
        "since": "2026-01-01T00:00:00Z",
        "until": "2026-01-02T00:00:00Z",
        "rows": 5,
        "hashes": ["aa", "bb"],
        "deleted": "2026-04-01T00:00:00Z",
        "reason": "age",
    }
    whole["questions"][-1]["evidence"]["receipts"] = [receipt]
    whole["letter"] |= {"problem": "a problem", "seen": read_from(), "form": "ACNS"}
    return whole


def unread_letter() -> Json:
    """A letter of an unknown form."""
    letter: Json = {
        "file": "hello.txt",
        "sha256": LETTER_SHA256,
        "problem": "the form of this letter is not known",
        "seen": [{"field": "seen", "file": "hello.txt", "part": "", "line": 2, "text": REMOTE}],
    }
    return {"letter": letter, "questions": []}


# Texts that a letter, a host name or a customer can have.
HOSTILE = (
    "</pre></script><script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "\"'><svg/onload=alert(1)>",
    "&lt;b&gt; &#60;i&#62;",
    "-->]]>",
    "\x1b[2J\x1b]0;owned\x07",
    "\u202e1.001.51.891\u202c",
    "\u2066\u200f\u061c\ufeff",
    "\x00\r\n\x85\u2028",
    "\ud800\udc80",
    "=cmd|'/C calc'!A0",
    "@SUM(1)",
    "+1-1",
    "\u05d0\u05d1 198.51.100.1",
    "a" * 500,
)


def with_text(value: Any, text: str, names: frozenset[str]) -> Any:
    """A copy of a twin in which each text member of these names is `text`."""
    if isinstance(value, list):
        return [with_text(each, text, names) for each in value]
    if not isinstance(value, dict):
        return value
    made: Json = {}
    for name, each in value.items():
        replaces = name in names and isinstance(each, str)
        if name in names and isinstance(each, list) and each and isinstance(each[0], str):
            made[name] = [text]
        else:
            made[name] = text if replaces else with_text(each, text, names)
    return made


# The members whose text others can choose.
FREE = frozenset(
    ("address", "protocol", "written", "zone", "basis", "archive", "routers", "asked_by", "case")
    + ("field", "text", "file", "part", "recorded_by", "name", "source", "start_source", "why")
    + ("end_source", "networks", "protocols", "detail", "family", "host", "chain", "hash", "form")
    + ("message_id", "sender", "reference", "version", "hashes", "reason")
)
