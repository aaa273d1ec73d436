"""The faults of the model test.  Each function applies one to the rig and enters its measured begin
and end into the oracle's timeline.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable

from tests.model import damage, network
from tests.model.oracle import ABSENT, EDGE, OPEN, Effect, Fault, moment
from tests.model.rig import Rig, after
from tests.model.truth import SECOND
from tests.support.disks import fill

CLOCK, FAILOVER = "clock step", "failover"
FLOOD = 4_000
BOTH = frozenset(network.FAMILIES)
TRANSPORTS = frozenset(network.PROTOCOLS)


def events_off(rig: Rig) -> None:
    """nf_conntrack_events 0, then 1."""
    before = time.time_ns()
    rig.lab.router.sysctl(nf_conntrack_events=0)
    fault = rig.oracle.add(Fault("events off", Effect.LOST, moment(before)))
    _meanwhile(rig, fault.kind)
    before = time.time_ns()
    rig.lab.router.sysctl(nf_conntrack_events=1)
    after(fault, before)


def flush(rig: Rig) -> None:
    """nft flush ruleset, and reload; sometimes at once."""
    before = time.time_ns()
    rig.lab.router.run("nft", "flush", "ruleset")
    fault = rig.oracle.add(
        Fault("ruleset flushed", Effect.LOST, moment(before), only_untranslated=True)
    )
    if rig.random.random() < 0.6:
        _meanwhile(rig, fault.kind)
    else:
        rig.pause(rig.random.choice([0.0, 0.4]))
    before = time.time_ns()
    network.load(rig.lab.router, network.RULES)
    after(fault, before)


def notrack(rig: Rig) -> None:
    """A notrack rule of a protocol, a family, both or neither, added and removed."""
    protocol = rig.random.choice([None, network.UDP, network.UDP, network.TCP])
    family = rig.random.choice([None, network.IPV4, network.IPV6])
    match = f"meta l4proto {network.PROTOCOLS[protocol]}" if protocol else ""
    if family:
        match = f"meta nfproto {family} {match}"
    before = time.time_ns()
    rules = f"""
table inet model {{
    chain prerouting {{
        type filter hook prerouting priority raw
        {match} notrack
    }}
}}
"""
    rig.lab.router.run("nft", "-f", "-", stdin=rules)
    fault = rig.oracle.add(
        Fault(
            "notrack rule",
            Effect.LOST,
            moment(before),
            families=frozenset({family}) if family else BOTH,
            protocols=frozenset({protocol}) if protocol else TRANSPORTS,
            only_untranslated=True,
            note=match,
        )
    )
    _meanwhile(rig, fault.kind)
    before = time.time_ns()
    rig.lab.router.run("nft", "delete", "table", "inet", "model")
    after(fault, before)


def one_family(rig: Rig) -> None:
    """Load the rules of one family only: the other family is not tracked."""
    awake = rig.random.choice(network.FAMILIES)
    before = time.time_ns()
    network.load(rig.lab.router, network.table(awake))
    fault = rig.oracle.add(
        Fault(
            "one family tracked",
            Effect.LOST,
            moment(before),
            families=BOTH - {awake},
            only_untranslated=True,
            note=f"{awake} only",
        )
    )
    _meanwhile(rig, fault.kind)
    before = time.time_ns()
    network.load(rig.lab.router, network.RULES)
    after(fault, before)


def _meanwhile(rig: Rig, kind: str) -> None:
    """Let the fault last.  Sometimes rotate meanwhile, or restart the recorder."""
    rig.pause(rig.random.uniform(1.1, 3))
    dice = rig.random.random()
    if dice < 0.2:
        stop(rig, kind)
    elif dice < 0.4:
        rig.rotate()
    rig.pause(rig.random.uniform(1.1, 3))


def kill(rig: Rig, kind: str = "kill -9") -> None:
    """kill -9, and started again in a while."""
    before = time.time_ns()
    rig.main.kill()
    fault = rig.oracle.add(Fault(kind, Effect.LOST, moment(before), recorder="main"))
    rig.closed(fault.begin)
    _again(rig, fault)


def stop(rig: Rig, kind: str = "stop and start") -> None:
    """An orderly stop, and a start."""
    before = time.time_ns()
    rig.main.stop()
    fault = rig.oracle.add(Fault(kind, Effect.LOST, moment(before), recorder="main"))
    rig.closed(fault.begin)
    _again(rig, fault)


def _again(rig: Rig, fault: Fault) -> None:
    time.sleep(rig.random.uniform(0.2, 6))
    before = time.time_ns()
    rig.main.again()
    after(fault, before)
    rig.drops()


def sigstop(rig: Rig) -> None:
    """SIGSTOP, and SIGCONT.  Without the kernel's times, events are dated late."""
    effect = Effect.UNSURE if not rig.clock.dated else Effect.PENDING
    rig.look()
    before = time.time_ns()
    os.kill(rig.main.process.pid, signal.SIGSTOP)
    fault = rig.oracle.add(Fault("SIGSTOP", effect, moment(before), recorder="main"))
    time.sleep(rig.random.uniform(2.2, 6))
    before = time.time_ns()
    os.kill(rig.main.process.pid, signal.SIGCONT)
    rig.drained()
    after(fault, before)
    if rig.drops():
        fault.effect = Effect.UNSURE
        rig.awaits_dump(fault.end)


