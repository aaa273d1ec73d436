"""The words for what hides connections from the recorder: one line each, with the consequence."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ctrecorder import labels, uapi
from ctrecorder.kernel import tracking
from ctrecorder.kernel.rules import Untracked
from ctrecorder.watch.conditions import EVENTS, TIMESTAMPS

# The reasons of GAPs in ctlog(5).
NO_EVENTS, NOT_TRACKED, NOTRACK = "no-events", "not-tracked", "notrack"

_SYSCTL = "net.netfilter."


def text(reason: str, scope: Untracked) -> str:
    """The cause of a hole and its consequence, while the hole lasts."""
    if reason == NO_EVENTS:
        return (
            f"{_SYSCTL}{EVENTS} is 0: connections that begin now are not recorded, nor is their "
            f"end, even after it is set; sysctl -w {_SYSCTL}{EVENTS}=1"
        )
    if reason == NOT_TRACKED and scope.family is not None:
        name = labels.FAMILIES[scope.family]
        off = tracking.off_text(scope.family)
        return f"{off}; {name} connections are neither translated nor recorded"
    return f"NOTRACK{_narrowed(scope)}: such connections are neither translated nor recorded"


def end_text(reason: str, scope: Untracked, events: int | None) -> str:
    """The text for the end of a hole."""
    if reason == NO_EVENTS:
        return (
            f"{_SYSCTL}{EVENTS} is {events} and no longer 0: connections that begin are recorded "
            "again; those that began before do not report their end"
        )
    if reason == NOT_TRACKED and scope.family is not None:
        return f"{labels.FAMILIES[scope.family]} connection tracking is on again"
    return f"NOTRACK{_narrowed(scope)}: the rule is gone; such connections are recorded again"


def moved(moves: int) -> str:
    """Of rules that changed more than once between two looks."""
    return (
        f"the firewall's rules changed {moves} times between two checks: connection tracking may "
        "have been off meanwhile, and untranslated connections not recorded"
    )


def unknown(family: int) -> str:
    """Of a family that may or may not be tracked."""
    return (
        f"it is unknown if {labels.FAMILIES[family]} connections are tracked: this kernel does "
        "not show it, or the legacy iptables may have rules that stop tracking"
    )


def changes(
    before: Mapping[str, int | None], after: Mapping[str, int | None]
) -> Iterator[tuple[str, bool]]:
    """Of sysctls that changed and hide nothing: text, and if it is a warning."""
    if not before:
        return
    if before[EVENTS] and after[EVENTS] == 2 != before[EVENTS]:
        yield (
            f"{_SYSCTL}{EVENTS} is 2: connections that begin while no program listens never report "
            f"their end; sysctl -w {_SYSCTL}{EVENTS}=1",
            True,
        )
    if before[TIMESTAMPS] and after[TIMESTAMPS] == 0:
        yield (
            f"{_SYSCTL}{TIMESTAMPS} is 0: times of connections that begin now are those of "
            f"receipt; sysctl -w {_SYSCTL}{TIMESTAMPS}=1",
            True,
        )
    if before[TIMESTAMPS] == 0 and after[TIMESTAMPS]:
        yield f"{_SYSCTL}{TIMESTAMPS} is {after[TIMESTAMPS]} again", False


def _narrowed(scope: Untracked) -> str:
    """Which packets, in parentheses; "" of all."""
    parts = [uapi.PROTOCOLS.get(number, str(number)) for number in scope.protocols]
    if scope.family is not None:
        parts.insert(0, labels.FAMILIES[scope.family])
    if scope.ports:
        shown = ",".join(map(str, scope.ports[:8])) + (",.." if len(scope.ports) > 8 else "")
        parts.append(f"port {shown}")
    parts += scope.networks
    parts += scope.interfaces
    return f" ({' '.join(parts)})" if parts else ""
