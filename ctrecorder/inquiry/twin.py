"""An answer as one JSON object: ctwho(1), "JSON", defines its members.

The HTML page is made from it, so nothing that an answer says is in any other place.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from typing import Any

from ctrecorder import __version__, labels
from ctrecorder.archive.segments_read import SegmentRead
from ctrecorder.columns import Source
from ctrecorder.holders import who
from ctrecorder.inquiry.ask import Answered, Asking
from ctrecorder.inquiry.persons import Person
from ctrecorder.inquiry.question import LetterFacts, Question, Target, protocols_text
from ctrecorder.query.clock import ClockState
from ctrecorder.query.verdict import Completeness
from ctrecorder.render import holes
from ctrecorder.render import who as render_who
from ctrecorder.render.who import rfc3339


def twin(answered: Answered, *, connections: bool = False) -> dict[str, Any]:
    """The object of an answer.  `connections`: each person with its `flows`."""
    facts: dict[str, Any] = {
        "question": _question(answered),
        "verdict": answered.judged.word.value,
        **_if_known("why", answered.judged.why),
        **({"notes": list(answered.notes)} if answered.notes else {}),
        **_coverage(answered.answer),
        "persons": [_person(person, answered.answer, connections) for person in answered.persons],
    }
    if answered.shares_address:
        facts["shared_by"] = len(answered.persons)
    clocks = [] if answered.answer is None else answered.answer.clocks
    if answered.unread:
        facts["names_unread"] = list(answered.unread)
    facts["clock"] = [_clock(one, answered.asking) for one in clocks]
    facts["evidence"] = _evidence(answered)
    return facts


def letter_json(letter: LetterFacts) -> dict[str, str]:
    """The facts of a letter that are known."""
    return {name: value for name, value in letter._asdict().items() if value}


def _question(answered: Answered) -> dict[str, Any]:
    question, asked = answered.question, answered.asked
    facts = question_json(question, asked)
    if answered.answer is not None:
        facts["clock_error_seconds"] = answered.answer.added_ns / 1e9
        facts["routers"] = sorted(answered.answer.hosts)
    if answered.router_addresses:
        facts["router_addresses"] = list(answered.router_addresses)
    asking = answered.asking
    return facts | {
        "archive": list(asking.archive),
        "asked": rfc3339(asking.now),
        "asked_by": asking.login,
        **_if_known("case", asking.case),
        **_if_known("reason", asking.reason),
    }


def question_json(question: Question, asked: who.WhoQuery | None) -> dict[str, Any]:
    """A question as it was understood.  `asked`: the span that is searched; None: none."""
    window = question.window
    facts: dict[str, Any] = {
        **_target(question.target, question),
        "role": question.role,
        **_if_known("protocol", protocols_text(question.protocols).replace(" ", "")),
        **({"remote": _target(question.remote, question)} if question.remote else {}),
    }
    if question.unasked:
        facts["unasked"] = list(question.unasked)
    if asked is not None:
        facts |= {"since": rfc3339(asked.since), "until": rfc3339(asked.until)}
    facts |= {
        "tolerance_seconds": question.tolerance,
        "written": window.text,
        "zone": window.zone,
        "basis": window.basis,
        "readings": window.readings,
    }
    if question.read_from:
        facts["read_from"] = [one._asdict() for one in question.read_from]
    return facts


def _target(target: Target, question: Question) -> dict[str, Any]:
    """An address, and its port; of ICMP the id."""
    if target.port is None:
        return {"address": target.address}
    return {"address": target.address, "id" if question.asks_icmp else "port": target.port}


def _if_known(name: str, text: str) -> dict[str, str]:
    return {name: text} if text else {}


def _coverage(answer: who.Answer | None) -> dict[str, Any]:
    """Whether the log has every connection of that time, and the holes that it has."""
    if answer is None:
        return {"complete": False, "holes": []}
    verdict, window = answer.verdict, (answer.scope.since, answer.scope.until)
    is_1_0 = verdict.completeness is Completeness.VERSION_1_0
    facts: dict[str, Any] = {
        "complete": "version 1.0" if is_1_0 else verdict.proved,
        "holes": [holes.as_json(hole, *window) for hole in verdict.holes],
    }
    if verdict.accepted:
        facts["accepted"] = [holes.as_json(hole, *window) for hole in verdict.accepted]
    if verdict.until is not None:
        facts["complete_until"] = rfc3339(verdict.until)
    return facts


def _person(person: Person, answer: who.Answer | None, connections: bool) -> dict[str, Any]:
    facts: dict[str, Any] = {"address": person.address}
    facts |= {name: getattr(person, name) for name in ("zone", "mark") if getattr(person, name)}
    facts |= {"routers": list(person.routers)} if person.routers else {}
    facts |= {
        "ports": person.ports,
        "translated": person.translated,
        "connections": len(person.flows),
    }
    for name, ns, source in (
        ("start", person.start, person.start_source),
        ("end", person.end, person.end_source),
    ):
        facts[name] = rfc3339(ns) if source != Source.UNKNOWN else None
        facts[f"{name}_source"] = labels.SOURCES.get(source, str(source))
    facts["only_by_tolerance"] = person.only_by_tolerance
    if person.customers is not None:
        facts["customers"] = [
            {
                "name": one.name,
                **({} if one.since is None else {"from": rfc3339(one.since)}),
                **({} if one.until is None else {"until": rfc3339(one.until)}),
                "source": one.source,
            }
            for one in person.customers
        ]
    if connections and answer is not None:
        named = len(answer.hosts) > 1
        facts["flows"] = [render_who.as_json(flow, named=named) for flow in person.flows]
    return facts


def _clock(clock: ClockState, asking: Asking) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "host": clock.host,
        "synchronised": clock.synchronised,
        "error_seconds": clock.error_seconds if clock.synchronised else None,
    }
    return facts | {"trusted": True} if asking.trust_clock and not clock.synchronised else facts


def _segment(one: SegmentRead, imported: Collection[str]) -> dict[str, Any]:
    """What identifies a segment; `imported`: the files that prove nothing."""
    names = ("host", "chain", "sequence", "hash", "sealed")
    facts = {"file": os.path.basename(one.path), **{name: getattr(one, name) for name in names}}
    return facts | {"imported": one.path in imported}


def _evidence(answered: Answered) -> dict[str, Any]:
    answer = answered.answer
    facts: dict[str, Any] = {
        "segments": []
        if answer is None
        else [_segment(one, answer.imported) for one in answer.segments]
    }
    if answered.receipts:
        facts["receipts"] = [
            {
                "file": one.name,
                "since": rfc3339(one.since),
                "until": rfc3339(one.until),
                "rows": one.rows,
                "hashes": one.hashes,
                "deleted": rfc3339(one.deleted),
                "reason": one.reason,
            }
            for one in answered.receipts
        ]
    facts["version"] = f"ctrecorder {__version__}"
    if answered.question.letter is not None:
        facts["letter"] = letter_json(answered.question.letter)
    return facts
