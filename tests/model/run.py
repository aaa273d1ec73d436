"""python3 -m tests.model.run [--seed N] ...: a timeline, its questions, and the table; exits with 3
if a promise was broken.

`asking` asks while the faults come and go, and the questions that are left when they are over.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from tests.model import network
from tests.model.asking import Askers, ask_the_rest
from tests.model.clock import Clock
from tests.model.faults import FAULTS
from tests.model.judge import ALIBI, FAILED, WOLF, WRONG, Judge, Table
from tests.model.oracle import Fault, Oracle
from tests.model.rig import Rig
from tests.model.standby import Standby
from tests.model.timeline import Plan, plan
from tests.model.traffic import Generator
from tests.model.truth import SECOND, Truth
from tests.support.router import Lab

RATE = 60.0  # flows a second
# Pause after the last fault, so that its end is part of the run.
REST_SECONDS = 5.0
# Loading rules takes 10 to 20 ms on a machine that is not busy.
LOADED = SECOND // 20
LEAST_COMPLETE = 0.99
# Of covered time that is over; else "not yet" could be the answer to everything.
MOST_NOT_YET = 0.05
# The exit code if a promise was broken: not that of an exception.
BROKEN = 3


@dataclass
class Result:
    """The result of a run.  `applied`: how often each fault was applied."""

    plan: Plan
    table: Table
    applied: Counter[str]
    faults: list[Fault] = field(default_factory=list)
    flows: int = 0
    seconds: float = 0.0

    def lines(self) -> list[str]:
        """The lines to print."""
        kind = "with a standby" if self.plan.paired else "plain"
        if self.plan.stepped:
            kind = "the clock is set"
        if not self.plan.dated:
            kind += ", events are dated when received"
        return [
            f"model: seed {self.plan.seed} ({kind}): {self.flows:,} flows, "
            f"{self.applied.total()} faults: {', '.join(self.applied)}; {self.seconds:.0f} s",
            *self.table.lines(),
        ]

    def broken(self) -> list[str]:
        """The promises that were broken, a line each, and answers that show it."""
        table, found, shown = self.table, [], []
        for name in (ALIBI, WRONG, FAILED):
            if table.total(name):
                found.append(f"{name}: {table.total(name)}")
                shown += table.bad(name, most=5)
        if table.complete_share < LEAST_COMPLETE:
            found.append(f"covered, called complete: {table.complete_share:.2%}")
            shown += table.bad(WOLF, most=5)
        if table.not_yet_share > MOST_NOT_YET:
            found.append(f'covered, called "not yet": {table.not_yet_share:.2%}')
        return [*found, *shown]


def run(seed: int, timeline: float, seconds: float, most: int = 1 << 30) -> Result:
    """Apply the faults of `seed` for `timeline` seconds, then ask until there are `most` answers or
    `seconds` are over.
    """
    chosen, began = plan(seed), time.monotonic()
    sysctls = {
        "nf_conntrack_events": 1,
        "nf_conntrack_acct": 1,
        "nf_conntrack_timestamp": int(chosen.dated),
    }
    applied: Counter[str] = Counter()
    with (
        tempfile.TemporaryDirectory(prefix="ctrecorder-model-") as work,
        Lab(asleep=True, sysctls=sysctls) as lab,
        contextlib.ExitStack() as stack,
    ):
        network.prepare(lab)
        clock = Clock(Path(work), stepped=chosen.stepped, dated=chosen.dated)
        truth, oracle = Truth(), Oracle(clock, paired=chosen.paired)
        standby = stack.enter_context(Standby(lab, Path(work))) if chosen.paired else None
        rig = Rig(lab, Path(work), clock, oracle, seed, standby)
        with rig.running():
            askers = Askers(rig, truth, most)
            with Generator(lab, truth, seed, RATE) as traffic, askers.asking():
                rig.drops()
                for kind, pause in zip(chosen.kinds, chosen.pauses, strict=True):
                    if time.monotonic() - began > timeline:
                        break
                    rig.pause(pause)
                    FAULTS[kind](rig)
                    applied[kind] += 1
                    _look(traffic.failure, askers.failure)
                rig.pause(REST_SECONDS)
                rig.has_traffic = False
            _look(traffic.failure, askers.failure)
            oracle.strays |= truth.late_reply or _loaded_slowly(oracle.faults)
            table = Judge(truth, oracle, clock).table(askers.answers)
            table.add(ask_the_rest(rig, truth, most - table.questions, began + seconds))
            rig.look()
        return Result(
            chosen,
            table,
            applied,
            oracle.faults,
            len(truth.flows),
            time.monotonic() - began,
        )


def _loaded_slowly(faults: list[Fault]) -> bool:
    """Whether rules were loaded so slowly that a packet from outside was tracked before there were
    rules to translate it: on a busy machine there is always one.
    """
    return any(
        fault.only_untranslated and last - first > LOADED
        for fault in faults
        for first, last in (fault.begin, fault.end)
    )


def _look(*failures: BaseException | None) -> None:
    """Raises the exception that ended a thread."""
    for failure in failures:
        if failure is not None:
            raise failure


def new_seed() -> int:
    """$MODEL_SEED, or a seed from the time."""
    return int(os.environ.get("MODEL_SEED", "0")) or time.time_ns() // SECOND % 1_000_000


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=new_seed())
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--timeline", type=float, help="seconds in which faults are begun")
    parser.add_argument("--questions", type=int, default=1 << 30)
    arguments = parser.parse_args()
    print(f"model: seed {arguments.seed}", flush=True)
    seconds = arguments.seconds
    timeline = arguments.timeline if arguments.timeline is not None else seconds * 0.7
    result = run(arguments.seed, timeline, seconds, arguments.questions)
    for fault in result.faults:
        print(f"  {fault}")
    broken = result.broken()
    for line in [*result.lines(), *(f"BROKEN {line}" for line in broken)]:
        print(line)
    return BROKEN if broken else 0


if __name__ == "__main__":
    sys.exit(main())
