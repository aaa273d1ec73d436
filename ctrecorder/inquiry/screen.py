"""An answer on a terminal: the verdict, the persons, the question as it was understood, and what
the answer rests on.  80 columns; each time carries its offset.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, tzinfo

from ctrecorder.holders.who import Answer, WhoQuery
from ctrecorder.inquiry.ask import Answered
from ctrecorder.inquiry.persons import Person
from ctrecorder.inquiry.question import NO_PORT, Question, ReadFrom, protocols_text
from ctrecorder.inquiry.shown import seconds, stamp, stamper, zone_of
from ctrecorder.inquiry.verdicts import Word
from ctrecorder.query.clock import ClockState
from ctrecorder.query.verdict import Completeness
from ctrecorder.render import who as render_who
from ctrecorder.terminal import count, printable

COLUMNS = 79
_LABEL_COLUMNS = 12
# More inside ports than these are only counted.
_MAX_PORTS = 4
_MAX_ROUTERS = 8
# More hosts that shared the address are only counted: any of them is as likely as the others.
_MAX_SHARED = 10
# Of a question that was read in a letter's form; a typed one needs no words.
_ZONES = {
    "given": "as written",
    "noted": "noted elsewhere in the letter",
    "format": "the convention of the format",
    "option": "by the option --zone or --utc",
    "local": "the zone of this machine",
    "unknown": "not known",
}


def text(answered: Answered, *, utc: bool = False, connections: bool = False) -> str:
    """The answer as lines.  `connections`: with each connection of each person.

    Times are in the zone of the question, or in UTC if `utc`.
    """
    zone = UTC if utc else zone_of(answered.question.window.zone)
    persons = answered.persons
    lines = [
        *wrapped(_headline(answered), "", "  "),
        *(wrapped(f"because {answered.judged.why}", "  ", "  ") if answered.judged.why else ()),
    ]
    for note in answered.notes:
        lines += wrapped(f"note: {note}", "  ", "  ")
    is_listed = connections or not answered.shares_address or len(persons) <= _MAX_SHARED
    for person in persons if is_listed else ():
        lines += _person(person, answered, zone, connections=connections)
    lines += ["", *_rows(answered, zone)]
    return "".join(f"{printable(line)}\n" for line in lines)


def _headline(answered: Answered) -> str:
    """The verdict, and whom it names."""
    word, persons = answered.judged.word, answered.persons
    if len(persons) == 1:
        customers = {one.name for one in persons[0].customers or ()}
        name = f", {count(len(customers), 'customer')}" if len(customers) > 1 else ""
        if len(customers) == 1 and answered.judged.proved:
            name = f", customer {customers.pop()}"
        return f"{word.value}: {_host(persons[0])}{name}"
    if persons:
        return f"{word.value}: {len(persons):,} inside hosts"
    return f"{word.value}: no inside host was seen with it" if word is Word.NOBODY else word.value


def _host(person: Person) -> str:
    zone = f" in zone {person.zone}" if person.zone else ""
    mark = f" with mark {person.mark:#x}" if person.mark else ""
    router = f" behind {' and '.join(person.routers)}" if person.routers else ""
    return f"{person.address}{zone}{mark}{router}"


def _person(
    person: Person, answered: Answered, zone: tzinfo | None, *, connections: bool
) -> Iterator[str]:
    stamps = stamper(zone)
    ports, is_icmp = person.ports, answered.question.asks_icmp
    held = f"{_host(person)}: {count(len(person.flows), 'connection')}"
    if ports and len(ports) <= _MAX_PORTS:
        noun = "id" if is_icmp else "port" if len(ports) == 1 else "ports"
        held += f", inside {noun} {', '.join(map(str, ports))}"
    if not person.translated:
        held += ", not translated: it has this address itself"
    yield ""
    yield from wrapped(held, "", "  ")
    if person.only_by_tolerance:
        yield "  only by the tolerance: it ended before the time, or began after it"
    yield f"  {render_who.began(person.start, person.start_source, stamps)}"
    yield f"  {render_who.ended(person.end, person.end_source, stamps)}"
    yield from _customers(person, stamps)
    if connections:
        named = answered.answer is not None and len(answered.answer.hosts) > 1
        for flow in person.flows:
            yield from (f"    {line}" for line in render_who.lines(flow, stamps, named=named))


def _customers(person: Person, stamps: Callable[[int], str]) -> Iterator[str]:
    """Who held the inside address then."""
    if person.customers is None:
        return
    if not person.customers:
        yield "  the host is known, the customer is not"
    for one in person.customers:
        begun = "" if one.since is None else f" from {stamps(one.since)}"
        ended = "" if one.until is None else f" to {stamps(one.until)}"
        yield from wrapped(f"customer {one.name}{begun}{ended} ({one.source})", "  ", "    ")


def _rows(answered: Answered, zone: tzinfo | None) -> Iterator[str]:
    """The question as it was understood, and what the answer rests on."""
    question, asking = answered.question, answered.asking
    if answered.shares_address and len(answered.persons) > 1:
        yield from row("shared by", _shared(len(answered.persons), question))
    yield from question_rows(question, answered.asked, zone)
    if answered.answer is not None:
        clock = _our_clock(answered.answer, answered.asking.trust_clock)
        yield from row("tolerance", f"{seconds(question.tolerance)}, our clock {clock}")
    yield from _log(answered, stamper(zone))
    who = f"{stamp(asking.now, zone)} by {asking.login}"
    who += f", case {asking.case}" if asking.case else ""
    yield from row("asked", who + (f": {asking.reason}" if asking.reason else ""))


def _our_clock(answer: Answer, is_trusted: bool) -> str:
    """What was added for the clocks of the recorders, or that nobody knows what to add."""
    with_state = {clock.host for clock in answer.clocks}
    is_known = all(clock.synchronised for clock in answer.clocks) and answer.hosts <= with_state
    if not is_trusted and not (is_known and with_state):
        return "not known"
    return seconds(answer.added_ns / 1e9)


def _shared(persons: int, question: Question) -> str:
    hosts = count(persons, "inside host")
    if question.asks_icmp:
        return f"{hosts}: without the ICMP id, nothing tells them apart; ask for it"
    if not question.has_ports:
        return f"{hosts}: this protocol has no ports; ask for the remote end"
    return f"{hosts}: without the source port, nothing tells them apart; ask for it (RFC 6302)"


def question_rows(question: Question, asked: WhoQuery | None, zone: tzinfo | None) -> Iterator[str]:
    """The question as it was understood, and the bytes that it was read from.

    `asked`: with the span that is searched.
    """
    yield from row("question", _asked(question))
    for number, one in enumerate(question.unasked):
        yield from row("" if number else "not asked", one)
    yield from row("time", _written(question))
    if asked is not None:
        since, until = asked.since, asked.until
        spans = dict.fromkeys(_span(stamp(since, one), stamp(until, one)) for one in (zone, UTC))
        for number, span in enumerate(spans):
            yield from row("" if number else "searched", span)
    for number, place in enumerate(question.read_from):
        yield from row("" if number else "read from", place_text(place))


def place_text(one: ReadFrom) -> str:
    """ "address: part 1, line 2: 192.0.2.1"."""
    part = f"part {one.part}, " if one.part else ""
    return f"{one.field}: {part}line {one.line}: {one.text}"


def _span(since: str, until: str) -> str:
    """ "2026-11-24 06:00:04.000000 to 2026-11-24 06:00:07.000000 +01:00"."""
    before, _, offset = since.rpartition(" ")
    return f"{before if until.endswith(offset) else since} to {until}"


def _asked(question: Question) -> str:
    target, remote = question.target, question.remote
    if not target.address:
        return "no address was read"
    number = "ICMP id" if question.asks_icmp else "port"
    port = "any port" if target.port is None else f"{number} {target.port}"
    role = f" ({question.role})" if question.role not in ("source", NO_PORT) else ""
    protocols = protocols_text(question.protocols) or "any protocol"
    to = f"with {remote}" if remote else "any remote end"
    return f"{target.address}, {port}{role}, {protocols}, {to}"


def _written(question: Question) -> str:
    window = question.window
    zone = f"{window.zone}, " if window.zone else ""
    ways = f"; one of {window.readings} readings" if window.readings > 1 else ""
    if not window.text:
        return "not known"
    return f"{window.text} ({zone}{_ZONES.get(window.basis, window.basis)}){ways}"


def _log(answered: Answered, stamps: Callable[[int], str]) -> Iterator[str]:
    """What was searched, what it proves, and how right its clocks were."""
    answer, archive = answered.answer, ", ".join(answered.asking.archive)
    if answer is None:
        return
    verdict, hosts = answer.verdict, sorted(host for host in answer.hosts if host)
    proof = {
        Completeness.COMPLETE: "complete for that time",
        Completeness.VERSION_1_0: "complete as far as version 1.0 could know",
        Completeness.NOT_YET: "not yet recorded",
        Completeness.NOT_COMPLETE: f"not complete: {count(len(verdict.holes), 'hole')}",
    }[verdict.completeness]
    if verdict.until is not None:
        proof += f": recorded until {stamps(verdict.until)}; ask again, or use --wait"
    yield from row("log", f"{archive}: {proof}")
    if verdict.accepted or verdict.holes:
        yield from _holes(answer, stamps)
    of = f", the last of {len(answered.receipts):,}" if len(answered.receipts) > 1 else ""
    for receipt in answered.receipts[-1:]:
        yield from row(
            "receipt",
            f"{receipt.name}, {_span(stamps(receipt.since), stamps(receipt.until))}, deleted "
            f"{stamps(receipt.deleted)} ({receipt.reason}){of}",
        )
    if hosts:
        more = f" and {len(hosts) - _MAX_ROUTERS:,} more" if len(hosts) > _MAX_ROUTERS else ""
        yield from row("router", ", ".join(hosts[:_MAX_ROUTERS]) + more)
    if answered.router_addresses:
        shown = ", ".join(answered.router_addresses[:_MAX_ROUTERS])
        number = len(answered.router_addresses) - _MAX_ROUTERS
        yield from row(
            "", f"this one has now {shown}{f' and {number:,} more' if number > 0 else ''}"
        )
    for clock in _worst_of_many(answer.clocks):
        yield from row("clock", _clock(clock, answered))


def _worst_of_many(clocks: Sequence[ClockState]) -> list[ClockState]:
    """The clocks; of more than can be listed those that were not synchronised, and the worst of
    the others.
    """
    if len(clocks) <= _MAX_ROUTERS:
        return [*clocks]
    right = [one for one in clocks if one.synchronised]
    worst = max(right, key=lambda one: one.error_us, default=None)
    wrong = [one for one in clocks if not one.synchronised]
    if worst is None:
        return wrong
    return [*wrong, worst._replace(host=f"{count(len(right), 'router')}, at worst {worst.host}")]


def _holes(answer: Answer, stamps: Callable[[int], str]) -> Iterator[str]:
    from ctrecorder.render import holes  # most answers have no hole

    for hole in answer.verdict.accepted:
        yield from row("", f"accepted: {holes.describe(hole, stamp=stamps)}")
    for hole in answer.verdict.holes:
        why = holes.why(hole, answer.scope.since, answer.scope.until)
        yield from row("", f"{holes.describe(hole, stamp=stamps)}; {why}")


def _clock(clock: ClockState, answered: Answered) -> str:
    """How right the clock of a recorder was, with its host if there are several."""
    several = answered.answer is not None and len(answered.answer.clocks) > 1
    of = f"{clock.host}: " if several and clock.host else ""
    if clock.synchronised:
        return f"{of}synchronised, at most {clock.error_seconds:.3f} s off"
    if answered.asking.trust_clock:
        return f"{of}not synchronised, and trusted (--trust-clock)"
    return f"{of}not synchronised: each time can be wrong by any amount"


def row(label: str, value: str) -> Iterator[str]:
    """A value with its label, wrapped."""
    yield from wrapped(value, f"{label:<{_LABEL_COLUMNS}}", " " * _LABEL_COLUMNS)


def wrapped(line: str, first: str, rest: str) -> list[str]:
    """`line` on lines of COLUMNS characters, without its control characters."""
    return textwrap.wrap(
        printable(line),
        COLUMNS,
        initial_indent=first,
        subsequent_indent=rest,
        break_long_words=False,
        break_on_hyphens=False,
    )
