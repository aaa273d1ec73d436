"""The check of a page: is each byte as its twin makes it, and does the log still say the same?

The page is made again from its twin.  This finds every change, but not who made the page; only the
log can tell that the answer is true.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum

from ctrecorder.errors import ExitCode
from ctrecorder.page import answer, twin, words
from ctrecorder.page.shape import Json, TwinError, nanoseconds
from ctrecorder.terminal import printable
from ctrecorder.times import MICROSECOND

# A letter of a thousand sightings makes a page of 10 MB.
MAX_BYTES = 256 << 20
_FORM = re.compile(
    r'<meta name="generator" content="' + answer.GENERATOR + r'(\d{1,4})">', re.ASCII
)
# What can be proved later: the log of another router was added.
_PROVED = {"ONE KNOWN (not proved)": "ONE", "NOBODY KNOWN (not proved)": "NOBODY"}
_WITHOUT_ANSWER = ("NOT YET", "NOT RECORDED", "NO LONGER KEPT")


class State(Enum):
    """What was found about a page or a question, and the exit code for it."""

    SAME = ExitCode.OK
    CHANGED = ExitCode.NO  # a byte of the page, or what the log says
    UNKNOWN = ExitCode.UNPROVED  # it can no longer, or not here, be checked


@dataclass(frozen=True)
class Finding:
    """One line, and what it means."""

    state: State
    text: str


# Takes answers of a page and asks the archive the same questions; returns a twin for each.
Ask = Callable[[list[Json]], list[Json]]
# Takes what is known of a twin, and says what is found about its segments.
Evidence = Callable[[Json], list["Finding"]]


def check(data: bytes, ask: Ask | None, evidence: Evidence | None = None) -> list[Finding]:
    """What is found about the page `data`.

    `ask`: None if there is no archive.  What both functions raise is passed on.
    """
    try:
        text = data.decode()
        whole = twin.read(_spelled(text))
        answers = twin.known(whole)
    except UnicodeDecodeError as error:
        return [Finding(State.CHANGED, f"not a page of ctwho: byte {error.start} is no UTF-8")]
    except TwinError as error:
        return [Finding(State.CHANGED, f"not a page of ctwho, or changed: {error}")]
    found = _compare_page(text, whole, answers)
    if found.state is State.CHANGED or ask is None:
        return [found]
    return [found, *_ask_again(answers, ask), *(evidence(answers) if evidence else [])]


def exit_code(found: list[Finding]) -> ExitCode:
    """NO if anything was changed, else UNPROVED if anything cannot be checked, else OK."""
    states = {one.state for one in found}
    order = (State.CHANGED, State.UNKNOWN, State.SAME)
    return next(state for state in order if state in states).value


def _spelled(text: str) -> str:
    """The twin as it stands in a page.  Raises TwinError."""
    _, begins, rest = text.partition(answer.TWIN_BEGINS)
    spelled, ends, _ = rest.partition(answer.TWIN_ENDS)
    if not begins or not ends:
        raise TwinError("no JSON twin is in it")
    return spelled


def _compare_page(text: str, whole: Json, answers: Json) -> Finding:
    digest = twin.digest(twin.spelling(whole))
    made = answer.html(whole)
    if made == text and not _is_together(answers):
        return Finding(
            State.CHANGED, "not all sightings of the answers fit the hosts that it names"
        )
    if made == text:
        why = f"unchanged: all of it is as its JSON twin makes it; SHA-256 of the twin: {digest}"
        return Finding(State.SAME, why)
    if digest not in text:
        return Finding(State.CHANGED, "changed: the JSON twin has not the SHA-256 that it shows")
    form = _FORM.search(text)
    if form and form[0] not in made and made != _FORM.sub(_current, text, count=1):
        why = (
            f"the JSON twin has the SHA-256 that it shows; this version makes form {answer.FORM} "
            f"of the page and cannot compare form {form[1]}: trust the twin, not the page"
        )
        return Finding(State.UNKNOWN, why)
    if lacking := words.lacking_zones(answers):
        why = (
            f"this machine does not know the time zone {printable(', '.join(lacking))}, so that "
            "the page cannot be compared: install tzdata"
        )
        return Finding(State.UNKNOWN, why)
    return Finding(State.CHANGED, f"changed: {_difference(text, made)}")


def _is_together(answers: Json) -> bool:
    """If the hosts that are said to fit all sightings of a letter are those of its answers.

    A sighting can have several answers, one for each way to read its time.
    """
    if "common" not in answers:
        return True
    fitting: dict[str, set[tuple[object, ...]]] = {}
    for one in answers["questions"]:
        if one.get("persons") or one["verdict"] == "NOBODY":
            read_from = json.dumps(one["question"].get("read_from", []))
            fitting.setdefault(read_from, set()).update(_hosts(one))
    together = set.intersection(*fitting.values()) if fitting else None
    return together == set(_hosts(answers["common"]))


def _current(match: re.Match[str]) -> str:
    return match[0].replace(f'{match[1]}">', f'{answer.FORM}">')


def _difference(text: str, made: str) -> str:
    """The first line that is not as it was made."""
    given, right = text.split("\n"), made.split("\n")
    for number, (one, other) in enumerate(zip(given, right, strict=False), 1):
        if one != other:
            return f'line {number} is "{_short(one)}" and was "{_short(other)}"'
    return f"it has {len(given):,} lines and had {len(right):,}"


def _short(line: str) -> str:
    return printable(line if len(line) <= 120 else f"{line[:120]}...")


def _ask_again(answers: Json, ask: Ask) -> Iterator[Finding]:
    each = answers["questions"]
    to_ask = [one for one in each if _why_not(one) is None]
    now = iter(ask(to_ask) if to_ask else [])
    for number, one in enumerate(each, 1):
        found = _why_not(one) or compare(one, twin.known(next(now))["questions"][0])
        of = f"question {number}: " if len(each) > 1 else ""
        yield Finding(found.state, of + found.text)


def _why_not(one: Json) -> Finding | None:
    """Why a question is not asked again; None: it is."""
    if one["verdict"] == "CANNOT BE ASKED":
        return Finding(State.SAME, "could not be asked, so it is not asked again")
    if one["question"].get("remote_left_out"):
        why = "its remote end is left out of this copy: check the copy that has it"
        return Finding(State.UNKNOWN, f"cannot be asked again: {why}")
    return None


def compare(old: Json, new: Json) -> Finding:
    """The answer of a page, and that of the archive now.

    What the archive does not show any more is no contradiction, nor is what it has learnt since.
    """
    before, now = old["verdict"], new["verdict"]
    hosts, hosts_now = _hosts(old), _hosts(new)
    told = f"{_told(old)} then, {_told(new)} now"
    if now == "NO LONGER KEPT" and before != now:
        return Finding(State.UNKNOWN, f"no longer checkable: the log of that time expired; {told}")
    if before in _WITHOUT_ANSWER and before != now:
        return Finding(State.UNKNOWN, f"the archive tells more now: {told}")
    if not old.get("complete") and hosts.keys() < hosts_now.keys():
        return Finding(State.UNKNOWN, f"the archive tells more now: {told}")
    lost = old.get("complete") and not new.get("complete")
    if hosts_now.keys() < hosts.keys() and not new.get("complete"):
        return Finding(State.UNKNOWN, f"no longer checkable: the archive has a hole there; {told}")
    if hosts_now.keys() != hosts.keys():
        return Finding(State.CHANGED, f"the archive gives another answer: {told}")
    if lost:
        return Finding(State.UNKNOWN, f"no longer provable: the archive has a hole there; {told}")
    if before != now and not _by_names(old):
        more = _PROVED.get(before) == now
        said = "tells more now" if more else "gives another answer"
        return Finding(State.UNKNOWN if more else State.CHANGED, f"the archive {said}: {told}")
    return _compare_hosts(old, new)


def _by_names(old: Json) -> bool:
    """If it names one host and several customers, which no archive knows."""
    persons = old.get("persons", [])
    names = {customer["name"] for one in persons for customer in one.get("customers", [])}
    return old["verdict"] == "SEVERAL" and len(persons) == 1 and len(names) > 1


def _compare_hosts(old: Json, new: Json) -> Finding:
    """Two answers with the same hosts."""
    pairs = [(one, _hosts(new)[name]) for name, one in _hosts(old).items()]
    for differs, what in ((_contradicts, "times or ports"), (_other_flows, "connections")):
        if named := [words.host(one) for one, other in pairs if differs(one, other)]:
            said = f"the archive gives other {what} of {printable('; '.join(named))}"
            return Finding(State.CHANGED, said)
    if _clocks(old) != _clocks(new):
        return Finding(State.CHANGED, "the archive gives another state of the clocks")
    if "shared_by" in new and old.get("shared_by") != new["shared_by"]:
        return Finding(State.CHANGED, "the archive gives another number of hosts with this address")
    if any(_times(one, other) is State.UNKNOWN for one, other in pairs):
        said = "the archive gives the same hosts, but not every beginning and end any more"
        return Finding(State.UNKNOWN, f"{said}: {_told(new)}")
    return Finding(State.SAME, f"the archive gives the same answer: {_told(new)}")


def _hosts(one: Json) -> dict[tuple[object, ...], Json]:
    names = ("address", "zone", "mark")
    return {
        (*(person.get(name) for name in names), *person.get("routers", [])): person
        for person in one.get("persons", [])
    }


def _told(one: Json) -> str:
    hosts = "; ".join(words.host(person) for person in one.get("persons", []))
    return printable(f"{one['verdict']} ({hosts})" if hosts else one["verdict"])


def _contradicts(old: Json, new: Json) -> bool:
    """If two answers about a host cannot both be right."""
    is_same = all(old.get(name) == new.get(name) for name in ("ports", "connections"))
    return not is_same or _times(old, new) is State.CHANGED


def _times(old: Json, new: Json) -> State:
    """If two beginnings and ends are the same; UNKNOWN: one is not exactly known any more.

    One that was not known, or only bounded, may be known now.
    """
    found = [
        _time(old[name], new.get(name) if new.get(f"{name}_source") != "bound" else None)
        for name in ("start", "end")
        if name in old and old.get(f"{name}_source") != "bound"
    ]
    return next((state for state in (State.CHANGED, State.UNKNOWN) if state in found), State.SAME)


def _time(old: str, new: str | None) -> State:
    """Squeezing cuts times to microseconds."""
    if new is None:
        return State.UNKNOWN
    is_same = nanoseconds(old) // MICROSECOND == nanoseconds(new) // MICROSECOND
    return State.SAME if is_same else State.CHANGED


def _other_flows(old: Json, new: Json) -> bool:
    """If the connections of a host on a page, if it shows them, are not those of the archive."""
    if "flows" not in old:
        return False
    names = ["protocol", "direction", "translated", "inside", "public"]
    if any("remote" in flow for flow in old["flows"]):
        names += ["remote", "remote_behind"]
    before, now = (
        sorted(
            (json.dumps([flow.get(name) for name in names]), flow.get("start", ""), number)
            for number, flow in enumerate(each.get("flows", []))
        )
        for each in (old, new)
    )
    if [ends for ends, _, _ in before] != [ends for ends, _, _ in now]:
        return True
    return any(
        _times(old["flows"][one], new["flows"][other]) is State.CHANGED
        for (_, _, one), (_, _, other) in zip(before, now, strict=True)
    )


def _clocks(one: Json) -> list[list[str]]:
    names = ("host", "synchronised", "error_seconds")
    return sorted([str(clock.get(name)) for name in names] for clock in one.get("clock", []))
