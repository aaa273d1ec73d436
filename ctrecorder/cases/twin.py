"""A letter with its answers as one JSON object: ctwho(1), "JSON", defines its members."""

from __future__ import annotations

from typing import Any

from ctrecorder.cases.letter import LetterAnswered, facts_of, place_of
from ctrecorder.inquiry.twin import letter_json, twin
from ctrecorder.letters.sighting import Letter


def letter_twin(one: LetterAnswered, *, connections: bool = False) -> dict[str, Any]:
    """The object of a letter: what names it, the answers, and what its sightings have in common."""
    facts: dict[str, Any] = {
        **letter_head(one.letter),
        "questions": [twin(each, connections=connections) for each in one.answers],
    }
    if one.common is not None:
        facts["common"] = {
            "sightings": one.common.sightings,
            "persons": [
                {"address": address, **({"zone": zone} if zone else {})}
                | ({"mark": mark} if mark else {})
                | ({"routers": list(routers)} if routers else {})
                for address, zone, mark, routers in one.common.persons
            ],
            "proved": one.common.proved,
        }
    return facts


def letter_head(letter: Letter) -> dict[str, Any]:
    """The member `letter`.  Of a letter without questions also why, and what was seen in it."""
    facts: dict[str, Any] = dict(letter_json(facts_of(letter)))
    if not letter.sightings:
        facts["problem"] = letter.problem or "nothing in it can be asked"
    if letter.seen:
        facts["seen"] = [place_of("seen", field)._asdict() for field in letter.seen]
    return {"letter": facts}
