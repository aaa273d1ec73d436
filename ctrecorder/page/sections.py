"""The parts of a page that are about one question."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import tzinfo

from ctrecorder.page import words
from ctrecorder.page.markup import NOTHING, Content, Markup, content, facts, name_of, quoted, tag
from ctrecorder.page.markup import table as table_of
from ctrecorder.page.shape import Json

_BY_TOLERANCE = (
    "only by the tolerance: it had ended before, or began after, the time that was asked about"
)


def verdict(answer: Json) -> Markup:
    """The verdict, what it means, and the hosts."""
    why = answer.get("why", "")
    hosts = [tag("li", tag("strong", host)) for host in _hosts(answer)]
    return tag(
        "div",
        tag("p", answer["verdict"], class_="word"),
        tag("p", words.MEANINGS[answer["verdict"]]),
        tag("p", why) if why else NOTHING,
        [tag("p", each) for each in answer.get("notes", [])],
        tag("ul", hosts) if hosts else NOTHING,
        _asked_window(answer["question"]),
        tag("p", words.shared(answer)) if words.shared(answer) else NOTHING,
        class_="verdict",
    )


def common(answers: Json) -> Markup:
    """The inside hosts that fit all sightings of a letter."""
    if not (known := words.common(answers)):
        return NOTHING
    said, *hosts = known
    shown = tag("ul", [tag("li", tag("strong", host)) for host in hosts]) if hosts else NOTHING
    return tag(
        "div",
        tag("p", "All sightings together", class_="word"),
        tag("p", said),
        shown,
        class_="verdict",
    )


def _asked_window(asked: Json) -> Markup:
    if "since" not in asked or "until" not in asked:
        return NOTHING
    zone = words.zone_of(asked.get("zone", ""))
    since, until = (words.both(asked[name], zone) for name in ("since", "until"))
    spans = zip(since, until, strict=True)
    return content(tag("p", f"{begin} to {end}") for begin, end in spans)


def _hosts(answer: Json) -> Iterator[Markup]:
    for person in answer.get("persons", []):
        names = [content(", ", name_of(one["name"])) for one in person.get("customers", [])]
        late = " (only by the tolerance)" if person.get("only_by_tolerance") else ""
        yield content(words.host(person), names, late)


def overview(answers: list[Json]) -> Markup:
    """The verdicts of several questions, a row each."""
    rows = []
    for number, answer in enumerate(answers, 1):
        asked = answer["question"]
        zone = words.zone_of(asked.get("zone", ""))
        verdict_of = tag("strong", answer["verdict"])
        hosts = [tag("p", one) for one in _hosts(answer)]
        when = moment(asked["since"], zone) if "since" in asked else NOTHING
        about = tag("span", words.ends(asked), class_="end")
        rows.append([str(number), about, when, verdict_of, hosts])
    heads = ("No.", "Asked about", "From", "Verdict", "Inside hosts")
    return table_of(heads, rows, "Verdicts")


def question(answer: Json) -> Markup:
    """The question as it was understood, and the bytes that it was read from."""
    asked = answer["question"]
    zone = words.zone_of(asked.get("zone", ""))
    return content(
        facts(
            [
                ("Public address", asked.get("address", "none was read")),
                ("ICMP id", str(asked["id"])) if "id" in asked else ("Port", _port(asked)),
                ("Protocol", asked.get("protocol", "any")),
                ("Remote end", _remote(asked)),
                ("Not asked", "; ".join(asked.get("unasked", []))),
                ("Time as written", quoted(asked["written"]) if "written" in asked else ""),
                ("Time zone", _zone(asked)),
                ("From", moment(asked["since"], zone) if "since" in asked else ""),
                ("Until", moment(asked["until"], zone) if "until" in asked else ""),
                ("Tolerance", _tolerance(asked)),
                ("Error of the clock of the router", _clock_error(answer)),
                ("Ways to read the time", _readings(asked)),
                ("Routers", _several(asked.get("routers", []))),
                (
                    "Addresses of the router when it was asked",
                    _several(asked.get("router_addresses", [])),
                ),
                ("Archive", _several(asked.get("archive", []))),
                ("Asked at", moment(asked["asked"], zone) if "asked" in asked else ""),
                ("Asked by", name_of(asked["asked_by"]) if "asked_by" in asked else ""),
                ("Case", name_of(asked["case"]) if "case" in asked else ""),
                ("Reason", name_of(asked["reason"]) if "reason" in asked else ""),
            ]
        ),
        read_from(asked.get("read_from", []), "Where each field was read"),
    )


def _port(asked: Json) -> str:
    return f"{asked['port']} ({words.role(asked)})" if "port" in asked else "none was named"


def _remote(asked: Json) -> str:
    if asked.get("remote_left_out"):
        return "one was named; it is left out of this copy"
    return words.end(asked["remote"]) if "remote" in asked else "any"


def _zone(asked: Json) -> Content:
    name, why = asked.get("zone", ""), words.basis(asked)
    if not name:
        return why
    lacking = "; this machine does not know it" if words.is_lacking(name) else ""
    return [f"{why}: " if why else "zone ", name, lacking]


def _tolerance(asked: Json) -> str:
    if "tolerance_seconds" not in asked:
        return ""
    return f"{asked['tolerance_seconds']:g} s, added at both ends"


def _clock_error(answer: Json) -> str:
    asked = answer["question"]
    if "clock_error_seconds" not in asked:
        return ""
    is_unknown = any(
        not one["synchronised"] and not one.get("trusted") for one in answer.get("clock", [])
    )
    if is_unknown and not asked["clock_error_seconds"]:
        return "not known, and nothing is added for it"
    return f"{asked['clock_error_seconds']:g} s, added at both ends"


def _readings(asked: Json) -> str:
    number = asked.get("readings", 1)
    return f"{number}: the time is ambiguous, and each was asked" if number > 1 else ""


def _several(names: list[str]) -> Content:
    return [tag("p", name_of(name)) for name in names]


def read_from(read: list[Json], about: str) -> Markup:
    """The bytes of a letter, and where they stand."""
    if not read:
        return NOTHING
    rows = (
        [
            tag("span", one["field"], class_="any"),
            quoted(one["text"]),
            quoted(one["file"]) if "file" in one else "",
            tag("span", one.get("part", ""), class_="any"),
            str(one.get("line", "")),
        ]
        for one in read
    )
    heads = ("Field", "Bytes of the letter", "File", "Part", "Line")
    return table_of(heads, rows, about)


def persons(answer: Json) -> Markup:
    """The inside hosts, each with when it had the address; and their connections."""
    found = answer.get("persons", [])
    zone = words.zone_of(answer["question"].get("zone", ""))
    if not found:
        return tag("p", "None.")
    named = any("customers" in one for one in found)
    heads = ["Inside host", *(["Customer"] if named else []), "Inside ports", "Connections", "When"]
    rows = [_person(one, zone, named=named) for one in found]
    tables = [table_of(heads, rows, "Who had it, and when")]
    tables += [_flows(one, zone) for one in found if one.get("flows")]
    return content(tables)


def _person(one: Json, zone: tzinfo | None, *, named: bool) -> list[Content]:
    host: list[Content] = [tag("strong", words.host(one))]
    host += [tag("p", "not translated (no NAT)")] if one.get("translated") is False else []
    host += [tag("p", _BY_TOLERANCE)] if one.get("only_by_tolerance") else []
    return [
        host,
        *([_customers(one, zone)] if named else []),
        words.ports(one),
        f"{one['connections']:,}" if "connections" in one else "",
        _when(one, zone),
    ]


def _customers(one: Json, zone: tzinfo | None) -> Content:
    known = one.get("customers", [])
    if not known:
        return "host known, customer not"
    return [_customer(each, zone) for each in known]


def _customer(one: Json, zone: tzinfo | None) -> Content:
    return [
        tag("p", name_of(one["name"])),
        tag("p", "from ", moment(one["from"], zone)) if "from" in one else "",
        tag("p", "until ", moment(one["until"], zone)) if "until" in one else "",
        tag("p", "source: ", name_of(one["source"])) if "source" in one else "",
    ]


def _flows(person: Json, zone: tzinfo | None) -> Markup:
    shows_remote = any("remote" in one for one in person["flows"])
    heads = ["Protocol", "Inside end", "Public end", *(["Remote end"] if shows_remote else [])]
    rows = (
        [
            _protocol(one),
            _end(one, "inside"),
            _end(one, "public"),
            *([_remote_ends(one)] if shows_remote else []),
            _when(one, zone),
        ]
        for one in person["flows"]
    )
    return table_of([*heads, "When"], rows, f"Connections of {words.host(person)}")


def _protocol(one: Json) -> Content:
    incoming = ", incoming" if one.get("direction") == "in" else ""
    by = one.get("recorded_by", [])
    recorded = [tag("p", "recorded by ", name_of(each)) for each in by]
    return [tag("span", one["protocol"] + incoming, class_="any"), recorded]


def _end(one: Json, name: str) -> Content:
    return tag("span", words.end(one[name]), class_="end") if name in one else NOTHING


def _remote_ends(one: Json) -> Content:
    """The remote end as it was called, and as it is behind DNAT if that differs."""
    behind = [tag("p", "which is ", _end(one, "remote_behind"))] if "remote_behind" in one else []
    return [_end(one, "remote"), *behind]


def _when(one: Json, zone: tzinfo | None) -> Content:
    return [
        _dated(one, "start", "Began", words.began(one), zone),
        _dated(one, "end", "Ended", words.ended(one), zone),
    ]


def _dated(one: Json, name: str, what: str, before: str, zone: tzinfo | None) -> Content:
    if name not in one:
        return tag("p", f"{what}: {before}")
    said = ", ".join(filter(None, (f"{what} {before}".rstrip(), words.source(one, name))))
    return [tag("p", f"{said}:"), moment(one[name], zone)]


def coverage(answer: Json) -> Markup:
    """Whether the log covers the time, and what it lacks."""
    zone = words.zone_of(answer["question"].get("zone", ""))
    said = words.coverage(answer)
    until = answer.get("complete_until")
    return content(
        tag("p", said) if said else tag("p", "Not looked at: nothing was asked of the log."),
        tag("p", "Recorded until ", moment(until, zone)) if until else NOTHING,
        _holes(answer.get("holes", []), zone, "Holes"),
        _holes(answer.get("accepted", []), zone, "Holes that the operator has accepted"),
    )


def _holes(listed: list[Json], zone: tzinfo | None, about: str) -> Markup:
    if not listed:
        return NOTHING
    rows = (
        [
            moment(one["start"], zone) if "start" in one else "not known",
            moment(one["end"], zone) if "end" in one else "not known, or not over",
            [tag("p", line) for line in words.hole(one)],
        ]
        for one in listed
    )
    return table_of(("From", "Until", "What is missing, and why"), rows, about)


def clock(answer: Json) -> Markup:
    """How right the clocks of the recorders were."""
    lines = [
        tag("p", [name_of(one["host"]), ": "] if "host" in one else "", words.clock(one))
        for one in answer.get("clock", [])
    ]
    return content(lines) if lines else tag("p", "Nothing is recorded about it.")


def moment(time: str, zone: tzinfo | None) -> Markup:
    """A time in the zone of the letter and in UTC, a line each."""
    return content(tag("p", tag("span", line, class_="moment")) for line in words.both(time, zone))
