"""A copy of a twin without remote ends: in some countries the law forbids to hand them out.

Only the members that are known are copied, and of quoted bytes only the fields about our own side.
In every text, each address that is not ours is replaced.  The copy has no hash of the whole twin:
who knows all the rest of it could try every address.
"""

from __future__ import annotations

from collections.abc import Iterator

from ctrecorder.page import twin
from ctrecorder.page.shape import Json
from ctrecorder.page.sweep import Address, Sweep, parse

# The fields of a letter about our own side, as `read_from` names them.
_OUR_FIELDS = frozenset(("address", "port", "id", "time", "time_until", "protocol"))
# The ends of a connection that are left out; the second one as it is behind DNAT.
_REMOTE_ENDS = ("remote", "remote_behind")


def redact(whole: Json) -> Json:
    """The copy.  Raises TwinError."""
    answers = twin.known(whole)
    remotes = set(_remotes(answers))
    sweep = Sweep(set(_ours(answers)) | set(_networks(answers)) - remotes, remotes)
    copy = {name: each for name, each in answers.items() if name != "redacted"}
    if "letter" in answers:
        copy["letter"] = {name: each for name, each in answers["letter"].items() if name != "seen"}
    copy["questions"] = [_answer(one) for one in answers["questions"]]
    copy = sweep.within(copy)
    if "questions" not in whole:
        return {**copy["questions"][0], "redacted": True}
    return {**copy, "redacted": True}


def _answer(one: Json) -> Json:
    return {
        **one,
        "question": _question(one["question"]),
        **({"persons": [_person(each) for each in one["persons"]]} if "persons" in one else {}),
    }


def _question(asked: Json) -> Json:
    copy = {name: value for name, value in asked.items() if name != "remote"}
    if "remote" in asked:
        copy["remote_left_out"] = True
    if "read_from" in asked:
        copy["read_from"] = [one for one in asked["read_from"] if one["field"] in _OUR_FIELDS]
    return copy


def _person(one: Json) -> Json:
    if "flows" not in one:
        return one
    flows = [
        {name: value for name, value in flow.items() if name not in _REMOTE_ENDS}
        for flow in one["flows"]
    ]
    return {**one, "flows": flows}


def _remotes(answers: Json) -> Iterator[Address]:
    """The addresses that stand where a remote end stands."""
    for answer in answers["questions"]:
        asked = answer["question"]
        ends = [asked["remote"]] if "remote" in asked else []
        flows = [flow for person in answer.get("persons", []) for flow in person.get("flows", [])]
        ends += [flow[name] for flow in flows for name in _REMOTE_ENDS if name in flow]
        quoted = [one["text"] for one in asked.get("read_from", []) if "remote" in one["field"]]
        yield from _parsed([*(end["address"] for end in ends), *quoted])


def _ours(answers: Json) -> Iterator[Address]:
    """The addresses that stand where our own stand."""
    for answer in answers["questions"]:
        asked = answer["question"]
        persons = answer.get("persons", [])
        flows = [flow for person in persons for flow in person.get("flows", [])]
        ends = [flow[name] for flow in flows for name in ("inside", "public") if name in flow]
        yield from _parsed(
            [
                asked.get("address", ""),
                *(one["address"] for one in [*persons, *ends]),
                *asked.get("routers", []),
                *asked.get("router_addresses", []),
                *(one.get("host", "") for one in answer.get("clock", [])),
            ]
        )


def _networks(answers: Json) -> Iterator[Address]:
    """The addresses of the networks to which holes are narrowed: they stand in our rules."""
    for answer in answers["questions"]:
        for hole in [*answer.get("holes", []), *answer.get("accepted", [])]:
            yield from _parsed([each.partition("/")[0] for each in hole.get("networks", [])])


def _parsed(texts: list[str]) -> Iterator[Address]:
    for text in texts:
        if (address := parse(text.strip().strip("[]"))) is not None:
            yield address
