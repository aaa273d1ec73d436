"""The watch with a kernel made of variables: which holes, from when to when."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field

import pytest

from ctrecorder import uapi
from ctrecorder.ctlog.frame import Gap, Mark
from ctrecorder.kernel.rules import Untracked
from ctrecorder.kernel.tracking import Tracking
from ctrecorder.kernel.transactions import Effect
from ctrecorder.times import SECOND
from ctrecorder.watch.conditions import ACCOUNTING, EVENTS, TIMESTAMPS, UNREADABLE, RulesReading
from ctrecorder.watch.watcher import Hole, Look, Watcher

ON, OFF, UNKNOWN = Tracking
START = 1_700_000_000 * SECOND
DNS = Untracked(protocols=(17,), ports=(53,))
IPV4, IPV6 = uapi.AF_INET, uapi.AF_INET6


def reading(ipv4: Tracking = ON, ipv6: Tracking = ON, *notrack: Untracked) -> RulesReading:
    return RulesReading({IPV4: ipv4, IPV6: ipv6}, notrack)


GOOD = reading()


@dataclass
class Kernel:
    """What `Conditions` asks; each time the rules are read is counted."""

    values: dict[str, int | None] = field(
        default_factory=lambda: {EVENTS: 1, TIMESTAMPS: 1, ACCOUNTING: 1}
    )
    number: int | None = 7
    found: RulesReading = GOOD
    legacy: frozenset[str] | None = frozenset()
    lists_hooks: bool = False
    owned: bool = True
    done: Effect = Effect.HIDES
    reads: int = 0
    # How far the generation moves while the rules are read, each time.
    restless: int = 0

    def sysctls(self) -> dict[str, int | None]:
        return dict(self.values)

    def generation(self) -> int | None:
        return self.number

    def legacy_tables(self, family: int) -> frozenset[str] | None:
        return self.legacy

    def effect(self, before: int, after: int) -> Effect:
        return self.done

    def has_owned_tables(self) -> bool:
        return self.owned

    def tracking(self) -> dict[int, Tracking]:
        self.reads += 1
        return self.found.tracking

    def rules(self) -> RulesReading:
        self.reads += 1
        if self.number is not None:
            self.number += self.restless
        return self.found

    def close(self) -> None:
        pass


class Machine:
    """A watcher that looks once a second; its readings take 1 ms."""

    def __init__(self, **settings: bool) -> None:
        self.kernel = Kernel()
        self.now = START
        self.watcher = Watcher(
            lambda: self.now + SECOND // 1000,
            START,
            conditions=self.kernel,  # type: ignore[arg-type]
            **settings,  # type: ignore[arg-type]
        )

    def change(self, found: RulesReading, moves: int = 1) -> None:
        assert self.kernel.number is not None
        self.kernel.found = found
        self.kernel.number = (self.kernel.number + moves) % 2**32

    def look(self) -> Look:
        self.now += SECOND
        return self.watcher.look(self.now)


def at(second: int, end: bool = False) -> int:
    return START + second * SECOND + (SECOND // 1000 if end else 0)


def short(holes: tuple[Hole, ...]) -> list[tuple[int, str, int | None, int, int | None]]:
    return [(each.number, each.reason, each.scope.family, each.start, each.end) for each in holes]


def test_all_is_well() -> None:
    machine = Machine()
    first = machine.look()
    tracked = {"ipv4": "on", "ipv6": "on"}
    assert first.state == {"events": 1, "timestamps": 1, "tracking": tracked, "notrack": []}
    assert first.sysctls == {EVENTS: 1, TIMESTAMPS: 1, ACCOUNTING: 1}
    for _ in range(200):
        look = machine.look()
        assert (look.opened, look.closed, look.changed, look.notes) == ((), (), {}, ())
        assert look.mark() is None
    assert machine.kernel.reads == 1, "rules are read when the generation moves"
    machine.change(GOOD)
    assert machine.look().closed == ()
    assert machine.kernel.reads == 2


def test_events_0_hides_everything_until_it_is_set() -> None:
    machine = Machine()
    machine.look()
    machine.kernel.values[EVENTS] = 0
    look = machine.look()
    assert short(look.opened) == [(1, "no-events", None, at(1), None)]
    assert not look.opened[0].untranslated
    assert look.mark() == Mark(at(1), at(2), "state", {"events": 0})
    assert "nor is their end, even after it is set" in look.notes[0].text
    assert machine.watcher.holes == look.opened
    assert machine.look().opened == ()
    machine.kernel.values[EVENTS] = 2
    look = machine.look()
    assert short(look.closed) == [(1, "no-events", None, at(1), at(4, end=True))]
    assert look.needs_dump, "connections that began meanwhile are in the table"
    assert "is 2 and no longer 0" in look.notes[0].text
    assert machine.watcher.holes == ()


def test_events_2_hides_nothing_while_the_recorder_listens() -> None:
    machine = Machine()
    machine.look()
    machine.kernel.values[EVENTS] = 2
    look = machine.look()
    assert (look.opened, look.changed) == ((), {"events": 2})
    (note,) = look.notes
    assert "begin while no program listens never report their end" in note.text


def test_events_that_cannot_be_read_are_no_hole() -> None:
    machine = Machine()
    machine.kernel.values[EVENTS] = None
    look = machine.look()
    assert (look.state["events"], look.opened) == (None, ())


def test_an_unreadable_sysctl_does_not_end_a_hole() -> None:
    machine = Machine()
    machine.kernel.values[EVENTS] = 0
    machine.look()
    machine.kernel.values[EVENTS] = None
    assert machine.look().closed == ()
    machine.kernel.values[EVENTS] = 1
    assert short(machine.look().closed) == [(1, "no-events", None, START, at(3, end=True))]


def test_timestamps() -> None:
    machine = Machine()
    machine.look()
    for value, warning in ((0, True), (1, False)):
        machine.kernel.values[TIMESTAMPS] = value
        look = machine.look()
        assert (look.opened, look.changed) == ((), {"timestamps": value})
        assert [note.warning for note in look.notes] == [warning]


def test_what_was_so_at_the_start_is_a_hole_from_the_start() -> None:
    machine = Machine()
    machine.kernel.values[EVENTS] = 0
    machine.kernel.found = reading(ON, OFF, DNS)
    look = machine.look()
    assert look.mark() is None, "the HEADER has the first state"
    holes = {hole.reason: hole for hole in look.opened}
    assert {hole.start for hole in look.opened} == {START}
    assert holes.keys() == {"no-events", "not-tracked", "notrack"}
    assert sorted(hole.number for hole in look.opened) == [1, 2, 3]
    assert look.state["notrack"] == [{"protocols": [17], "ports": [53]}]


def test_a_family_that_falls_asleep_and_wakes() -> None:
    machine = Machine()
    machine.look()
    machine.look()
    machine.change(reading(ON, OFF))
    look = machine.look()
    assert short(look.opened) == [(1, "not-tracked", IPV6, at(2), None)]
    assert look.opened[0].gap(at(3)) == Gap(
        at(2),
        at(3),
        "not-tracked",
        None,
        "IPv6 connection tracking is off: no rule of family ip6 or inet uses it; "
        "IPv6 connections are neither translated nor recorded",
        {"family": IPV6, "number": 1, "open": True, "untranslated": True},
    )
    machine.look()
    machine.change(GOOD)
    look = machine.look()
    assert short(look.closed) == [(1, "not-tracked", IPV6, at(2), at(5, end=True))]
    facts = {"family": IPV6, "number": 1, "untranslated": True}
    assert look.closed[0].gap(at(9)).facts == facts
    assert [note.text for note in look.notes] == ["IPv6 connection tracking is on again"]
    assert look.changed == {"tracking": {"ipv4": "on", "ipv6": "on"}}


@pytest.mark.parametrize("accepted", [False, True])
def test_notrack_rules(accepted: bool) -> None:
    machine = Machine(accept_notrack=accepted)
    machine.look()
    machine.change(reading(ON, ON, DNS, Untracked(interfaces=("lo",))))
    look = machine.look()
    facts = [hole.gap(at(2)).facts for hole in look.opened]
    flags = {"open": True, "untranslated": True, **({"accepted": True} if accepted else {})}
    assert facts == [
        {"interfaces": ["lo"], "number": 1, **flags},
        {"protocols": [17], "ports": [53], "number": 2, **flags},
    ]
    assert {note.warning for note in look.notes} == {not accepted}
    machine.change(reading(ON, ON, DNS))
    look = machine.look()
    assert short(look.closed) == [(1, "notrack", None, at(1), at(3, end=True))]
    assert machine.watcher.holes[0].scope == DNS


def test_a_flush_and_reload_between_two_looks() -> None:
    """All looks well again: what happened meanwhile is not known."""
    machine = Machine()
    machine.look()
    machine.change(GOOD, moves=2)
    look = machine.look()
    assert short(look.closed) == [(1, "not-tracked", None, at(1), at(2, end=True))]
    assert look.closed[0].untranslated
    assert look.opened == ()
    (note,) = look.notes
    assert note.warning
    assert "changed 2 times between two checks" in note.text


def test_transactions_that_can_have_hidden_nothing() -> None:
    machine = Machine()
    machine.look()
    machine.kernel.done = Effect.NONE
    machine.change(GOOD, moves=5)
    assert machine.look().closed == ()
    assert machine.kernel.reads == 1, "elements of sets came and went"
    machine.kernel.done = Effect.READ
    machine.change(reading(ON, ON, DNS), moves=5)
    look = machine.look()
    assert ([hole.scope for hole in look.opened], look.closed) == ([DNS], ())
    assert machine.kernel.reads == 2


def test_a_table_that_ends_with_its_owner_moves_no_generation() -> None:
    machine = Machine()
    machine.look()
    machine.kernel.owned = False
    machine.kernel.found = reading(OFF, ON)
    look = machine.look()
    assert short(look.opened) == [(1, "not-tracked", IPV4, at(1), None)]
    machine.change(GOOD)
    look = machine.look()
    assert len(look.closed) == 2, "it was released and made again"


@pytest.mark.parametrize(
    ("before", "after", "families"),
    [
        (reading(ON, OFF), reading(ON, OFF), [IPV4]),
        (reading(ON, UNKNOWN), reading(ON, ON), [IPV4]),  # the other one was not known to be on
        (reading(OFF, OFF), reading(OFF, OFF), []),
        (reading(ON, ON), reading(ON, OFF), [IPV4]),
        (reading(ON, ON), reading(UNKNOWN, UNKNOWN), [None]),
    ],
)
def test_the_families_of_such_a_hole(
    before: RulesReading, after: RulesReading, families: list[int | None]
) -> None:
    machine = Machine()
    machine.kernel.found = before
    machine.look()
    machine.change(after, moves=3)
    assert [hole.scope.family for hole in machine.look().closed] == families


def test_a_generation_that_wraps() -> None:
    machine = Machine()
    machine.kernel.number = 2**32 - 1
    machine.look()
    machine.change(GOOD, moves=1)
    assert machine.look().closed == ()
    machine.kernel.number = 2**32 - 1
    assert len(machine.look().closed) == 1


def test_rules_that_change_while_they_are_read() -> None:
    """They are read again; if that does not help, the hole reaches over all such looks."""
    machine = Machine()
    machine.look()
    machine.kernel.restless = 1
    machine.change(reading(OFF, OFF))
    look = machine.look()
    assert (look.opened, look.closed, look.changed) == ((), (), {})
    machine.look()
    machine.kernel.restless = 0
    machine.kernel.found = GOOD
    assert short(machine.look().closed) == [(1, "not-tracked", None, at(1), at(4, end=True))]


def test_rules_that_cannot_be_read_are_unknown_and_no_hole() -> None:
    machine = Machine()
    machine.look()
    machine.change(UNREADABLE)
    look = machine.look()
    assert (look.opened, look.closed) == ((), ())
    assert look.changed == {"tracking": {"ipv4": "unknown", "ipv6": "unknown"}}
    assert [note.text[:26] for note in look.notes] == [
        "it is unknown if IPv4 conn",
        "it is unknown if IPv6 conn",
    ]
    assert machine.look().notes == ()
    machine.change(GOOD)
    look = machine.look()
    assert short(look.closed) == [(1, "not-tracked", None, at(1), at(4, end=True))], (
        "two moves since they were known"
    )
    assert look.changed == {"tracking": {"ipv4": "on", "ipv6": "on"}}


def test_unreadable_rules_end_no_hole() -> None:
    machine = Machine()
    machine.kernel.found = reading(ON, OFF, DNS)
    machine.look()
    machine.change(UNREADABLE)
    look = machine.look()
    assert look.closed == ()
    assert look.state["notrack"] == [{"protocols": [17], "ports": [53]}]
    machine.change(reading(ON, OFF))
    assert [hole.reason for hole in machine.look().closed] == ["notrack", "not-tracked"]


def test_unknown_that_turns_out_to_be_off_was_off_since_it_was_on() -> None:
    machine = Machine()
    machine.look()
    machine.change(reading(ON, UNKNOWN))
    machine.look()
    machine.look()
    machine.change(reading(ON, OFF))
    assert short(machine.look().opened) == [(1, "not-tracked", IPV6, at(1), None)]


def test_tracking_that_is_not_on_is_read_again_after_a_minute() -> None:
    machine = Machine()
    machine.kernel.found = reading(ON, UNKNOWN)
    assert machine.look().opened == ()
    machine.kernel.found = reading(ON, OFF)  # its last entry timed out
    looks = [machine.look() for _ in range(61)]
    assert [bool(look.changed) for look in looks] == [False] * 59 + [True, False]
    opened = [short(look.opened) for look in looks if look.opened]
    assert opened == [[(1, "not-tracked", IPV6, at(0), None)]], "it was never known to be on"


def test_legacy_tables_have_no_generation() -> None:
    machine = Machine()
    machine.look()
    machine.kernel.legacy = frozenset({"raw"})
    machine.kernel.found = reading(UNKNOWN, UNKNOWN)
    assert machine.look().changed == {"tracking": {"ipv4": "unknown", "ipv6": "unknown"}}
    assert machine.kernel.reads == 2
    machine.look()
    assert machine.kernel.reads == 2
    machine.kernel.lists_hooks = True
    machine.look()
    assert machine.kernel.reads == 3, "the list of hooks shows what they do"


def test_a_clock_that_is_set_back() -> None:
    machine = Machine()
    machine.look()
    machine.kernel.values[EVENTS] = 0
    machine.now -= 3600 * SECOND
    look = machine.look()
    mark, (hole,) = look.mark(), look.opened
    assert mark is not None
    assert mark.begin <= mark.end
    assert hole.gap(machine.now).begin == hole.gap(machine.now).end == at(1)
    machine.kernel.values[EVENTS] = 1
    (hole,) = machine.look().closed
    assert (hole.start, hole.end) == (at(1), at(1))


def test_numbers_go_on() -> None:
    machine = Machine()
    machine.watcher.numbers = itertools.count(5)
    machine.kernel.values[EVENTS] = 0
    assert machine.look().opened[0].number == 5