def disk_full(rig: Rig) -> None:
    """No room on the folder's file system, and room again: the recorder keeps all in memory."""
    before = time.time_ns()
    filler = fill(rig.disk)
    fault = rig.oracle.add(Fault("disk full", Effect.PENDING, moment(before)))
    rig.pause(rig.random.uniform(2.5, 6))
    before = time.time_ns()
    filler.unlink()
    after(fault, before)


def overrun(rig: Rig) -> None:
    """More events than the buffer holds, while the recorder does not run."""
    rig.look()
    before = time.time_ns()
    pids = [each.process.pid for each in (rig.main, rig.second) if each is not None]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        rig.flood(FLOOD)
        fault = rig.oracle.add(Fault("overrun", Effect.LOST, moment(before)))
        time.sleep(rig.random.uniform(1, 4))
        before = time.time_ns()
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)
    rig.drained()
    after(fault, before)
    if not rig.drops():
        raise AssertionError(f"a flood of {FLOOD} did not overrun the recorder")
    rig.awaits_dump(fault.end)
    rig.pause_until_dumped()


def clock(rig: Rig) -> None:
    """Set the router's clock; after a large step, set it back."""
    seconds = rig.random.choice([-8, 6, 12, 3600, 30 * 365 * 86_400])
    real, before = time.time_ns(), rig.clock.now()
    rig.clock.step(seconds)
    now = rig.clock.now()
    if abs(seconds) < 60:
        _doubt(rig, real, min(before, now), max(before, now))
        rig.oracle.add(Fault(CLOCK, Effect.NONE, moment(real), moment(real)))
        return
    step = rig.oracle.add(Fault(CLOCK, Effect.NONE, moment(real)))
    rig.pause(rig.random.uniform(2.5, 5))
    after(step, time.time_ns())
    far = rig.clock.now()
    rig.clock.step(-seconds)
    # Also the times between: a connection that began under the wrong clock is dated up to `far`.
    _doubt(rig, real, before, far)


def _doubt(rig: Rig, real: int, low: int, high: int) -> None:
    """From `real` on, times of the router's clock from `low` to `high` may be covered or not."""
    rig.oracle.add(
        Fault(CLOCK, Effect.UNSURE, (0, 0), (0, 0), shown=(low, high), applied=(real, real))
    )


def rotation(rig: Rig) -> None:
    """SIGHUP: a new segment, nothing lost."""
    before = time.time_ns()
    rig.rotate()
    at = moment(before)
    rig.oracle.add(Fault("rotation", Effect.NONE, at, at))


def second(rig: Rig) -> None:
    """A recorder of UDP alone in the same folder; meanwhile the main one stops for a while."""
    if rig.second is not None:
        return
    before = time.time_ns()
    template = rig.folder / "udp-%Y%m%d-%H%M%S.ctlog"
    rig.second = rig.recorder("udp", "-p", "udp", "-f", template)
    absent = next(
        fault for fault in rig.oracle.faults if fault.kind == ABSENT and fault.end == (OPEN, OPEN)
    )
    after(absent, before)
    rig.pause(rig.random.uniform(2.5, 4))
    stop(rig, "second recorder")
    rig.pause(EDGE / SECOND + rig.random.uniform(1, 2))
    before = time.time_ns()
    rig.second.stop()
    rig.oracle.add(Fault(ABSENT, Effect.LOST, moment(before), recorder="udp"))
    rig.second = None


def failover(rig: Rig) -> None:
    """The traffic goes through the standby for a while.  Sometimes the recorder of the other router
    dies meanwhile, or that of the standby.
    """
    assert rig.standby is not None
    assert rig.beside is not None
    before = time.time_ns()
    rig.standby.switch(active=True)
    fault = rig.oracle.add(Fault(FAILOVER, Effect.NONE, moment(before)))
    dice = rig.random.random()
    if dice < 0.3:
        kill(rig, FAILOVER)
    elif dice < 0.6:
        rig.pause(rig.random.uniform(1, 2))
        before = time.time_ns()
        rig.beside.kill()
        away = rig.oracle.add(Fault(FAILOVER, Effect.LOST, moment(before), recorder="standby"))
        time.sleep(rig.random.uniform(1, 4))
        before = time.time_ns()
        rig.beside.again()
        after(away, before)
    rig.pause(rig.random.uniform(3, 6))
    before = time.time_ns()
    rig.standby.switch(active=False)
    after(fault, before)


FAULTS: dict[str, Callable[[Rig], None]] = {
    "events off": events_off,
    "ruleset flushed": flush,
    "notrack rule": notrack,
    "one family tracked": one_family,
    "kill -9": kill,
    "stop and start": stop,
    "SIGSTOP": sigstop,
    "disk full": disk_full,
    "overrun": overrun,
    CLOCK: clock,
    "rotation": rotation,
    "squeeze": damage.squeeze,
    "expiry": damage.expiry,
    "second recorder": second,
    FAILOVER: failover,
    "truncation": damage.truncation,
    "flipped byte": damage.flipped,
}
